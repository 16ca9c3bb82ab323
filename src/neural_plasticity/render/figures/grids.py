"""Layers × heads as cells: heatmaps with a colour bar, pruned cells hatched, regrown ones outlined."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from neural_plasticity.heads import BoolGrid, HeadState, StateGrid
from neural_plasticity.render.figures.style import FONT, SMALL, fitting, panel, printable, tick
from neural_plasticity.views.palette import FAINT, IMPORTANCE_SCALE, INK, MUTED, PRUNED

Grid = npt.NDArray[Any]
HATCH = "////"


def cells(axes: Axes, where: BoolGrid, **style: Any) -> None:
    """One patch over all cells where the grid is True; nothing where there are none."""
    corners = np.argwhere(where)
    if not len(corners):
        return
    square = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5)])
    vertices = (corners[:, ::-1][:, None, :] + square[None]).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], len(corners))
    axes.add_patch(PathPatch(Path(vertices, codes.astype(Path.code_type)), **style))


def heat(axes: Axes, values: Grid, norm: Normalize, scale: Any = IMPORTANCE_SCALE) -> Any:
    """The values as cells; NaN is left white."""
    return axes.imshow(
        np.ma.masked_invalid(values), cmap=scale, norm=norm, aspect="auto", interpolation="nearest", gid="heat"
    )


def states(axes: Axes, grid: StateGrid, *, fill: bool = False) -> None:
    """Pruned cells grey and hatched, regrown and added ones outlined, absent ones crossed out of the frame."""
    cells(
        axes, grid == HeadState.PRUNED, facecolor="#E4E4E4" if not fill else PRUNED, edgecolor="#3C3C3C", hatch=HATCH,
        linewidth=0.0, gid="pruned", zorder=2,
    )  # fmt: skip
    cells(axes, grid == HeadState.REGROWN, facecolor="none", edgecolor=INK, linewidth=1.4, gid="regrown", zorder=3)
    cells(
        axes, grid == HeadState.ADDED, facecolor="none", edgecolor=INK, linewidth=1.4, linestyle=":", gid="added",
        zorder=3,
    )  # fmt: skip


def frame(axes: Axes, shape: tuple[int, ...], title: str, note: str = "", *, x: bool = True, y: bool = True) -> None:
    """Axes of a grid: layers down, heads across, both from 0, whole numbers, thin white lines between few cells."""
    panel(axes, title, note, x="head" if x else "", y="layer" if y else "", grid=False)
    axes.set_xlim(-0.5, shape[1] - 0.5)
    axes.set_ylim(shape[0] - 0.5, -0.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(MUTED)
        spine.set_linewidth(0.5)
    if max(shape) <= 40:
        axes.hlines(np.arange(1, shape[0]) - 0.5, -0.5, shape[1] - 0.5, colors="white", linewidth=0.7, zorder=2.5)
        axes.vlines(np.arange(1, shape[1]) - 0.5, -0.5, shape[0] - 0.5, colors="white", linewidth=0.7, zorder=2.5)


def range_of(values: Grid) -> Normalize:
    """The colour range of what is finite; one value alone gets a range around it."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Normalize(0.0, 1.0)
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    return Normalize(low, high)


def colour_bar(axes: Axes, norm: Normalize, unit: str, height: float, scale: Any = IMPORTANCE_SCALE) -> None:
    """A colour bar that fills ``axes``, ``height`` inches tall, with its unit."""
    figure = axes.figure
    assert figure is not None
    bar = figure.colorbar(ScalarMappable(norm, scale), cax=axes)
    bar.outline.set_linewidth(0.4)
    bar.locator = MaxNLocator(nbins=4)
    bar.formatter = FuncFormatter(tick)
    bar.update_ticks()
    _bar_look(axes, fitting(unit, height + 0.2, SMALL))


def cycle_scale(last: int) -> tuple[ListedColormap, BoundaryNorm]:
    """A colour for each cycle, from never (pale) to the last, ordered in lightness."""
    shades: list[Any] = [
        matplotlib.colormaps[IMPORTANCE_SCALE](1 - number / max(last, 1)) for number in range(1, last + 1)
    ]
    return ListedColormap([FAINT, *shades]), BoundaryNorm(np.arange(-0.5, last + 1.5), last + 1)


def _bar_look(axes: Axes, unit: str) -> None:
    axes.tick_params(labelsize=SMALL, width=0.5, length=2, labelfontfamily=FONT, colors=MUTED, labelcolor=INK)
    axes.set_ylabel(printable(unit), fontsize=SMALL, fontfamily=FONT, color=INK, labelpad=3, parse_math=False)
