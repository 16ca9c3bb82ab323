"""Checkpoints between phases: enough to go on as if nothing had happened, written so that a kill leaves the old one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch

from neural_plasticity.errors import RecordError
from neural_plasticity.experiment.state import Experiment
from neural_plasticity.policies.statistics import Interval

NAME = "last.pt"


class Position(NamedTuple):
    """Where a checkpoint stands: stages of the plan that are done, and the record's last event at that moment."""

    stages_done: int
    last_seq: int


def save(x: Experiment, directory: Path, position: Position) -> Path:
    """Write ``directory``/last.pt: weights, mask, control, counters and the baseline's results."""
    directory.mkdir(parents=True, exist_ok=True)
    state: dict[str, Any] = {
        "position": tuple(position),
        "model": x.model.state_dict(),
        "control": None if x.control is None else x.control.state_dict(),
        "mask": torch.from_numpy(x.heads.mask),
        "step": x.clock.step,
        "scores": {name: torch.from_numpy(scores) for name, scores in x.scores.items()},
        "losses": {name: torch.from_numpy(losses) for name, losses in x.losses.items()},
        "baseline": x.baseline,
        "closing": x.closing,
        "damage": tuple(x.damage),
        "loss_before_pruning": x.loss_before_pruning,
        "loss_after_pruning": x.loss_after_pruning,
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
        state = torch.load(path, map_location=x.device, weights_only=True)
    except Exception as error:  # whatever unpickling a damaged file raises
        raise RecordError(f"--resume: {path} cannot be read ({type(error).__name__}); start a new run.") from error
    try:
        x.model.load_state_dict(state["model"])
        if state["control"] is not None:
            x.control = x.copy_of_model()
            x.control.load_state_dict(state["control"])
    except RuntimeError as error:
        raise RecordError(f"--resume: {path} holds the weights of another model than {x.config.model_name}.") from error
    x.heads.set_mask(state["mask"].cpu().numpy())
    x.clock.step = state["step"]
    x.scores = {name: scores.cpu().numpy() for name, scores in state["scores"].items()}
    x.losses = {name: losses.cpu().numpy() for name, losses in state["losses"].items()}
    x.baseline = state["baseline"]
    x.closing = state["closing"]
    x.damage = Interval(*state["damage"])
    x.loss_before_pruning = state["loss_before_pruning"]
    x.loss_after_pruning = state["loss_after_pruning"]
    return Position(*state["position"])
