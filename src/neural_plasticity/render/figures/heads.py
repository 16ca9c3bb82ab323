"""Heads as maps: what the analysis measured, and what pruning decided on it, with each layer before and after."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neural_plasticity.heads import BoolGrid, HeadState
from neural_plasticity.record import Run
from neural_plasticity.render.figures import grids
from neural_plasticity.render.figures.style import SMALL, WIDTH, Sheet, empty, legend, panel, write
from neural_plasticity.views import figures
from neural_plasticity.views.analysis import Analysis, Measured, ScoreMap, analysis, label_of
from neural_plasticity.views.heading import heading
from neural_plasticity.views.palette import INK, MEASURED, MUTED
from neural_plasticity.views.pruning import Pruning, PruningDecision, pruning

_CRITERIA = 3  # across
_DECISIONS = 6


def _height(layers: int, least: float = 0.9, most: float = 2.6) -> float:
    return min(max(0.17 * layers, least), most)


def analysis_figure(run: Run) -> Figure:
    """Layer × head maps of entropy, gradient and combined importance; one row per cycle, then the other criteria."""
    sheet = Sheet(heading(run), "Analysis")
    view = analysis(run)
    if view.empty is not None:
        (axes,) = sheet.row(2.0)
        empty(axes, "Head importance", view.empty)
        return sheet.finish()
    shown: list[str] = [name for name in ("entropy", "gradient", "combined") if name in view.names] or list(
        view.names[:3]
    )
    scales = {name: _common(view, name) for name in view.names}
    others = [name for name in view.names if name not in shown][:6]
    columns = min(max(len(shown), len(others)), _CRITERIA)
    for number, one in enumerate(view.rounds):
        _round(sheet, one, shown, scales, columns, first=number == 0)
    for start in range(0, len(others), columns):
        _round(sheet, view.rounds[-1], others[start : start + columns], scales, columns, first=False)
    _footnote(sheet, view, len(view.names) - len(shown) - len(others))
    return sheet.finish()


def _common(view: Analysis, name: str) -> Normalize:
    """One colour range for a criterion over all cycles, so that they compare."""
    values = [one.values[~one.pruned].ravel() for each in view.rounds for one in each.maps if one.name == name]
    return grids.range_of(np.concatenate(values))


def _round(
    sheet: Sheet, one: Measured, names: list[str], scales: dict[str, Normalize], columns: int, *, first: bool
) -> None:
    """The maps of one measurement side by side, as many ``columns`` as the whole figure has."""
    layers = max((each.values.shape[0] for each in one.maps), default=1)
    widths = [width for _ in names for width in (1.0, 0.045)]
    row = sheet.row(_height(layers), widths, above=0.32 if first else 0.72, gap=0.0)
    by_name = {each.name: each for each in one.maps}
    where = f"cycle {one.cycle}" if one.cycle else f"step {one.step:,}"
    # Each map keeps room on its left for its colour bar's neighbour: pairs of axes share a column.
    for place in range(len(names)):
        axes, bar = row[2 * place], row[2 * place + 1]
        _column(sheet, axes, bar, place, columns)
        if names[place] not in by_name:
            bar.set_axis_off()
            empty(axes, label_of(names[place]), "not measured")
        else:
            _map(axes, bar, by_name[names[place]], scales[names[place]], where, first=place == 0)


def _column(sheet: Sheet, axes: Axes, bar: Axes, place: int, columns: int) -> None:
    room = (WIDTH - 0.6 - 0.15) / columns
    sheet.move(axes, 0.6 + place * room, room - 0.85)
    sheet.move(bar, 0.6 + place * room + room - 0.8, 0.08)


def _map(axes: Axes, bar: Axes, one: ScoreMap, norm: Normalize, where: str, *, first: bool) -> None:
    grids.heat(axes, np.where(one.pruned, np.nan, one.values), norm)
    unknown = ~np.isfinite(one.values) & ~one.pruned
    grids.states(axes, np.where(one.pruned, HeadState.PRUNED, HeadState.ACTIVE).astype(np.int8))
    grids.cells(axes, unknown, facecolor="none", edgecolor=MUTED, linestyle=":", linewidth=0.8, gid="unmeasured")
    grids.frame(axes, one.values.shape, one.label, where if first else "", y=first)
    grids.colour_bar(bar, norm, one.unit, _height(one.values.shape[0]))


def _footnote(sheet: Sheet, view: Analysis, left_out: int) -> None:
    (axes,) = sheet.row(0.1, above=0.6, left=0.6)
    axes.set_axis_off()
    parts = ["hatched: pruned before this measurement", "dotted: not measured"]
    parts += [f"{figures.plural(view.left_out, 'measurement')} left out"] if view.left_out else []
    parts += [f"{left_out:,} more criteria were measured"] if left_out > 0 else []
    write(axes, 0, 0.5, " · ".join(parts), SMALL, color=MUTED, va="center")


def pruning_figure(run: Run) -> Figure:
    """Each decision on the scores it was made by, and how many heads every layer kept."""
    sheet = Sheet(heading(run), "Pruning")
    view = pruning(run)
    if view.empty is not None:
        (axes,) = sheet.row(2.0)
        empty(axes, "Decisions", view.empty)
        return sheet.finish()
    listed = view.decisions
    shown = listed if len(listed) <= _DECISIONS else (*listed[: _DECISIONS - 1], listed[-1])
    for number, one in enumerate(shown):
        _decision(sheet, one, first=number == 0)
    _architecture(sheet, view)
    _note(sheet, len(listed) - len(shown), shown)
    return sheet.finish()


def _decision(sheet: Sheet, one: PruningDecision, *, first: bool) -> None:
    axes, bar, layers = sheet.row(_height(len(one.before)), (1, 1, 1), above=0.42 if first else 0.8, gap=0.0)
    sheet.move(axes, 0.6, 4.0)
    sheet.move(bar, 4.68, 0.1)
    sheet.move(layers, 5.85, WIDTH - 5.85 - 0.25)
    gone = one.states == HeadState.PRUNED
    if one.score is None:
        bar.set_axis_off()
    else:
        known = np.where(gone | (one.states < 0), np.nan, one.score)
        norm = grids.range_of(known)
        grids.heat(axes, known, norm)
        grids.colour_bar(bar, norm, one.score_unit or one.score_label or "score", _height(len(one.before)))
    grids.cells(axes, gone, facecolor="#E4E4E4", edgecolor="#9A9A9A", hatch="....", linewidth=0, gid="gone")
    # The head that goes keeps its colour under the hatch: the score is why it goes.
    grids.cells(
        axes, one.chosen, facecolor="none" if one.score is not None else "#BDBDBD", edgecolor="white", hatch="////",
        linewidth=0, gid="pruned", zorder=2,
    )  # fmt: skip
    grids.cells(axes, one.chosen, facecolor="none", edgecolor=INK, linewidth=1.1, gid="chosen", zorder=3)
    grids.cells(
        axes, one.protected & ~one.chosen, facecolor="none", edgecolor=INK, linestyle=":", linewidth=1.2,
        gid="protected", zorder=3,
    )  # fmt: skip
    unscored = _unscored(one)
    grids.cells(axes, unscored, facecolor="none", edgecolor=MUTED, linewidth=0.9, gid="unscored", zorder=3)
    title = f"Cycle {one.cycle}" if one.cycle else f"Step {one.step:,}"
    grids.frame(axes, one.chosen.shape, title, _told(one))
    _layers(layers, one)


def _unscored(one: PruningDecision) -> BoolGrid:
    """Active heads that the decision did not order: young ones, which were not up for it."""
    if one.score is None:
        return np.zeros(one.states.shape, dtype=bool)
    return (one.states > HeadState.PRUNED) & np.isnan(one.score) & ~one.chosen


def _told(one: PruningDecision) -> str:
    """``7 heads by gradient at 15 %, loss 1.860 → 1.970``."""
    text = figures.plural(int(one.chosen.sum()), "head") + (f" by {one.strategy}" if one.strategy else "")
    text += f" at {figures.percent(one.level)}" if one.level is not None else ""
    if one.loss_before is not None and one.loss_after is not None:
        text += f", loss {figures.plain(one.loss_before)} → {figures.plain(one.loss_after)}"
    return text


def _layers(axes: Axes, one: PruningDecision) -> None:
    """Active heads per layer: what stays, and what goes, hatched."""
    rows = np.arange(len(one.before))
    gone = one.before - one.after
    axes.barh(rows, one.after, height=0.72, color=MEASURED, label="stays")
    axes.barh(
        rows, gone, left=one.after, height=0.72, facecolor="#E4E4E4", edgecolor="#3C3C3C", hatch="////", linewidth=0.4,
        label="goes",
    )  # fmt: skip
    if len(rows) <= 16:
        for row in rows:
            text = f"{one.before[row]} → {one.after[row]}" if gone[row] else f"{one.before[row]}"
            write(axes, float(one.before[row]), float(row), f" {text}", SMALL, va="center")
    axes.set_xlim(0, max(int(one.before.max(initial=1)) * 1.32, 1))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    panel(axes, "Layers", "before → after", x="active heads", grid=False)
    legend(axes)


def _architecture(sheet: Sheet, view: Pruning) -> None:
    """The model at the start and now, layer by layer."""
    (axes,) = sheet.row(1.1, above=0.85)
    layers = np.arange(len(view.present))
    axes.bar(layers, view.now, width=0.74, color=MEASURED, label="active now")
    axes.bar(
        layers, view.present - view.now, bottom=view.now, width=0.74, facecolor="#E4E4E4", edgecolor="#3C3C3C",
        hatch="////", linewidth=0.4, label="pruned",
    )  # fmt: skip
    if len(layers) <= 24:
        for layer in layers:
            text = f"{view.now[layer]}/{view.present[layer]}"
            write(axes, float(layer), float(view.present[layer]), text, SMALL, ha="center", va="bottom")
    axes.set_xlim(-0.6, len(layers) - 0.4)
    axes.set_ylim(0, max(float(view.present.max(initial=1)) * 1.25, 1))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=12 if axis is axes.xaxis else 4, integer=True, min_n_ticks=1))
    panel(axes, "Architecture", "heads per layer: those there ever were, and active now", x="layer", y="heads")
    legend(axes)


def _note(sheet: Sheet, left_out: int, shown: Sequence[PruningDecision]) -> None:
    (axes,) = sheet.row(0.1, above=0.6)
    axes.set_axis_off()
    text = "hatched: pruned here · dotted grey: pruned before · dotted frame: kept by a rule"
    text += " · framed: not up for it" if any(_unscored(one).any() for one in shown) else ""
    text += " · blank: no such head" if any((one.states < 0).any() for one in shown) else ""
    text += f" · {figures.plural(left_out, 'decision')} left out" if left_out else ""
    write(axes, 0, 0.5, text, SMALL, color=MUTED, va="center")
