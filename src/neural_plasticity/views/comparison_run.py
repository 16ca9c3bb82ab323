"""What a comparison needs of one run: a line that says what it is and how it came out, its curves, heads and texts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neural_plasticity.errors import RecordError
from neural_plasticity.events import Evaluation
from neural_plasticity.heads import StateGrid
from neural_plasticity.record import Run, RunSummary
from neural_plasticity.record.snapshot import Snapshot, snapshot
from neural_plasticity.views import figures
from neural_plasticity.views.comparison_parts import (
    Moments,
    RunCurve,
    RunScores,
    moments,
    run_curves,
    run_scores,
    texts,
)
from neural_plasticity.views.comparison_settings import SEED, Settings, run_settings
from neural_plasticity.views.cycles import Cycle, Measured, cycles
from neural_plasticity.views.heads_history import heads_history
from neural_plasticity.views.judging import Judgement, Returned, returns
from neural_plasticity.views.overview import planned_cycles
from neural_plasticity.views.results import number

TEST, VALIDATION = "test", "validation"
_LARGEST_LOSS = 700.0  # exp overflows a little above


@dataclass(frozen=True)
class Point:
    """One state of a run: share of heads removed and what it costs.

    ``split``: test, with intervals, or validation, where the cycle was not evaluated. Ratios are of perplexities: to
    the run's own baseline, and to the control trained as long.
    """

    cycle: int
    sparsity: float
    split: str
    perplexity: Measured
    to_baseline: Measured | None = None
    to_control: Measured | None = None


@dataclass(frozen=True)
class RunLine:
    """One run in a line. ``kind``: runs of one kind have the same model and text; ``group``: all equal but the seed."""

    name: str
    path: str
    state: str
    reason: str
    simulated: bool
    model: str
    data: str
    shape: tuple[int, int]
    strategy: str
    level: str
    seed: str
    cycle: int
    cycles_planned: int | None
    step: int
    seconds: float
    started: float  # unix seconds
    pruned: int
    present: int
    baseline: Measured | None
    outcome: Point | None
    control: Measured | None
    prefill_speedup: float | None
    decode_speedup: float | None
    size_reduction: float | None
    tags: tuple[str, ...]
    kind: int = 0
    group: int = 0
    address: str = ""  # of its own page, where there is one


@dataclass(frozen=True)
class Digest:
    """One run, ready to be compared. ``settings``: (section, name) to text; ``texts``: prompt to model to text."""

    line: RunLine
    settings: Settings
    points: tuple[Point, ...]
    curves: tuple[RunCurve, ...]
    moments: Moments
    states: StateGrid | None
    scores: tuple[RunScores, ...]
    texts: Mapping[str, Mapping[str, str]]
    identity: str  # equal for a record and its copy
    born: int = 0  # heads that it gained beyond those that it began with, and has


def digest(run: Run, path: str = "", most: int = 2_000) -> Digest:
    """A run's digest, its curves in at most ``most`` points each.

    Raises:
        RecordError: the run has not begun, or its record cannot be read.
    """
    now = snapshot(run)
    summary = now.summary()
    if now.started is None:
        raise RecordError(f"{run.path}: the run has not begun yet; there is nothing to compare.")
    curves = tuple(run_curves(now, most))
    points = _points(now)
    states = heads_history(now, 0).states
    last = states.grids[-1] if states.grids.size else None
    line = _line(now, summary, points, path or str(run.path.parent))
    return Digest(
        line=line,
        settings=run_settings(now),
        points=points,
        curves=curves,
        moments=moments(now, states.steps, states.grids, summary.step),
        states=last,
        scores=tuple(run_scores(now)),
        texts=texts(now),
        identity=_identity(now, summary),
        born=0 if last is None else int((last >= 0).sum() - (states.grids[0] >= 0).sum()),
    )


def _line(run: Snapshot, summary: RunSummary, points: tuple[Point, ...], path: str) -> RunLine:
    started = run.started
    config: Mapping[str, Any] = started.config if started else {}
    model: Mapping[str, Any] = started.model if started else {}
    data: Mapping[str, Any] = started.data if started else {}
    evaluations = run.evaluations()
    last: Mapping[str, Any] = (evaluations[-1].results.get("comparison") if evaluations else None) or {}
    went_back = returns(run)
    unpruned = bool(went_back) and not went_back[-1].to_cycle
    return RunLine(
        name=figures.shorten(figures.clean(summary.name), 120),
        path=figures.clean(path),
        state="stale" if summary.stale else summary.state,
        reason=figures.clean(summary.reason),
        simulated=summary.simulated,
        model=_told(model.get("name") or config.get("model_name")),
        data=_told(data.get("name") or config.get("dataset")),
        shape=run.shape if started else summary.shape,  # at the start: heads may have been added since
        strategy=_told(config.get("pruning_strategy")) or _strategies(run),
        level=_told(config.get("pruning_level")),
        seed=_told(config.get(SEED)),
        cycle=summary.cycle,
        cycles_planned=planned_cycles(config) if "cycles" in config else None,
        step=summary.step,
        seconds=summary.seconds,
        started=summary.started,
        pruned=summary.heads_pruned,
        present=summary.heads_present,
        baseline=_figure(evaluations, "baseline"),
        outcome=_outcome(points, went_back),
        control=_figure(evaluations, "control"),
        prefill_speedup=1.0 if unpruned else number(last, "prefill_speedup"),
        decode_speedup=1.0 if unpruned else number(last, "decode_speedup"),
        size_reduction=0.0 if unpruned else number(last, "size_reduction"),
        tags=tuple(figures.clean(tag) for tag in run.annotation.tags or ()),
    )


def _told(value: Any) -> str:
    return "" if value is None else figures.shorten(figures.clean(str(value)), 80)


def _strategies(run: Snapshot) -> str:
    """As decisions name them, where the configuration does not."""
    named = (getattr(one, "strategy", "") for one in run.decisions())
    return figures.shorten(figures.clean(", ".join(dict.fromkeys(one for one in named if one))), 80)


def _figure(evaluations: list[Evaluation], model: str) -> Measured | None:
    for one in reversed(evaluations):
        found = _measured(one.results.get(model) or {}, "perplexity")
        if found is not None:
            return found
    return None


def _measured(of: Any, key: str) -> Measured | None:
    value = number(of, key)
    return None if value is None else Measured(value, number(of, f"{key}_low"), number(of, f"{key}_high"))


# Outcome ---------------------------------------------------------------------------------------------------------


def _points(run: Snapshot) -> tuple[Point, ...]:
    """The baseline where it was evaluated, then each cycle: as evaluated on test text, else as validation text says."""
    listed = cycles(run)
    judged = {one.cycle: one for one in listed.judged}
    first = listed.cycles[0].loss_before if listed.cycles else None
    tested = {one.cycle: one for one in run.evaluations() if _measured(one.results.get("pruned") or {}, "perplexity")}
    found = [Point(0, 0.0, TEST, listed.baseline, Measured(1.0))] if listed.baseline is not None else []
    for cycle in listed.cycles:
        point = (
            _tested(tested[cycle.cycle], cycle)
            if cycle.cycle in tested
            else _validated(cycle, first, judged.get(cycle.cycle))
        )
        found += [point] if point is not None else []
    return tuple(found)


def _tested(event: Evaluation, cycle: Cycle) -> Point | None:
    perplexity = _measured(event.results.get("pruned") or {}, "perplexity")
    if perplexity is None:
        return None
    said = number(event.results.get("pruned") or {}, "sparsity")
    comparison = event.results.get("comparison") or {}
    return Point(
        cycle.cycle,
        cycle.sparsity if said is None else said,
        TEST,
        perplexity,
        _as_ratio(_measured(comparison, "loss_difference")),
        _as_ratio(_measured(comparison, "loss_difference_to_control")),
    )


def _validated(cycle: Cycle, first: float | None, judged: Judgement | None) -> Point | None:
    """``first``: the loss before any pruning."""
    if judged is None and cycle.loss_after is None:
        return None
    loss = cycle.loss_after
    to_baseline = None if first is None or loss is None else Measured(_exp(loss - first))
    if judged is not None:  # held against the control on the same sequences
        to_control = _as_ratio(Measured(judged.log_ratio, judged.log_ratio_low, judged.log_ratio_high))
        return Point(cycle.cycle, judged.sparsity, VALIDATION, Measured(judged.perplexity), to_baseline, to_control)
    return Point(cycle.cycle, cycle.sparsity, VALIDATION, Measured(_exp(loss or 0.0)), to_baseline)


def _outcome(points: Sequence[Point], went_back: Sequence[Returned]) -> Point | None:
    """The last cycle, or the one that the run went back to.

    Back at the unpruned model that is the baseline, which the control is as well: an outcome like any other, since
    means without it would be means of the seeds that came out well.
    """
    last = went_back[-1].to_cycle if went_back else max((point.cycle for point in points), default=0)
    found = next((point for point in points if point.cycle == last), None)
    if last or found is None:
        return found
    return replace(found, to_control=Measured(1.0)) if went_back else None


def _as_ratio(loss: Measured | None) -> Measured | None:
    """A difference of losses as a ratio of perplexities."""
    if loss is None:
        return None
    ends = (None if end is None else _exp(end) for end in (loss.low, loss.high))
    return Measured(_exp(loss.value), *ends)


def _exp(loss: float) -> float:
    return math.exp(loss) if loss < _LARGEST_LOSS else math.inf if not math.isnan(loss) else math.nan


def _identity(run: Snapshot, summary: RunSummary) -> str:
    config = json.dumps(dict(run.config), sort_keys=True, default=str)
    return f"{summary.started!r} {summary.last_event!r} {run.last_seq} {summary.name} {config}"
