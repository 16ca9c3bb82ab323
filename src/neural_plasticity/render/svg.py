"""Coordinates of the page's drawings: the timeline and the head grid laid out in SVG units. No markup in here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neural_plasticity.heads import HeadState
from neural_plasticity.views import figures
from neural_plasticity.views.headgrid import HeadGridView
from neural_plasticity.views.palette import importance_colour, ink_on, phase_colour, phase_label
from neural_plasticity.views.timeline import Series, Timeline

GRID_WIDTH = 460.0  # of the head grid where its heads allow it
LEAST_PITCH, MOST_PITCH = 14, 42
LEAST_BAND = 3.0  # a phase without steps of its own is still to be seen
GLYPH = 14.0  # room that a mark's glyph takes
CHARACTER = 6.6  # width of a character of the labels, about


@dataclass(frozen=True)
class Band:
    """A phase's rectangle and its label, empty where it does not fit."""

    x: float
    width: float
    colour: str
    ink: str
    label: str
    title: str


@dataclass(frozen=True)
class Tick:
    """A position on an axis and what is written there."""

    at: float
    label: str


@dataclass(frozen=True)
class Curve:
    """A metric's path; ``broken`` are x positions of NaN and infinities."""

    name: str
    path: str
    broken: tuple[float, ...]
    total: int
    shown: int


@dataclass(frozen=True)
class MarkAt:
    """A mark: its line at ``x``, its glyph at ``glyph_x``, moved aside where it would cover another."""

    x: float
    glyph_x: float
    kind: str
    label: str


@dataclass(frozen=True)
class TimelineDrawing:
    """The timeline for one width. The plot lies between ``left``/``right`` and ``top``/``bottom``."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    bands: tuple[Band, ...]
    marks: tuple[MarkAt, ...]
    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class _Scale:
    """Linear map from data to drawing units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


def draw_timeline(view: Timeline, width: float, height: float = 270) -> TimelineDrawing:
    """The timeline laid out for ``width`` × ``height`` units."""
    left, right, top, bottom = 46.0, width - 8, 48.0, height - 24
    across = _Scale(view.first, max(view.last, view.first + 1), left, right)
    finite = np.concatenate([one.values[np.isfinite(one.values)] for one in view.series] or [np.empty(0)])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    margin = 0.05 * (high - low) or max(abs(high), 1.0) * 0.05
    down = _Scale(low - margin, high + margin, bottom, top)
    y_ticks = round_ticks(down.low, down.high, 5) if finite.size else []
    return TimelineDrawing(
        width, height, left, right, top, bottom,
        bands=_bands(view, across),
        marks=_marks(view, across),
        curves=tuple(_curve(one, across, down) for one in view.series),
        x_ticks=tuple(
            Tick(across(step), f"{step:,.0f}")
            for step in round_ticks(view.first, max(view.last, view.first + 1), max(int(width / 110), 2))
            if step == int(step)
        ),
        y_ticks=tuple(Tick(down(value), _tick_label(value, y_ticks)) for value in y_ticks),
    )  # fmt: skip


def _bands(view: Timeline, across: _Scale) -> tuple[Band, ...]:
    bands = []
    for span in view.spans:
        x = across(span.first_step)
        width = max(across(span.last_step) - x, LEAST_BAND)
        label = figures.clean(phase_label(span.phase))
        cycle = f", cycle {span.cycle}" if span.cycle else ""
        title = f"{label}{cycle}: steps {span.first_step:,} to {span.last_step:,}, {figures.duration(span.seconds)}"
        short = f"{label} {span.cycle}" if span.cycle else label
        fitting = next((text for text in (short, label) if len(text) * CHARACTER + 6 <= width), "")
        colour = phase_colour(span.phase)
        bands.append(Band(x, round(width, 2), colour, ink_on(colour), fitting, title))
    return tuple(bands)


