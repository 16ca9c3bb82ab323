"""How every figure looks: one sheet in inches, one type scale, one way to draw a curve. No pyplot, no global state.

Nothing here touches rcParams, so that figures can be drawn in several threads and inside other people's programs.
Text from outside is never parsed as mathematics, and characters that the font lacks become □ rather than a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import blended_transform_factory

from neural_plasticity.views import figures
from neural_plasticity.views.heading import Heading
from neural_plasticity.views.palette import FAINT, INK, MUTED, WARNING
from neural_plasticity.views.timeline import Series

WIDTH, DPI = 8.0, 200  # inches; 90 % of it fits a page between margins with 7 pt as the smallest type
TITLE, PANEL, LABEL, SMALL = 12.0, 9.0, 8.0, 7.0  # points
LEFT, RIGHT, TOP, BOTTOM = 0.75, 0.25, 0.68, 0.2  # margins in inches; the heading stands in the upper one
FONT, MONO = "DejaVu Sans", "DejaVu Sans Mono"


def font(size: float = LABEL, *, bold: bool = False, mono: bool = False) -> FontProperties:
    """The product's type in one size; it comes with Matplotlib, so it is the same everywhere."""
    return FontProperties(family=MONO if mono else FONT, size=size, weight="bold" if bold else "normal")


@lru_cache(maxsize=4)
def _glyphs(mono: bool) -> frozenset[int]:
    return frozenset(get_font(findfont(font(mono=mono))).get_charmap())


def printable(text: str, mono: bool = False) -> str:
    """``text`` with characters that the font lacks as □."""
    if text.isascii():
        return text
    known = _glyphs(mono)
    return "".join(char if ord(char) in known or char == "\n" else "□" for char in text)


@lru_cache(maxsize=1)
def _measure() -> Any:
    """What measures text: one small renderer, because a new one for each line costs more than the line."""
    return FigureCanvasAgg(Figure(figsize=(0.1, 0.1), dpi=DPI)).get_renderer()  # type: ignore[no-untyped-call]


@lru_cache(maxsize=4096)
def width_of(text: str, size: float = LABEL, bold: bool = False, mono: bool = False) -> float:
    """How wide a line of text is, in inches."""
    width, _, _ = _measure().get_text_width_height_descent(
        printable(text, mono), font(size, bold=bold, mono=mono), False
    )
    return width / DPI


def fitting(text: str, inches: float, size: float = LABEL, bold: bool = False) -> str:
    """``text``, shortened until it is no wider than that; empty when not even three letters fit."""
    if width_of(text, size, bold) <= inches:
        return text
    low, high = 0, len(text)
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (middle, high) if width_of(text[:middle].rstrip() + "…", size, bold) <= inches else (low, middle)
    return text[:low].rstrip() + "…" if low >= 3 else ""


def write(axes: Axes, x: float, y: float, text: str, size: float = LABEL, **options: Any) -> Text:
    """Text on axes; ``bold`` and ``mono`` choose the type, everything else goes to Matplotlib."""
    bold, mono = options.pop("bold", False), options.pop("mono", False)
    options.setdefault("color", INK)
    return axes.text(
        x, y, printable(text, mono), fontproperties=font(size, bold=bold, mono=mono), parse_math=False, **options
    )


