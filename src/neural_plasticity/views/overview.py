"""Where a run stands, in a few figures against its baseline: the first thing anyone wants to know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neural_plasticity.events import Evaluation, HeadsGrown, HeadsPruned
from neural_plasticity.heads import HeadState
from neural_plasticity.record import Run, RunSummary
from neural_plasticity.record.snapshot import Snapshot, snapshot
from neural_plasticity.views import figures
from neural_plasticity.views.happenings import Recent, recent
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
    """``state`` is finished, running, stale, stopped or failed; ``sentence`` says where the run stands.

    ``cycles_planned`` is None where the run finds out itself; ``recent`` is what just happened and why.
    """

    name: str
    state: str
    sentence: str
    reason: str
    simulated: bool
    figures: tuple[KeyFigure, ...]
    notes: tuple[str, ...] = ()
    phase: str = ""
    cycle: int = 0
    cycles_planned: int | None = None
    started: float = 0.0  # unix seconds
    last_event: float = 0.0  # unix seconds
    run_fraction: float | None = None
    seconds_left: float | None = None
    tags: tuple[str, ...] = ()
    note: str = ""
    recent: tuple[Recent, ...] = ()


def overview(run: Run) -> Overview:
    """State, place and key figures of a run, whatever is missing from it."""
    now = snapshot(run)
    summary = now.summary()
    said = now.annotation
    evaluations = now.evaluations()
    state = "stale" if summary.stale else summary.state
    return Overview(
        name=figures.clean(summary.name),
        state=state,
        sentence=_sentence(summary, now.config.get("cycles") == "auto"),
        reason=figures.clean(summary.reason),
        simulated=summary.simulated,
        figures=(
            _perplexity(now, evaluations[-1] if evaluations else None),
            _heads(now, summary),
            *_speed_and_size(evaluations[-1] if evaluations else None),
        ),
        notes=tuple(figures.clean(note) for note in summary.notes),
        phase=figures.clean(summary.phase),
        cycle=summary.cycle,
        cycles_planned=planned_cycles(now.config) if "cycles" in now.config else None,
        started=summary.started,
        last_event=summary.last_event,
        run_fraction=summary.run_fraction,
        seconds_left=summary.seconds_left,
        tags=tuple(figures.clean(tag) for tag in said.tags or ()),
        note=said.note or "",
        recent=recent(now),
    )


def planned_cycles(config: Mapping[str, Any]) -> int | None:
    """The number of cycles that a configuration asks for; None: it is found out, or said in a way we do not know."""
    cycles = config.get("cycles")
    if cycles is None:  # as many as strategies or levels were given
        given = [str(config[name]) for name in ("pruning_strategy", "pruning_level") if config.get(name) is not None]
        return max((text.count(",") + 1 for text in given), default=None)
    return cycles if isinstance(cycles, int) and not isinstance(cycles, bool) and cycles > 0 else None


def _sentence(summary: RunSummary, at_most: bool = False) -> str:
    """``cycle 2 · fine-tuning · step 281 · about 1 min left``; for a run that ended, how long it took."""
    parts = [f"cycle {summary.cycle}"] if summary.cycle else []
    if summary.state == "running":
        parts.append(figures.clean(phase_label(summary.phase)))
    parts.append(f"step {summary.step:,}")
    if summary.attempt > 1:
        parts.append(f"attempt {summary.attempt}")
    if summary.state == "running" and summary.seconds_left is not None and not summary.stale:
        left = f"about {figures.duration(summary.seconds_left)} left"
        parts.append(f"at most {left}" if at_most else left)  # a run that finds out itself when to stop
    elif summary.state == "running" and summary.stale:
        parts.append("no event for a while: stuck, or killed")
    parts.append(f"{figures.duration(summary.seconds)} recorded")
    return " · ".join(parts)


def _perplexity(run: Snapshot, evaluation: Evaluation | None) -> KeyFigure:
    """Test perplexity of the pruned model against the baseline; before evaluation, validation perplexity so far."""
    if evaluation is not None:
        pruned = number(evaluation.results.get("pruned") or {}, "perplexity")
        if pruned is not None:
            return KeyFigure("perplexity", figures.perplexity(pruned), _held_against(evaluation, pruned))
    loss = run.last_value("validation_loss")
    if loss is None:
        return KeyFigure("perplexity", figures.MISSING, "not measured yet")
    now, before = _exp(loss), _before_pruning(run)
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


def _before_pruning(run: Snapshot) -> float | None:
    """Validation perplexity at the last measurement before the first decision."""
    decisions = sorted(one.seq for kind in (HeadsPruned, HeadsGrown) for one in run.records(kind))
    loss = run.last_value("validation_loss", before=decisions[0]) if decisions else None
    return None if loss is None else _exp(loss)


def _heads(run: Run, summary: RunSummary) -> KeyFigure:
    if not summary.heads_present:
        return KeyFigure("heads removed", figures.MISSING, "the run has not said its shape yet")
    states = run.heads()
    note = f"{summary.heads_pruned:,} of {summary.heads_present:,}"
    for state, word in ((HeadState.REGROWN, "regrown"), (HeadState.ADDED, "added")):
        count = int((states == state).sum())
        note += f", {count:,} {word}" if count else ""
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
