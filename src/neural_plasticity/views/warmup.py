"""Warm-up: the loss before any pruning, raw and smoothed, and where and why it was called stable."""

from __future__ import annotations

from dataclasses import dataclass

from neural_plasticity.events import Stabilised
from neural_plasticity.record import Run
from neural_plasticity.views import figures
from neural_plasticity.views.timeline import Series, smoothed, thin


@dataclass(frozen=True)
class Stable:
    """A verdict: the window it looked at (first and last step), its mean loss, the slope per step and its interval."""

    step: int
    first: int
    loss: float
    slope: float
    slope_low: float
    slope_high: float
    tolerance: float
    reason: str
    phase: str = ""


@dataclass(frozen=True)
class Warmup:
    """``end`` says how the phase ended; ``window`` is the smoothing's, in points."""

    raw: Series | None
    smooth: Series | None
    validation: Series | None
    window: int
    stable: tuple[Stable, ...]
    first: int
    last: int
    end: str
    empty: str | None = None


def warmup(run: Run, most: int = 3_000) -> Warmup:
    """The warm-up of a run; without a phase of that name, what was recorded before the first decision."""
    spans = [span for span in run.phases() if span.phase == "warmup"]
    decisions = run.decisions()
    curves = run.columns(("loss", "validation_loss"))
    stable = tuple(_stable(event) for event in run.events(Stabilised) if isinstance(event, Stabilised))
    first = spans[0].first_step if spans else -(2**62)
    last = spans[-1].last_step if spans else min((one.step for one in decisions), default=2**62)
    inside = {}
    for name, (steps, values) in curves.items():
        # A phase ends at the step at which the next begins: that step belongs to the next, unless it is the last.
        kept = (steps >= first) & (steps <= last)
        if kept.any():
            inside[name] = (steps[kept], values[kept])
    if "loss" not in inside:
        reason = "No loss was recorded in a warm-up." if curves or spans else "No warm-up was recorded."
        return Warmup(None, None, None, 0, stable, 0, 0, "", reason)
    smooth, window = smoothed("loss", *inside["loss"], share=0.1, bins=most)
    steps = inside["loss"][0]
    end = figures.clean(spans[-1].reason) if spans else ""
    if spans and spans[-1].open:
        end = "still running"
    return Warmup(
        thin("loss", *inside["loss"], most),
        smooth if len(smooth.steps) > 3 else None,
        thin("validation_loss", *inside["validation_loss"], most) if "validation_loss" in inside else None,
        window,
        tuple(one for one in stable if steps[0] <= one.step <= max(last, steps[-1])),
        int(steps[0]),
        int(steps[-1]),
        end,
    )


def _stable(event: Stabilised) -> Stable:
    return Stable(
        event.step, max(event.step - event.window + 1, 0) if event.window else event.step, event.loss, event.slope,
        event.slope_low, event.slope_high, event.tolerance, figures.clean(event.reason), event.phase,
    )  # fmt: skip
