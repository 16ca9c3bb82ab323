"""Evaluation: baseline, pruned and control side by side, as bars with intervals, as text, as a table and sentences."""

from __future__ import annotations

from dataclasses import dataclass

from neural_plasticity.events import Evaluation
from neural_plasticity.record import Run
from neural_plasticity.views import figures
from neural_plasticity.views.results import MODELS, ResultsTable, number, results_table
from neural_plasticity.views.story import Samples, samples

# key, title, unit, what it is divided by to fit the unit
_BARS = (
    ("perplexity", "Perplexity", "test perplexity", 1.0),
    ("prefill_ms", "Prefill", "ms", 1.0),
    ("decode_ms_per_token", "Decoding", "ms per token", 1.0),
    ("bytes", "Size", "MB", 1e6),
)


@dataclass(frozen=True)
class Bar:
    """One model's figure; ``low`` and ``high`` are its interval or the spread of its repeats."""

    model: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Bars:
    """One measure over the models."""

    key: str
    title: str
    unit: str
    bars: tuple[Bar, ...]
    empty: str | None = None


@dataclass(frozen=True)
class EvaluationView:
    """The last evaluation, and the last texts of every model."""

    bars: tuple[Bars, ...]
    table: ResultsTable
    texts: Samples
    empty: str | None = None


def evaluation(run: Run) -> EvaluationView:
    """What the run's last evaluation says; texts are shown without one too."""
    found = run.evaluations()
    last = found[-1] if found else None
    table = results_table(last)
    texts = samples(run)
    empty = "No evaluation was recorded." if last is None or not last.results else None
    return EvaluationView(tuple(_bars(last, *one) for one in _BARS), table, texts, empty)


def _bars(event: Evaluation | None, key: str, title: str, unit: str, scale: float) -> Bars:
    bars = []
    results = event.results if event else {}
    for model in (*MODELS, *(name for name in results if name not in (*MODELS, "comparison"))):
        of_model = results.get(model) or {}
        value = number(of_model, key)
        if value is None:
            continue
        low, high, spread = (number(of_model, f"{key}_{end}") for end in ("low", "high", "spread"))
        if low is None and spread is not None:
            low, high = value - spread / 2, value + spread / 2
        ends = (None if end is None else end / scale for end in (low, high))
        bars.append(Bar(figures.shorten(figures.clean(model), 16), value / scale, *ends))
    return Bars(key, title, unit, tuple(bars), None if bars else "Not measured.")
