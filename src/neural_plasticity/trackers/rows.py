"""From events to what any tracker can hold: named numbers and small tables. Pure functions, shared by all trackers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neural_plasticity.events import (
    CycleJudged,
    Evaluation,
    Event,
    HeadScores,
    HeadsGrown,
    HeadsPruned,
    Stabilised,
    StepMetrics,
    TextSample,
)
from neural_plasticity.heads import FloatGrid, HeadId
from neural_plasticity.views.results import number

# Shown once more over all phases, beside the section of the phase: the curves that are read from beginning to end.
WHOLE_RUN = ("loss", "validation_loss", "perplexity", "sparsity")
PROCESS = "process"
LEDGER = ("step", "cycle", "layer", "head", "score", "rank", "threshold", "decision", "reason")
SAMPLES = ("step", "cycle", "phase", "model", "prompt", "text")


@dataclass(frozen=True)
class Table:
    """Rows of numbers, texts and None; NaN and infinities are text, which no tracker's table loses."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def section(phase: str) -> str:
    """A phase as the first part of a metric's name: no wildcard, no slash, nothing unprintable, never empty."""
    kept = "".join(sign if sign.isprintable() and sign not in "*/" else "_" for sign in phase).strip()
    return kept or "run"


def numbers(event: Event) -> dict[str, float]:
    """The event's numbers under names of the form ``section/measure``; empty for events without any."""
    kind = next((kind for kind in _NUMBERS if isinstance(event, kind)), None)
    return _NUMBERS[kind](event) if kind else {}


def _of_step(event: StepMetrics) -> dict[str, float]:
    here = section(event.phase)
    whole = {f"{PROCESS}/{name}": float(event.metrics[name]) for name in WHOLE_RUN if name in event.metrics}
    return {f"{here}/{name}": float(value) for name, value in event.metrics.items()} | whole


def _of_stabilised(event: Stabilised) -> dict[str, float]:
    here = f"{section(event.phase)}/stable"
    return {f"{here}_at_step": event.step, f"{here}_slope": event.slope, f"{here}_slope_low": event.slope_low,
            f"{here}_slope_high": event.slope_high, f"{here}_tolerance": event.tolerance}  # fmt: skip


def _of_change(event: HeadsPruned | HeadsGrown) -> dict[str, float]:
    done = "pruned" if isinstance(event, HeadsPruned) else event.origin
    found = {f"heads_{done}": float(len(event.heads)), "loss_before": event.loss_before, "loss_after": event.loss_after}
    return {f"{section(event.phase)}/{name}": float(value) for name, value in found.items() if value is not None}


def _of_judgement(event: CycleJudged) -> dict[str, float]:
    here = f"{section(event.phase)}/judged"
    return {f"{here}_log_ratio": event.log_ratio, f"{here}_log_ratio_low": event.log_ratio_low,
            f"{here}_log_ratio_high": event.log_ratio_high, f"{here}_budget": event.budget,
            f"{here}_inside": float(event.inside)}  # fmt: skip


def _of_evaluation(event: Evaluation) -> dict[str, float]:
    return {
        f"evaluation/{model}/{name}": value
        for model, results in event.results.items()
        for name in results
        if (value := number(results, name)) is not None
    }


_NUMBERS: Mapping[type[Event], Callable[[Any], dict[str, float]]] = {
    StepMetrics: _of_step,
    Stabilised: _of_stabilised,
    HeadsPruned: _of_change,
    HeadsGrown: _of_change,
    CycleJudged: _of_judgement,
    Evaluation: _of_evaluation,
}


def ledger(event: HeadsPruned | HeadsGrown, every_head: bool = True) -> Table:
    """The decision, one row per head: layer, head, score, rank (0 goes first), threshold, decision, reason.

    With ``every_head`` also the heads that nothing happened to; else only those pruned, grown or protected.
    """
    protected = event.protected if isinstance(event, HeadsPruned) else None
    rank = event.rank if isinstance(event, HeadsPruned) else None
    threshold = event.threshold if isinstance(event, HeadsPruned) else None
    done = "pruned" if isinstance(event, HeadsPruned) else event.origin
    chosen = {HeadId(*head) for head in event.heads}
    kept = {HeadId(int(layer), int(head)) for layer, head in np.argwhere(protected)} if protected is not None else set()
    listed = chosen | kept
    if every_head and event.score is not None:
        listed |= {HeadId(layer, head) for layer, head in np.ndindex(event.score.shape)}
    rows = tuple(
        (
            event.step, event.cycle, head.layer, head.head, _at(event.score, head), _rank(rank, head), cell(threshold),
            done if head in chosen else "protected" if head in kept else "unchanged",
            event.reasons.get(f"{head.layer}.{head.head}", "") or (event.rule if head in chosen else ""),
        )
        for head in sorted(listed)
    )  # fmt: skip
    return Table(LEDGER, rows)


def _at(grid: FloatGrid | None, head: HeadId) -> Any:
    inside = grid is not None and head.layer < grid.shape[0] and head.head < grid.shape[1]
    return cell(float(grid[head])) if grid is not None and inside else None


def _rank(rank: Any, head: HeadId) -> int | None:
    place = _at(rank, head)
    return int(place) if isinstance(place, float) and place >= 0 else None


def scores_table(event: HeadScores) -> Table:
    """Measured criteria, one row per head and one column per criterion."""
    grids = {name: grid for name, grid in event.scores.items() if grid.ndim == 2}
    heads = sorted({place for grid in grids.values() for place in np.ndindex(grid.shape)})
    rows = tuple((layer, head, *(_at(grid, HeadId(layer, head)) for grid in grids.values())) for layer, head in heads)
    return Table(("layer", "head", *grids), rows)


def samples_table(events: Sequence[TextSample]) -> Table:
    """Generated texts, in order."""
    rows = tuple((one.step, one.cycle, one.phase, one.model, one.prompt, one.text) for one in events)
    return Table(SAMPLES, rows)


def joined(tables: Sequence[Table]) -> Table:
    """Tables with the same columns, one after the other."""
    return Table(tables[0].columns, tuple(row for table in tables for row in table.rows))


def cell(value: float | None) -> Any:
    """A number for a table."""
    return value if value is None or math.isfinite(value) else str(value)


def plain(value: Any) -> Any:
    """``value`` as JSON has it; what JSON lacks as its text."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested mappings as one, names joined by ``/``; lists as their text."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{name}/")
        else:
            found[f"{before}{name}"] = value if isinstance(value, bool | int | float | str | None) else str(value)
    return found
