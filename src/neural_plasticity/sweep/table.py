"""What came of a sweep: one row per cell, and means over seeds with their intervals. Pure, but for reading records."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from neural_plasticity.errors import RecordError
from neural_plasticity.heads import HeadState
from neural_plasticity.record import Run, open_run
from neural_plasticity.sweep.cells import Cell, option_names
from neural_plasticity.views.judging import returned

Row = dict[str, Any]  # column -> value; None where there is none

# Columns of a finished cell. _low and _high: its own 95 % interval, over test sequences.
_INTERVALS = ("perplexity", "perplexity_ratio", "ratio_to_control", "prefill_speedup", "decode_speedup")
_OUTCOMES = (
    "heads_removed",
    "sparsity",
    "baseline_perplexity",
    "control_perplexity",
    "size_reduction",
    "parameter_reduction",
    "kv_cache_reduction",
)


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its 95 % t-interval; NaN bounds where fewer than two seeds give none."""

    mean: float
    low: float
    high: float
    seeds: int


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """Mean of ``values``, one per seed, with Student's t interval; values that are not finite are left out."""
    known = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    if known.size == 0:
        return Mean(math.nan, math.nan, math.nan, 0)
    mean = float(known.mean())
    if known.size == 1:
        return Mean(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf((1 + confidence) / 2, known.size - 1) * known.std(ddof=1) / math.sqrt(known.size))
    return Mean(mean, mean - half, mean + half, int(known.size))


def ratio_interval(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """As ``t_interval`` for ratios, taken on their logarithms: the geometric mean, a half as far from 1 as a double."""
    logs = t_interval([math.log(value) if value > 0 else math.nan for value in values], confidence)
    return Mean(math.exp(logs.mean), math.exp(logs.low), math.exp(logs.high), logs.seeds)


# What the summary says of each strategy at each level, and how its mean is taken.
SUMMARISED: Mapping[str, Callable[[Sequence[float]], Mean]] = {
    "perplexity_ratio": ratio_interval,
    "ratio_to_control": ratio_interval,
    "sparsity": t_interval,
    "size_reduction": t_interval,
    "prefill_speedup": ratio_interval,
    "decode_speedup": ratio_interval,
}


def columns() -> tuple[str, ...]:
    """The columns of sweep.csv: what the cell is, how it stands, what came of it, then every option of its run."""
    with_intervals = (f"{name}{end}" for name in _INTERVALS for end in ("", "_low", "_high"))
    timed = ("seconds", "shared_seconds", "directory", "reason")
    return ("strategy", "level", "seed", "state", *with_intervals, *_OUTCOMES, *timed, *option_names())


def row(cell: Cell, state: str, reason: str, directory: Path, root: Path) -> Row:
    """The row of one cell; outcomes only where it has finished."""
    found: Row = dict.fromkeys(columns())
    found |= {"strategy": cell.strategy, "level": cell.level, "seed": cell.seed, "state": state, "reason": reason}
    found["directory"] = directory.relative_to(root).as_posix()
    try:
        with open_run(directory) as run:
            found |= {name: value for name, value in run.config.items() if name in option_names()}
            if state == "finished":
                found |= outcome(run)
    except RecordError:  # nothing there yet, or nothing that can be read: the state says so
        pass
    return found


def outcome(run: Run) -> Row:
    """The closing figures of a run: its last evaluation of a pruned model, what is gone, and how long it took."""
    spans = run.phases()
    seconds = {
        "seconds": sum(span.seconds for span in spans if span.cycle),
        "shared_seconds": sum(span.seconds for span in spans if not span.cycle),
    }
    grid = run.heads()
    removed, present = int((grid == HeadState.PRUNED).sum()), int((grid != HeadState.ABSENT).sum())
    heads = {"heads_removed": removed, "sparsity": removed / present if present else math.nan}
    evaluations = [one for one in run.evaluations() if "pruned" in one.results]
    if not evaluations:
        back = returned(run)
        return {**seconds, **heads, **(_unpruned(run) if back is not None and not back.to_cycle else {})}
    results = evaluations[-1].results
    comparison = results.get("comparison", {})
    found = {
        **{f"perplexity{end}": results["pruned"].get(f"perplexity{end}") for end in ("", "_low", "_high")},
        **{
            f"{name}{end}": comparison.get(f"{name}{end}")
            for name in ("perplexity_ratio", "prefill_speedup", "decode_speedup")
            for end in ("", "_low", "_high")
        },
        "baseline_perplexity": results.get("baseline", {}).get("perplexity"),
        "control_perplexity": results.get("control", {}).get("perplexity"),
        **{name: comparison.get(name) for name in ("size_reduction", "parameter_reduction", "kv_cache_reduction")},
    }
    for end in ("", "_low", "_high"):
        difference = comparison.get(f"loss_difference_to_control{end}")
        if difference is not None:
            found[f"ratio_to_control{end}"] = _exp(difference)
    return {**seconds, **heads, **found}


def _unpruned(run: Run) -> Row:
    """Of a run that went back to the model before any pruning: that model is its own baseline, and the control.

    Without it, means would be those of the seeds that came out well.
    """
    baseline = next((one.results["baseline"] for one in run.evaluations() if "baseline" in one.results), None)
    if baseline is None:
        return {}
    ratios = ("perplexity_ratio", "ratio_to_control", "prefill_speedup", "decode_speedup")
    return {
        **{f"perplexity{end}": baseline.get(f"perplexity{end}") for end in ("", "_low", "_high")},
        **{f"{name}{end}": 1.0 for name in ratios for end in ("", "_low", "_high")},
        "baseline_perplexity": baseline.get("perplexity"),
        "control_perplexity": baseline.get("perplexity"),
        **dict.fromkeys(("size_reduction", "parameter_reduction", "kv_cache_reduction"), 0.0),
    }


def summary(rows: Sequence[Row]) -> list[Row]:
    """One row per strategy and level, over the seeds that have finished: means with their 95 % t-intervals."""
    groups: dict[tuple[str, float], list[Row]] = {}
    for one in rows:
        groups.setdefault((one["strategy"], one["level"]), []).append(one)
    found = []
    for (strategy, level), members in groups.items():
        done = [one for one in members if one["state"] == "finished"]
        line: Row = {"strategy": strategy, "level": level, "seeds": len(done), "cells": len(members)}
        for name, interval in SUMMARISED.items():
            mean = interval([float(one[name]) for one in done if one[name] is not None])
            line |= {name: mean.mean, f"{name}_low": mean.low, f"{name}_high": mean.high}
        found.append(line)
    return found


def write_csv(path: Path, rows: Sequence[Row]) -> Path:
    """Write ``rows`` with their first row's columns; empty where there is no value. Replaces a file whole."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _written(value) for name, value in one.items()} for one in rows)
    return temporary.replace(path)


def _written(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.8g}" if isinstance(value, float) else value


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
