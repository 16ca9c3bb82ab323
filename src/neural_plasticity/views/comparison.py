"""Several runs held against each other: what is comparable, where they differ, and what came of it.

Heads, their scores and perplexities are compared among runs of the same model and text; what is relative to a run's
own baseline is compared across all. Whatever cannot be compared says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from neural_plasticity.heads import HeadState, StateGrid
from neural_plasticity.views import figures
from neural_plasticity.views.analysis import criterion_order, label_of, unit_of
from neural_plasticity.views.comparison_groups import Groups, groups_of
from neural_plasticity.views.comparison_overlap import Overlap, overlap_of
from neural_plasticity.views.comparison_parts import Moments, RunMeans, RunScores
from neural_plasticity.views.comparison_run import Digest, Point, RunLine
from neural_plasticity.views.comparison_settings import (
    Kind,
    SettingsView,
    group_of,
    kind_of,
    numbered,
    settings_view,
)
from neural_plasticity.views.curves import group_of as chart_of
from neural_plasticity.views.curves import label_of as metric_label
from neural_plasticity.views.heads_at import fitted
from neural_plasticity.views.metrics import KNOWN_PANELS

_SCORES = 700_000  # score values of a comparison, over all runs and criteria
_CHARACTERS = 1_500_000  # of texts
_METRICS = 16


@dataclass(frozen=True)
class Notice:
    """Something to know before anything is compared; ``level``: warning or note."""

    level: str
    text: str


@dataclass(frozen=True)
class LeftOut:
    """A run that was asked for and is not here."""

    path: str
    reason: str


@dataclass(frozen=True)
class Metric:
    """A metric that some of the runs have."""

    name: str
    label: str
    unit: str
    group: str
    runs: int


@dataclass(frozen=True)
class RunLineCurve:
    """The curve of ``metric`` (its number) of ``run`` (its number)."""

    run: int
    metric: int
    total: int
    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    means: RunMeans | None


@dataclass(frozen=True)
class CurvesView:
    """All curves, and where each run stood when."""

    metrics: tuple[Metric, ...]
    lines: tuple[RunLineCurve, ...]
    moments: tuple[Moments, ...]


@dataclass(frozen=True)
class Scale:
    """A criterion with one domain for all runs: of what they measured ``first``, and of what they measured ``last``.

    What was measured after pruning may be of another size by far, and would leave the first grids one colour.
    """

    name: str
    label: str
    unit: str
    first: tuple[float, float]
    last: tuple[float, float]


@dataclass(frozen=True)
class HeadsOf:
    """One run's heads: ``states`` (layers, heads) as they are now, and what was measured."""

    states: npt.NDArray[np.int8] | None
    scores: tuple[RunScores, ...]


@dataclass(frozen=True)
class HeadsView:
    """Criteria that at least one run measured, and the heads of every run; ``thinned``: what was left out."""

    criteria: tuple[Scale, ...]
    runs: tuple[HeadsOf, ...]
    thinned: str | None = None


@dataclass(frozen=True)
class Text:
    """What the runs made of one prompt: ``texts`` of each run, None where it was not asked."""

    prompt: str
    model: str
    texts: tuple[str | None, ...]


@dataclass(frozen=True)
class Texts:
    """Prompts that at least two runs share."""

    rows: tuple[Text, ...]
    left_out: int = 0
    empty: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Everything; runs are known by their number, in the order of ``runs``. ``fronts``: each run's points."""

    runs: tuple[RunLine, ...]
    kinds: tuple[Kind, ...]
    notices: tuple[Notice, ...]
    left_out: tuple[LeftOut, ...]
    settings: SettingsView
    curves: CurvesView
    fronts: tuple[tuple[Point, ...], ...]
    heads: HeadsView
    overlap: Overlap
    groups: Groups
    texts: Texts