def _marks(view: Timeline, across: _Scale) -> tuple[MarkAt, ...]:
    """Marks in order of step; glyphs that would overlap are spread around their common centre where there is room."""
    groups: list[list[float]] = []
    for x in (across(mark.step) for mark in view.marks):
        if groups and x - groups[-1][-1] < GLYPH:
            groups[-1].append(x)
        else:
            groups.append([x])
    glyphs: list[float] = []
    for group in groups:
        centre = (group[0] + group[-1]) / 2
        gap = min(GLYPH, (across.end - across.start) / len(group))
        start = min(max(centre - gap * (len(group) - 1) / 2, across.start), across.end - gap * (len(group) - 1))
        glyphs += [round(start + gap * place, 2) for place in range(len(group))]
    return tuple(
        MarkAt(across(mark.step), glyph, mark.kind, f"step {mark.step:,}: {mark.label}")
        for mark, glyph in zip(view.marks, glyphs, strict=True)
    )


def _curve(one: Series, across: _Scale, down: _Scale) -> Curve:
    """An SVG path that is broken where a value is NaN or infinite."""
    path: list[str] = []
    broken: list[float] = []
    pen_down = False
    for step, value in zip(one.steps.tolist(), one.values.tolist(), strict=True):
        x = across(step)
        if not math.isfinite(value):
            broken.append(x)
            pen_down = False
            continue
        path.append(f"{'L' if pen_down else 'M'}{x:g} {down(value):g}")
        pen_down = True
    return Curve(one.name, "".join(path), tuple(dict.fromkeys(broken)), one.total, len(one.steps))


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) inside ``low`` to ``high``, at most about ``most``."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return []
    raw = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    gap = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / gap)
    return [count * gap for count in range(first, math.floor(high / gap) + 1)]


def _tick_label(value: float, ticks: Sequence[float]) -> str:
    gap = ticks[1] - ticks[0] if len(ticks) > 1 else abs(value) or 1.0
    return figures.plain(value, min(max(-math.floor(math.log10(gap) + 1e-9), 0), 8))


@dataclass(frozen=True)
class HeadCell:
    """One head's square: where, how it is filled, and what it says when pointed at."""

    x: float
    y: float
    state: str  # active, unmeasured, pruned, regrown, added
    colour: str
    title: str


@dataclass(frozen=True)
class GridDrawing:
    """The head grid: squares of ``size``, rows labelled by layer, columns by head."""

    width: float
    height: float
    size: float
    cells: tuple[HeadCell, ...]
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]


def draw_grid(view: HeadGridView) -> GridDrawing:
    """Squares with a gap of 2 units, smaller the more heads there are; labels thinned so that none touch."""
    layers, heads = view.shape
    left, top = 34.0, 20.0
    pitch = min(max(math.floor((GRID_WIDTH - left) / max(heads, 1)), LEAST_PITCH), MOST_PITCH)
    size = pitch - 2
    cells = [
        _cell(view, layer, head, left + head * pitch, top + layer * pitch)
        for layer in range(layers)
        for head in range(heads)
        if view.states[layer, head] != HeadState.ABSENT
    ]
    every = 1 if pitch >= 18 else 2
    return GridDrawing(
        left + heads * pitch,
        top + layers * pitch,
        size,
        tuple(cells),
        tuple(Tick(top + layer * pitch + size / 2, f"L{layer}") for layer in range(0, layers, every)),
        tuple(Tick(left + head * pitch + size / 2, f"H{head}") for head in range(0, heads, _apart(pitch))),
    )


def _apart(pitch: float) -> int:
    return 1 if pitch >= 28 else 2 if pitch >= 20 else 4


def _cell(view: HeadGridView, layer: int, head: int, x: float, y: float) -> HeadCell:
    state = HeadState(int(view.states[layer, head]))
    importance = float(view.importance[layer, head])
    measured = not math.isnan(importance)
    name = state.name.lower()
    title = f"L{layer}H{head}: {name}"
    if measured:
        title += f", more important than {figures.percent(importance)} of the others by {figures.clean(view.criterion)}"
    elif state != HeadState.PRUNED:
        title += ", not measured"
    if state == HeadState.ACTIVE and not measured:
        name = "unmeasured"
    return HeadCell(x, y, name, importance_colour(importance) if measured else "none", title)
