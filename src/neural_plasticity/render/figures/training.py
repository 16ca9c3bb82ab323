"""The two phases that train: warm-up with its stable point, fine-tuning with its recovery."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from neural_plasticity.record import Run
from neural_plasticity.render.figures.style import (
    SMALL,
    Sheet,
    curve,
    empty,
    legend,
    panel,
    points_shown,
    step_axis,
    tick,
    value_axis,
    write,
)
from neural_plasticity.views import figures
from neural_plasticity.views.fine_tuning import FineTuning, Recovery, fine_tuning
from neural_plasticity.views.heading import heading
from neural_plasticity.views.palette import BASELINE, INK, MARK_COLOURS, MEASURED, MUTED
from neural_plasticity.views.warmup import Stable, Warmup, warmup

_MOST = 9  # fine-tunings drawn; of more, the first ones and the last


def warmup_figure(run: Run) -> Figure:
    """Raw and smoothed loss before any pruning, the window of the verdict, and its slope with interval."""
    sheet = Sheet(heading(run), "Warm-up")
    view = warmup(run)
    if view.empty is not None or view.raw is None:
        (axes,) = sheet.row(2.0)
        empty(axes, "Warm-up loss", view.empty or "")
        return sheet.finish()
    (axes,) = sheet.row(2.6, above=0.42)
    _warmup_loss(axes, view)
    (below,) = sheet.row(0.75, above=0.85, left=1.6)
    _verdict(below, view)
    sheet.space(0.3)
    return sheet.finish()


def _warmup_loss(axes: Axes, view: Warmup) -> None:
    assert view.raw is not None
    drawn = [one for one in (view.raw, view.validation) if one is not None]
    step_axis(axes, view.first, view.last)
    scale = value_axis(axes, drawn)
    if view.stable:
        one = view.stable[-1]
        axes.axvspan(one.first, one.step, color=MARK_COLOURS["stable"], alpha=0.10, linewidth=0, label="window")
        axes.axvline(one.step, color=MARK_COLOURS["stable"], linewidth=1.1, linestyle="--", label="stable")
        around = np.array([one.first, one.step])
        axes.plot(around, one.loss + one.slope * (around - around.mean()), color=MARK_COLOURS["stable"], linewidth=1.8,
                  label="slope", zorder=6)  # fmt: skip
    curve(axes, view.raw, MUTED if view.smooth else INK, "training", width=0.6, alpha=0.6 if view.smooth else 1.0)
    if view.smooth is not None:
        curve(axes, view.smooth, INK, f"mean of {view.window:,} points", width=1.4, order=4)
    if view.validation is not None:
        curve(axes, view.validation, MEASURED, "validation", marker="o" if len(view.validation.steps) <= 60 else "")
    note = ", ".join(text for text in (scale, points_shown(drawn)) if text)
    panel(axes, "Loss", note, x="step", y="loss (nats per token)")
    legend(axes)


def _verdict(axes: Axes, view: Warmup) -> None:
    """The slope's interval inside the tolerance, or how the phase ended without one."""
    if not view.stable:
        said = view.end or "no stable point was recorded"
        empty(axes, "Not called stable", said[:1].upper() + said[1:] + ".")
        return
    one = view.stable[-1]
    if not all(np.isfinite([one.slope, one.slope_low, one.slope_high, one.tolerance])) or one.tolerance <= 0:
        empty(axes, f"Stable at step {one.step:,}", one.reason or "No slope was recorded with it.")
        return
    _slope(axes, one)


def _slope(axes: Axes, one: Stable) -> None:
    axes.axvspan(-one.tolerance, one.tolerance, color=MARK_COLOURS["stable"], alpha=0.10, linewidth=0)
    for end in (-one.tolerance, one.tolerance):
        axes.axvline(end, color=MARK_COLOURS["stable"], linewidth=0.9, linestyle="--")
    axes.axvline(0, color=MUTED, linewidth=0.6)
    around = [[max(one.slope - one.slope_low, 0)], [max(one.slope_high - one.slope, 0)]]
    axes.errorbar([one.slope], [0], xerr=around, fmt="o", color=INK, capsize=3, markersize=4, linewidth=1.3,
                  gid="interval:slope")  # fmt: skip
    limit = 1.25 * max(one.tolerance, abs(one.slope_low), abs(one.slope_high))
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-1, 1)
    axes.set_yticks([0])
    axes.set_yticklabels(["slope, 95 %"])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(FuncFormatter(tick))
    panel(axes, f"Stable at step {one.step:,}", one.reason, x="loss per step; dashed: tolerance", grid=False)


