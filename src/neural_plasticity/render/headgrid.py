"""The head grid in characters: one glyph per head, or one per block of heads when the terminal is too small.

Glyphs carry the meaning without colour: ``░▒▓█`` active, by quarter of importance (``█`` where nothing was measured),
``×`` pruned, ``◆`` regrown, ``✚`` added. Condensed, a cell is a block of heads: ``█`` all active, ``▓▒░`` more than two
thirds, more than one third, fewer, ``×`` none, ``◆`` where at least one was regrown. The rule is stated under the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
from rich.text import Text

from neural_plasticity.heads import BoolGrid, HeadState
from neural_plasticity.views import figures
from neural_plasticity.views.headgrid import HeadGridView
from neural_plasticity.views.palette import ADDED, PRUNED, REGROWN, importance_colour

SHADES = "░▒▓█"
PRUNED_GLYPH, REGROWN_GLYPH, ADDED_GLYPH = "×", "◆", "✚"
_NARROWEST_RULE = 20


@dataclass(frozen=True)
class Fit:
    """How a grid is laid out: columns of the terminal per cell, and heads per cell (1 × 1 unless condensed)."""

    cell_width: int
    layers_per_cell: int
    heads_per_cell: int

    @property
    def condensed(self) -> bool:
        """True when a cell stands for more than one head."""
        return self.layers_per_cell * self.heads_per_cell > 1


def fit(shape: tuple[int, int], width: int, rows: int) -> Fit:
    """The roomiest layout of (layers, heads) inside ``width`` columns and ``rows`` lines (labels included in width)."""
    layers, heads = shape
    room = max(width - _margin(shape), 1)
    by_layer = math.ceil(layers / max(rows, 1))
    for cell_width in (3, 2, 1):
        if heads * cell_width <= room:
            return Fit(cell_width, by_layer, 1)
    return Fit(1, by_layer, math.ceil(heads / room))


def grid_text(view: HeadGridView, width: int, rows: int) -> list[Text]:
    """The grid's lines: head numbers, one line per layer (or block of layers) with its label, and the legend."""
    layers, heads = view.shape
    layout = fit(view.shape, width, rows)
    lines = [Text(_column_labels(heads, layout, _margin(view.shape)), style="dim")]
    glyphs, styles = _blocks(view, layout) if layout.condensed else _heads(view)
    for row, first in enumerate(range(0, layers, layout.layers_per_cell)):
        line = Text().append(f"L{first}".rjust(_margin(view.shape) - 1) + " ", style="dim")
        cells = zip(glyphs[row], styles[row], strict=True)
        for style, run in groupby(cells, key=lambda cell: cell[1]):  # few spans: rich pays for each one
            line.append("".join(_widened(glyph, layout.cell_width) for glyph, _ in run), style=style)
        lines.append(line)
    return [*lines, *legend(view, layout, max(width, _NARROWEST_RULE))]


def _widened(glyph: str, cell_width: int) -> str:
    return glyph if cell_width == 1 else glyph * (cell_width - 1) + " "


def _margin(shape: tuple[int, int]) -> int:
    """Columns that the layer labels take."""
    return len(f"L{shape[0] - 1}") + 1


def _column_labels(heads: int, layout: Fit, margin: int) -> str:
    """Numbers over the columns, as many as do not touch each other: H0 first."""
    cells = math.ceil(heads / layout.heads_per_cell)
    widest = len(str(heads - 1)) + 1
    every = max(math.ceil(widest / layout.cell_width), 1)
    every = next((step for step in (1, 2, 4, 5, 8, 10, 16, 20, 50, 100) if step >= every), every)
    labels = "".join(
        str(cell * layout.heads_per_cell).ljust(layout.cell_width * every)
        for cell in range(0, cells, every)
    )  # fmt: skip
    return ("H".rjust(margin - 1) + " " + labels).rstrip()


