"""The whole run along its steps: phase spans, what happened when, and the loss, thinned without losing a spike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import Event, HeadsGrown, HeadsPruned, Stabilised
from neural_plasticity.record import PhaseSpan, Run
from neural_plasticity.views import figures

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
    """Something that happened at one step. ``kind``: pruned, regrown, added or stable."""

    step: int
    kind: str
    label: str
    cycle: int = 0


@dataclass(frozen=True)
class Timeline:
    """Everything along one axis of global steps, from ``first`` to ``last``."""

    spans: tuple[PhaseSpan, ...]
    marks: tuple[Mark, ...]
    series: tuple[Series, ...]
    first: int
    last: int

    @property
    def empty(self) -> bool:
        """True when there is nothing to draw."""
        return not (self.spans or self.marks or any(len(one.steps) for one in self.series))


def timeline(run: Run, metrics: tuple[str, ...] = ("loss", "validation_loss"), most: int = 2_000) -> Timeline:
    """The timeline of a run's history, each metric in at most ``most`` points; metrics never recorded are left out."""
    spans = tuple(run.phases())
    happened = [*run.decisions(), *run.events(Stabilised)]
    marks = tuple(sorted((mark_of(event) for event in happened), key=lambda mark: mark.step))
    recorded = run.metrics()
    series = tuple(thin(name, *run.series(name), most) for name in metrics if name in recorded)
    ends = [step for span in spans for step in (span.first_step, span.last_step)]
    ends += [mark.step for mark in marks]
    ends += [int(step) for one in series for step in one.steps[[0, -1] if len(one.steps) else []]]
    return Timeline(spans, marks, series, min(ends, default=0), max(ends, default=0))


def mark_of(event: Event) -> Mark:
    """A pruning or growth decision, or a stabilisation point, as a mark."""
    if isinstance(event, HeadsPruned):
        label = f"{figures.plural(len(event.heads), 'head')} pruned by {figures.clean(event.strategy)}"
        return Mark(event.step, "pruned", label, event.cycle)
    if isinstance(event, HeadsGrown):
        return Mark(event.step, event.origin, f"{figures.plural(len(event.heads), 'head')} {event.origin}", event.cycle)
    return Mark(event.step, "stable", f"stable at step {event.step:,}", event.cycle)


def thin(name: str, steps: Steps, values: Values, most: int) -> Series:
    """At most ``most`` points: of every stretch its first, last, lowest, highest and first NaN or infinity.

    Every spike of the full curve is in the thinned one; ``most`` below 5 is taken as 5.
    """
    total = len(steps)
    if total <= most:
        return Series(name, steps, values, total)
    kept: set[int] = set()
    for stretch in np.array_split(np.arange(total), max(most // 5, 1)):
        kept |= {int(stretch[0]), int(stretch[-1])}
        finite = np.isfinite(values[stretch])
        if finite.any():
            within = stretch[finite]
            kept |= {int(within[np.argmin(values[within])]), int(within[np.argmax(values[within])])}
        if not finite.all():
            kept.add(int(stretch[~finite][0]))
    chosen = np.array(sorted(kept))
    return Series(name, steps[chosen], values[chosen], total)
