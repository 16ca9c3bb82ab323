"""Embedding space in print: how far each layer's space drifted, and where the points that moved most went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from neural_plasticity.record import Run
from neural_plasticity.render.figures.style import (
    LABEL,
    SMALL,
    WIDTH,
    Sheet,
    empty,
    font,
    panel,
    printable,
    tick,
    width_of,
    write,
)
from neural_plasticity.views import figures
from neural_plasticity.views.embeddings import CONTROL, Space, embeddings
from neural_plasticity.views.heading import heading
from neural_plasticity.views.palette import CONTROL as CONTROL_COLOUR
from neural_plasticity.views.palette import FAINT, IMPORTANCE_SCALE, INK, MUTED

_SPACES, _PLANES, _TRAILS = 3, 3, 5
_DENSE = 500  # points: more are drawn as their density
_GROUPS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A")
_MARKERS = "osD^vPX"


def embeddings_figure(run: Run) -> Figure:
    """Drift numbers by layer and cycle first, then each layer's points in the plane of its baseline."""
    sheet = Sheet(heading(run), "Embedding space")
    view = embeddings(run)
    if view.empty is not None:
        (axes,) = sheet.row(2.0)
        empty(axes, "Embeddings", view.empty)
        return sheet.finish()
    for number, space in enumerate(view.spaces[:_SPACES]):
        _space(sheet, space, first=number == 0)
    if len(view.spaces) > _SPACES:
        _words(sheet, f"{len(view.spaces) - _SPACES:,} more embedding spaces were recorded.")
    return sheet.finish()


def _space(sheet: Sheet, space: Space, *, first: bool) -> None:
    if len(space.steps) > 1:
        _numbers(sheet, space, first=first)
    planes = [round(at) for at in np.linspace(0, len(space.layers) - 1, min(_PLANES, len(space.layers)))]
    size = (WIDTH - 0.6 - 0.25 - 0.45 * (_PLANES - 1)) / _PLANES
    row = sheet.row(size, [1.0] * _PLANES, above=0.62 if len(space.steps) > 1 or not first else 0.4, gap=0.45, left=0.6)
    for axes, layer in zip(row, planes, strict=False):
        _plane(axes, space, layer)
    for axes in row[len(planes) :]:
        axes.set_axis_off()
    _legend(sheet, space)


def _numbers(sheet: Sheet, space: Space, *, first: bool) -> None:
    (names,) = sheet.row(0.16, above=0.12 if first else 0.6, left=0.6)
    row = sheet.row(1.45, (1, 1, 1), above=0.42, gap=0.62, left=0.6)
    cka, residual, overlap = (
        [getattr(one, name) for one in space.drift]
        for name in ("linear_cka", "procrustes_residual", "neighbour_overlap")
    )
    chance = float(np.nanmean(space.chance_residual)) if np.isfinite(space.chance_residual).any() else float("nan")
    measures = (
        ("Linear CKA, debiased", "1 same · 0 unrelated", cka),
        ("Procrustes residual", f"0 same · {figures.plain(chance, 2)} unrelated", residual),
        (f"{space.neighbours} neighbours kept", f"1 all · {figures.plain(space.chance_overlap, 2)} by chance", overlap),
    )
    for axes, (title, scale, values) in zip(row, measures, strict=True):
        if not np.isfinite(values[0][1:]).any():
            empty(axes, title, "Too few points to measure.")
            continue
        _by_depth(axes, space, values)
        panel(axes, title, x="layer")
        axes.set_ylabel(scale, fontsize=SMALL, color=MUTED, labelpad=3)
    names.set_axis_off()
    handles = row[0].get_legend_handles_labels()[0]
    _legend_in(names, [*handles], f"{space.name}, against the baseline’s:")


def _by_depth(axes: Axes, space: Space, values: Sequence[npt.NDArray[np.float64]]) -> None:
    """One line per moment after the baseline, the later the darker; the control's last one dashed."""
    places = np.arange(len(space.layers))
    drawn = [at for at in range(1, len(space.steps)) if np.isfinite(values[0][at]).any()]
    shades = matplotlib.colormaps[IMPORTANCE_SCALE]
    alone = "o" if len(places) == 1 else ""
    for number, at in enumerate(drawn):
        named = len(drawn) <= 4 or number in (0, len(drawn) - 1)
        axes.plot(places, values[0][at], color=shades(0.85 * (1 - (number + 1) / len(drawn))), linewidth=1.2,
                  marker=alone, label=_when(space, at) if named else None)  # fmt: skip
    for one, of in zip(space.drift, values, strict=True):
        known = np.flatnonzero(np.isfinite(of).any(axis=1))
        if one.model == CONTROL and len(known):
            axes.plot(places, of[known[-1]], "--", color=CONTROL_COLOUR, linewidth=1.3, marker=alone,
                      label="control in the end")  # fmt: skip
    axes.set_xlim(-0.4, len(places) - 0.6)
    axes.margins(y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(space.layers, value)))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.yaxis.set_major_formatter(FuncFormatter(tick))


def _short(layers: Sequence[str], value: float) -> str:
    place = round(value)
    return layers[place].removeprefix("layer ").replace("input", "in") if 0 <= place < len(layers) else ""