@dataclass
class Sheet:
    """A figure that grows downwards in rows of axes, all in inches; ``finish`` gives it its height."""

    heading: Heading
    title: str
    figure: Figure = field(init=False)
    _below: float = TOP
    _placed: list[tuple[Axes, float, float, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """An empty page with its own canvas."""
        self.figure = Figure(figsize=(WIDTH, 1.0), dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def row(
        self,
        height: float,
        widths: Sequence[float] = (1.0,),
        *,
        above: float = 0.38,
        gap: float = 0.62,
        left: float = LEFT,
        right: float = RIGHT,
    ) -> list[Axes]:
        """Axes side by side, ``widths`` as shares; ``above`` is the room over them for a title."""
        self._below += above
        usable = WIDTH - left - right - gap * (len(widths) - 1)
        made, x = [], left
        for share in widths:
            width = usable * share / sum(widths)
            made.append(self.place(x, self._below, width, height))
            x += width + gap
        self._below += height
        return made

    def place(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes at a place of their own, in inches from the upper left corner."""
        axes = self.figure.add_axes((left / WIDTH, 0.0, width / WIDTH, 0.1))
        self._placed.append((axes, left, top, width, height))
        return axes

    def move(self, axes: Axes, left: float, width: float) -> None:
        """Put axes elsewhere in their row."""
        for number, (one, _, top, _, height) in enumerate(self._placed):
            if one is axes:
                self._placed[number] = (axes, left, top, width, height)
                axes.set_position((left / WIDTH, 0.0, width / WIDTH, 0.1))

    def space(self, inches: float) -> None:
        """Leave room."""
        self._below += inches

    @property
    def below(self) -> float:
        """Where the next row begins, in inches from the top."""
        return self._below

    def inches(self, axes: Axes) -> tuple[float, float]:
        """Width and height of axes of this sheet."""
        return next((width, height) for one, _, _, width, height in self._placed if one is axes)

    def finish(self) -> Figure:
        """Set the height, put every row where it belongs, and write the heading."""
        height = self._below + BOTTOM
        self.figure.set_size_inches(WIDTH, height)
        for axes, left, top, width, tall in self._placed:
            axes.set_position((left / WIDTH, 1 - (top + tall) / height, width / WIDTH, tall / height))
        self._head(height)
        return self.figure

    def _head(self, height: float) -> None:
        room = WIDTH - 0.3 - RIGHT
        if self.heading.simulated:
            badge = "SIMULATED: made up, not measured"
            room -= width_of(badge, SMALL, bold=True) + 0.3
            self.figure.text(
                1 - (RIGHT + 0.08) / WIDTH, 1 - 0.27 / height, badge, fontproperties=font(SMALL, bold=True), ha="right",
                va="center", color=WARNING, gid="simulated", parse_math=False,
                bbox={"boxstyle": "square,pad=0.45", "facecolor": "white", "edgecolor": WARNING, "linewidth": 0.8},
            )  # fmt: skip
        lines = (
            (0.27, fitting(f"{self.title} · {self.heading.name}", room, TITLE, bold=True), TITLE, True, INK),
            (0.5, fitting(self.heading.detail, WIDTH - 0.6, LABEL), LABEL, False, MUTED),
        )
        for down, text, size, bold, colour in lines:
            self.figure.text(
                0.3 / WIDTH, 1 - down / height, printable(text), fontproperties=font(size, bold=bold), color=colour,
                va="center", parse_math=False,
            )  # fmt: skip


def panel(axes: Axes, title: str, note: str = "", *, x: str = "", y: str = "", grid: bool = True) -> Axes:
    """The common look of a plot: title on the left above it with a note in grey, quiet frame, grid along y."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
        axes.spines[side].set_linewidth(0.6)
    axes.tick_params(labelsize=SMALL, colors=MUTED, labelcolor=INK, width=0.6, length=2.5, labelfontfamily=FONT)
    if grid:
        axes.grid(visible=True, axis="y", color=FAINT, linewidth=0.5)
        axes.set_axisbelow(True)
    if x:
        axes.set_xlabel(printable(x), fontproperties=font(LABEL), color=INK, labelpad=3, parse_math=False)
    if y:
        axes.set_ylabel(printable(y), fontproperties=font(LABEL), color=INK, labelpad=4, parse_math=False)
    headline(axes, title, note)
    return axes


def headline(axes: Axes, title: str, note: str = "") -> None:
    """Title and note above axes, shortened to their width."""
    figure = axes.figure
    assert figure is not None
    width = axes.get_position().width * WIDTH
    title = fitting(title, width, PANEL, bold=True)
    text = axes.annotate(
        printable(title), (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points",
        fontproperties=font(PANEL, bold=True), color=INK, va="bottom", parse_math=False, annotation_clip=False,
    )  # fmt: skip
    text.set_gid("title")
    room = width - width_of(title, PANEL, bold=True) - 0.12
    note = fitting(note, room, SMALL) if note else ""
    if note:
        axes.annotate(
            printable(note), (0, 1), ((width_of(title, PANEL, bold=True) + 0.1) * 72, 4.6), xycoords="axes fraction",
            textcoords="offset points", fontproperties=font(SMALL), color=MUTED, va="bottom", parse_math=False,
            annotation_clip=False, gid="note",
        )  # fmt: skip


def empty(axes: Axes, title: str, reason: str) -> None:
    """A stated empty state: the panel's title, and why there is nothing in it."""
    panel(axes, title, grid=False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(FAINT)
        spine.set_linewidth(0.8)
    width = axes.get_position().width * WIDTH - 0.2
    write(axes, 0.5, 0.5, fitting(reason, width, LABEL), ha="center", va="center", color=MUTED,
          transform=axes.transAxes, gid="empty")  # fmt: skip


def legend_widths(labels: Iterable[str]) -> float:
    """How many inches a legend of these labels takes in one line."""
    return sum(width_of(printable(label), SMALL) + 0.36 for label in labels)


def legend_columns(labels: Sequence[str], inches: float) -> int:
    """How many columns a legend of these labels has in ``inches``."""
    if legend_widths(labels) <= inches:
        return max(len(labels), 1)
    return max(1, int(inches / max(legend_widths([label]) for label in labels)))


def legend(axes: Axes, handles: Iterable[Any] | None = None, columns: int = 8) -> None:
    """The legend above the plot on the right, where it hides no data; none when nothing is named.

    Where title and legend have no room side by side, the title moves up a line and the legend stands under it.
    """
    named = list(handles) if handles is not None else axes.get_legend_handles_labels()[0]
    if not named:
        return
    above = [text for text in axes.texts if text.get_gid() in ("title", "note")]
    used = sum(width_of(text.get_text(), text.get_fontsize(), text.get_gid() == "title") + 0.1 for text in above)
    labels = [str(one.get_label()) for one in named]
    room = axes.get_position().width * WIDTH
    stacked = bool(above) and used + legend_widths(labels) > room
    columns = min(columns, legend_columns(labels, room))
    if stacked:
        lines = -(-len(named) // columns)
        for text in above:
            text.set_position((text.get_position()[0], text.get_position()[1] + (0.4 + 1.5 * lines) * SMALL))
    side: Any
    side, at = ("lower left", 0.0) if stacked else ("lower right", 1.0)
    made = axes.legend(
        handles=named, loc=side, bbox_to_anchor=(at, 1.0), ncols=columns, frameon=False, prop=font(SMALL),
        borderpad=0, borderaxespad=0.35, handlelength=1.9, handletextpad=0.5, columnspacing=1.2,
    )  # fmt: skip
    for text in made.get_texts():
        text.set_parse_math(False)


def curve(axes: Axes, series: Series, colour: str, label: str, *, style: str = "-", width: float = 1.1,
          marker: str = "", alpha: float = 1.0, order: float = 3.0) -> None:  # fmt: skip
    """A metric's line; NaN and infinities break it and are marked at the foot or top of the plot."""
    finite = np.isfinite(series.values)
    lonely = bool(finite.sum() == 1)
    axes.plot(
        series.steps, np.where(finite, series.values, np.nan), color=colour, linestyle=style, linewidth=width,
        marker=marker or ("o" if lonely else ""), markersize=2.6, alpha=alpha, label=printable(label), zorder=order,
        solid_joinstyle="round", gid=f"series:{series.name}",
    )  # fmt: skip
    along = blended_transform_factory(axes.transData, axes.transAxes)
    for name, where, height in (
        ("NaN", np.isnan(series.values), 0.03),
        ("−∞", np.isneginf(series.values), 0.03),
        ("∞", np.isposinf(series.values), 0.97),
    ):
        if where.any():
            axes.plot(
                series.steps[where], np.full(int(where.sum()), height), "x", color=WARNING, markersize=4,
                markeredgewidth=1.1, transform=along, label=f"{name} in {printable(label)}", zorder=5, clip_on=False,
                gid=f"{name}:{series.name}",
            )  # fmt: skip


def step_limits(first: float, last: float) -> tuple[float, float]:
    """A little more than the steps there are, and something where there is one."""
    room = (last - first) * 0.01 or 0.5
    return first - room, last + room


def step_axis(axes: Axes, first: float, last: float, *, labelled: bool = True) -> None:
    """Global steps along x, whole numbers with thousands separated."""
    axes.set_xlim(step_limits(first, last))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace("-", figures.MINUS)))
    if not labelled:
        axes.tick_params(labelbottom=False)


_SKEWED = 25.0  # the largest value over the median: beyond it a linear axis shows the spike and nothing else


def value_axis(axes: Axes, several: Iterable[Series]) -> str:
    """Limits and scale along y for these curves; returns what to say of the scale, empty when it is linear."""
    values = np.concatenate([np.empty(0), *(one.values[np.isfinite(one.values)] for one in several)])
    if not values.size:
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        return ""
    low, high, middle = float(values.min()), float(values.max()), float(np.median(values))
    if low > 0 and high > _SKEWED * middle:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.15, high * 1.3)
        axes.tick_params(which="minor", width=0.4, length=1.5, labelsize=0, labelleft=False)
        return "log scale"
    margin = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(FuncFormatter(tick))
    return ""


def tick(value: float, _position: int | None = None) -> str:
    """A tick label: few digits, thousands separated, no exponent where none is needed."""
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace("-", figures.MINUS)
    return f"{value:,.5g}".replace("-", figures.MINUS)


def points_shown(several: Iterable[Series], short: bool = False) -> str:
    """``2,000 of 1,000,000 points, extremes kept`` where a curve is thinned; empty otherwise."""
    thinned = [one for one in several if one.thinned]
    if not thinned:
        return ""
    largest = max(thinned, key=lambda one: one.total)
    return f"{len(largest.steps):,} of {largest.total:,} points" + ("" if short else ", extremes kept")
