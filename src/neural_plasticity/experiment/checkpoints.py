"""Checkpoints: enough to go on as if nothing had happened, after a phase or after a step of training.

The same state without the training under way, kept in memory, is what a run returns to when a later cycle was too much.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neural_plasticity.errors import HeadError, RecordError
from neural_plasticity.events import Event, StepMetrics
from neural_plasticity.experiment import checkpoint_file
from neural_plasticity.experiment.checkpoint_checks import check, check_moments
from neural_plasticity.experiment.checkpoint_file import DamagedCheckpoint
from neural_plasticity.experiment.clock import Stage, Within
from neural_plasticity.experiment.memory import out_of_memory
from neural_plasticity.experiment.state import Experiment, Kept
from neural_plasticity.experiment.training import Training
from neural_plasticity.heads import HeadId
from neural_plasticity.models.parts import gathered, shapes_of
from neural_plasticity.models.sharding import load_state, state_of
from neural_plasticity.models.size import model_size
from neural_plasticity.models.widening import set_added
from neural_plasticity.policies.statistics import Interval

KEPT = 2
"""How many checkpoints a run keeps: the newest, and the one before should that be damaged."""

_NAME = re.compile(r"event-(\d{10,19})\.safetensors")
_OLD = "last.pt"  # what versions before the first release wrote, with pickle


class Position(NamedTuple):
    """Where a checkpoint stands: stages of the plan that are done, and the record's last event at that moment."""

    stages_done: int
    last_seq: int


class Restored(NamedTuple):
    """The checkpoint that a run goes on from, and what there is to say of newer ones that are of no use."""

    position: Position
    path: Path
    notes: tuple[str, ...]


def steps_at_rest(x: Experiment, event: Event) -> int:
    """The steps that the phase has done, if after ``event`` the run can be kept within it: after each step. Else 0.

    With adapters it cannot: the model has other parameters until they are merged, at the phase's end.
    """
    if x.config.lora_rank is not None:
        return 0
    if isinstance(event, StepMetrics) and x.training is not None and x.training.trainees:
        return x.training.done
    return 0


def present(x: Experiment) -> dict[str, Any]:
    """What a checkpoint holds but for its position; where models are divided, every process has to call."""
    return {
        **captured(x),
        "step": x.clock.step,
        "kept": x.kept,
        "stopped": x.stopped,
        "plan": None if x.stopped is None else x.plan,
        "training": None if x.training is None else _captured_training(x, x.training),
    }


def save(x: Experiment, directory: Path, position: Position, state: Mapping[str, Any] | None = None) -> Path:
    """Write a checkpoint into ``directory``, named by its last event; of earlier ones the newest stays.

    ``state``: what is `present`, if it was asked for before.

    Raises:
        OSError: it cannot be written; the earlier ones are as they were.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"event-{position.last_seq:010d}.safetensors"
    checkpoint_file.write(path, {**(present(x) if state is None else state), "position": position})
    for old in found(directory)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def found(directory: Path) -> list[Path]:
    """The checkpoints in ``directory``, the newest first."""
    names = ((match, path) for path in directory.glob("event-*") if (match := _NAME.fullmatch(path.name)))
    return [path for _, path in sorted(((int(match[1]), path) for match, path in names), reverse=True)]


def restore(x: Experiment, directory: Path, last_seq: int | None = None) -> Restored | None:
    """Bring a freshly opened experiment to where its newest usable checkpoint was written; None where there is none.

    A damaged one is passed over, and so is one that stands after ``last_seq``, the last event that the record has;
    both are said in ``notes``.

    Raises:
        RecordError: none of the checkpoints is usable, or they are those of another model or version; or one cannot be
            read at present, which is no damage.
    """
    notes: list[str] = []
    paths = found(directory)
    for path in paths:
        try:
            state = checkpoint_file.read(path, _most_bytes(x))
            check(x, state)
            position = Position(*state["position"])
            if last_seq is not None and position.last_seq > last_seq:
                raise DamagedCheckpoint(f"the record ends before it, at event {last_seq}")
            _take_up(x, _with_the_others(x, state), path)
        except DamagedCheckpoint as error:
            notes.append(f"checkpoint {path.name} cannot be used: {error}")
        else:
            _with_the_others(x, None)
            return Restored(position, path, tuple(f"{note}; going on from {path.name}" for note in notes))
    _with_the_others(x, None)
    if paths:
        raise RecordError(f"--resume: {'; '.join(notes)}. There is no other in {directory}; start a new run.")
    if (directory / _OLD).exists():
        raise RecordError(
            f"--resume: {directory / _OLD} was made by an earlier version of neural_plasticity; finish the run with "
            "that version, or start a new one."
        )
    return None


def restore_beside(x: Experiment) -> None:
    """Where models are divided: what the processes beside the main one do while that one restores.

    Raises:
        RecordError: as `restore`.
    """
    while (state := _with_the_others(x, None)) is not None:
        with contextlib.suppress(DamagedCheckpoint):  # the main process sees it too, and looks for another
            _take_up(x, state, Path())


def _with_the_others(x: Experiment, state: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the main process takes up; where models are divided, on the others with shapes in place of weights."""
    if x.devices.mesh is None:
        return state
    if not x.devices.main:
        return x.devices.agreed(None)
    told = None
    if state is not None:
        told = {**state, **{name: shapes_of(state[name]) for name in ("model", "control")}}
        if (kept := state["kept"]) is not None:
            told["kept"] = [*kept[:2], {**kept[2], **{name: shapes_of(kept[2][name]) for name in ("model", "control")}}]
        if (training := state["training"]) is not None:
            told["training"] = {**training, "moments": shapes_of(training["moments"])}
    x.devices.agreed(told)
    return state