def comparison(digests: Sequence[Digest], left_out: Sequence[LeftOut] = ()) -> Comparison:
    """The comparison of these runs, in this order."""
    keys = [kind_of(one.settings, one.line.shape, one.line.simulated) for one in digests]
    kind, group = (
        numbered(keys),
        numbered([(key, group_of(one.settings)) for key, one in zip(keys, digests, strict=True)]),
    )
    lines = tuple(replace(one.line, kind=kind[place], group=group[place]) for place, one in enumerate(digests))
    kinds = _kinds(lines)
    settings = settings_view([one.settings for one in digests])
    return Comparison(
        runs=lines,
        kinds=kinds,
        notices=tuple(_notices(lines, kinds, digests)),
        left_out=tuple(left_out),
        settings=settings,
        curves=_curves(digests),
        fronts=tuple(one.points for one in digests),
        heads=_heads(digests),
        overlap=overlap_of(_fitting([one.states for one in digests]), [[_apart(a, b) for b in lines] for a in lines]),
        groups=groups_of(lines, settings),
        texts=_texts(digests),
    )


def _kinds(lines: Sequence[RunLine]) -> tuple[Kind, ...]:
    found: dict[int, Kind] = {}
    for line in lines:
        before = found.get(line.kind)
        count = 1 if before is None else before.runs + 1
        found[line.kind] = Kind(line.model or "a model not named", line.data or "text not named", line.shape, count)
    return tuple(found[number] for number in sorted(found))


def _apart(one: RunLine, other: RunLine) -> str:
    """Why the heads of two runs are not the same heads; empty when they are."""
    if one.shape != other.shape:
        return f"their grids differ: {_shape(one)} and {_shape(other)} heads"
    if one.model != other.model or one.simulated != other.simulated:
        return "their models differ: a head of one is not that head of the other"
    return ""


def _fitting(grids: Sequence[StateGrid | None]) -> list[StateGrid | None]:
    """All of one shape: a run that added heads has a larger grid than one of the same model that did not."""
    shapes = [grid.shape for grid in grids if grid is not None]
    if len(set(shapes)) < 2:
        return list(grids)
    largest = (max(shape[0] for shape in shapes), max(shape[1] for shape in shapes))
    return [None if grid is None else fitted(grid, largest, np.int8(HeadState.ABSENT)) for grid in grids]


def _shape(line: RunLine) -> str:
    return f"{line.shape[0]} × {line.shape[1]}"


# What to know first ----------------------------------------------------------------------------------------------


def _notices(lines: Sequence[RunLine], kinds: Sequence[Kind], digests: Sequence[Digest]) -> Iterator[Notice]:
    if len(kinds) > 1:
        yield Notice("warning", _kinds_said(kinds))
    simulated = sum(line.simulated for line in lines)
    if simulated:
        which = "These runs are" if simulated == len(lines) else f"{simulated:,} of {len(lines):,} runs are"
        yield Notice("warning", f"{which} simulated: their numbers were made up to show the dashboard.")
    states: dict[str, int] = {}
    for line in lines:
        states[line.state] = states.get(line.state, 0) + 1
    unfinished = [f"{count:,} {state}" for state, count in states.items() if state != "finished"]
    if unfinished:
        yield Notice(
            "note", f"Not every run has finished ({', '.join(unfinished)}): compared as far as they are recorded."
        )
    untouched = [line for line in lines if not line.pruned and line.outcome is None]
    if untouched:
        yield Notice("note", f"Nothing was pruned yet in {_named(untouched)}.")
    grown = [line for line, one in zip(lines, digests, strict=True) if one.born > 0]
    if grown:
        yield Notice(
            "note",
            f"New heads were born in {_named(grown)}: heads removed are a share of more heads than the model began "
            "with, so that the same share leaves more. Size is what to hold against other runs.",
        )
    sizes = {one.settings.get(("configuration", "eval_sequences"), "") for one in digests}
    if len(sizes - {""}) > 1:
        yield Notice(
            "note", "Test results rest on different numbers of sequences (eval_sequences): intervals differ in width."
        )