def _when(space: Space, at: int) -> str:
    cycle = int(space.cycles[at])
    if list(space.cycles).count(cycle) > 1:
        return f"step {int(space.steps[at]):,}"
    return f"cycle {cycle}" if cycle else "baseline"


def _plane(axes: Axes, space: Space, layer: int) -> None:
    """The baseline's points, and the way of those that moved most."""
    points = space.coordinates[:, layer]
    if not np.isfinite(points[0]).all():
        empty(axes, space.layers[layer].capitalize(), "Not finite, or not at the beginning.")
        return
    start, movers = points[0], [one for one in space.movers if one.layer == layer][:_TRAILS]
    if len(start) > _DENSE:
        axes.hexbin(start[:, 0], start[:, 1], gridsize=40, cmap="Greys", mincnt=1, linewidths=0, bins="log")
    else:
        for group in range(-1, len(space.group_names)):
            inside = space.groups == group
            if inside.any():
                axes.scatter(start[inside, 0], start[inside, 1], s=7, **group_look(group), alpha=0.55, linewidths=0)
    axes.margins(0.1)
    for one in movers:
        trail = points[:, one.point]
        trail = trail[np.isfinite(trail).all(axis=1)]
        axes.plot(trail[:, 0], trail[:, 1], color=INK, linewidth=0.9, zorder=4)
        axes.plot(trail[-1:, 0], trail[-1:, 1], "o", color=INK, markersize=2.5, zorder=5)
    if space.labels:
        _name(axes, [(space.labels[one.point], points[-1, one.point]) for one in movers])
    along, across = space.explained_variance[layer]
    axes.set_xticks([])
    axes.set_yticks([])
    note = space.name if layer == 0 and len(space.steps) < 2 else ""
    panel(axes, space.layers[layer].capitalize(), note, x=f"{figures.percent(along)} of the variance",
          y=figures.percent(across), grid=False)  # fmt: skip
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(FAINT)


def group_look(group: int) -> dict[str, Any]:
    """Colour and marker of a group of points; −1: of none."""
    if group < 0:
        return {"color": MUTED, "marker": "o"}
    return {"color": _GROUPS[group % len(_GROUPS)], "marker": _MARKERS[group % len(_MARKERS)]}


def _legend(sheet: Sheet, space: Space) -> None:
    named = space.group_names[: len(_GROUPS)] if len(space.labels) <= _DENSE else ()
    text = "Plane of each layer's own baseline, kept for all cycles; black: the way of the points that moved most"
    if named:
        (axes,) = sheet.row(0.3, above=0.34, left=0.6)
        axes.set_axis_off()
        legend_in(axes, named)
    _words(sheet, text)


def legend_in(axes: Axes, names: Sequence[str]) -> None:
    """A legend of groups that fills ``axes``; as many as there are colours."""
    shown = names[: len(_GROUPS)]
    handles = [axes.scatter([], [], s=12, **group_look(place), label=printable(figures.shorten(f" {name}", 27)))
               for place, name in enumerate(shown)]  # fmt: skip
    _legend_in(axes, handles, "", columns=4)


def _legend_in(axes: Axes, handles: Sequence[Any], title: str, columns: int = 6) -> None:
    """A legend that fills ``axes``, after words of its own."""
    room = width_of(title, LABEL, bold=True) + 0.1 if title else 0.0
    if title:
        write(axes, 0, 0.5, title, LABEL, bold=True, va="center", transform=axes.transAxes)
    made = axes.legend(handles=list(handles), loc="center left", bbox_to_anchor=(room / (WIDTH - 0.85), 0.5),
                       ncols=columns, frameon=False, prop=font(SMALL), borderpad=0, borderaxespad=0, handlelength=1.9,
                       handletextpad=0.4, columnspacing=1.2)  # fmt: skip
    for one in made.get_texts():
        one.set_parse_math(False)


def _name(axes: Axes, ends: Sequence[tuple[str, npt.NDArray[np.float32]]]) -> None:
    """Names at these points, those left out that would lie on another."""
    taken: list[tuple[float, float, float]] = []  # left, right, height, as shares of the axes
    inches = axes.get_position().width * WIDTH
    axes.autoscale_view()  # or the limits are not those of what has been drawn so far
    for label, place in ends:
        text = printable(figures.shorten(label, 14))
        if not np.isfinite(place).all():
            continue
        x, y = axes.transAxes.inverted().transform(axes.transData.transform(place))
        wide = (width_of(text, SMALL) + 0.1) / inches
        near = x + wide > 1
        left, right = (x - wide, x) if near else (x, x + wide)
        if any(left < other[1] and other[0] < right and abs(y - other[2]) < 0.07 for other in taken):
            continue
        taken.append((left, right, y))
        axes.annotate(
            text, (float(place[0]), float(place[1])), (-3 if near else 3, 2),
            textcoords="offset points", fontproperties=font(SMALL), ha="right" if near else "left", color=INK,
            zorder=6, parse_math=False,
        )  # fmt: skip


def _words(sheet: Sheet, text: str) -> None:
    (axes,) = sheet.row(0.16, above=0.2, left=0.6)
    axes.set_axis_off()
    write(axes, 0, 0.5, text, SMALL, color=MUTED, va="center", transform=axes.transAxes)