def fine_tuning_figure(run: Run) -> Figure:
    """The loss after each pruning on its way back, on one scale for all cycles."""
    sheet = Sheet(heading(run), "Fine-tuning")
    view = fine_tuning(run)
    if view.empty is not None:
        (axes,) = sheet.row(2.0)
        empty(axes, "Recovery", view.empty)
        return sheet.finish()
    listed = view.recoveries
    shown = listed if len(listed) <= _MOST else (*listed[: _MOST - 1], listed[-1])
    columns = min(len(shown), 3)
    limits = _limits(shown, view)
    for start in range(0, len(shown), columns):
        group = shown[start : start + columns]
        row = sheet.row(1.75, [1.0] * columns, above=0.72 if start else 0.32, gap=0.4)
        for number, axes in enumerate(row):
            if number < len(group):
                _recovery(axes, group[number], view, limits, first=number == 0)
            else:
                axes.set_axis_off()
    sheet.space(0.3)
    _key(sheet, len(listed) - len(shown))
    return sheet.finish()


def _limits(shown: Iterable[Recovery], view: FineTuning) -> tuple[float, float]:
    """One loss axis for all cycles, from what is finite."""
    values: list[float] = [] if view.baseline is None else [view.baseline]
    for one in shown:
        values += [value for value in (one.loss_before, one.loss_pruned, one.loss_after) if value is not None]
        for series in (one.training, one.validation):
            values += series.values[np.isfinite(series.values)].tolist() if series else []
    finite = [value for value in values if np.isfinite(value)] or [0.0, 1.0]
    margin = (max(finite) - min(finite)) * 0.08 or 0.1
    return min(finite) - margin, max(finite) + margin


def _recovery(axes: Axes, one: Recovery, view: FineTuning, limits: tuple[float, float], *, first: bool) -> None:
    step_axis(axes, 0, max(one.last - one.first, 1))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
    axes.set_ylim(*limits)
    axes.yaxis.set_major_formatter(FuncFormatter(tick))
    if view.baseline is not None and np.isfinite(view.baseline):
        axes.axhline(view.baseline, color=BASELINE, linewidth=0.9, linestyle=(0, (1, 1.5)))
    for value, colour, style in ((one.loss_before, INK, "--"), (one.loss_pruned, MARK_COLOURS["pruned"], "-.")):
        if value is not None and np.isfinite(value):
            axes.axhline(value, color=colour, linewidth=0.9, linestyle=style)
    if one.training is not None:
        curve(axes, one.training, MUTED, "training", width=0.5, alpha=0.6 if one.smooth else 1.0)
    if one.smooth is not None:
        curve(axes, one.smooth, INK, "training, smoothed", width=1.2, order=3.5)
    if one.validation is not None:
        curve(axes, one.validation, MEASURED, "validation", marker="o" if len(one.validation.steps) < 40 else "")
    if one.loss_after is not None and np.isfinite(one.loss_after):
        axes.plot([one.last - one.first], [one.loss_after], "s", color=MEASURED, markersize=5, clip_on=False, zorder=6)
    if one.training is None and one.validation is None:
        write(axes, 0.5, 0.5, "no loss recorded", SMALL, ha="center", color=MUTED, transform=axes.transAxes)
    share = "" if one.recovered is None else f"{figures.percent(one.recovered)} recovered"
    note = ", ".join(text for text in (share, points_shown([s for s in (one.training,) if s], short=True)) if text)
    panel(axes, f"Cycle {one.cycle}" if one.cycle else "Fine-tuning", note, x="steps of fine-tuning",
          y="loss (nats per token)" if first else "")  # fmt: skip
    if not first:
        axes.tick_params(labelleft=False)


def _key(sheet: Sheet, left_out: int) -> None:
    """One legend for all panels."""
    (axes,) = sheet.row(0.02, above=0.45)
    axes.set_axis_off()
    handles = [
        Line2D([], [], color=MUTED, linewidth=0.6, label="training"),
        Line2D([], [], color=INK, linewidth=1.2, label="smoothed"),
        Line2D([], [], color=MEASURED, marker="o", markersize=3, linewidth=1, label="validation"),
        Line2D([], [], color=INK, linestyle="--", label="before pruning"),
        Line2D([], [], color=MARK_COLOURS["pruned"], linestyle="-.", label="after pruning"),
        Line2D([], [], color=BASELINE, linestyle=(0, (1, 1.5)), label="baseline"),
    ]
    if left_out:
        handles.append(Line2D([], [], linestyle="", label=f"{left_out:,} cycles left out"))
    legend(axes, handles)
