"""The growth figure: what went and came in each cycle, what became of it, and what the evidence was worth."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neural_plasticity.record import Run
from neural_plasticity.render.figures.style import LABEL, SMALL, Sheet, empty, fitting, legend, panel, write
from neural_plasticity.views import figures
from neural_plasticity.views.growth import Growth, Return, growth
from neural_plasticity.views.heading import heading
from neural_plasticity.views.palette import FAINT, INK, MARK_COLOURS, MUTED, PRUNED

_ROWS = 14  # of the table; the latest
_LIVES = 60  # lines of single heads; more are a cloud
_LOOKS = {"regrown": ("-o", MARK_COLOURS["regrown"]), "added": ("--P", MARK_COLOURS["added"])}


def growth_figure(run: Run) -> Figure:
    """Moves by cycle, survival, importance since against the median survivor, benefit against measured gain, lives."""
    sheet = Sheet(heading(run), "Growth")
    view = growth(run)
    if view.empty is not None:
        (axes,) = sheet.row(2.0)
        empty(axes, "Growth", view.empty)
        return sheet.finish()
    left, right = sheet.row(1.7, (1, 1), above=0.72)
    _moves(left, view)
    _survival(right, view)
    left, right = sheet.row(1.7, (1, 1), above=0.82)
    _since(left, view)
    _evidence(right, view)
    if view.returns:
        _table(sheet, view)
    return sheet.finish()


def _moves(axes: Axes, view: Growth) -> None:
    """Heads that went, below zero; those that came back or were added, above."""
    cycles = np.array([one.cycle for one in view.rounds])
    went = np.array([-one.pruned for one in view.rounds])
    again = np.array([-one.gone_again for one in view.rounds])
    back = np.array([one.regrown for one in view.rounds])
    new = np.array([one.added for one in view.rounds])
    axes.bar(cycles, went, 0.62, color=PRUNED, label="pruned")
    if again.any():
        axes.bar(cycles, again, 0.62, color=PRUNED, hatch="////", edgecolor=INK, linewidth=0.4, label="had come before")
    axes.bar(cycles, back, 0.62, color=MARK_COLOURS["regrown"], label="came back")
    if new.any():
        axes.bar(cycles, new, 0.62, bottom=back, color=MARK_COLOURS["added"], hatch="xx", edgecolor="white",
                 linewidth=0.4, label="new")  # fmt: skip
    axes.axhline(0, color=INK, linewidth=0.7)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    axes.set_xlim(cycles.min() - 0.7, cycles.max() + 0.7)
    panel(axes, "What went and came", x="cycle", y="heads")
    legend(axes)


def _survival(axes: Axes, view: Growth) -> None:
    """The share of those that came which are still there so many cycles later, and of how many."""
    if not view.survival:
        empty(axes, "Still there", "No head came.")
        return
    for one in view.survival:
        marker, colour = _LOOKS.get(one.origin, ("-s", MUTED))
        share = 100 * one.alive / np.maximum(one.at_risk, 1)
        axes.plot(one.cycles, share, marker, markersize=4, linewidth=1.2, color=colour, label=one.origin)
    longest = max(view.survival, key=lambda one: len(one.cycles))
    axes.set_ylim(0, 108)
    axes.set_xlim(-0.3, max(float(longest.cycles[-1]), 1.0) + 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    numbers = ", ".join(f"{count:,}" for count in longest.at_risk[:8])
    more = ", …" if len(longest.at_risk) > 8 else ""
    panel(
        axes, "Still there", f"{longest.origin}: of {numbers}{more}", x="cycles after it came", y="% of those that came"
    )
    legend(axes)


def _since(axes: Axes, view: Growth) -> None:
    """Importance at each later measurement against the median head that never left."""
    title = "Importance since"
    if view.typical is None or not np.isfinite(view.typical.ratio).any():
        empty(axes, title, "No head was measured again after it came.")
        return
    for one in view.standings[-_LIVES:]:
        marker, colour = _LOOKS.get(one.origin, ("-s", MUTED))
        axes.plot(one.since, one.ratio, marker, markersize=2.5, linewidth=0.6, color=colour, alpha=0.45)
    typical = view.typical
    axes.plot(typical.since, typical.ratio, "-s", markersize=4, linewidth=1.6, color=INK, label="median of them")
    axes.axhline(1, color=MUTED, linewidth=0.9, linestyle="--", label="median head that never left")
    highest = np.nanmax([1.0, *(np.nanmax(one.ratio, initial=0.0) for one in view.standings[-_LIVES:])])
    axes.set_ylim(0, 1.15 * float(highest))
    axes.set_xlim(0.5, max(float(typical.since[-1]), 1.0) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    panel(axes, title, f"by {view.criterion}", x="cycles after it came", y="times the median")
    legend(axes)


def _evidence(axes: Axes, view: Growth) -> None:
    """What the gradient at gate 0 promised, and what switching the head on really gained."""
    drawn = False
    for label, marker, colour, rows in (
        ("stays out", "x", MUTED, view.refused),
        ("came back", "o", MARK_COLOURS["regrown"], view.returns),
    ):
        known = [
            (one.score, one.gain, one.gain_low, one.gain_high)
            for one in rows
            if one.score is not None and one.gain is not None and np.isfinite([one.score, one.gain]).all()
        ]
        if known:
            values = np.array([[np.nan if value is None else value for value in row] for row in known], dtype=float)
            around = np.nan_to_num(np.clip([values[:, 1] - values[:, 2], values[:, 3] - values[:, 1]], 0, None))
            axes.errorbar(values[:, 0], values[:, 1], yerr=around, fmt=marker, markersize=4, color=colour,
                          linewidth=0.8, capsize=1.8, label=label)  # fmt: skip
            drawn = True
    if not drawn:
        empty(axes, "Benefit and gain", "No trial was recorded.")
        return
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.margins(0.1)
    axes.axline((0, 0), slope=1, color=MUTED, linewidth=0.8, linestyle=":", label="as promised")
    panel(axes, "Benefit and gain", "simultaneous intervals", x="benefit at gate 0, nats", y="gain when on, nats")
    legend(axes)


def _table(sheet: Sheet, view: Growth) -> None:
    """Every head that came, the latest ones where they are many."""
    shown = view.returns[-_ROWS:]
    (axes,) = sheet.row(0.2 * (len(shown) + 1) + 0.05, above=0.76, left=0.35)
    width, height = sheet.inches(axes)
    left_out = len(view.returns) - len(shown)
    panel(axes, "Heads that came", f"{left_out:,} earlier ones left out" if left_out else "", grid=False)
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    x = 0.0
    for name, share, right in (
        ("head", 0.1, False),
        ("cycle", 0.06, True),
        ("until", 0.12, True),
        ("why", 0.72, False),
    ):
        room = width * share
        place, side = (x + room - 0.1, "right") if right else (x, "left")
        write(axes, place, 0.1, name, SMALL, ha=side, va="center", color=MUTED)
        for row, one in enumerate(shown):
            text = fitting(_cell(name, one), room - 0.12, LABEL - 0.5)
            write(axes, place, 0.2 * row + 0.32, text, LABEL - 0.5, ha=side, va="center")
        x += room
    axes.hlines([0.2], 0, width, colors=MUTED, linewidth=0.6)
    axes.hlines(0.2 * np.arange(1, len(shown)) + 0.22, 0, width, colors=FAINT, linewidth=0.5)


def _cell(name: str, one: Return) -> str:
    match name:
        case "head":
            return one.name
        case "cycle":
            return f"{one.cycle:,}"
        case "until":
            return "there" if one.pruned_again_step is None else f"step {one.pruned_again_step:,}"
        case _:
            return figures.shorten(one.reason or one.strategy or "no reason recorded", 300)
