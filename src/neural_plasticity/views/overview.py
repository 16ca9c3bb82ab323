"""Where a run stands, in a few figures against its baseline: the first thing anyone wants to know."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from neural_plasticity.events import Evaluation
from neural_plasticity.heads import HeadState
from neural_plasticity.record import Run, RunSummary
from neural_plasticity.views import figures
from neural_plasticity.views.palette import phase_label
from neural_plasticity.views.results import measurable, number

_LARGEST_LOSS = 700.0  # exp overflows a little above


@dataclass(frozen=True)
class KeyFigure:
    """A label, its value, and what the value is to be held against."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Overview:
    """``state`` is finished, running, silent, stopped or failed; ``sentence`` says where the run stands."""

    name: str
    state: str
    sentence: str
    reason: str
    simulated: bool
    figures: tuple[KeyFigure, ...]
    notes: tuple[str, ...] = ()


def overview(run: Run) -> Overview:
    """State, place and key figures of a run, whatever is missing from it."""
    summary = run.summary()
    evaluations = run.evaluations()
    state = "silent" if summary.stale else summary.state
    return Overview(
        name=figures.clean(summary.name),
        state=state,
        sentence=_sentence(summary),
        reason=figures.clean(summary.reason),
        simulated=summary.simulated,
        figures=(
            _perplexity(run, evaluations[-1] if evaluations else None),
            _heads(run, summary),
            *_speed_and_size(evaluations[-1] if evaluations else None),
        ),
        notes=tuple(figures.clean(note) for note in summary.notes),
    )


def _sentence(summary: RunSummary) -> str:
    """``cycle 2 · fine-tuning · step 281 · about 1 min left``; for a run that ended, how long it took."""
    parts = [f"cycle {summary.cycle}"] if summary.cycle else []
    if summary.state == "running":
        parts.append(figures.clean(phase_label(summary.phase)))
    parts.append(f"step {summary.step:,}")
    if summary.attempt > 1:
        parts.append(f"attempt {summary.attempt}")
    if summary.state == "running" and summary.seconds_left is not None and not summary.stale:
        parts.append(f"about {figures.duration(round(summary.seconds_left))} left")
    elif summary.state == "running" and summary.stale:
        parts.append("no event for a while: stuck, or killed")
    parts.append(f"{figures.duration(summary.seconds)} recorded")
    return " · ".join(parts)


def _perplexity(run: Run, evaluation: Evaluation | None) -> KeyFigure:
    """Test perplexity of the pruned model against the baseline; before evaluation, validation perplexity so far."""
    if evaluation is not None:
        pruned = number(evaluation.results.get("pruned") or {}, "perplexity")
        if pruned is not None:
            return KeyFigure("perplexity", figures.perplexity(pruned), _held_against(evaluation, pruned))
    if "validation_loss" not in run.metrics():
        return KeyFigure("perplexity", figures.MISSING, "not measured yet")
    steps, losses = run.series("validation_loss")
    before = _before_pruning(run, steps, losses)
    now = _exp(float(losses[-1]))
    if before is None:
        return KeyFigure("perplexity", figures.perplexity(now), "validation text, nothing pruned yet")
    note = f"{_relative(now, before)}before pruning {figures.perplexity(before)}, validation text"
    return KeyFigure("perplexity", figures.perplexity(now), note)


def _held_against(evaluation: Evaluation, pruned: float) -> str:
    """The change and what it is measured against, or that there is none to be measured."""
    comparison = evaluation.results.get("comparison") or {}
    baseline, control = (number(evaluation.results.get(model) or {}, "perplexity") for model in ("baseline", "control"))
    clear = measurable(*(number(comparison, f"loss_difference_{end}") for end in ("low", "high")))
    parts = (
        ["no measurable difference" if clear is False else figures.change(pruned / baseline - 1)] if baseline else []
    )
    parts += [f"baseline {figures.perplexity(baseline)}"]
    parts += [f"control {figures.perplexity(control)}"] if control is not None else []
    return " · ".join(parts)


def _relative(value: float, reference: float | None) -> str:
    return f"{figures.change(value / reference - 1)} · " if reference else ""


def _exp(loss: float) -> float:
    return math.exp(loss) if loss < _LARGEST_LOSS else math.inf if not math.isnan(loss) else math.nan


def _before_pruning(run: Run, steps: np.ndarray, losses: np.ndarray) -> float | None:
    """Validation perplexity at the last measurement before the first decision."""
    decisions = run.decisions()
    if not decisions:
        return None
    earlier = losses[steps <= decisions[0].step]
    return _exp(float(earlier[-1])) if len(earlier) else None


def _heads(run: Run, summary: RunSummary) -> KeyFigure:
    if not summary.heads_present:
        return KeyFigure("heads removed", figures.MISSING, "the run has not said its shape yet")
    regrown = int((run.heads() == HeadState.REGROWN).sum())
    note = f"{summary.heads_pruned:,} of {summary.heads_present:,}"
    note += f", {regrown:,} regrown" if regrown else ""
    return KeyFigure("heads removed", figures.percent(summary.sparsity), note)


def _speed_and_size(evaluation: Evaluation | None) -> tuple[KeyFigure, KeyFigure]:
    """Measured on the compacted model, or said not to be: a mask is never credited with speed."""
    comparison = (evaluation.results.get("comparison") if evaluation else None) or {}
    prefill, decode = number(comparison, "prefill_speedup"), number(comparison, "decode_speedup")
    size, cache = number(comparison, "size_reduction"), number(comparison, "kv_cache_reduction")
    speed = KeyFigure("measured speed, prefill", figures.ratio(prefill), f"decode {figures.ratio(decode)}")
    bytes_ = KeyFigure("model size", _shrunk(size), f"KV cache {_shrunk(cache)}")
    return (
        speed if prefill is not None else KeyFigure("measured speed", figures.MISSING, "not measured yet"),
        bytes_ if size is not None else KeyFigure("model size", figures.MISSING, "not measured yet"),
    )


def _shrunk(reduction: float | None) -> str:
    return figures.change(None if reduction is None else -reduction) if reduction else "unchanged"
