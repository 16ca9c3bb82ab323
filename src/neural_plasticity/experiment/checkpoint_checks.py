"""What a checkpoint must look like before anything of it is used: it may be damaged, or made up by somebody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neural_plasticity.experiment.checkpoint_file import DamagedCheckpoint
from neural_plasticity.experiment.clock import Stage
from neural_plasticity.experiment.state import Experiment
from neural_plasticity.experiment.training import fits
from neural_plasticity.heads import MOST, HeadState

MOST_STEPS = 2**62  # steps, events, cycles: numbers that the record can hold


class _OneOf(tuple[Any, ...]):
    """Kinds of which a value may be any."""


class _Row(tuple[Any, ...]):
    """Kinds of the elements of a list of this length."""


_WEIGHTS = {str: Tensor}
_COUNTED = [_Row((int, int, int))]  # layer, head, number
_CAPTURED: dict[str, Any] = {
    "model": _WEIGHTS,
    "control": _OneOf((None, _WEIGHTS)),
    "added": [[int]],
    "mask": Tensor,
    "states": Tensor,
    "scores": {str: Tensor},
    "losses": {str: Tensor},
    "baseline": {str: object},
    "closing": {str: object},
    "pruned_in": _COUNTED,
    "born_in": _COUNTED,
    "returns": _COUNTED,
    "damage": _Row((float, float, float)),
    "loss_before_pruning": float,
    "loss_after_pruning": float,
}
_TRAINING = {
    "memory": {str: object},
    "losses": Tensor,
    "moments": {str: {str: {str: Tensor}}},
    "within": _Row((int, int, str, float)),
}
_STATE = {
    **_CAPTURED,
    "position": _Row((int, int)),
    "step": int,
    "kept": _OneOf((None, _Row((int, int, _CAPTURED)))),
    "stopped": _OneOf((None, str)),
    "plan": _OneOf((None, [_Row((str, int, bool))])),
    "training": _OneOf((None, _TRAINING)),
}


def check(x: Experiment, state: Any) -> None:
    """Refuse what cannot be the state of the opened experiment ``x``; that its weights fit is found when they load.

    Raises:
        DamagedCheckpoint: it says what is wrong, in one line.
    """
    if wrong := _misfit(state, _STATE, "state"):
        raise DamagedCheckpoint(wrong)
    _captured(x, state)
    kept = state["kept"]
    if kept is not None:
        _numbers("kept", kept[:2])
        _captured(x, kept[2])
    _numbers("position", (*state["position"], state["step"]))
    plan = _plan(x, state["plan"])
    _expect(state["position"][0] <= len(plan), "more stages are done than the plan has")
    if state["training"] is not None:
        _training(x, state, plan)


def _captured(x: Experiment, state: Mapping[str, Any]) -> None:
    layers = len(x.heads.layouts)
    added, before = state["added"], sum(map(len, x.added_before))
    _expect(len(added) == layers, "added heads of another number of layers")
    _expect(sum(map(len, added)) <= before + x.config.grow_new_heads, "more new heads than the run was asked for")
    _expect(state["control"] is None or x.config.control, "a control that the run was not asked for")
    widest = max(layout.original + len(new) for layout, new in zip(x.heads.layouts, added, strict=True))
    grid = (layers, widest)
    _tensor("mask", state["mask"], torch.bool, grid)
    _tensor("states", state["states"], torch.int8, grid)
    _expect(all(int(one) in set(HeadState) for one in state["states"].unique()), "states that no head can have")
    for scores in state["scores"].values():  # measured before heads were born, perhaps
        _tensor("scores", scores, torch.float64, (layers, min(widest, scores.shape[-1] if scores.ndim else 0)))
    for losses in state["losses"].values():
        _tensor("losses", losses, torch.float64, (len(x.test),))
    for name in ("pruned_in", "born_in", "returns"):
        for layer, head, number in state[name]:
            _expect(0 <= layer < layers and 0 <= head < min(widest, MOST), f"{name}: no such head")
            _numbers(name, (number,))


def _plan(x: Experiment, told: list[list[Any]] | None) -> tuple[Stage, ...]:
    if told is None:
        return x.plan
    plan = tuple(Stage(*stage) for stage in told)
    possible = {*x.plan, *(Stage("evaluation", stage.cycle) for stage in x.plan)}
    _expect(len(plan) <= len(x.plan) and possible.issuperset(plan), "a plan that the run cannot have")
    return plan


def _training(x: Experiment, state: Mapping[str, Any], plan: tuple[Stage, ...]) -> None:
    training, done = state["training"], state["position"][0]
    _expect(done < len(plan), "training after the last stage")
    stage = plan[done]
    limits = {
        "warmup": x.config.warmup_steps,
        "fine-tuning": x.config.fine_tuning_steps,
        "growth": x.config.steps_of_growth,
    }
    _expect(stage.phase in limits, f"training in a stage that has none ({stage.phase})")
    steps, losses = limits[stage.phase], training["losses"]
    _tensor("losses of the steps", losses, torch.float64, (min(steps, losses.numel()),))
    _expect(bool(losses.isfinite().all()), "losses that are no numbers")
    phase_step, planned, _, left = training["within"]
    _expect(planned == steps and phase_step == losses.numel(), "another number of steps done than it has losses")
    _expect(0 <= left <= x.work_of(stage), "more work left than the stage has")
    _expect(training["moments"].keys() <= {"model", "control"}, "optimisers of models that are not trained")
    if stage.phase == "growth":
        wrong = _misfit(training["memory"], {"returned": [_Row((int, int))], "reason": str}, "memory")
        _expect(not wrong, wrong)
        there = {(int(layer), int(head)) for layer, head in state["mask"].nonzero().tolist()}
        _expect(there.issuperset(map(tuple, training["memory"]["returned"])), "heads that came back and are off")


def check_moments(moments: Mapping[str, Mapping[str, Mapping[str, Tensor]]], models: Mapping[str, nn.Module]) -> None:
    """Refuse optimiser states that are not those of ``models``, by name, as they have become.

    Raises:
        DamagedCheckpoint: it names the first that does not fit.
    """
    for name, model_moments in moments.items():
        _expect(name in models, f"the optimiser state of a {name} that there is not")
        parameters = dict(models[name].named_parameters())
        for parameter, kept in model_moments.items():
            fit = parameter in parameters and fits(kept, parameters[parameter])
            _expect(fit, f"an optimiser state that is not that of a parameter ({parameter})")


def _misfit(value: Any, kind: Any, where: str | int) -> str:
    """What is wrong with ``value``, found at ``where``, if it has to be of ``kind``; nothing when it is."""
    match kind:
        case None:
            return "" if value is None else f"its {where!s:.60} should be empty"
        case _OneOf():
            found = [_misfit(value, one, where) for one in kind]
            return "" if "" in found else found[-1]
        case _Row():
            if not isinstance(value, list) or len(value) != len(kind):
                return f"its {where!s:.60} is no list of {len(kind)}"
            parts: Iterable[tuple[str | int, Any, Any]] = zip(range(len(kind)), value, kind, strict=True)
        case list():
            if not isinstance(value, list):
                return f"its {where!s:.60} is no list"
            parts = ((place, one, kind[0]) for place, one in enumerate(value))
        case dict():
            if not isinstance(value, dict):
                return f"its {where!s:.60} is no mapping"
            if str in kind:
                parts = ((name, one, kind[str]) for name, one in value.items())
            elif value.keys() != kind.keys():
                name = min(value.keys() ^ kind.keys())
                return f"its {where!s:.60} has {'no' if name in kind else 'an unknown'} {name[:60]!r}"
            else:
                parts = ((name, value[name], one) for name, one in kind.items())
        case _:
            fine = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
            return "" if fine else f"its {where!s:.60} should be of type {kind.__name__}"
    return next((wrong for name, one, each in parts if (wrong := _misfit(one, each, name))), "")


def _numbers(name: str, numbers: Iterable[int]) -> None:
    _expect(all(0 <= number < MOST_STEPS for number in numbers), f"{name} with a number that cannot be")


def _tensor(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    _expect(tensor.dtype == dtype and tensor.shape == shape, f"{name} of another type or shape")


def _expect(fine: bool, otherwise: str) -> None:
    if not fine:
        raise DamagedCheckpoint(otherwise if otherwise.startswith("its ") else f"it holds {otherwise}")
