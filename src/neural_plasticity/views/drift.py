"""Drift of attention: how far every head's patterns are from the baseline's, and from one cycle to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neural_plasticity.heads import HeadId
from neural_plasticity.views.attention import row_divergence

CONTROL = "control"
_MOVERS = 12

Maps = npt.NDArray[np.float64]  # (heads, T, T)
Moment = tuple[int, int]  # cycle, step


@dataclass(frozen=True)
class AttentionDrift:
    """Mean Jensen-Shannon divergence of the rows in bits (0 to 1) over the prompts, (moments, layers, heads).

    ``to_baseline``: against the head's first pattern; ``to_previous``: against the moment before, 0 at the first. NaN:
    no pattern. ``prompts``: how many were averaged.
    """

    model: str
    steps: npt.NDArray[np.int64]
    cycles: npt.NDArray[np.int64]
    to_baseline: npt.NDArray[np.float32]
    to_previous: npt.NDArray[np.float32]
    prompts: int


@dataclass(frozen=True)
class AttentionMover:
    """A head whose attention ended far from where it began; ``in_control``: how far the control's went, None: unknown.

    ``step`` and ``cycle`` of its last pattern.
    """

    layer: int
    head: int
    drift: float
    in_control: float | None
    step: int
    cycle: int


class PatternDrift:
    """Divergences of one prompt, look by look; what later looks are held against is all that it keeps."""

    def __init__(self) -> None:
        self._row: dict[HeadId, int] = {}
        self._first: Maps | None = None
        self._previous: dict[bool, Maps] = {}  # of the model and the control: NaN where a head had no pattern yet

    def take(self, control: bool, heads: Sequence[HeadId], maps: Maps) -> tuple[Maps, Maps]:
        """Drift to baseline and to the look before, (heads) each; NaN where there is no pattern. Later looks compare.

        ``maps`` (heads, T, T). The control begins as the model does, so it is held against the model's first look.
        """
        rows = np.array([self._row.setdefault(head, len(self._row)) for head in heads], np.int64)
        size = (len(self._row), *maps.shape[1:])
        self._first = _grown(self._first, size)
        previous = self._previous[control] = _grown(self._previous.get(control), size)
        known = _known(maps)
        new = known & ~_known(self._first[rows])
        self._first[rows[new]] = maps[new]
        first, before = self._first[rows], previous[rows]
        missing = ~_known(before)
        before[missing] = first[missing]
        previous[rows[known]] = maps[known]
        return row_divergence(first, maps), row_divergence(before, maps)


def _known(maps: Maps) -> npt.NDArray[np.bool_]:
    """(heads): those that have a pattern."""
    return np.asarray(np.isfinite(maps).any(axis=(1, 2)))


def _grown(maps: Maps | None, size: tuple[int, ...]) -> Maps:
    """``maps``, with room for more heads; those have no pattern yet."""
    if maps is not None and len(maps) == size[0]:
        return maps
    larger = np.full(size, np.nan)
    if maps is not None:
        larger[: len(maps)] = maps
    return larger


@dataclass
class DriftSums:
    """Divergences of all prompts, added up by model, moment and head."""

    sums: dict[tuple[bool, Moment], dict[HeadId, list[float]]] = field(default_factory=dict)
    prompts: set[str] = field(default_factory=set)

    def add(
        self, prompt: str, control: bool, moment: Moment, heads: Sequence[HeadId], baseline: Maps, previous: Maps
    ) -> None:
        """Count in what one look at one prompt showed."""
        self.prompts.add(prompt)
        at = self.sums.setdefault((control, moment), {})
        for head, to_baseline, to_previous in zip(heads, baseline.tolist(), previous.tolist(), strict=True):
            entry = at.setdefault(head, [0.0, 0.0, 0])
            if to_baseline == to_baseline:  # not NaN: there is a pattern
                entry[0] += to_baseline
                entry[1] += to_previous
                entry[2] += 1

    def drift(self) -> tuple[AttentionDrift, ...]:
        """The run's model, and the control where there was one."""
        return tuple(self._of(control) for control in (False, True) if any(one is control for one, _ in self.sums))

    def _of(self, control: bool) -> AttentionDrift:
        moments = sorted({moment for one, moment in self.sums if one is control}, key=lambda one: (one[1], one[0]))
        everywhere = [head for at in self.sums.values() for head in at]
        shape = (max(head[0] for head in everywhere) + 1, max(head[1] for head in everywhere) + 1)
        grids = np.full((2, len(moments), *shape), np.nan, np.float32)
        for place, moment in enumerate(moments):
            for head, (baseline, previous, count) in self.sums[control, moment].items():
                if count:
                    grids[:, place, head[0], head[1]] = baseline / count, previous / count
        return AttentionDrift(
            CONTROL if control else "pruned",
            np.array([step for _, step in moments], np.int64),
            np.array([cycle for cycle, _ in moments], np.int64),
            grids[0],
            grids[1],
            len(self.prompts),
        )


def attention_movers(drift: Sequence[AttentionDrift]) -> tuple[AttentionMover, ...]:
    """The heads whose last pattern is farthest from their first, farthest first."""
    own = next((one for one in drift if one.model != CONTROL), None)
    if own is None or not len(own.steps):
        return ()
    control = next((one for one in drift if one.model == CONTROL), None)
    last, moment = _latest(own.to_baseline)
    ended, _ = _latest(control.to_baseline) if control is not None else (np.full(last.shape, np.nan), moment)
    order = np.argsort(-np.where(np.isnan(last), -1, last), axis=None, kind="stable")[:_MOVERS]
    found = []
    for layer, head in zip(*np.unravel_index(order, last.shape), strict=True):
        if last[layer, head] > 0:
            at, other = moment[layer, head], float(ended[layer, head])
            found.append(
                AttentionMover(
                    int(layer), int(head), float(last[layer, head]), None if np.isnan(other) else other,
                    int(own.steps[at]), int(own.cycles[at]),
                )
            )  # fmt: skip
    return tuple(found)


def _latest(grids: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The last known value of each cell, and at which moment that was."""
    known = np.isfinite(grids)
    moment = len(grids) - 1 - np.argmax(known[::-1], axis=0)
    return np.take_along_axis(grids, moment[None], 0)[0], moment
