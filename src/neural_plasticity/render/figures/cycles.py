"""The multi-cycle figure: the whole loss curve by cycle, what each cycle cost and won back, and what it adds up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neural_plasticity.heads import HeadState
from neural_plasticity.record import Run
from neural_plasticity.render.figures import grids
from neural_plasticity.render.figures.process import LOSSES, POINTS, loss_panel, process_header
from neural_plasticity.render.figures.stopping import judgements_panel, mark_knee
from neural_plasticity.render.figures.style import LABEL, SMALL, Sheet, empty, fitting, legend, panel, write
from neural_plasticity.views import figures
from neural_plasticity.views.cycles import CURVES, Cycle, Cycles, Measured, cycles
from neural_plasticity.views.heading import heading
from neural_plasticity.views.palette import BASELINE, CONTROL, FAINT, INK, MARK_COLOURS, MEASURED, MUTED
from neural_plasticity.views.recovery import Cumulative, CycleRecovery
from neural_plasticity.views.timeline import timeline

_Rows = tuple[tuple[str, str, str, float, Callable[[Cycle], Measured | None]], ...]
_ROWS = 12  # of the table; more cycles are summed up in a line


def multi_cycle_process(run: Run) -> Figure:
    """Cycle by cycle breakdown, comparison, cumulative impact and statistics of the training."""
    sheet = Sheet(heading(run), "Multi-cycle process")
    curves = run.columns(tuple(dict.fromkeys((*CURVES, *LOSSES))))
    view = cycles(run, curves)
    if view.empty is not None:
        (axes,) = sheet.row(2.0)
        empty(axes, "Cycles", view.empty)
        return sheet.finish()
    line = timeline(run, LOSSES, POINTS, curves)
    losses = [one for one in line.series if one.name in LOSSES]
    loss_panel(sheet, line, losses, 1.6, process_header(sheet, line))
    left, right = sheet.row(1.7, (1, 1), above=0.74)
    _losses(left, view.cycles)
    _recovery(right, view.cycles)
    left, right = sheet.row(1.7, (1, 1), above=1.0)
    _aligned(left, view.recoveries)
    (judgements_panel if view.judged else _front)(right, view)
    left, right = sheet.row(1.7, (1, 1), above=1.0)
    _heads(left, view.cycles)
    _impact(right, view)
    _where(sheet, view)
    _table(sheet, view.cycles)
    return sheet.finish()


def _cycle_axis(axes: Axes, listed: Sequence[Cycle]) -> None:
    numbers = [one.cycle for one in listed]
    axes.set_xlim(min(numbers) - 0.6, max(numbers) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))


def _losses(axes: Axes, listed: Sequence[Cycle]) -> None:
    """Before pruning, after pruning, after fine-tuning."""
    states = (
        ("before pruning", "o", BASELINE, -0.2, [one.loss_before for one in listed]),
        ("after pruning", "v", MARK_COLOURS["pruned"], 0.0, [one.loss_pruned for one in listed]),
        ("after fine-tuning", "s", MEASURED, 0.2, [one.loss_after for one in listed]),
    )
    title = "Loss in each cycle"
    if all(value is None for *_, values in states for value in values):
        empty(axes, title, "No loss before or after pruning was recorded.")
        return
    _cycle_axis(axes, listed)
    placed: list[list[tuple[float, float | None]]] = [
        [(one.cycle + shift, value) for one, value in zip(listed, values, strict=True)] for *_, shift, values in states
    ]
    for of_cycle in zip(*placed, strict=True):
        known = [(x, y) for x, y in of_cycle if y is not None and np.isfinite(y)]
        axes.plot([x for x, _ in known], [y for _, y in known], color=MUTED, linewidth=0.8, zorder=2)
    for (label, marker, colour, _, _), of_state in zip(states, placed, strict=True):
        drawn = [(x, y) for x, y in of_state if y is not None]
        axes.plot([x for x, _ in drawn], [y for _, y in drawn], marker, color=colour, markersize=4.5, label=label)
    axes.margins(y=0.15)
    panel(axes, title, x="cycle", y="loss (nats per token)")
    legend(axes)


def _recovery(axes: Axes, listed: Sequence[Cycle]) -> None:
    """Share of the damage that fine-tuning took back."""
    title = "Recovery"
    shares = [one.recovered for one in listed]
    if all(share is None for share in shares):
        empty(axes, title, "Not recorded, or pruning cost nothing.")
        return
    _cycle_axis(axes, listed)
    highest = max([1.0, *(share for share in shares if share is not None and np.isfinite(share))])
    for one, share in zip(listed, shares, strict=True):
        if share is None or not np.isfinite(share):
            write(axes, one.cycle, 0.02, figures.MISSING, SMALL, ha="center", color=MUTED)
            continue
        axes.bar(one.cycle, 100 * share, width=0.6, color=MEASURED, edgecolor="white")
        if len(listed) <= 12:
            inside = share > 0.2 * highest  # at the bar's foot, where the line at 100 % does not run through it
            place = 3 * highest if inside else 100 * max(share, 0)
            write(axes, one.cycle, place, figures.percent(share), SMALL, ha="center", va="bottom",
                  color="white" if inside else INK)  # fmt: skip
    axes.axhline(100, color=INK, linewidth=0.8, linestyle="--")
    axes.axhline(0, color=MUTED, linewidth=0.6)
    axes.margins(y=0.18)
    panel(axes, title, "100 %: back at the loss before pruning", x="cycle", y="% of the loss added")


def _aligned(axes: Axes, recoveries: Sequence[CycleRecovery]) -> None:
    """Validation loss above what it was before each pruning, all prunings at 0; the later the cycle, the darker."""
    title = "Recovery curves"
    drawn = [one for one in recoveries if one.before is not None and len(one.validation) > 1]
    if not drawn:
        empty(axes, title, "No validation loss around the prunings was recorded.")
        return
    shades: Any = grids.cycle_scale(max(one.cycle for one in drawn))[0].colors
    for number, one in enumerate(drawn):
        assert one.before is not None
        named = len(drawn) <= 5 or number in (0, len(drawn) - 1)
        axes.plot(
            one.validation_steps, one.validation - one.before, "-o", color=shades[one.cycle], markersize=2.4,
            linewidth=1.1, label=f"cycle {one.cycle}" if named else None, gid=f"recovery:{one.cycle}",
        )  # fmt: skip
    axes.axhline(0, color=INK, linewidth=0.8, linestyle="--")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.margins(y=0.12)
    panel(axes, title, x="steps since the pruning", y="loss − loss before (nats)")
    legend(axes)


def _front(axes: Axes, view: Cycles) -> None:
    """What the share of heads removed costs in perplexity."""
    title = "Perplexity against heads removed"
    rows: tuple[tuple[str, str, str, float, Callable[[Cumulative], Measured | None]], ...] = (
        ("pruned", "o", MEASURED, 0.0, lambda one: one.perplexity),
        ("control", "s", CONTROL, 0.5, lambda one: one.control_perplexity),
    )
    for label, marker, colour, aside, of in rows:
        found = [(100 * one.sparsity + aside, figure) for one in view.cumulative if (figure := of(one)) is not None]
        if found:
            places, measured = [x for x, _ in found], [one for _, one in found]
            intervals(axes, places, measured, colour, marker, label)
            axes.plot(places, [one.value for one in measured], color=colour, linewidth=0.8, alpha=0.5)
    if not axes.lines:
        empty(axes, title, "No perplexity was evaluated.")
        return
    axes.margins(y=0.15)
    axes.set_xlim(left=-2)
    mark_knee(axes, view)
    panel(axes, title, x="% of the heads removed", y="test perplexity")
    legend(axes)


def _heads(axes: Axes, listed: Sequence[Cycle]) -> None:
    """Heads left after each cycle, and those that went in it."""
    _cycle_axis(axes, listed)
    numbers = np.array([one.cycle for one in listed])
    left = np.array([one.heads_left for one in listed])
    gone = np.array([one.pruned for one in listed])
    grown = np.array([one.grown for one in listed])
    axes.bar(numbers, left, width=0.6, color=MEASURED, label="active", edgecolor="white")
    axes.bar(
        numbers, gone, bottom=left, width=0.6, facecolor="#E4E4E4", edgecolor="#3C3C3C", hatch=grids.HATCH,
        linewidth=0.4, label="pruned in this cycle",
    )  # fmt: skip
    if grown.any():
        axes.plot(numbers[grown > 0], left[grown > 0], "^", color="white", markeredgecolor=INK, label="some grown")
    if len(listed) <= 12:
        for one, top in zip(listed, left + gone, strict=True):
            write(axes, one.cycle, top, f" {figures.percent(one.sparsity)} gone", SMALL, ha="center", va="bottom")
    axes.set_ylim(0, max(float((left + gone).max()) * 1.2, 1))
    panel(axes, "Heads left", x="cycle", y="heads")
    legend(axes)


def _impact(axes: Axes, view: Cycles) -> None:
    """What all cycles so far changed: paired loss differences; where there are none, perplexity beside the baseline."""
    title = "Cumulative impact"
    paired: _Rows = (
        ("against baseline", "o", MEASURED, -0.08, lambda one: one.impact),
        ("against control", "s", CONTROL, 0.08, lambda one: one.impact_on_control),
    )
    plain: _Rows = (
        ("pruned", "o", MEASURED, -0.08, lambda one: one.perplexity),
        ("control", "s", CONTROL, 0.08, lambda one: one.control_perplexity),
    )
    rows = paired if any(one.impact is not None for one in view.cycles) else plain
    found = [
        (label, marker, colour, [(one.cycle + shift, figure) for one in view.cycles if (figure := of(one)) is not None])
        for label, marker, colour, shift, of in rows
    ]
    if not any(points for *_, points in found):
        empty(axes, title, "No evaluation of a pruned model was recorded.")
        return
    _cycle_axis(axes, view.cycles)
    reference = 0.0 if rows is paired else view.baseline.value if view.baseline else None
    if reference is not None:
        axes.axhline(reference, color=BASELINE, linewidth=1.0, linestyle="--")
    for label, marker, colour, points in found:
        if points:
            intervals(axes, [x for x, _ in points], [one for _, one in points], colour, marker, label)
    axes.margins(y=0.15)
    unit = "test loss difference (nats)" if rows is paired else "test perplexity"
    panel(axes, title, "95 % intervals", x="cycle", y=unit)
    legend(axes)


def intervals(
    axes: Axes, places: Sequence[float], measured: Sequence[Measured], colour: str, marker: str, label: str
) -> None:
    """Points with their intervals; a point without one has no whisker."""
    values = np.array([one.value for one in measured])
    low = np.array([one.value if one.low is None else one.low for one in measured])
    high = np.array([one.value if one.high is None else one.high for one in measured])
    finite = np.isfinite(values) & np.isfinite(low) & np.isfinite(high)
    x = np.array(places)[finite]
    around = np.clip(np.stack([values - low, high - values])[:, finite], 0, None)
    axes.errorbar(
        x, values[finite], yerr=around, fmt=marker, color=colour, markersize=4, linewidth=1.1, capsize=2.5,
        label=label, gid=f"interval:{label}",
    )  # fmt: skip


def _where(sheet: Sheet, view: Cycles) -> None:
    """In which cycle each head was pruned."""
    shape = view.states.shape
    title = "When each head was pruned"
    if not view.states.size:
        (axes,) = sheet.row(0.8, above=0.74)
        empty(axes, title, "The run has not said its heads.")
        return
    height = min(max(0.19 * shape[0], 0.9), 3.2)
    axes, bar = sheet.row(height, (28, 1), above=0.76, gap=0.2, right=0.75)
    last = max(int(view.pruned_in.max()), 1)
    scale, norm = grids.cycle_scale(last)
    grids.heat(axes, np.where(view.states == HeadState.ABSENT, np.nan, view.pruned_in), norm, scale)
    grids.cells(
        axes, view.states == HeadState.PRUNED, facecolor="none", edgecolor="white", hatch=grids.HATCH, linewidth=0,
        gid="pruned", zorder=2,
    )  # fmt: skip
    grids.cells(
        axes, view.states == HeadState.REGROWN, facecolor="none", edgecolor=INK, linewidth=1.6, gid="regrown", zorder=3
    )
    grids.cells(
        axes, view.states == HeadState.ADDED, facecolor="none", edgecolor=INK, linewidth=1.6, linestyle=":",
        gid="added", zorder=3,
    )  # fmt: skip
    said = ((HeadState.PRUNED, "hatched: pruned now"), (HeadState.REGROWN, "outlined: came back"),
            (HeadState.ADDED, "dotted: added"), (HeadState.ABSENT, "blank: no such head"))  # fmt: skip
    note = "; ".join(text for state, text in said if (view.states == state).any())
    grids.frame(axes, shape, title, note)
    grids.colour_bar(bar, norm, "cycle (0: never)", height, scale)
    bar.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


_COLUMNS: tuple[tuple[str, float, Callable[[Cycle], str]], ...] = (
    ("cycle", 0.4, lambda c: str(c.cycle)),
    ("strategy", 1.0, lambda c: figures.clean(c.strategy) or figures.MISSING),
    ("level", 0.5, lambda c: figures.percent(c.level)),
    ("pruned", 0.55, lambda c: f"{c.pruned:,}" + (f" +{c.grown:,}" if c.grown else "")),
    ("loss, pruning", 0.85, lambda c: _step(c.loss_before, c.loss_pruned)),
    ("fine-tuning", 0.8, lambda c: _step(c.loss_pruned, c.loss_after)),
    ("steps", 0.68, lambda c: f"{c.training.steps:,}" if c.training else figures.MISSING),
    ("to 90 %", 0.6, lambda c: _count(c.training.steps_to_90 if c.training else None)),
    ("per 100 steps", 0.9, lambda c: figures.signed(c.training.loss_per_100_steps if c.training else None)),
    ("half back", 0.7, lambda c: _count(_whole(c.training.steps_to_half if c.training else None))),
    ("tokens/s", 0.7, lambda c: figures.plain(c.training.tokens_per_second if c.training else None, 0)),
    ("time", 0.92, lambda c: figures.duration(c.seconds) if c.seconds else figures.MISSING),
)


def _step(before: float | None, after: float | None) -> str:
    return figures.MISSING if before is None or after is None else figures.signed(after - before)


def _count(value: int | None) -> str:
    return figures.MISSING if value is None else f"{value:,}"


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _table(sheet: Sheet, listed: Sequence[Cycle]) -> None:
    """Optimisation statistics of each cycle."""
    shown = listed if len(listed) <= _ROWS else (*listed[: _ROWS - 3], *listed[-2:])
    (axes,) = sheet.row(0.2 * (len(shown) + 1) + 0.05, above=0.76, left=0.35)
    width, height = sheet.inches(axes)
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    left_out = len(listed) - len(shown)
    note = "change of loss by pruning and fine-tuning; steps to 90 % of the way; slope; steps to half the damage"
    panel(axes, "Each cycle in figures", note + (f"; {left_out:,} cycles left out" if left_out else ""), grid=False)
    axes.set_axis_off()
    total = sum(share for _, share, _ in _COLUMNS)
    x = 0.0
    for name, share, text in _COLUMNS:
        room = width * share / total
        right = name not in ("cycle", "strategy")
        place, side = (x + room - 0.06, "right") if right else (x, "left")
        write(axes, place, 0.1, name, SMALL, ha=side, va="center", color=MUTED)
        for row, one in enumerate(shown):
            write(axes, place, 0.2 * row + 0.32, fitting(text(one), room - 0.08, LABEL - 0.5), LABEL - 0.5, ha=side,
                  va="center")  # fmt: skip
        x += room
    axes.hlines([0.2], 0, width, colors=MUTED, linewidth=0.6)
    axes.hlines(0.2 * np.arange(1, len(shown)) + 0.22, 0, width, colors=FAINT, linewidth=0.5)
