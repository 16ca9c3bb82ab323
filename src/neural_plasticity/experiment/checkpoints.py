"""Checkpoints between phases: enough to go on as if nothing had happened, written so that a kill leaves the old one.

The same state, kept in memory, is what a run returns to when a later cycle was too much.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neural_plasticity.errors import HeadError, RecordError
from neural_plasticity.experiment.clock import Stage
from neural_plasticity.experiment.state import Experiment, Kept
from neural_plasticity.heads import HeadId
from neural_plasticity.models.widening import set_added
from neural_plasticity.policies.statistics import Interval

NAME = "last.pt"


class Position(NamedTuple):
    """Where a checkpoint stands: stages of the plan that are done, and the record's last event at that moment."""

    stages_done: int
    last_seq: int


def save(x: Experiment, directory: Path, position: Position) -> Path:
    """Write ``directory``/last.pt: weights, mask, control, counters, results, and the state to return to."""
    directory.mkdir(parents=True, exist_ok=True)
    state: dict[str, Any] = {
        **captured(x),
        "position": tuple(position),
        "step": x.clock.step,
        "kept": None if x.kept is None else tuple(x.kept),
        "stopped": x.stopped,
        "plan": None if x.stopped is None else [tuple(stage) for stage in x.plan],
    }
    temporary = directory / (NAME + ".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    return temporary.replace(directory / NAME)


def restore(x: Experiment, directory: Path) -> Position | None:
    """Bring a freshly opened experiment to where the checkpoint was written; None when there is no checkpoint.

    Raises:
        RecordError: the checkpoint belongs to another model.
    """
    path = directory / NAME
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling a damaged file raises
        raise RecordError(f"--resume: {path} cannot be read ({type(error).__name__}); start a new run.") from error
    try:
        reinstate(x, state)
    except (RuntimeError, HeadError) as error:
        raise RecordError(f"--resume: {path} holds the weights of another model than {x.config.model_name}.") from error
    except KeyError as error:
        raise RecordError(f"--resume: {path} is of another version (no {error} in it); start a new run.") from error
    x.clock.step = state["step"]
    x.kept = None if state["kept"] is None else Kept(*state["kept"])
    x.stopped = state["stopped"]
    if state["plan"] is not None:  # shorter than it began
        x.plan = tuple(Stage(*stage) for stage in state["plan"])
        x.clock.total_work = sum(x.work_of(stage) for stage in x.plan)
    return Position(*state["position"])


def captured(x: Experiment) -> dict[str, Any]:
    """What phases change: weights, mask, control, scores and results. Tensors are the model's own, not copies."""
    return {
        "model": x.model.state_dict(),
        "control": None if x.control is None else x.control.state_dict(),
        "added": [list(added) for added in x.heads.added],
        "mask": torch.from_numpy(x.heads.mask),
        "states": torch.from_numpy(x.states.copy()),
        "scores": {name: torch.from_numpy(scores) for name, scores in x.scores.items()},
        "losses": {name: torch.from_numpy(losses) for name, losses in x.losses.items()},
        "baseline": x.baseline,
        "closing": x.closing,
        "pruned_in": [[*head, cycle] for head, cycle in x.pruned_in.items()],
        "born_in": [[*head, cycle] for head, cycle in x.born_in.items()],
        "returns": [[*head, times] for head, times in x.returns.items()],
        "damage": tuple(x.damage),
        "loss_before_pruning": x.loss_before_pruning,
        "loss_after_pruning": x.loss_after_pruning,
    }


def reinstate(x: Experiment, state: dict[str, Any]) -> None:
    """Bring ``x`` to where ``state`` was `captured`; its clock goes on from where it is.

    Raises:
        RuntimeError: the weights are those of another model.
    """
    if state["control"] is not None:
        if x.control is None:
            x.control = x.copy_of_model()
        set_added(x.control, x.added_before)  # never wider than the model was at the start
        x.control.load_state_dict(state["control"])
    set_added(x.model, state["added"])
    x.model.load_state_dict(state["model"])
    x.heads.set_mask(state["mask"].numpy())
    x.states = state["states"].numpy().copy()
    x.scores = {name: scores.numpy() for name, scores in state["scores"].items()}
    x.losses = {name: losses.numpy() for name, losses in state["losses"].items()}
    x.baseline = state["baseline"]
    x.closing = state["closing"]
    x.pruned_in = {HeadId(layer, head): cycle for layer, head, cycle in state["pruned_in"]}
    x.born_in = {HeadId(layer, head): cycle for layer, head, cycle in state["born_in"]}
    x.returns = {HeadId(layer, head): times for layer, head, times in state["returns"]}
    x.damage = Interval(*state["damage"])
    x.loss_before_pruning = state["loss_before_pruning"]
    x.loss_after_pruning = state["loss_after_pruning"]


def keep(x: Experiment) -> None:
    """Remember the present state as the one to return to, in the CPU's memory: as much as model and control take."""
    state = captured(x)
    untouched = not x.clock.cycle and x.control is not None  # before any pruning the control is the model
    if untouched:
        state["control"] = None
    copied = _copied(state, {})
    if untouched:
        copied["control"] = copied["model"]
    x.kept = Kept(x.clock.cycle, x.clock.step, copied)


def _copied(value: Any, done: dict[tuple[int, int], Tensor]) -> Any:
    """``value`` with its tensors copied to the CPU, each once: two names of tied weights stay one."""
    if isinstance(value, Tensor):
        key = (value.data_ptr(), value.numel())
        if not value.numel() or key not in done:
            done[key] = value.detach().to("cpu", copy=True)
        return done[key]
    if isinstance(value, dict):
        return {name: _copied(one, done) for name, one in value.items()}
    return value
