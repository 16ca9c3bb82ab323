"""The whole run along its steps: phase spans, what happened when, and the loss, thinned without losing a spike."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import (
    Event,
    HeadScores,
    HeadsGrown,
    HeadsPruned,
    Stabilised,
    StateRestored,
    StepMetrics,
)
from neural_plasticity.record import PhaseSpan, Run
from neural_plasticity.record.snapshot import snapshot
from neural_plasticity.views import figures
from neural_plasticity.views.thinning import kept_points

Steps = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """A metric to draw: ``steps`` and ``values`` of the same length, ``total`` points before thinning."""

    name: str
    steps: Steps
    values: Values
    total: int

    @property
    def thinned(self) -> bool:
        """True when some recorded points are not among these."""
        return len(self.steps) < self.total


@dataclass(frozen=True)
class Mark:
    """Something that happened at one step. ``kind``: pruned, regrown, added, restored or stable."""

    step: int
    kind: str
    label: str
    cycle: int = 0
    short: str = ""  # for places where the label has no room


@dataclass(frozen=True)
class Boundary:
    """Where a cycle begins."""

    step: int
    cycle: int


@dataclass(frozen=True)
class Timeline:
    """Everything along one axis of global steps, from ``first`` to ``last``."""

    spans: tuple[PhaseSpan, ...]
    marks: tuple[Mark, ...]
    series: tuple[Series, ...]
    first: int
    last: int
    boundaries: tuple[Boundary, ...] = ()
    smooth: tuple[Series, ...] = ()  # the training loss, in pieces between the decisions

    @property
    def empty(self) -> bool:
        """True when there is nothing to draw."""
        return not (self.spans or self.marks or any(len(one.steps) for one in self.series))


Curves = Mapping[str, tuple[Steps, Values]]


def timeline(
    run: Run, metrics: tuple[str, ...] = ("loss", "validation_loss"), most: int = 2_000, curves: Curves | None = None
) -> Timeline:
    """The timeline of a run's history, each metric in at most ``most`` points; metrics never recorded are left out.

    ``curves``: the metrics as ``run.columns`` gave them, where they have been read already.
    """
    spans = tuple(run.phases())
    moved = [one for one in run.changes() if not isinstance(one, HeadsGrown) or one.heads]  # not: nobody came back
    happened = [*moved, *run.events(Stabilised)]
    marks = tuple(sorted((mark_of(event) for event in happened), key=lambda mark: mark.step))
    curves = run.columns(metrics) if curves is None else curves
    series = tuple(thin(name, *curves[name], most) for name in metrics if name in curves)
    jumps = [mark.step for mark in marks if mark.kind != "stable"]
    smooth = smoothed_pieces("loss", *curves["loss"], jumps, most) if "loss" in curves else ()
    ends = [step for span in spans for step in (span.first_step, span.last_step)]
    ends += [mark.step for mark in marks]
    ends += [int(step) for one in series for step in one.steps[[0, -1] if len(one.steps) else []]]
    ends += [step for kind in (StepMetrics, HeadScores) for step in snapshot(run).ends(kind)]
    return Timeline(spans, marks, series, min(ends, default=0), max(ends, default=0), boundaries(spans, marks), smooth)


def boundaries(spans: Sequence[PhaseSpan], marks: Sequence[Mark] = ()) -> tuple[Boundary, ...]:
    """The first step at which each cycle from 1 on is met, by its phases or, where it has none, its decisions."""
    first: dict[int, int] = {}
    for cycle, step in [(span.cycle, span.first_step) for span in spans] + [(m.cycle, m.step) for m in marks]:
        if cycle > 0:
            first[cycle] = min(step, first.get(cycle, step))
    return tuple(Boundary(step, cycle) for cycle, step in sorted(first.items()))


_NOUNS = {
    "pruned": "pruning",
    "regrown": "regrowth",
    "added": "addition",
    "restored": "return",
    "stable": "stable point",
}


def merged_label(marks: Sequence[Mark]) -> str:
    """One short label for events close together: ``7 pruned`` for one, ``3 prunings`` or ``2 prunings, stable``."""
    if len(marks) == 1:
        return marks[0].short
    counts = Counter(mark.kind for mark in marks)
    return ", ".join(
        next(mark.short for mark in marks if mark.kind == kind)
        if count == 1
        else figures.plural(count, _NOUNS.get(kind, kind))
        for kind, count in counts.items()
    )


def mark_of(event: Event) -> Mark:
    """A pruning or growth decision, a return to an earlier state, or a stabilisation point, as a mark."""
    if isinstance(event, HeadsPruned):
        label = f"{figures.plural(len(event.heads), 'head')} pruned"
        label += f" by {figures.clean(event.strategy)}" if event.strategy else ""
        return Mark(event.step, "pruned", label, event.cycle, f"{len(event.heads):,} pruned")
    if isinstance(event, HeadsGrown):
        label = f"{figures.plural(len(event.heads), 'head')} {event.origin}"
        return Mark(event.step, event.origin, label, event.cycle, f"{len(event.heads):,} {event.origin}")
    if isinstance(event, StateRestored):
        back = f"back to cycle {event.to_cycle}" if event.to_cycle else "back to the baseline"
        return Mark(event.step, "restored", back, event.cycle, back)
    return Mark(event.step, "stable", f"stable at step {event.step:,}", event.cycle, "stable")


def smoothed(name: str, steps: Steps, values: Values, share: float = 0.06, bins: int = 4_000) -> tuple[Series, int]:
    """The running mean over a window of ``share`` of the points, and that window in points; NaN is left out.

    The window is centred (triangular weights, so that no point enters or leaves at once). Long curves are averaged
    in at most ``bins`` bins first.
    """
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    total = len(steps)
    if total < 3:
        return Series(f"{name}, smoothed", steps, values, total), 1
    per_bin = -(-total // bins)
    starts = np.arange(0, total, per_bin)
    sizes = np.diff([*starts, total])
    means = np.add.reduceat(values, starts) / sizes
    middles = steps[np.minimum(starts + sizes // 2, total - 1)]
    half = max(1, round(len(means) * share / 2))  # three weights at least, and never more than there are means
    weights = np.concatenate([np.arange(1, half + 2), np.arange(half, 0, -1)]).astype(np.float64)
    summed = np.convolve(means * sizes, weights, mode="same")
    means = summed / np.convolve(sizes, weights, mode="same")
    return Series(f"{name}, smoothed", middles, means, total), (2 * half + 1) * per_bin


def smoothed_pieces(
    name: str, steps: Steps, values: Values, breaks: Sequence[int], bins: int = 4_000
) -> tuple[Series, ...]:
    """`smoothed` between the ``breaks`` (steps), so that a jump at a pruning stays a jump; many breaks are ignored."""
    inner = sorted({step for step in breaks if len(steps) and steps[0] < step < steps[-1]})
    if not inner or len(inner) > 40:
        return (smoothed(name, steps, values, bins=bins)[0],)
    cuts = [0, *np.searchsorted(steps, inner, side="left"), len(steps)]
    each = max(bins // (len(cuts) - 1), 200)
    return tuple(
        smoothed(name, steps[a:b], values[a:b], 0.1, each)[0] for a, b in itertools.pairwise(cuts) if b - a > 8
    )


def thin(name: str, steps: Steps, values: Values, most: int) -> Series:
    """At most ``most`` points, every spike and break of the full curve among them (`kept_points`)."""
    kept = kept_points(values, most)
    return Series(name, steps[kept], values[kept], len(values))
