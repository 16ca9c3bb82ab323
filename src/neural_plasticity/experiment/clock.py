"""Where a run is: the coordinates that every event carries, and how much of the planned work is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from neural_plasticity.config import RunConfig
from neural_plasticity.events import Phase, Progress


class Stage(NamedTuple):
    """One phase of one cycle; cycle 0 comes before any pruning."""

    phase: Phase
    cycle: int
    judges: bool = False  # an evaluation on validation text, which decides whether there is another cycle


class Within(NamedTuple):
    """A place in a stage: units done and planned, and how much of its work (`planned_work`) is left."""

    phase_step: int
    planned: int
    unit: str
    left: float


def stages(cycles: int, grows: bool = False, judged: bool = False) -> tuple[Stage, ...]:
    """Warm-up and the baseline's evaluation; then every cycle's analysis, pruning, fine-tuning, growth if it
    ``grows``, and evaluation. Cycles that are ``judged`` are evaluated once, after the last one."""
    growth: tuple[Phase, ...] = ("growth",) if grows else ()
    per_cycle: tuple[Phase, ...] = ("analysis", "pruning", "fine-tuning", *growth, "evaluation")
    return (
        Stage("warmup", 0),
        Stage("evaluation", 0),
        *(
            Stage(phase, cycle, judged and phase == "evaluation")
            for cycle in range(1, cycles + 1)
            for phase in per_cycle
        ),
        *((Stage("evaluation", cycles),) if judged else ()),
    )


def planned_work(stage: Stage, config: RunConfig, ablation_passes: int) -> float:
    """Cost of a stage in forward passes of one sequence (a training step's backward counts as two forwards)."""
    if stage.judges:
        return 2.0 * config.sequences_to_judge
    evaluation = config.eval_sequences * (2 if config.control and stage.cycle else 1)
    match stage.phase:
        case "warmup":
            return 3.0 * config.warmup_steps * config.batch_size + VALIDATION_WORK
        case "fine-tuning":
            return training_work(config, config.fine_tuning_steps)
        case "growth":
            return training_work(config, config.steps_of_growth) + growth_measuring(config)
        case "analysis":
            return config.score_sequences * (PASS_WORK + ablation_passes)
        case "pruning":
            return 2.0 * WATCHED_SEQUENCES
        case _:
            return evaluation + GENERATION_WORK


def training_work(config: RunConfig, steps: int) -> float:
    """``steps`` of training after pruning, the control's among them, and the looks at validation text."""
    return 3.0 * steps * config.batch_size * (2 if config.control else 1) + VALIDATION_WORK


def growth_measuring(config: RunConfig) -> float:
    """The pass over pruned heads and the forwards that try the best of them; how many pass is not known before."""
    return config.score_sequences * (PASS_WORK + GROWTH_TRIALS) if config.growth else 0.0


WATCHED_SEQUENCES = 16
"""Validation sequences whose loss is followed, before and after pruning and during training."""

REPORTS = 1_000
"""How often a long training phase says how far it is."""

VALIDATIONS = 5
"""How often a training phase looks at them, its end included."""

VALIDATION_WORK = float(VALIDATIONS * WATCHED_SEQUENCES)

PASS_WORK = 4.0
"""The one pass that gives most criteria: a forward, a backward, and what watching costs."""

GROWTH_TRIALS = 18
"""Forwards per sequence of a growth phase's trials: the model as it is, its weakest heads off, a few heads on."""

GENERATION_WORK = 60.0
"""Text samples, attention maps and speed of one evaluation, in the same unit; measured on the built-in model."""


@dataclass
class Clock:
    """Mutable coordinates and the estimate of the time left."""

    total_work: float
    step: int = 0
    phase: Phase = ""
    cycle: int = 0
    phase_step: int = 0
    done_work: float = 0.0
    planned: int = 0
    unit: str = "steps"
    now: Callable[[], float] = time.perf_counter
    _started: float = field(init=False)
    _phase_started: float = 0.0
    _stage_target: float = 0.0
    _stage_work: float = 0.0

    def __post_init__(self) -> None:
        self._started = self.now()

    def enter(self, stage: Stage, work: float, planned: int, unit: str) -> None:
        """Begin a stage that will take ``work`` of the run's total."""
        self.phase, self.cycle = stage.phase, stage.cycle
        self.phase_step, self.planned, self.unit = 0, planned, unit
        self._phase_started = self.now()
        self._stage_target = self.done_work + work
        self._stage_work = work

    @property
    def within(self) -> Within:
        """Where the clock stands in its stage."""
        return Within(self.phase_step, self.planned, self.unit, self._stage_target - self.done_work)

    def rejoin(self, within: Within) -> None:
        """After `enter`: the stage is not new, an earlier attempt has come this far in it."""
        self.phase_step, self.planned, self.unit, left = within
        self.skip(self._stage_work - left)
        self._stage_target = self.done_work + left

    def skip(self, work: float) -> None:
        """A stage that an earlier attempt has done: no part of what this one has to do."""
        self.total_work -= work

    def leave(self, early: bool = False) -> float:
        """End the stage, ``early`` if part of its work was not needed; returns its seconds."""
        if early:  # what was saved leaves the total, or the estimate would believe in a burst of speed
            self.total_work -= max(0.0, self._stage_target - self.done_work)
        else:
            self.done_work = self._stage_target
        return self.now() - self._phase_started

    def tick(self, steps: int = 1, share: float = 1.0) -> None:
        """One unit of the phase is done; ``steps``: how far the global step moves, ``share``: the units' part of it."""
        self.step += steps
        self.phase_step += 1
        self.done_work += min(share * self._stage_work / max(1, self.planned), self._stage_target - self.done_work)

    def reach(self, fraction: float, done: int, planned: int) -> None:
        """The phase is this far, by its own account: ``fraction`` of its work, ``done`` of ``planned`` units."""
        self.phase_step, self.planned = done, planned
        self.done_work = max(self.done_work, self._stage_target - (1 - fraction) * self._stage_work)

    def at(self) -> dict[str, Any]:
        """Coordinates as keyword arguments of an event."""
        return {"step": self.step, "phase": self.phase, "cycle": self.cycle, "phase_step": self.phase_step}

    def reports(self) -> Iterator[Progress]:
        """`progress` when it is worth a row of the record: after every unit, of long phases after every thousandth."""
        if self.phase_step % max(1, self.planned // REPORTS) == 0 or self.phase_step >= self.planned:
            yield self.progress()

    def progress(self) -> Progress:
        """How far the phase and the run are, and how long the rest takes at the rate so far."""
        seconds = self.now() - self._started
        fraction = min(1.0, self.done_work / self.total_work) if self.total_work else 0.0
        left = seconds * (1 - fraction) / fraction if fraction > 0 else None
        return Progress(
            done=self.phase_step,
            planned=self.planned,
            run_fraction=fraction,
            seconds_left=left,
            unit=self.unit,
            **self.at(),
        )
