"""One score grid at one event as a figure; the figures of whole runs are in ``render/figures``, drawn with the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from neural_plasticity.heads import FloatGrid, HeadId, grid_of
from neural_plasticity.record.history import Change, head_states
from neural_plasticity.views.heading import Heading
from neural_plasticity.views.heads_at import fitted
from neural_plasticity.views.palette import MARK_COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from neural_plasticity.render.figures.style import Sheet

_CELL, _LEAST, _MOST = 0.3, 1.5, 5.5  # inches: a row of heads, the lowest and the highest grid
DPI = 110


def grid_figure(
    heading: Heading,
    title: str,
    values: FloatGrid,
    unit: str,
    changes: Sequence[Change] = (),
    *,
    note: str = "",
    now: Sequence[HeadId] = (),
) -> Figure:
    """``values`` (layers, heads) with their scale; on top head states after ``changes`` (hatched: pruned).

    Heads in ``now`` are outlined.
    """
    from neural_plasticity.render.figures import grids
    from neural_plasticity.render.figures.style import Sheet

    shape = values.shape[0], values.shape[1]
    sheet: Sheet = Sheet(heading, title)
    height = min(max(_CELL * shape[0], _LEAST), _MOST)
    axes, bar = sheet.row(height, (1.0, 0.025), above=0.2, gap=0.15, right=0.7)
    norm = grids.range_of(values)
    grids.heat(axes, values, norm)
    grids.states(axes, fitted(head_states(shape, changes, None), shape, np.int8(-1)))
    inside = [head for head in now if head[0] < shape[0] and head[1] < shape[1]]
    style = {"facecolor": "none", "edgecolor": MARK_COLOURS["pruned"], "linewidth": 1.8, "zorder": 3}
    grids.cells(axes, grid_of(inside, shape), **style)
    grids.frame(axes, shape, unit, note)
    grids.colour_bar(bar, norm, unit, height)
    sheet.space(0.35)
    return sheet.finish()


def picture(figure: Figure) -> npt.NDArray[np.uint8]:
    """The figure as pixels (height, width, RGB), few enough to be looked at in a browser by the dozen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels: npt.NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return pixels[..., :3].copy()
