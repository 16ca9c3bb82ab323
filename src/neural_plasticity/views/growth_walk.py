"""One walk through a run's changes and measurements: the life of every head that came, and how it stood meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from neural_plasticity.events import HeadScores, HeadsGrown, HeadsPruned, StateRestored
from neural_plasticity.heads import HeadId, HeadState, StateGrid, named
from neural_plasticity.record import Recorded
from neural_plasticity.record.history import head_states
from neural_plasticity.record.snapshot import Snapshot
from neural_plasticity.views.growth_since import Standing, against_survivors
from neural_plasticity.views.heads_at import changed, fitted
from neural_plasticity.views.heads_history import moments

CRITERIA = ("gradient", "fisher", "combined", "output_norm", "magnitude")  # the first that was measured
MOMENTS = 120  # measurements at which heads are looked at


@dataclass
class Life:
    """One head from when it came on; ``gone_step`` and ``gone_cycle`` when it went again."""

    event: HeadsGrown
    head: HeadId
    incarnation: int
    pruned_step: int | None
    gone_step: int | None = None
    gone_cycle: int | None = None
    seen: list[tuple[int, int, float, float]] = field(default_factory=list)  # step, cycles since, ratio, rank


@dataclass(frozen=True)
class Walk:
    """What the walk saw. Mappings are by event number: how many heads of a pruning had come before, (active, present)
    heads after a change, and which life each head that a decision considered was in."""

    changes: tuple[Recorded, ...]
    lives: tuple[Life, ...]
    criterion: str
    standings: tuple[Standing, ...]
    gone_again: Mapping[int, int]
    active: Mapping[int, tuple[int, int]]
    incarnations: Mapping[int, Mapping[HeadId, int]]


def lives_of(run: Snapshot) -> Walk:
    """Walk through the run's history in its order."""
    changes = [one for kind in (HeadsPruned, HeadsGrown, StateRestored) for one in run.records(kind)]
    changes.sort(key=lambda one: one.seq)
    start = run.start if run.started is not None else (0, 0)
    events = [one.event for one in changes]
    largest = head_states(start, events, None).shape
    grid = fitted(head_states(start, [], None), largest, np.int8(HeadState.ABSENT))
    first = next((one.seq for one in changes if isinstance(one.event, HeadsGrown) and one.event.heads), None)
    measured, criterion = _measured(run, changes, first)
    lives: list[Life] = []
    present_life: dict[HeadId, Life] = {}  # the last life of every head that ever came
    pruned_at: dict[HeadId, int] = {}
    came: Counter[HeadId] = Counter()
    gone_again: dict[int, int] = {}
    active: dict[int, tuple[int, int]] = {}
    incarnations: dict[int, dict[HeadId, int]] = {}
    for one in sorted([*changes, *measured], key=lambda each: each.seq):
        event = one.event
        if isinstance(event, HeadScores):
            _look(event, criterion, grid, [life for life in present_life.values() if life.gone_step is None])
            continue
        assert isinstance(event, HeadsPruned | HeadsGrown | StateRestored)
        grid = changed(grid, event)
        active[one.seq] = (int((grid > HeadState.PRUNED).sum()), int((grid >= HeadState.PRUNED).sum()))
        if isinstance(event, StateRestored):
            _restored(event, grid, present_life)
        elif isinstance(event, HeadsPruned):
            for head in event.heads:
                pruned_at[head] = event.step
                life = present_life.get(head)
                if life is not None and life.gone_step is None:
                    life.gone_step, life.gone_cycle = event.step, event.cycle
                    gone_again[one.seq] = gone_again.get(one.seq, 0) + 1
        else:
            incarnations[one.seq] = {head: 1 + times for head, times in came.items()}
            for head in event.heads:
                came[head] += event.origin == "regrown"
                life = Life(event, head, 1 + came[head], pruned_at.get(head))
                present_life[head] = life
                lives.append(life)
    standings = tuple(_standing(life) for life in lives if life.seen)
    return Walk(tuple(changes), tuple(lives), criterion, standings, gone_again, active, incarnations)


def _measured(run: Snapshot, changes: list[Recorded], after: int | None) -> tuple[list[Recorded], str]:
    """Measurements after event number ``after``, some of them if they are many, and the criterion to look at."""
    if after is None:
        return [], ""
    places = [place for place in run.places(HeadScores) if place.seq > after and place.phase != "growth"]
    chosen = moments(places, [one.seq for one in changes], MOMENTS)
    found = [one for one in run.at(place.seq for place in chosen) if isinstance(one.event, HeadScores)]
    names = {name for one in found if isinstance(one.event, HeadScores) for name in one.event.scores}
    return found, next((name for name in CRITERIA if name in names), "")


def _look(event: HeadScores, criterion: str, grid: StateGrid, lives: list[Life]) -> None:
    scores = event.scores.get(criterion)
    if scores is None or scores.ndim != 2 or not lives:
        return
    whole = fitted(scores.astype(np.float64), grid.shape, np.float64(np.nan))
    for life, (ratio, rank) in zip(lives, against_survivors(whole, grid, [life.head for life in lives]), strict=True):
        life.seen.append((event.step, max(0, event.cycle - life.event.cycle), ratio, rank))


def _restored(event: StateRestored, grid: StateGrid, lives: Mapping[HeadId, Life]) -> None:
    """Lives that the return to an earlier state ended, or took up again."""
    for head, life in lives.items():
        there = grid[head] in (HeadState.REGROWN, HeadState.ADDED)
        if there:
            life.gone_step = life.gone_cycle = None
        elif life.gone_step is None:
            life.gone_step, life.gone_cycle = event.step, event.cycle


def _standing(life: Life) -> Standing:
    steps, since, ratio, rank = zip(*life.seen, strict=True)
    return Standing(
        life.head.layer,
        life.head.head,
        named(life.head, life.incarnation),
        life.event.origin,
        life.event.step,
        np.array(steps, np.int64),
        np.array(since, np.int64),
        np.array(ratio, np.float64),
        np.array(rank, np.float64),
    )