def set_aside(directory: Path, restored: Restored | None) -> None:
    """Rename the checkpoints that were passed over: the run's next ones count from the one that it goes on from.

    None: all of them; the run is new, and older numbers would let its own checkpoints go at once.
    """
    for path in takewhile(lambda one: restored is None or one != restored.path, found(directory)):
        with contextlib.suppress(OSError):  # a directory that cannot be written will be said soon enough
            path.rename(path.with_name(f"{path.name}.unusable"))


def _take_up(x: Experiment, state: dict[str, Any] | None, path: Path) -> None:
    assert state is not None
    try:
        reinstate(x, state)
    except (RuntimeError, MemoryError, HeadError) as error:
        if out_of_memory(error):
            raise RecordError(f"--resume: there is not enough memory for what {path} holds.") from error
        raise RecordError(f"--resume: {path} holds the weights of another model than {x.config.model_name}.") from error
    x.clock.step = state["step"]
    x.kept = None if state["kept"] is None else Kept(*state["kept"])
    x.stopped = state["stopped"]
    if state["plan"] is not None:  # shorter than it began
        x.plan = tuple(Stage(*stage) for stage in state["plan"])
        x.clock.total_work = sum(x.work_of(stage) for stage in x.plan)
    training = state["training"]
    if training is None:
        x.training = None
        return
    models = {"model": x.model} if x.control is None else {"model": x.model, "control": x.control}
    check_moments(training["moments"], models)
    x.training = Training(
        memory=training["memory"],
        losses=training["losses"].tolist(),
        taken_up=training["moments"],
        within=Within(*training["within"]),
    )


def _captured_training(x: Experiment, training: Training) -> dict[str, Any]:
    return {
        "memory": training.memory,
        "losses": torch.tensor(training.losses, dtype=torch.float64),
        "moments": gathered({name: trainee.moments for name, trainee in training.trainees.items()}),
        "within": x.clock.within,
    }


def _most_bytes(x: Experiment) -> int:
    """More than a checkpoint of this run can have: weights and two moments of model and control, and what is kept."""
    return 16 * model_size(x.model).bytes * (1 + x.config.grow_new_heads) + 2**28


def captured(x: Experiment) -> dict[str, Any]:
    """What phases change: weights, mask, control, scores and results. Tensors are the model's own, not copies.

    Weights that are divided are `gathered`: whole on the main process, every process has to call.
    """
    return {
        "model": state_of(x.model),
        "control": None if x.control is None else state_of(x.control),
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
    if state["control"] is None:
        x.control = None
    else:
        if x.control is None:
            x.control = x.copy_of_model()
        set_added(x.control, x.added_before)  # never wider than the model was at the start
        load_state(x.control, state["control"])
    set_added(x.model, state["added"])
    load_state(x.model, state["model"])
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
        if value.is_meta:  # another process has it
            return value
        key = (value.data_ptr(), value.numel())
        if not value.numel() or key not in done:
            done[key] = value.detach().to("cpu", copy=True)
        return done[key]
    if isinstance(value, dict):
        return {name: _copied(one, done) for name, one in value.items()}
    return value
