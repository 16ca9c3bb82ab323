"""The head grid in characters: one glyph per head, or one per block of heads when the terminal is too small.

Glyphs carry the meaning without colour: ``░▒▓█`` active, by quarter of importance (``█`` where nothing was measured),
``×`` pruned, ``◆`` regrown, ``✚`` added. Condensed, a cell is a block of heads: ``█`` all active, ``▓▒░`` more than two
thirds, more than one third, fewer, ``×`` none, ``◆`` where at least one was regrown. The rule is stated under the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from rich.text import Text

from neural_plasticity.heads import HeadState
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
    for first in range(0, layers, layout.layers_per_cell):
        line = Text().append(f"L{first}".rjust(_margin(view.shape) - 1) + " ", style="dim")
        for start in range(0, heads, layout.heads_per_cell):
            block = np.s_[first : first + layout.layers_per_cell, start : start + layout.heads_per_cell]
            glyph, style = _block(view, block) if layout.condensed else _head(view, first, start)
            line.append(glyph * max(layout.cell_width - 1, 1), style=style)
            line.append(" " * (layout.cell_width > 1))
        lines.append(line)
    return [*lines, *legend(view, layout, max(width, _NARROWEST_RULE))]


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


def _head(view: HeadGridView, layer: int, head: int) -> tuple[str, str]:
    """Glyph and style of one head."""
    state = HeadState(int(view.states[layer, head]))
    if state in _STATE_MARKS:
        return _STATE_MARKS[state]
    importance = float(view.importance[layer, head])
    if math.isnan(importance):
        return (SHADES[-1], "") if not view.criterion else ("□", "")
    return SHADES[min(int(importance * 4), 3)], importance_colour(0.25 + 0.75 * importance)


_STATE_MARKS = {
    HeadState.ABSENT: (" ", ""),
    HeadState.PRUNED: (PRUNED_GLYPH, PRUNED),
    HeadState.REGROWN: (REGROWN_GLYPH, f"bold {REGROWN}"),
    HeadState.ADDED: (ADDED_GLYPH, f"bold {ADDED}"),
}


def _block(view: HeadGridView, block: tuple[slice, slice]) -> tuple[str, str]:
    """Glyph and style of a block of heads: the share that is active."""
    states = view.states[block]
    there = states != HeadState.ABSENT
    if not there.any():
        return " ", ""
    if (states == HeadState.REGROWN).any():
        return _STATE_MARKS[HeadState.REGROWN]
    share = float((states >= HeadState.ACTIVE).sum() / there.sum())
    if share == 0:
        return _STATE_MARKS[HeadState.PRUNED]
    return SHADES[3 if share == 1 else min(int(share * 3), 2)], importance_colour(0.25 + 0.75 * share)


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
