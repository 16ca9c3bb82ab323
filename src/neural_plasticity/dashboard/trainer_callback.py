"""`PlasticityCallback`: a dashboard for ``transformers.Trainer``. The one dashboard module that needs transformers.

Trainer refuses callbacks that do not derive from its own class, so this cannot be done by duck typing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from transformers import TrainerCallback

from neural_plasticity.dashboard import values
from neural_plasticity.dashboard.journal import how
from neural_plasticity.dashboard.multi_phase import MultiPhaseDashboard
from neural_plasticity.errors import InputError

_log = logging.getLogger(__name__)
# Trainer's names -> the ones that the views look for. Everything else keeps its name.
_NAMES: Mapping[str, str] = {"eval_loss": "validation_loss"}
_LARGEST_LOSS = 700.0  # exp overflows a little above


def _aside(method: Callable[..., None]) -> Callable[..., None]:
    """``method`` of a callback, whose errors never reach the training: each one is logged once."""

    @wraps(method)
    def guarded(self: PlasticityCallback, args: Any, state: Any, _control: Any, **more: Any) -> None:
        if not state.is_world_process_zero:
            return
        try:
            method(self, args, state, **more)
        except Exception as error:
            self.complain(error)

    return guarded


class PlasticityCallback(TrainerCallback):
    """Records a Trainer's loss, learning rate, evaluations and phases; ``dashboard`` is where more can be recorded.

    Training is in the phase ``phase``, an evaluation after it in the phase ``evaluation``. Whatever goes wrong here is
    logged, and training goes on. Only the first process of a distributed training records.

    Args:
        dashboard: one that exists; by default one is made when training begins.
        phase: what the training is called: warmup, fine-tuning, or a name of your own.
        options: arguments of `MultiPhaseDashboard`; ``config`` is added to what the Trainer's arguments say.
    """

    def __init__(self, dashboard: MultiPhaseDashboard | None = None, phase: str = "training", **options: Any) -> None:
        if dashboard is not None and not isinstance(dashboard, MultiPhaseDashboard):
            raise InputError(f"dashboard: expected a MultiPhaseDashboard, got {values.shown(dashboard)}.")
        self.dashboard = dashboard
        self.phase = values.text(phase, "phase")
        self._options = options
        self._training = False
        self._said: set[str] = set()

    @_aside
    def on_train_begin(self, args: Any, state: Any, **more: Any) -> None:
        """Training begins, or goes on after a checkpoint."""
        self._training = True
        self._open(args, more.get("model")).record_phase_transition(self.phase, state.global_step)

    @_aside
    def on_log(self, args: Any, state: Any, logs: Mapping[str, Any] | None = None, **more: Any) -> None:
        """What Trainer logs: loss, learning rate, gradient norm, and the figures of evaluations."""
        told = _numbers(logs or {})
        dashboard = self._open(args, more.get("model"))
        if "validation_loss" in told:
            told.setdefault("perplexity", _perplexity(told["validation_loss"]))
            if not self._training and dashboard.current_phase != "evaluation":
                dashboard.record_phase_transition("evaluation", state.global_step)
        if told:
            dashboard.record_step(told, state.global_step)

    @_aside
    def on_evaluate(self, args: Any, state: Any, metrics: Mapping[str, Any] | None = None, **more: Any) -> None:
        """An evaluation outside training is a result; one within it is a point on a curve, which `on_log` recorded."""
        if self._training or not metrics:
            return
        told = {name.removeprefix("eval_"): value for name, value in _numbers(metrics, names={}).items()}
        if "loss" in told:
            told.setdefault("perplexity", _perplexity(told["loss"]))
        self._open(args, more.get("model")).record_evaluation(told, state.global_step)

    @_aside
    def on_train_end(self, args: Any, _state: Any, **more: Any) -> None:
        """The page of what has happened so far; the run itself is finished by ``dashboard.finish()`` or at exit."""
        self._training = False
        dashboard = self._open(args, more.get("model"))
        dashboard.generate_standalone_dashboard(dashboard.output_dir)

    def complain(self, error: Exception) -> None:
        """Log what went wrong, once."""
        said = how(error)
        if said not in self._said:
            self._said.add(said)
            _log.warning("the dashboard could not record everything, training goes on: %s", said)

    def _open(self, args: Any, model: Any) -> MultiPhaseDashboard:
        if self.dashboard is None:
            options = dict(self._options)
            given = values.settings(options.pop("config", None), "config")
            self.dashboard = MultiPhaseDashboard(config={**_settings(args, model), **given}, **options)
        return self.dashboard


def _numbers(logs: Mapping[str, Any], names: Mapping[str, str] = _NAMES) -> dict[str, float]:
    """The numbers among what Trainer logs, under our names."""
    found: dict[str, float] = {}
    for name, value in logs.items():
        try:
            found[names.get(name, name)] = values.number(value, name)
        except InputError:
            continue  # a text, such as the name of a scheduler: no measurement
    return found


def _perplexity(loss: float) -> float:
    return math.exp(loss) if loss < _LARGEST_LOSS else math.inf if not math.isnan(loss) else math.nan


def _settings(args: Any, model: Any) -> dict[str, Any]:
    """The Trainer's arguments (secrets left out by ``to_dict``) and the model's name and size."""
    config = getattr(model, "config", None)
    about = {
        "model_name": getattr(config, "name_or_path", "") or type(model).__name__,
        "num_layers": getattr(config, "num_hidden_layers", None),
        "num_heads": getattr(config, "num_attention_heads", None),
    }
    return {**values.settings(args, "args"), **{name: value for name, value in about.items() if value is not None}}