def _heads(view: HeadGridView) -> tuple[list[list[str]], list[list[str]]]:
    """Glyph and style of every head, row by row."""
    cells = [
        [_head(state, importance, bool(view.criterion)) for state, importance in zip(*row, strict=True)]
        for row in zip(view.states.tolist(), view.importance.tolist(), strict=True)
    ]
    return [[glyph for glyph, _ in row] for row in cells], [[style for _, style in row] for row in cells]


def _head(state: int, importance: float, scored: bool) -> tuple[str, str]:
    """Glyph and style of one head."""
    if state in _STATE_MARKS:
        return _STATE_MARKS[HeadState(state)]
    if math.isnan(importance):
        return ("□", "") if scored else (SHADES[-1], "")
    return SHADES[min(int(importance * 4), 3)], _shade(importance)


def _shade(share: float) -> str:
    """Colour of a share between 0 and 1 in eight steps, bright enough for a dark terminal."""
    return importance_colour(0.35 + 0.65 * round(share * 8) / 8)


_STATE_MARKS = {
    HeadState.ABSENT: (" ", ""),
    HeadState.PRUNED: (PRUNED_GLYPH, PRUNED),
    HeadState.REGROWN: (REGROWN_GLYPH, f"bold {REGROWN}"),
    HeadState.ADDED: (ADDED_GLYPH, f"bold {ADDED}"),
}


def _blocks(view: HeadGridView, layout: Fit) -> tuple[list[list[str]], list[list[str]]]:
    """Glyph and style of every block of heads, row by row: the share of its heads that is active."""
    there = _summed(view.states != HeadState.ABSENT, layout)
    active = _summed(view.states >= HeadState.ACTIVE, layout)
    regrown = _summed(view.states == HeadState.REGROWN, layout)
    cells = [
        [_block(*counts) for counts in zip(*row, strict=True)]
        for row in zip(there.tolist(), active.tolist(), regrown.tolist(), strict=True)
    ]
    return [[glyph for glyph, _ in row] for row in cells], [[style for _, style in row] for row in cells]


def _summed(grid: BoolGrid, layout: Fit) -> npt.NDArray[np.int64]:
    """How often ``grid`` is True in each block, (blocks of layers, blocks of heads)."""
    layers = np.arange(0, grid.shape[0], layout.layers_per_cell)
    heads = np.arange(0, grid.shape[1], layout.heads_per_cell)
    return np.add.reduceat(np.add.reduceat(grid.astype(np.int64), layers, axis=0), heads, axis=1)


def _block(there: int, active: int, regrown: int) -> tuple[str, str]:
    if not there:
        return _STATE_MARKS[HeadState.ABSENT]
    if regrown:
        return _STATE_MARKS[HeadState.REGROWN]
    if not active:
        return _STATE_MARKS[HeadState.PRUNED]
    share = active / there
    return SHADES[3 if active == there else min(int(share * 3), 2)], _shade(share)


def legend(view: HeadGridView, layout: Fit, width: int) -> list[Text]:
    """What the glyphs mean, as short lines of at most ``width`` columns where words allow it."""
    counts = view.counts
    active = counts.get(HeadState.ACTIVE, 0)
    parts: list[str]
    if layout.condensed:
        layers = f"{layout.layers_per_cell} layer{'s' * (layout.layers_per_cell > 1)}"
        heads = f"{layout.heads_per_cell} head{'s' * (layout.heads_per_cell > 1)}"
        parts = [f"1 cell = {layers} × {heads}", "█ all active ▓▒░ some × none", f"{active:,} active"]
    else:
        parts = [f"█ {active:,} active"]
    for state, glyph in ((HeadState.PRUNED, "×"), (HeadState.REGROWN, "◆"), (HeadState.ADDED, "✚")):
        if state in counts:
            parts.append(f"{glyph} {counts[state]:,} {state.name.lower()}")
    if view.criterion and not layout.condensed:
        parts.append(f"░▒▓█ {figures.shorten(figures.clean(view.criterion), 24)}, low to high")
    return [Text(line, style="dim") for line in _packed(parts, width)]


def _packed(parts: list[str], width: int) -> list[str]:
    """Parts joined by two spaces into lines no wider than ``width``."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(part)
    return lines
