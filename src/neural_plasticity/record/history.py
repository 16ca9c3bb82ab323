"""What follows from a run's events: head states at a step, phase spans, the summary. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from neural_plasticity.errors import RecordError
from neural_plasticity.events import (
    AttentionMaps,
    Event,
    HeadScores,
    HeadsGrown,
    HeadsPruned,
    PhaseEnded,
    PhaseStarted,
    StateRestored,
)
from neural_plasticity.heads import MOST_HEADS, HeadState, StateGrid

Change = HeadsPruned | HeadsGrown | StateRestored
"""What moves the states of heads."""


class Placed(Protocol):
    """An event with its place in the record."""

    @property
    def attempt(self) -> int: ...

    @property
    def time(self) -> float: ...

    @property
    def event(self) -> Event: ...


@dataclass(frozen=True)
class PhaseSpan:
    """One phase of one cycle. ``seconds`` is measured by the phase itself, or so far while ``open``."""

    phase: str
    cycle: int
    first_step: int
    last_step: int
    seconds: float
    open: bool
    started: float  # unix seconds
    reason: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunSummary:
    """Where a run stands. ``state``: running, finished, stopped or failed; ``stale``: running, but long silent."""

    name: str
    state: str
    stale: bool
    reason: str
    simulated: bool
    shape: tuple[int, int]
    attempt: int
    phase: str
    cycle: int
    step: int
    events: int
    started: float  # unix seconds
    last_event: float  # unix seconds
    run_fraction: float | None
    seconds_left: float | None
    heads_present: int
    heads_pruned: int
    metrics: Mapping[str, float]  # each metric's last value
    result: Mapping[str, Any]  # the closing figures of a run that ended
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """From the first event to the last, pauses between attempts included."""
        return max(0.0, self.last_event - self.started)

    @property
    def sparsity(self) -> float:
        """Pruned share of the heads, 0 to 1."""
        return self.heads_pruned / self.heads_present if self.heads_present else 0.0


def head_states(start: tuple[int, int] | StateGrid, changes: Sequence[Event], step: int | None) -> StateGrid:
    """(layers, heads) states after every change up to ``step`` (included; None: all of them).

    ``start``: the states before any change; a shape means all active. The grid is as large as the run's heads ever
    need, so that grids of different steps compare; heads that are added later are absent before.

    Raises:
        RecordError: that is larger than any model's.
    """
    moves = [event for event in changes if isinstance(event, Change)]
    reached = [_reached(event) for event in moves]
    first = start if isinstance(start, np.ndarray) else np.full(start, HeadState.ACTIVE, dtype=np.int8)
    layers = max([first.shape[0], *(one[0] for one in reached)])
    heads = max([first.shape[1], *(one[1] for one in reached)])
    _check_size(layers, heads)
    grid = np.full((layers, heads), HeadState.ABSENT, dtype=np.int8)
    grid[: first.shape[0], : first.shape[1]] = first
    for event in moves:
        if step is None or event.step <= step:
            if isinstance(event, StateRestored):
                restore_states(grid, event.states)
                continue
            for head in event.heads:
                grid[head] = _state_after(event)
    return grid


def restore_states(grid: StateGrid, states: StateGrid) -> None:
    """Make ``grid`` what ``states`` says, in place; heads that came later are absent again."""
    grid[...] = HeadState.ABSENT
    if states.ndim == 2:  # whatever a script may have recorded
        rows, columns = min(grid.shape[0], states.shape[0]), min(grid.shape[1], states.shape[1])
        grid[:rows, :columns] = states[:rows, :columns]


def _reached(event: Change) -> tuple[int, int]:
    """(layers, heads) of the smallest grid that has room for the change."""
    if isinstance(event, StateRestored):
        return (event.states.shape[0], event.states.shape[1]) if event.states.ndim == 2 else (0, 0)
    return (
        max((head.layer + 1 for head in event.heads), default=0),
        max((head.head + 1 for head in event.heads), default=0),
    )


def _state_after(event: HeadsPruned | HeadsGrown) -> HeadState:
    if isinstance(event, HeadsPruned):
        return HeadState.PRUNED
    return HeadState.ADDED if event.origin == "added" else HeadState.REGROWN


def seen_shape(events: Iterable[Event]) -> tuple[int, int]:
    """(layers, heads) of the smallest grid that holds every head these events speak of; (0, 0) when none does.

    As it was at the start: from the first head that was added on, the grid may be larger than it was.
    """
    layers, heads = 0, 0
    for event in events:
        if isinstance(event, HeadsGrown) and event.origin == "added":
            break
        for one in _shapes_in(event):
            layers, heads = max(layers, one[0]), max(heads, one[1])
    _check_size(layers, heads)
    return layers, heads


def _check_size(layers: int, heads: int) -> None:
    if layers * heads > MOST_HEADS:
        raise RecordError(f"{layers:,} layers × {heads:,} heads: expected at most {MOST_HEADS:,} heads in all.")


def _shapes_in(event: Event) -> Iterable[tuple[int, int]]:
    if isinstance(event, HeadScores):
        return ((grid.shape[0], grid.shape[1]) for grid in event.scores.values() if grid.ndim == 2)
    if isinstance(event, AttentionMaps) and event.all_heads and event.maps.ndim == 4:
        return ((event.maps.shape[0], event.maps.shape[1]),)
    if isinstance(event, HeadsPruned | HeadsGrown | AttentionMaps):
        return ((layer + 1, head + 1) for layer, head in event.heads)
    return ()


def phase_spans(transitions: Iterable[Placed], last_step: int, last_time: float) -> list[PhaseSpan]:
    """Phases in order. One that never said it ended lasts to the next one, or to the end of what is recorded.

    A phase that a resumed attempt enters again goes on with the same span.
    """
    spans: list[PhaseSpan] = []
    for placed in transitions:
        event, time = placed.event, placed.time
        current = spans[-1] if spans and spans[-1].open else None
        same = current is not None and (current.phase, current.cycle) == (event.phase, event.cycle)
        if isinstance(event, PhaseStarted) and not same:
            if current is not None:
                spans[-1] = _closed(current, event.step, time)
            spans.append(PhaseSpan(event.phase, event.cycle, event.step, event.step, 0.0, True, time))
        elif isinstance(event, PhaseEnded) and current is not None and same:
            spans[-1] = replace(
                _closed(current, event.step, time), seconds=event.seconds, reason=event.reason, summary=event.summary
            )
    if spans and spans[-1].open:
        spans[-1] = replace(_closed(spans[-1], last_step, last_time), open=True)
    return spans


def _closed(span: PhaseSpan, step: int, time: float) -> PhaseSpan:
    return replace(span, last_step=max(step, span.first_step), seconds=max(0.0, time - span.started), open=False)
