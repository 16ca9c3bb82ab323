"""Every metric over the steps, in small panels; figures of the evaluations beside them with their intervals."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neural_plasticity.record import Run
from neural_plasticity.render.figures import bands
from neural_plasticity.render.figures.process import process_header
from neural_plasticity.render.figures.style import (
    Sheet,
    curve,
    empty,
    legend,
    panel,
    points_shown,
    step_axis,
    value_axis,
)
from neural_plasticity.views import figures
from neural_plasticity.views.heading import heading
from neural_plasticity.views.metrics import Measurements, Metrics, Panel, metrics
from neural_plasticity.views.palette import CONTROL, INK, MEASURED, MUTED

_LOOKS = {0: (INK, "-"), 1: (MEASURED, "-"), 2: (CONTROL, "--")}
_NAMES = {
    "loss_difference": "against baseline", "loss_difference_to_control": "against control",
    "prefill_speedup": "prefill", "decode_speedup": "decode", "size_reduction": "bytes",
    "kv_cache_reduction": "KV cache",
}  # fmt: skip


def metrics_figure(run: Run) -> Figure:
    """All metrics of the run, two panels to a row, on one axis of steps."""
    sheet = Sheet(heading(run), "Metrics")
    view = metrics(run)
    if view.empty is not None:
        (axes,) = sheet.row(2.0)
        empty(axes, "Metrics", view.empty)
        return sheet.finish()
    drawers: list[Panel | Measurements] = [*view.panels[:3], *view.measured, *view.panels[3:]]
    if len(drawers) % 2:
        drawers.append(Measurements("", "", 0.0, ()))
    process_header(sheet, view.timeline)
    for pair in list(pairwise(drawers))[::2]:
        for axes, what in zip(sheet.row(1.15, (1, 1), above=0.74, gap=0.75), pair, strict=True):
            _draw(axes, what, view)
    sheet.space(0.3)
    return sheet.finish()


def _draw(axes: Axes, what: Panel | Measurements, view: Metrics) -> None:
    if isinstance(what, Measurements):
        _measured(axes, what, view)
        return
    line = view.timeline
    step_axis(axes, min(line.first, *(int(one.steps[0]) for one in what.series if len(one.steps))),
              max(line.last, *(int(one.steps[-1]) for one in what.series if len(one.steps))))  # fmt: skip
    scale = value_axis(axes, what.series)
    bands.shade(axes, line.spans, line.boundaries)
    for number, one in enumerate(what.series):
        colour, style = _LOOKS.get(number, (MUTED, ":"))
        few = len(one.steps) <= 60 and number > 0
        label = figures.clean(one.name).replace("_", " ")
        curve(axes, one, colour, label, style=style, width=0.9, marker="." if few else "", order=3 + number)
    note = ", ".join(text for text in (scale, points_shown(what.series)) if text)
    panel(axes, what.title.replace("_", " "), note, y=what.unit)
    if len(what.series) > 1 or len(axes.get_legend_handles_labels()[0]) > 1:
        legend(axes)


def _measured(axes: Axes, what: Measurements, view: Metrics) -> None:
    if not what.title:
        axes.set_axis_off()
        if view.left_out:
            empty(axes, "Other metrics", f"{view.left_out:,} more metrics were recorded.")
        return
    if what.empty is not None:
        empty(axes, what.title, what.empty)
        return
    line = view.timeline
    step_axis(axes, line.first, line.last)
    bands.shade(axes, line.spans, line.boundaries)
    axes.axhline(what.reference, color=MUTED, linewidth=0.8, linestyle="--")
    for number, (name, points) in enumerate(what.points):
        values = np.array([one.value for one in points])
        around = np.array([[one.value - (one.value if one.low is None else one.low) for one in points],
                           [(one.value if one.high is None else one.high) - one.value for one in points]])  # fmt: skip
        good = np.isfinite(values) & np.isfinite(around).all(axis=0)
        steps = np.array([one.step for one in points])
        axes.errorbar(
            steps[good], values[good], yerr=np.clip(around[:, good], 0, None), fmt="os"[number % 2] + "-",
            color=_LOOKS[number + 1][0], markersize=3.5, linewidth=0.8, capsize=2.5, label=_NAMES.get(name, name),
            gid=f"interval:{name}",
        )  # fmt: skip
    axes.margins(y=0.2)
    panel(axes, what.title, "95 % intervals" if any(p.low is not None for _, ps in what.points for p in ps) else "",
          y=what.unit)  # fmt: skip
    legend(axes)
