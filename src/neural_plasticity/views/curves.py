"""Every metric over the run, thinned without losing an extreme, with the clock that turns steps into time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neural_plasticity.record import Run
from neural_plasticity.record.snapshot import snapshot
from neural_plasticity.views import figures
from neural_plasticity.views.metrics import KNOWN_PANELS
from neural_plasticity.views.thinning import kept_points

_LABELS = {
    "loss": "training loss", "validation_loss": "validation loss", "control_loss": "control's loss",
    "perplexity": "training perplexity", "validation_perplexity": "validation perplexity",
    "control_perplexity": "control's perplexity", "sparsity": "heads removed", "learning_rate": "learning rate",
    "tokens_per_second": "tokens per second", "gradient_norm": "gradient norm",
    "growth_gate": "gate of returning heads",
}  # fmt: skip
_TOGETHER = 8  # metrics read in one pass: more save little, and long runs need the memory
_CLOCK_POINTS = 4_000
MEANS = 2_000  # of a curve that was thinned
MOST_CURVES = 400  # a script that logs one name per head has thousands


@dataclass(frozen=True)
class Means:
    """Mean of the finite values of every ``width`` points, at the middle one's step; NaN where there are none."""

    width: int
    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One metric: ``steps`` and ``values`` of ``total`` recorded points; ``group``: what is drawn with it.

    ``means`` are there where points were left out: smoothing the extremes that are left would mislead.
    """

    name: str
    label: str
    unit: str
    group: str
    total: int
    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    means: Means | None = None


@dataclass(frozen=True)
class Clock:
    """Unix ``seconds`` at some ``steps``, both rising: between them time is nearly even."""

    steps: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]


@dataclass(frozen=True)
class CurvesView:
    """All metrics; ``exact``: no point was left out. ``left_out``: names without a curve, beyond `MOST_CURVES`."""

    series: tuple[Curve, ...]
    clock: Clock
    exact: bool
    left_out: int = 0


def curves(run: Run, most: int = 20_000) -> CurvesView:
    """Every metric of the run's history in at most ``most`` points, those of known panels first."""
    now = snapshot(run)
    names = sorted(now.metrics(), key=_order)
    series = tuple(_read(now, names[:MOST_CURVES], most))
    exact = all(len(one.steps) == one.total for one in series)
    return CurvesView(series, clock(now), exact, max(len(names) - MOST_CURVES, 0))


def curve(run: Run, name: str, first: int | None = None, last: int | None = None, most: int = 4_000) -> Curve:
    """One metric between two steps (both included), exact where at most ``most`` points lie there.

    ``total`` counts the points between the two steps.

    Raises:
        RecordError: no such metric.
    """
    steps, values = run.series(name)
    return _curve(name, *between(steps, values, first, last), most)


def between(
    steps: npt.NDArray[np.int64], values: npt.NDArray[np.float64], first: int | None, last: int | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The points from step ``first`` to step ``last``, and one on either side, so that lines leave the window."""
    low = 0 if first is None else max(int(np.searchsorted(steps, first, "left")) - 1, 0)
    high = len(steps) if last is None else int(np.searchsorted(steps, last, "right")) + 1
    return steps[low:high], values[low:high]


def clock(run: Run) -> Clock:
    """Steps against time. Where the machine's clock was set back, time goes on from where it was."""
    steps, seconds = snapshot(run).times(_CLOCK_POINTS)
    if not len(steps):
        return Clock(steps, seconds)
    elapsed = seconds[0] + np.concatenate(([0.0], np.cumsum(np.maximum(np.diff(seconds), 0.0))))
    order = np.argsort(steps, kind="stable")
    return Clock(steps[order], np.maximum.accumulate(elapsed[order]))


def clock_set_back(run: Run) -> float:
    """By how many seconds in all the machine's clock went back during the run."""
    seconds = snapshot(run).times(_CLOCK_POINTS)[1]
    return float(-np.minimum(np.diff(seconds), 0.0).sum()) if len(seconds) > 1 else 0.0


def _read(run: Run, names: Sequence[str], most: int) -> Iterator[Curve]:
    for start in range(0, len(names), _TOGETHER):
        some = names[start : start + _TOGETHER]
        found = run.columns(some)
        yield from (_curve(name, *found[name], most) for name in some if name in found)


def _curve(name: str, steps: npt.NDArray[np.int64], values: npt.NDArray[np.float64], most: int) -> Curve:
    kept = kept_points(values, most)
    title, unit = group_of(name)
    means = means_of(steps, values) if len(kept) < len(values) else None
    return Curve(name, label_of(name), unit, title, len(values), steps[kept], values[kept], means)


def means_of(steps: npt.NDArray[np.int64], values: npt.NDArray[np.float64], most: int = MEANS) -> Means:
    """Means of at most ``most`` even stretches."""
    width = max(-(-len(values) // most), 1)
    starts = np.arange(0, len(values), width)
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore", over="ignore"):
        counts = np.add.reduceat(finite, starts, dtype=np.float64)
        found = np.add.reduceat(np.where(finite, values / width, 0.0), starts) / (counts / width)
    return Means(width, steps[np.minimum(starts + width // 2, len(steps) - 1)], found)


def label_of(name: str) -> str:
    """How a metric is written for people."""
    return _LABELS.get(name) or figures.shorten(figures.clean(name), 60)


def group_of(name: str) -> tuple[str, str]:
    """Title and unit of the chart that a metric belongs to; a metric of the user's own has one to itself."""
    for title, unit, names in KNOWN_PANELS:
        if name in names:
            return title, unit
    return figures.shorten(figures.clean(name), 60), ""


def _order(name: str) -> int:
    """Known metrics first, in the order of their charts; the others as they came (sorting is stable)."""
    known = [one for _, _, names in KNOWN_PANELS for one in names]
    return known.index(name) if name in known else len(known)
