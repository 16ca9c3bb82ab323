"""Every head through the run: each criterion whenever it was measured, each change of state, each decision."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import HeadScores, HeadsGrown, HeadsPruned, StateRestored
from neural_plasticity.heads import HeadId, heads_of
from neural_plasticity.record import Recorded, Run
from neural_plasticity.record.history import Change, head_states
from neural_plasticity.record.snapshot import Place, Snapshot, snapshot
from neural_plasticity.views import figures
from neural_plasticity.views.analysis import criterion_order, label_of, unit_of
from neural_plasticity.views.heads_at import changed, fitted
from neural_plasticity.views.judging import Returned, returns
from neural_plasticity.views.scores import as_known
from neural_plasticity.views.story import decision_title

SCORES = 600_000  # score values that a document holds, over all criteria and moments
_STATES = 8_000_000  # cells of state grids: they hardly change, and compress to next to nothing
_GRID_CELLS = 400_000  # of decisions' score and rank grids
_REASONS = 20_000  # lines: of all heads of a decision while there is room, of those that it changed or kept always
_CRITERIA = 24  # more are counted, not shown


@dataclass(frozen=True)
class CriterionHistory:
    """One criterion at ``steps``: ``values`` (moments, layers, heads), ``low`` and ``high`` over all of them."""

    name: str
    label: str
    unit: str
    low: float
    high: float
    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class States:
    """``grids`` (changes, layers, heads) of `HeadState`: at the start, then after each change."""

    steps: npt.NDArray[np.int64]
    cycles: npt.NDArray[np.int64]
    grids: npt.NDArray[np.int8]


@dataclass(frozen=True)
class HeadsDecision:
    """One decision; grids (layers, heads) where they were recorded, ``reasons`` by ``layer.head``."""

    seq: int
    step: int
    cycle: int
    kind: str
    title: str
    strategy: str
    rule: str
    level: float | None
    threshold: float | None
    seed: int | None
    score_label: str
    loss_before: float | None
    loss_after: float | None
    heads: npt.NDArray[np.int64]  # (heads, 2)
    score: npt.NDArray[np.float32] | None
    rank: npt.NDArray[np.int64] | None
    protected: npt.NDArray[np.bool_] | None
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class HeadsHistory:
    """All of it; ``restored``: returns to an earlier state. ``thinned`` says what was left out, None: nothing."""

    shape: tuple[int, int]
    criteria: tuple[CriterionHistory, ...]
    states: States
    decisions: tuple[HeadsDecision, ...]
    restored: tuple[Returned, ...] = ()
    thinned: str | None = None


def heads_history(run: Run, most_scores: int = SCORES) -> HeadsHistory:
    """The life of every head, in about ``most_scores`` score values.

    When there are more, of all moments the first, the last, those around decisions and evenly spread ones are kept.
    """
    now = snapshot(run)
    changes = [one for kind in (HeadsPruned, HeadsGrown, StateRestored) for one in now.records(kind)]
    changes.sort(key=lambda one: one.seq)
    decided = [one for one in changes if not isinstance(one.event, StateRestored)]
    start = now.start if now.started is not None else (0, 0)
    shape = head_states(start, [one.event for one in changes], None).shape
    criteria, said = _criteria(now, (shape[0], shape[1]), [one.seq for one in changes], most_scores)
    if criteria and not shape[0] * shape[1]:  # the record never said a shape, but it has grids
        shape = (max(one.values.shape[1] for one in criteria), max(one.values.shape[2] for one in criteria))
    states, some_states = _states(start, changes)
    decisions, some_grids = _decisions(decided, shape)
    notes = [said, some_states, some_grids]
    return HeadsHistory(
        (shape[0], shape[1]),
        criteria,
        states,
        decisions,
        returns(now),
        " ".join(note for note in notes if note) or None,
    )


def _criteria(
    run: Snapshot, shape: tuple[int, int], changes: Sequence[int], most: int
) -> tuple[tuple[CriterionHistory, ...], str]:
    places = run.places(HeadScores)
    cells = max(shape[0] * shape[1], 1)
    names = {name for one in _some(run, places) for name in one.scores}
    each = max(most // (cells * max(min(len(names), _CRITERIA), 1)), 2)
    chosen = moments(places, changes, each)
    grids: dict[str, list[tuple[int, npt.NDArray[np.float32]]]] = {}
    for one in run.at(place.seq for place in chosen):
        for name, grid in one.event.scores.items() if isinstance(one.event, HeadScores) else ():
            if grid.ndim == 2 and grid.size:
                size = shape if cells > 1 or all(shape) else grid.shape
                as32 = fitted(_float32(grid), size, np.float32(np.nan))
                grids.setdefault(name, []).append((one.event.step, as32))
    ordered = sorted(grids, key=criterion_order)
    found = tuple(_criterion(name, grids[name]) for name in ordered[:_CRITERIA])
    said = []
    if len(chosen) < len(places):
        said.append(
            f"Head scores: {len(chosen):,} of {len(places):,} measurements are here: the first, the last, "
            "those around decisions, and evenly spread ones."
        )
    if len(ordered) > _CRITERIA:
        said.append(f"{len(ordered) - _CRITERIA:,} of {len(ordered):,} criteria are left out.")
    return found, " ".join(said)


def _some(run: Snapshot, places: Sequence[Place]) -> list[HeadScores]:
    """A few measurements from the whole run: what is measured hardly changes."""
    picks = np.unique(np.linspace(0, len(places) - 1, 12).round().astype(int)) if places else ()
    found = run.outlines(places[pick].seq for pick in picks)
    return [one.event for one in found if isinstance(one.event, HeadScores)]


def _float32(grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # beyond 3e38 is infinite enough for a colour
        return grid.astype(np.float32)


def _criterion(name: str, moments_: Sequence[tuple[int, npt.NDArray[np.float32]]]) -> CriterionHistory:
    largest = tuple(max(grid.shape[axis] for _, grid in moments_) for axis in range(2))
    values = np.stack([fitted(grid, largest, np.float32(np.nan)) for _, grid in moments_])
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    steps = np.array([step for step, _ in moments_], np.int64)
    order = np.argsort(steps, kind="stable")
    return CriterionHistory(name, label_of(name), unit_of(name), low, high, steps[order], values[order])


def moments(places: Sequence[Place], changes: Sequence[int], most: int) -> list[Place]:
    """At most ``most`` (at least 2): first, last, the one before and the one after each change, then evenly spread.

    ``changes``: event numbers, in order.
    """
    if len(places) <= most:
        return list(places)
    seqs = np.array([place.seq for place in places])
    around = np.searchsorted(seqs, changes)
    wanted = {0, len(places) - 1, *(int(at) for at in around if at < len(places))}
    wanted |= {int(at) - 1 for at in around if at > 0}
    if len(wanted) > most:
        listed = sorted(wanted)
        wanted = {listed[int(at)] for at in np.linspace(0, len(listed) - 1, most)}
    rest = [at for at in range(len(places)) if at not in wanted]
    room = most - len(wanted)
    wanted |= {rest[int(at)] for at in np.linspace(0, len(rest) - 1, room)} if room > 0 else set()
    return [places[at] for at in sorted(wanted)]


def _states(start: npt.NDArray[np.int8] | tuple[int, int], changes: Sequence[Recorded]) -> tuple[States, str]:
    """The grid at the start and after every change: one pass, each grid made from the one before it."""
    events = [one.event for one in changes if isinstance(one.event, Change)]
    final = head_states(start, events, None).shape
    first = fitted(head_states(start, [], None), final, np.int8(-1))
    grids = list(itertools.accumulate(events, changed, initial=first))
    most = max(_STATES // max(first.size, 1), 2)
    picked = sorted({int(at) for at in np.linspace(0, len(grids) - 1, min(most, len(grids)))})
    begun = min([0, *(event.step for event in events)])
    steps = np.array([begun, *(event.step for event in events)], np.int64)[picked]
    cycles = np.array([0, *(event.cycle for event in events)], np.int64)[picked]
    said = f"Head states: after {len(picked) - 1:,} of {len(grids) - 1:,} changes." if len(picked) < len(grids) else ""
    return States(steps, cycles, np.stack([grids[at] for at in picked])), said


def _decisions(changes: Sequence[Recorded], shape: tuple[int, ...]) -> tuple[tuple[HeadsDecision, ...], str]:
    """All decisions; what concerns heads that they left alone for the latest ones, as far as there is room."""
    room = max(_GRID_CELLS // max(shape[0] * shape[1], 1), 2)
    lines = complete = 0
    found: list[HeadsDecision] = []
    for number, one in enumerate(reversed(changes)):
        lines += len(getattr(one.event, "reasons", ()))
        whole = number == 0 or (number < room and lines <= _REASONS)
        complete += whole
        found.append(_decision(one, shape, whole))
    said = f"Score, rank and reason of every head: for the last {complete:,} of {len(found):,} decisions."
    return tuple(reversed(found)), said if complete < len(found) else ""


def _decision(one: Recorded, shape: tuple[int, ...], whole: bool) -> HeadsDecision:
    event = one.event
    assert isinstance(event, HeadsPruned | HeadsGrown)
    reasons = {str(head): figures.clean(str(text)) for head, text in event.reasons.items()}
    if not whole:
        reasons = {head: reasons[head] for head in _concerned(event) if head in reasons}
    pruning = event if isinstance(event, HeadsPruned) else None
    score, threshold = as_known(pruning) if pruning else (event.score, None)

    def grid(values: npt.NDArray[Any] | None, missing: Any) -> Any:
        if values is None or not whole or values.ndim != 2:
            return None
        return fitted(values, shape, missing)

    return HeadsDecision(
        seq=one.seq,
        step=event.step,
        cycle=event.cycle,
        kind="pruned" if pruning else event.origin if isinstance(event, HeadsGrown) else "",
        title=decision_title(event),
        strategy=figures.clean(event.strategy),
        rule=figures.clean(event.rule),
        level=pruning.level if pruning else None,
        threshold=threshold,
        seed=pruning.seed if pruning else None,
        score_label=label_of(event.strategy) if event.strategy else "score",
        loss_before=event.loss_before,
        loss_after=event.loss_after,
        heads=np.array([HeadId(*head) for head in event.heads], np.int64).reshape(-1, 2),
        score=grid(None if score is None else _float32(score), np.float32(np.nan)),
        rank=grid(pruning.rank if pruning else None, np.int64(-1)),
        protected=grid(pruning.protected if pruning else None, np.bool_(False)),
        reasons=reasons,
    )


def _concerned(event: HeadsPruned | HeadsGrown) -> list[str]:
    """Heads that a decision changed, or kept although their rank would have taken them."""
    kept = event.protected if isinstance(event, HeadsPruned) else None
    heads = [*event.heads, *(heads_of(kept) if kept is not None and kept.ndim == 2 else ())]
    return [f"{layer}.{head}" for layer, head in heads]
