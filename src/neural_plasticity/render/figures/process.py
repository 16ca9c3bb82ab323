"""The complete process on one axis of steps: phases, cycles, events, and the metrics through all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neural_plasticity.record import Run
from neural_plasticity.render.figures import bands
from neural_plasticity.render.figures.style import (
    LABEL,
    LEFT,
    RIGHT,
    WIDTH,
    Sheet,
    curve,
    empty,
    font,
    legend,
    panel,
    points_shown,
    step_axis,
    value_axis,
)
from neural_plasticity.views import figures
from neural_plasticity.views.heading import heading
from neural_plasticity.views.palette import CONTROL, INK, MEASURED, MUTED
from neural_plasticity.views.timeline import Series, Timeline, thin, timeline

LOSSES = ("loss", "validation_loss", "control_loss")
POINTS = 3_000


def complete_process(run: Run) -> Figure:
    """Loss, perplexity and sparsity from the first step to the last, with every phase, cycle and event."""
    sheet = Sheet(heading(run), "Complete process")
    recorded = run.metrics()
    view = timeline(run, (*LOSSES, "perplexity", "sparsity"), POINTS)
    if view.empty and not recorded:
        (axes,) = sheet.row(2.0)
        empty(axes, "Process", "Nothing recorded yet that has a place in time.")
        return sheet.finish()
    others = {} if view.series else run.columns(recorded[:3])
    found = [int(step) for steps, _ in others.values() for step in (steps[0], steps[-1])]
    view = replace(view, first=min([view.first, *found]), last=max([view.last, *found]))
    by_name = {one.name: one for one in view.series}
    top = process_header(sheet, view)
    loss = loss_panel(sheet, view, [by_name[name] for name in LOSSES if name in by_name], 2.3, top)
    drawn = [loss]
    for name, label, height in (("perplexity", "Perplexity", 0.95), ("sparsity", "Heads removed", 0.75)):
        if name in by_name:
            drawn.append(_minor(sheet, view, by_name[name], label, height))
    for name, (steps, values) in others.items():  # a record with none of the usual metrics: the first few it has
        drawn.append(_minor(sheet, view, thin(name, steps, values, POINTS), figures.clean(name), 0.9))
    for axes in drawn[:-1]:
        axes.tick_params(labelbottom=False)
    drawn[-1].set_xlabel("step", fontproperties=font(LABEL), color=INK)
    sheet.space(0.3)
    return sheet.finish()


def process_header(sheet: Sheet, view: Timeline) -> float:
    """Events, cycles and the phase strip, on the axis of the plots below; returns the room left over the next row."""
    inches = WIDTH - LEFT - RIGHT
    lanes = bands.lanes_used(view, inches)
    rows = [bands.LANE_HEIGHT * (lanes + 1) if lanes else 0.0, 0.17 if view.boundaries else 0.0, 0.2]
    legend_at, *_ = sheet.row(0.01, above=0.12 + 0.16 * max(bands.legend_lines(view, inches) - 1, 0))
    legend_at.set_axis_off()
    bands.phase_legend(legend_at, view)
    for number, height in enumerate(rows):
        if not height:
            continue
        (axes,) = sheet.row(height, above=0.04 if number < 2 else 0.0)
        step_axis(axes, view.first, view.last)
        if number == 0:
            bands.event_lanes(axes, view.marks, inches, lanes)
        elif number == 1:
            bands.cycle_row(axes, view.boundaries, view.last, inches)
        else:
            bands.strip(axes, view.spans, inches)
    return 0.3


def loss_panel(sheet: Sheet, view: Timeline, losses: Sequence[Series], height: float, above: float) -> Axes:
    """Training, validation and control loss over the phases."""
    (axes,) = sheet.row(height, above=above)
    if not losses:
        empty(axes, "Loss", "No metric named loss was recorded.")
        step_axis(axes, view.first, view.last)
        return axes
    step_axis(axes, view.first, view.last)
    scale = value_axis(axes, losses)
    bands.shade(axes, view.spans, view.boundaries)
    bands.mark_lines(axes, view.marks)
    for one in losses:
        if one.name == "loss":
            curve(axes, one, MUTED if view.smooth else INK, "training", width=0.6, alpha=0.6 if view.smooth else 1.0)
        elif one.name == "validation_loss":
            few = len(one.steps) <= 120
            curve(axes, one, MEASURED, "validation", marker="o" if few else "", order=4)
        else:
            curve(axes, one, CONTROL, "control, training", style="--", width=0.9)
    for number, one in enumerate(view.smooth):
        curve(axes, one, INK, "_" if number else "training, smoothed", width=1.3, order=3.5)
    panel(axes, "Loss", ", ".join(text for text in (scale, points_shown(losses)) if text), y="loss (nats per token)")
    legend(axes)
    return axes


def _minor(sheet: Sheet, view: Timeline, series: Series, label: str, height: float) -> Axes:
    (axes,) = sheet.row(height, above=0.3)
    step_axis(axes, view.first, view.last)
    scale = value_axis(axes, [series])
    bands.shade(axes, view.spans, view.boundaries)
    bands.mark_lines(axes, view.marks)
    if series.name == "sparsity":
        axes.step(series.steps, series.values * 100, where="post", color=INK, linewidth=1.2, gid="series:sparsity")
        finite = series.values[np.isfinite(series.values)]
        axes.set_ylim(-3, max(float(finite.max(initial=0.0)) * 130, 10))
        unit = "% of heads"
    else:
        curve(axes, series, INK, label, width=0.8)
        unit = ""
    panel(axes, label, ", ".join(text for text in (scale, points_shown([series])) if text), y=unit)
    return axes
