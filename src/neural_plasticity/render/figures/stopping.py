"""How ``--cycles auto`` decided: what each cycle cost, held against what it was allowed to."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

from neural_plasticity.render.figures.style import SMALL, legend, panel, write
from neural_plasticity.views.cycles import Cycles
from neural_plasticity.views.palette import BASELINE, INK, MARK_COLOURS, MEASURED, MUTED, WARNING

STATES = (("inside", True, "o", MEASURED), ("outside", False, "X", WARNING))


def judgements_panel(axes: Axes, view: Cycles) -> None:
    """Perplexity above the control's over the share of heads removed, with intervals, the budget, and the knee."""
    judged = view.judged
    axes.plot(
        [0, *(100 * one.sparsity for one in judged)], [0, *(_percent(one.log_ratio) for one in judged)],
        color=MUTED, linewidth=0.8, zorder=1,
    )  # fmt: skip
    for label, inside, marker, colour in STATES:
        these = [one for one in judged if one.inside == inside]
        if these:
            middle = np.array([_percent(one.log_ratio) for one in these])
            bounds = np.array([[_percent(one.log_ratio_low), _percent(one.log_ratio_high)] for one in these]).T
            around = np.nan_to_num(np.clip([middle - bounds[0], bounds[1] - middle], 0, None))
            axes.errorbar(
                [100 * one.sparsity for one in these], middle, yerr=around, fmt=marker, color=colour, markersize=4.5,
                linewidth=1.1, capsize=2.5, label=f"{label} the budget", gid=f"judged:{label}",
            )  # fmt: skip
    allowed = _percent(judged[-1].budget)
    axes.axhline(allowed, color=INK, linewidth=1.0, linestyle="--", label=f"budget, +{allowed:.3g} %")
    axes.axhline(0, color=BASELINE, linewidth=0.6)
    axes.margins(y=0.15)
    mark_knee(axes, view)
    if view.returned is not None:
        mark_return(axes, view)
    panel(
        axes, "Judged on validation text", "95 % intervals",
        x="% of the heads removed", y="perplexity, % above control",
    )  # fmt: skip
    legend(axes)


def mark_knee(axes: Axes, view: Cycles) -> None:
    """A line where heads stop being cheap."""
    at = next((one.sparsity for one in view.cycles if one.cycle == view.knee), None)
    if at is not None:
        axes.axvline(100 * at, color=MARK_COLOURS["stable"], linewidth=0.9, linestyle=":", label="knee", gid="knee")


def mark_return(axes: Axes, view: Cycles) -> None:
    """A ring around the state that the run returned to."""
    assert view.returned is not None
    to = next((one for one in view.judged if one.cycle == view.returned.to_cycle), None)
    x, y = (100 * to.sparsity, _percent(to.log_ratio)) if to else (0.0, 0.0)
    axes.plot([x], [y], "o", markersize=9, markerfacecolor="none", markeredgecolor=MARK_COLOURS["restored"], gid="back")
    beyond_middle = to is not None and 2 * to.sparsity > max(one.sparsity for one in view.judged)
    said, side = (f"back to {'cycle ' + str(to.cycle) if to else 'the baseline'}", "right" if beyond_middle else "left")
    write(axes, x, y, f"{said}   " if beyond_middle else f"   {said}", SMALL, ha=side, va="bottom", color=INK)


def _percent(log_ratio: float) -> float:
    return 100 * math.expm1(min(log_ratio, 50.0))
