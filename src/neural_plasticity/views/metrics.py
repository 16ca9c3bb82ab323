"""Every metric over the steps: the known ones first and with their units, then whatever else was recorded."""

from __future__ import annotations

from dataclasses import dataclass

from neural_plasticity.record import Run
from neural_plasticity.views import figures
from neural_plasticity.views.results import number
from neural_plasticity.views.timeline import Series, Timeline, thin, timeline

# Panels of metrics that belong together: title, unit, metric names in the order of drawing.
KNOWN_PANELS = (
    ("Loss", "nats per token", ("loss", "validation_loss", "control_loss")),
    ("Perplexity", "", ("perplexity", "validation_perplexity", "control_perplexity")),
    ("Heads removed", "share of heads", ("sparsity",)),
    ("Learning rate", "", ("learning_rate",)),
    ("Gradient norm", "before clipping at 1", ("gradient_norm",)),
    ("Gate of returning heads", "0 off, 1 on", ("growth_gate",)),
    ("Throughput", "tokens per second", ("tokens_per_second",)),
)
_MEASURED = (
    ("Performance impact", "loss against baseline", ("loss_difference", "loss_difference_to_control"), 0.0),
    ("Inference speed-up", "times the baseline", ("prefill_speedup", "decode_speedup"), 1.0),
    ("Model-size reduction", "share of the baseline", ("size_reduction", "kv_cache_reduction"), 0.0),
)
MOST = 18  # panels of other metrics; the rest is counted


@dataclass(frozen=True)
class Panel:
    """Metrics drawn together over the steps."""

    title: str
    unit: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Point:
    """A figure of an evaluation at a step, with its interval where there is one."""

    step: int
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Measurements:
    """Figures of the evaluations: names with their points; ``reference`` is what no change would be."""

    title: str
    unit: str
    reference: float
    points: tuple[tuple[str, tuple[Point, ...]], ...]
    empty: str | None = None


@dataclass(frozen=True)
class Metrics:
    """``panels`` of step metrics, ``measured`` by evaluations, ``left_out``: metrics without a panel."""

    timeline: Timeline
    panels: tuple[Panel, ...]
    measured: tuple[Measurements, ...]
    left_out: int = 0
    empty: str | None = None


def metrics(run: Run, most: int = 1_500) -> Metrics:
    """Every metric of the run's history, each in at most ``most`` points."""
    recorded = run.metrics()
    known = {name for _, _, names in KNOWN_PANELS for name in names}
    others = [name for name in recorded if name not in known]
    curves = run.columns([name for name in recorded if name in known or name in others[:MOST]])
    panels = [
        Panel(title, unit, tuple(thin(name, *curves[name], most) for name in names if name in curves))
        for title, unit, names in KNOWN_PANELS
        if any(name in curves for name in names)
    ]
    panels += [Panel(figures.clean(name), "", (thin(name, *curves[name], most),)) for name in others[:MOST]]
    measured = tuple(_measurements(run, *one) for one in _MEASURED)
    nothing = not panels and all(one.empty for one in measured)
    return Metrics(
        timeline(run, ()), tuple(panels), measured, max(len(others) - MOST, 0),
        "No metric was recorded." if nothing else None,
    )  # fmt: skip


def _measurements(run: Run, title: str, unit: str, names: tuple[str, ...], reference: float) -> Measurements:
    points: dict[str, list[Point]] = {}
    for event in run.evaluations():
        comparison = event.results.get("comparison") or {}
        for name in names:
            value = number(comparison, name)
            if value is not None:
                ends = (number(comparison, f"{name}_low"), number(comparison, f"{name}_high"))
                points.setdefault(name, []).append(Point(event.step, value, *ends))
    empty = None if points else "No pruned model was compared yet."
    return Measurements(title, unit, reference, tuple((name, tuple(found)) for name, found in points.items()), empty)
