"""Of one run, what a comparison draws: its curves in few points, where its cycles begin, scores of heads, texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import HeadScores
from neural_plasticity.heads import HeadState
from neural_plasticity.record.snapshot import Snapshot
from neural_plasticity.views.curves import means_of
from neural_plasticity.views.metrics import KNOWN_PANELS
from neural_plasticity.views.thinning import kept_points

_METRICS = 12  # of a run: the known ones first
_FIRST, _LAST = 4, 12  # measurements of heads that are looked at, from either end


@dataclass(frozen=True)
class RunMeans:
    """Mean of every ``width`` points, at the middle one's step; NaN where none is finite."""

    width: int
    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class RunCurve:
    """A metric of a run in at most as many points as asked for, of ``total``; ``means`` where points were left out."""

    name: str
    total: int
    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    means: RunMeans | None


@dataclass(frozen=True)
class Moments:
    """``cycles[i]`` begins at ``steps[i]``; from step ``changed[i]`` on ``sparsity[i]`` of the heads are removed."""

    steps: npt.NDArray[np.int64]
    cycles: npt.NDArray[np.int64]
    changed: npt.NDArray[np.int64]
    sparsity: npt.NDArray[np.float32]
    last: int


@dataclass(frozen=True)
class RunScores:
    """A criterion as it was measured first and last, each (layers, heads)."""

    name: str
    first_step: int
    last_step: int
    first: npt.NDArray[np.float32]
    last: npt.NDArray[np.float32]


def run_curves(run: Snapshot, most: int) -> Iterator[RunCurve]:
    known = [name for _, _, names in KNOWN_PANELS for name in names]
    recorded = run.metrics()
    names = sorted(recorded, key=lambda name: known.index(name) if name in known else len(known))[:_METRICS]
    for name, (steps, values) in run.columns(names).items():
        kept = kept_points(values, most)
        made = means_of(steps, values, max(most // 2, 2)) if len(kept) < len(values) else None
        with np.errstate(over="ignore"):  # beyond 3e38 is infinite enough for a line
            means = None if made is None else RunMeans(made.width, made.steps, made.values.astype(np.float32))
            yield RunCurve(name, len(values), steps[kept], values[kept].astype(np.float32), means)


def moments(run: Snapshot, changed: npt.NDArray[np.int64], grids: npt.NDArray[np.int8], last: int) -> Moments:
    spans = run.phases()
    begun = {span.cycle: span.first_step for span in reversed(spans)}
    order = sorted(begun)
    present = np.maximum((grids >= 0).sum(axis=(1, 2)), 1) if grids.size else np.ones(len(grids))
    gone = (grids == HeadState.PRUNED).sum(axis=(1, 2)) if grids.size else np.zeros(len(grids))
    return Moments(
        steps=np.array([begun[cycle] for cycle in order], np.int64),
        cycles=np.array(order, np.int64),
        changed=changed,
        sparsity=(gone / present).astype(np.float32),
        last=last,
    )


def run_scores(run: Snapshot) -> Iterator[RunScores]:
    places = run.places(HeadScores)
    looked = places if len(places) <= _FIRST + _LAST else (*places[:_FIRST], *places[-_LAST:])
    first: dict[str, tuple[int, npt.NDArray[np.float32]]] = {}
    last: dict[str, tuple[int, npt.NDArray[np.float32]]] = {}
    for one in run.at(place.seq for place in looked):
        for name, grid in one.event.scores.items() if isinstance(one.event, HeadScores) else ():
            if grid.ndim == 2 and grid.size:
                with np.errstate(over="ignore"):
                    as32 = grid.astype(np.float32)
                first.setdefault(name, (one.event.step, as32))
                last[name] = (one.event.step, as32)
    for name, (step, before) in first.items():
        yield RunScores(name, step, last[name][0], before, last[name][1])


def texts(run: Snapshot) -> dict[str, dict[str, str]]:
    """The last text of each model for each prompt."""
    found: dict[str, dict[str, str]] = {}
    for sample in run.samples():
        found.setdefault(sample.prompt, {})[sample.model] = sample.text
    return found
