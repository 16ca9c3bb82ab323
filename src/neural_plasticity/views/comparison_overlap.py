"""Which heads two runs both pruned, held against chance: exact hypergeometric probabilities.

Anywhere: of N heads one run pruned K₁ and the other K₂. Had each taken its number at random, the count of common heads
would be hypergeometric, K₁K₂/N on average. Within layers: each run keeps the number that it took in every layer, so
that the sum of one hypergeometric count per layer remains; an agreement on layers, or a rule that leaves every layer
some heads, is then no evidence of an agreement on heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from neural_plasticity.heads import HeadState, StateGrid

_TAIL = 0.025  # on either side of the range that chance keeps to in 95 of 100 cases

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Chance:
    """What chance gives: the mean, the range of 95 % of cases, and the probability of at least what was seen."""

    expected: float
    low: int
    high: int
    p: float


@dataclass(frozen=True)
class Common:
    """Heads of both runs (``heads``), pruned by each and by both, against chance."""

    heads: int
    first: int
    second: int
    both: int
    anywhere: Chance
    within: Chance

    @property
    def jaccard(self) -> float:
        """Pruned by both as a share of those pruned by either; NaN when nobody pruned anything."""
        either = self.first + self.second - self.both
        return self.both / either if either else float("nan")


@dataclass(frozen=True)
class ChanceTable:
    """`Chance` for every pair of runs, each (runs, runs)."""

    expected: Floats
    low: Integers
    high: Integers
    p: Floats


@dataclass(frozen=True)
class Overlap:
    """Pairs of runs, each array (runs, runs). ``why``: −1, or the number of the reason why a pair is not compared."""

    both: Integers
    jaccard: Floats
    anywhere: ChanceTable
    within: ChanceTable
    why: Integers
    reasons: tuple[str, ...] = ()
    empty: str | None = None


def overlap_of(grids: Sequence[StateGrid | None], apart: Sequence[Sequence[str]]) -> Overlap:
    """All pairs; ``apart[a][b]`` says why two runs cannot be held against each other, empty where they can."""
    count = len(grids)
    reasons: list[str] = []
    why = np.full((count, count), -1, np.int64)
    found: dict[tuple[int, int], Common] = {}
    for a in range(count):
        for b in range(a, count):
            one, other = grids[a], grids[b]
            said = apart[a][b] or (
                "" if one is not None and other is not None else "one of them has no heads on record"
            )
            if said:
                reasons += [said] if said not in reasons else []
                why[a, b] = why[b, a] = reasons.index(said)
            elif one is not None and other is not None:
                found[a, b] = common(one, other)
    pruned = any(pair.first or pair.second for pair in found.values())
    empty = None if pruned else "No two of these runs pruned heads that could be held against each other."
    return Overlap(
        both=_symmetric(count, {place: pair.both for place, pair in found.items()}, -1).astype(np.int64),
        jaccard=_symmetric(count, {place: pair.jaccard for place, pair in found.items()}).astype(np.float32),
        anywhere=_table(count, {place: pair.anywhere for place, pair in found.items()}),
        within=_table(count, {place: pair.within for place, pair in found.items()}),
        why=why,
        reasons=tuple(reasons),
        empty=empty,
    )


def common(one: StateGrid, other: StateGrid) -> Common:
    """Two grids of one shape; heads that either of them has not are left out."""
    there = (one != HeadState.ABSENT) & (other != HeadState.ABSENT)
    first, second = (one == HeadState.PRUNED) & there, (other == HeadState.PRUNED) & there
    both = int((first & second).sum())
    layers = list(zip(*(grid.sum(axis=1).tolist() for grid in (there, first, second)), strict=True))
    whole = _count(int(there.sum()), int(first.sum()), int(second.sum()))
    sums = np.ones(1)
    for heads, taken, others in layers:
        if taken and others:
            sums = np.convolve(sums, _count(heads, *sorted((taken, others))))
    return Common(
        int(there.sum()), int(first.sum()), int(second.sum()), both, _chance(whole, both), _chance(sums, both)
    )


def _chance(probabilities: npt.NDArray[np.float64], seen: int) -> Chance:
    below = np.cumsum(probabilities)
    low = int(np.searchsorted(below, _TAIL, "right"))
    high = int(np.searchsorted(below, 1 - _TAIL, "left"))
    last = len(probabilities) - 1
    p = float(probabilities[seen:].sum()) if seen <= last else 0.0
    mean = float(np.arange(last + 1) @ probabilities)
    return Chance(mean, min(low, last), min(high, last), min(p, 1.0))


@lru_cache(maxsize=50_000)
def _count(heads: int, first: int, second: int) -> npt.NDArray[np.float64]:
    """Probability of 0, 1, … common heads when ``first`` and ``second`` of ``heads`` are drawn independently."""
    from scipy.special import gammaln  # takes a moment, which only a comparison is worth

    def choose(n: npt.NDArray[np.int64] | int, k: npt.NDArray[np.int64] | int) -> npt.NDArray[np.float64]:
        return np.asarray(gammaln(np.add(n, 1)) - gammaln(np.add(k, 1)) - gammaln(np.subtract(n, k) + 1))

    found = np.zeros(min(first, second) + 1)
    seen = np.arange(max(0, first + second - heads), min(first, second) + 1)
    found[seen] = np.exp(choose(first, seen) + choose(heads - first, second - seen) - choose(heads, second))
    return found / found.sum()


def _symmetric(
    count: int, values: dict[tuple[int, int], float] | dict[tuple[int, int], int], missing: float = np.nan
) -> npt.NDArray[np.float64]:
    table = np.full((count, count), missing)
    for (a, b), value in values.items():
        table[a, b] = table[b, a] = value
    return table


def _table(count: int, found: dict[tuple[int, int], Chance]) -> ChanceTable:
    return ChanceTable(
        _symmetric(count, {place: one.expected for place, one in found.items()}).astype(np.float32),
        _symmetric(count, {place: one.low for place, one in found.items()}, -1).astype(np.int64),
        _symmetric(count, {place: one.high for place, one in found.items()}, -1).astype(np.int64),
        _symmetric(count, {place: one.p for place, one in found.items()}).astype(np.float32),
    )