def _kinds_said(kinds: Sequence[Kind]) -> str:
    models = dict.fromkeys(f"{kind.model} ({kind.shape[0]} × {kind.shape[1]} heads)" for kind in kinds)
    data = dict.fromkeys(kind.data for kind in kinds)
    what = [f"{len(models):,} models ({_listed(list(models))})"] if len(models) > 1 else []
    what += [f"{len(data):,} texts ({_listed(list(data))})"] if len(data) > 1 else []
    # The names may be equal where the weights' number, the text's content or the sequence length is not.
    named = " and ".join(what) or "models or texts of one name that differ (see Settings)"
    return (
        f"These runs are of {named}. Heads, scores and perplexities are compared within a model and text only; "
        "changes against a run's own baseline are compared across all."
    )


def _listed(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _named(lines: Sequence[RunLine]) -> str:
    return _listed([line.name for line in lines], 3)


# Parts -----------------------------------------------------------------------------------------------------------


def _curves(digests: Sequence[Digest]) -> CurvesView:
    counts: dict[str, int] = {}
    for one in digests:
        for curve in one.curves:
            counts[curve.name] = counts.get(curve.name, 0) + 1
    known = [name for _, _, names in KNOWN_PANELS for name in names]
    names = sorted(counts, key=lambda name: (known.index(name) if name in known else len(known), -counts[name]))
    names = names[:_METRICS]
    lines = [
        RunLineCurve(place, names.index(one.name), one.total, one.steps, one.values, one.means)
        for place, each in enumerate(digests)
        for one in each.curves
        if one.name in names
    ]
    metrics = tuple(
        Metric(name, metric_label(name), chart_of(name)[1], chart_of(name)[0], counts[name]) for name in names
    )
    return CurvesView(metrics, tuple(lines), tuple(one.moments for one in digests))


def _heads(digests: Sequence[Digest]) -> HeadsView:
    names = sorted({score.name for one in digests for score in one.scores}, key=criterion_order)
    kept: list[str] = []
    room = _SCORES
    for name in names:  # the best known ones, of every run, as far as there is room
        room -= sum(score.first.size + score.last.size for one in digests for score in one.scores if score.name == name)
        if room < 0 and kept:
            break
        kept.append(name)
    criteria = tuple(_scale(name, digests) for name in kept)
    runs = tuple(HeadsOf(one.states, tuple(score for score in one.scores if score.name in kept)) for one in digests)
    thinned = f"{len(names) - len(kept):,} of {len(names):,} criteria are left out." if len(kept) < len(names) else None
    return HeadsView(criteria, runs, thinned)


def _scale(name: str, digests: Sequence[Digest]) -> Scale:
    scores = [score for one in digests for score in one.scores if score.name == name]
    first, last = _domain([score.first for score in scores]), _domain([score.last for score in scores])
    return Scale(name, label_of(name), unit_of(name), first, last)


def _domain(grids: Sequence[npt.NDArray[np.float32]]) -> tuple[float, float]:
    values = np.concatenate([grid[np.isfinite(grid)] for grid in grids])
    return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)


def _texts(digests: Sequence[Digest]) -> Texts:
    """Of prompts that runs share: what the pruned models wrote last, and the baselines, where they were asked."""
    prompts = dict.fromkeys(prompt for one in digests for prompt in one.texts)
    rows: list[Text] = []
    left_out, room = 0, _CHARACTERS
    for model in ("pruned", "current", "control", "baseline"):
        for prompt in prompts:
            texts = tuple(one.texts.get(prompt, {}).get(model) for one in digests)
            if sum(text is not None for text in texts) < 2:
                continue
            room -= sum(len(text) for text in texts if text)
            if room < 0:
                left_out += 1
                continue
            rows.append(Text(prompt, model, texts))
    empty = None if rows else "No two of these runs were asked for a text on the same prompt."
    return Texts(tuple(rows), left_out, empty)


def title_of(found: Comparison) -> str:
    """What the page is called: two runs' names, else how many there are, and what sets apart runs of one name."""
    names = [figures.shorten(line.name, 40) for line in found.runs]
    if len(set(names)) == 1:
        differ = [row.name.replace("_", " ") for row in found.settings.differ if row.section == "configuration"]
        apart = f", by {' and '.join(differ)}" if 0 < len(differ) <= 2 else ""
        return f"{len(names):,} runs of {names[0]}{apart}"
    return " · ".join(names) if len(names) <= 2 else f"{len(names):,} runs compared"
