"""Growth: which heads came back or were added, when, why, how long they lasted, and which stay out for what reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import HeadsGrown, HeadsPruned, PhaseStarted, StateRestored
from neural_plasticity.heads import FloatGrid, HeadId, named
from neural_plasticity.record import Recorded, Run
from neural_plasticity.record.snapshot import Snapshot, snapshot
from neural_plasticity.views import figures
from neural_plasticity.views.growth_since import Standing, Typical, typical
from neural_plasticity.views.growth_walk import Life, lives_of

REFUSED = 2_000  # lines


@dataclass(frozen=True)
class Return:
    """One head that came: ``pruned_step`` is when it had gone, ``pruned_again_step`` when it went again.

    ``name`` counts lives (``L3H7#2``). ``score`` is the benefit it was considered by, ``gain`` how far the loss fell
    when it was switched on; both with an interval, None where none was recorded. ``cycles`` it has been there: until it
    went again, or so far.
    """

    step: int
    cycle: int
    origin: str
    layer: int
    head: int
    name: str
    incarnation: int
    strategy: str
    reason: str
    score: float | None
    low: float | None
    high: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    loss_before: float | None
    loss_after: float | None
    pruned_step: int | None
    pruned_again_step: int | None
    cycles: int


@dataclass(frozen=True)
class Refused:
    """One head that was considered and stays out; figures as in `Return`."""

    step: int
    cycle: int
    layer: int
    head: int
    name: str
    reason: str
    score: float | None
    low: float | None
    high: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None


@dataclass(frozen=True)
class Round:
    """One cycle: heads that went (``gone_again`` of them had come before), came back and were added.

    ``churn``: all of these moves as a share of the heads that there are; ``active`` after them. Of the growth decision:
    how many heads were ``considered``, ``tried`` and ``allowed``, what the weakest active heads were ``worth``, its
    ``rule``; None and empty where there was none.
    """

    cycle: int
    step: int
    pruned: int
    gone_again: int
    regrown: int
    added: int
    active: int
    churn: float
    considered: int
    tried: int | None
    allowed: int | None
    worth: float | None
    rule: str


@dataclass(frozen=True)
class Survival:
    """Of the heads of one origin that came at least ``cycles`` (n,) cycles before the end (``at_risk``), how many are
    still there that many cycles after (``alive``)."""

    origin: str
    cycles: npt.NDArray[np.int64]
    at_risk: npt.NDArray[np.int64]
    alive: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Growth:
    """All of it, in order. ``lasting``: returns that are active at the end; ``standings`` against the median survivor
    (a head that never went) by ``criterion``; ``refused``: the latest ones, ``refused_total`` of all."""

    returns: tuple[Return, ...]
    refused: tuple[Refused, ...] = ()
    refused_total: int = 0
    rounds: tuple[Round, ...] = ()
    survival: tuple[Survival, ...] = ()
    criterion: str = ""
    standings: tuple[Standing, ...] = ()
    typical: Typical | None = None
    lasting: int = 0
    empty: str | None = None


def growth(run: Run) -> Growth:
    """Every head that was regrown or added, and every one that was considered and was not."""
    now = snapshot(run)
    walk = lives_of(now)
    last = _last_cycle(now, walk.changes)
    returns = tuple(_return(life, last) for life in walk.lives)
    refused, total = _refused(walk.changes, walk.incarnations)
    rounds = _rounds(walk.changes, walk.gone_again, walk.active)
    considered = any(isinstance(one.event, HeadsGrown) for one in walk.changes)
    if not considered:
        return Growth((), empty="No head came back and none was added.")
    return Growth(
        returns,
        refused,
        total,
        rounds,
        _survivals(walk.lives, last),
        walk.criterion,
        walk.standings,
        typical(walk.standings),
        sum(one.pruned_again_step is None for one in returns),
        None,
    )


def _last_cycle(run: Snapshot, changes: Sequence[Recorded]) -> int:
    """The cycle that the run has come to; after a return that which it went back to: the later ones did not count."""
    if changes and isinstance(changes[-1].event, StateRestored):
        return changes[-1].event.to_cycle
    cycles = [place.cycle for place in run.places(PhaseStarted)] + [one.event.cycle for one in changes]
    return max(cycles, default=0)


def _return(life: Life, last_cycle: int) -> Return:
    event, head = life.event, life.head
    ended = last_cycle if life.gone_cycle is None else life.gone_cycle
    score, low, high = _figures(event, head)
    gain, gain_low, gain_high = _gain(event.details, head)
    return Return(
        step=event.step,
        cycle=event.cycle,
        origin=event.origin,
        layer=head.layer,
        head=head.head,
        name=named(head, life.incarnation),
        incarnation=life.incarnation,
        strategy=figures.clean(event.strategy),
        reason=_reason(event, head),
        score=score,
        low=low,
        high=high,
        gain=gain,
        gain_low=gain_low,
        gain_high=gain_high,
        loss_before=event.loss_before,
        loss_after=event.loss_after,
        pruned_step=life.pruned_step,
        pruned_again_step=life.gone_step,
        cycles=max(0, ended - event.cycle),
    )


def _refused(
    changes: Sequence[Recorded], incarnations: Mapping[int, Mapping[HeadId, int]]
) -> tuple[tuple[Refused, ...], int]:
    """The latest heads that were considered in vain, in order, and how many there are in all."""
    found: list[Refused] = []
    total = 0
    for one in reversed(changes):
        event = one.event
        if not isinstance(event, HeadsGrown) or event.origin != "regrown":
            continue
        back = {f"{layer}.{head}" for layer, head in event.heads}
        out = [head for key in event.reasons if key not in back and (head := _head(key)) is not None]
        total += len(out)
        for head in reversed(out[: max(0, REFUSED - len(found))]):
            name = named(head, incarnations.get(one.seq, {}).get(head, 1))
            figures_ = (*_figures(event, head), *_gain(event.details, head))
            found.append(Refused(event.step, event.cycle, head.layer, head.head, name, _reason(event, head), *figures_))
    return tuple(reversed(found)), total


def _rounds(
    changes: Sequence[Recorded], gone_again: Mapping[int, int], active: Mapping[int, tuple[int, int]]
) -> tuple[Round, ...]:
    """One per cycle that moved or considered heads; of several decisions in one cycle, figures of the last."""
    rounds: dict[int, Round] = {}
    for one in changes:
        event = one.event
        if not isinstance(event, HeadsPruned | HeadsGrown):
            continue
        empty = Round(event.cycle, event.step, 0, 0, 0, 0, 0, 0.0, 0, None, None, None, "")
        this = rounds.get(event.cycle, empty)
        left, present = active[one.seq]
        if isinstance(event, HeadsPruned):
            this = replace(
                this,
                pruned=this.pruned + len(event.heads),
                gone_again=this.gone_again + gone_again.get(one.seq, 0),
            )
        elif event.origin == "added":
            this = replace(this, added=this.added + len(event.heads))
        else:
            this = replace(
                this,
                regrown=this.regrown + len(event.heads),
                considered=this.considered + max(len(event.reasons), len(event.heads)),
                tried=_whole(event.details.get("tried")),
                allowed=_whole(event.details.get("allowed")),
                worth=_number(event.details.get("weakest_worth")),
                rule=figures.clean(event.rule),
            )
        moves = this.pruned + this.regrown + this.added
        rounds[event.cycle] = replace(this, step=event.step, active=left, churn=moves / present if present else 0.0)
    return tuple(rounds[cycle] for cycle in sorted(rounds))


def _survivals(lives: Sequence[Life], last_cycle: int) -> tuple[Survival, ...]:
    """By origin; heads that came in a cycle that the run gave up were taken back with it, and say nothing."""
    counted = [life for life in lives if life.event.cycle <= last_cycle]
    return tuple(
        _survival(origin, counted, last_cycle) for origin in dict.fromkeys(one.event.origin for one in counted)
    )


def _survival(origin: str, lives: Sequence[Life], last_cycle: int) -> Survival:
    own = [life for life in lives if life.event.origin == origin]
    observed = np.array([last_cycle - life.event.cycle for life in own])
    lived = np.array([math.inf if life.gone_cycle is None else life.gone_cycle - life.event.cycle for life in own])
    cycles = np.arange(max(0, int(observed.max())) + 1)
    at_risk = observed[None, :] >= cycles[:, None]
    alive = at_risk & (lived[None, :] > cycles[:, None])
    return Survival(origin, cycles, at_risk.sum(axis=1), alive.sum(axis=1))


def _figures(event: HeadsGrown, head: HeadId) -> tuple[float | None, float | None, float | None]:
    return _at(event.score, head), _at(event.low, head), _at(event.high, head)


def _at(grid: FloatGrid | None, head: HeadId) -> float | None:
    if grid is None or grid.ndim != 2 or head.layer >= grid.shape[0] or head.head >= grid.shape[1]:
        return None
    return float(grid[head])


def _gain(details: Mapping[str, Any], head: HeadId) -> tuple[float | None, float | None, float | None]:
    """Gain and its interval; whatever else a script may have written there is none."""
    gains = details.get("gains")
    found = gains.get(f"{head.layer}.{head.head}") if isinstance(gains, Mapping) else None
    if not isinstance(found, list | tuple) or len(found) != 3:
        return None, None, None
    return _number(found[0]), _number(found[1]), _number(found[2])


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _reason(event: HeadsGrown, head: HeadId) -> str:
    return figures.clean(str(event.reasons.get(f"{head.layer}.{head.head}", "")))


def _head(key: str) -> HeadId | None:
    layer, _, head = key.partition(".")
    return HeadId(int(layer), int(head)) if layer.isdecimal() and head.isdecimal() else None
