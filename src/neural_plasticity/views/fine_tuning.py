"""Fine-tuning: the recovery curve of every cycle against the loss before pruning and the baseline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neural_plasticity.events import HeadsPruned
from neural_plasticity.record import PhaseSpan, Run
from neural_plasticity.views.cycles import TUNING
from neural_plasticity.views.results import number
from neural_plasticity.views.timeline import Series, smoothed, thin


@dataclass(frozen=True)
class Recovery:
    """One fine-tuning, its curves by steps since it began. Losses of the decision are on validation text."""

    cycle: int
    first: int
    last: int
    training: Series | None
    smooth: Series | None
    validation: Series | None
    loss_before: float | None
    loss_pruned: float | None
    loss_after: float | None
    recovered: float | None


@dataclass(frozen=True)
class FineTuning:
    """Every fine-tuning; ``baseline``: validation loss when warm-up ended, or before the first pruning."""

    recoveries: tuple[Recovery, ...]
    baseline: float | None
    empty: str | None = None


def fine_tuning(run: Run, most: int = 1_500) -> FineTuning:
    """Recovery curves, one per fine-tuning phase of the run."""
    spans = [span for span in run.phases() if span.phase == TUNING]
    prunings = [one for one in run.decisions() if isinstance(one, HeadsPruned)]
    if not spans:
        return FineTuning((), None, "No fine-tuning was recorded.")
    curves = run.columns(("loss", "validation_loss"))
    listed = tuple(_recovery(span, curves, prunings, most) for span in spans)
    baseline = next((one.loss_before for one in prunings if one.loss_before is not None), None)
    if baseline is None:
        baseline = next((one.loss_before for one in listed if one.loss_before is not None), None)
    return FineTuning(listed, baseline)


def _recovery(
    span: PhaseSpan, curves: dict[str, tuple[np.ndarray, np.ndarray]], prunings: list[HeadsPruned], most: int
) -> Recovery:
    inside = {}
    for name, (steps, values) in curves.items():
        low, high = np.searchsorted(steps, span.first_step, "left"), np.searchsorted(steps, span.last_step, "right")
        if high > low:
            inside[name] = (steps[low:high] - span.first_step, values[low:high])
    earlier = [one for one in prunings if one.cycle == span.cycle] or [
        one for one in prunings if one.step <= span.first_step
    ][-1:]
    before = number(span.summary, "loss_before_pruning")
    after = number(span.summary, "loss_after_pruning")
    before = before if before is not None or not earlier else earlier[0].loss_before
    after = after if after is not None or not earlier else earlier[-1].loss_after
    smooth = smoothed("loss", *inside["loss"], share=0.1, bins=most)[0] if "loss" in inside else None
    return Recovery(
        span.cycle, span.first_step, span.last_step,
        thin("loss", *inside["loss"], most) if "loss" in inside else None,
        smooth if smooth is not None and len(smooth.steps) > 8 else None,
        thin("validation_loss", *inside["validation_loss"], most) if "validation_loss" in inside else None,
        before, after, number(span.summary, "loss_after_fine_tuning"), number(span.summary, "recovered_fraction"),
    )  # fmt: skip
