"""The console of a sweep: a line for everything that ends, and below it what runs and how long the rest takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from neural_plasticity.sweep.table import SUMMARISED, Row
from neural_plasticity.views import figures
from neural_plasticity.views.palette import phase_label

PLAIN_SECONDS = 30.0  # at most one line about what runs in this time, when output is not a terminal
MOST_NAMED = 4  # in that line
MOST_LINES = 16  # of the live region
PLAIN_WIDTH = 140  # of the closing table where there is no terminal to measure
BESIDE = 120  # columns from which an interval stands beside its value, and not under it


@dataclass(frozen=True)
class Running:
    """A task that is being worked on; ``fraction`` is of what this attempt has to do."""

    label: str
    seconds: float
    phase: str = ""
    cycle: int = 0
    fraction: float | None = None


@dataclass(frozen=True)
class Overall:
    """Where the whole sweep is."""

    done: int = 0
    failed: int = 0
    waiting: int = 0
    total: int = 0
    running: tuple[Running, ...] = ()
    seconds_left: float | None = None


def seconds_left(overall: Overall, durations: Sequence[float], slots: int) -> float | None:
    """How long the rest takes, by what cells took so far; None while no cell is far enough to tell.

    Args:
        durations: of the cells that finished since this command began.
    """
    known = list(durations) or [
        one.seconds / one.fraction for one in overall.running if one.fraction and one.fraction > 0.05
    ]
    if not known:
        return None
    typical = sum(known) / len(known)
    rest = [max(0.0, typical - one.seconds) for one in overall.running]
    return max([(sum(rest) + overall.waiting * typical) / max(1, slots), *rest])


@dataclass
class Board:
    """Shows a sweep while it runs. A context manager; on a terminal a live region, elsewhere plain lines."""

    console: Console = field(default_factory=lambda: Console(highlight=False))
    clock: Callable[[], float] = time.monotonic
    _live: Live | None = None
    _overall: Overall = field(default_factory=Overall)
    _said: float = -math.inf

    def __post_init__(self) -> None:
        if not self.console.is_terminal:
            self.console.width = max(self.console.width, PLAIN_WIDTH)  # nobody's window, nothing to squeeze into
        self._began = self.clock()

    def __enter__(self) -> Board:
        if self.console.is_terminal and not self.console.is_dumb_terminal and not self.console.options.ascii_only:
            self._live = Live(console=self.console, get_renderable=self._region, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, message: str, style: str = "") -> None:
        """A line that stays."""
        text = Text(f"[{figures.clock(self.clock() - self._began)}] ", style="dim")
        self.console.print(text.append(Text(message, style=style)), soft_wrap=True)

    def show(self, overall: Overall) -> None:
        """What runs now; a line of it now and then where there is no terminal."""
        self._overall = overall
        if self._live is None and overall.running and self.clock() - self._said >= PLAIN_SECONDS:
            self._said = self.clock()
            more = len(overall.running) - MOST_NAMED
            running = [_running(one) for one in overall.running[:MOST_NAMED]] + ([f"{more} more"] if more > 0 else [])
            self.say(f"{standing_line(overall)} ({'; '.join(running)})")

    def _region(self) -> RenderableType:
        lines = Table.grid(padding=(0, 2))
        for _ in range(4):
            lines.add_column(no_wrap=True, overflow="ellipsis")
        bars = self.console.width >= 80
        shown = self._overall.running[:MOST_LINES]
        for one in shown:
            lines.add_row(
                Text(one.label), Text(_place(one), style="dim"), Text(_bar(one.fraction) if bars else ""), _share(one)
            )
        more = len(self._overall.running) - len(shown)
        rest = [Text(f"and {more} more", style="dim")] if more else []
        return Group(lines, *rest, Text(standing_line(self._overall), style="bold"))


def standing_line(overall: Overall) -> str:
    """``3 of 12 cells done · 2 running · 7 waiting · about 4 min left``."""
    parts = [f"{overall.done} of {figures.plural(overall.total, 'cell')} done"]
    parts += [f"{overall.failed} failed"] if overall.failed else []
    parts += [f"{len(overall.running)} running"] if overall.running else []
    parts += [f"{overall.waiting} waiting"] if overall.waiting else []
    if overall.running or overall.waiting:
        known = overall.seconds_left is not None
        parts.append(f"about {figures.duration(overall.seconds_left)} left" if known else "time left not known yet")
    return " · ".join(parts)


def outcome_line(row: Row) -> str:
    """``perplexity 12.1, +4.1 % against the baseline, +3.0 % against the control``: of a finished cell."""
    if row["perplexity"] is None:
        return "not evaluated"
    parts = [f"perplexity {figures.perplexity(row['perplexity'])}"]
    for name, other in (("perplexity_ratio", "baseline"), ("ratio_to_control", "control")):
        if row[name] is not None:
            parts.append(f"{figures.change(row[name] - 1)} against the {other}")
    return ", ".join(parts)


_TITLES = {
    "perplexity_ratio": "perplexity / baseline",
    "ratio_to_control": "/ control",
    "sparsity": "heads removed",
    "size_reduction": "size",
    "prefill_speedup": "prefill",
    "decode_speedup": "decoding",
}


def summary_table(rows: Sequence[Row], width: int) -> Table:
    """The means over seeds for ``width`` columns, with their intervals; what has no values at all is left out."""
    shown = [name for name in SUMMARISED if any(not math.isnan(one[name]) for one in rows)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for title in ("strategy", "level"):
        table.add_column(title, no_wrap=True)
    table.add_column("seeds", justify="right", no_wrap=True)
    for name in shown:
        title = _TITLES[name] if width >= BESIDE else _TITLES[name].replace(" ", "\n", 1)
        table.add_column(title, justify="right", no_wrap=True)
    for one in rows:
        cells = [_mean(one, name, " " if width >= BESIDE else "\n") for name in shown]
        seeds = f"{one['seeds']}" if one["seeds"] == one["cells"] else f"{one['seeds']} of {one['cells']}"
        table.add_row(one["strategy"], figures.percent(one["level"], 3 if one["level"] < 0.01 else 0), seeds, *cells)
    return table


def _mean(row: Row, name: str, before_interval: str) -> Text:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if math.isnan(value):
        return Text(figures.MISSING)
    if name == "sparsity":
        return Text(figures.percent(value, 1))
    if name == "size_reduction":
        return Text(figures.change(-value) if value else "unchanged")
    text = Text(figures.plain(value) if name in ("perplexity_ratio", "ratio_to_control") else figures.ratio(value))
    if not math.isnan(low):
        text.append(
            f"{before_interval}({figures.between(low, high, 2 if name.endswith('speedup') else 3)})", style="dim"
        )
    return text


def _place(one: Running) -> str:
    cycle = f"cycle {one.cycle} · " if one.cycle else ""
    return f"{cycle}{phase_label(one.phase)}" if one.phase else "opening"


def _running(one: Running) -> str:
    share = "" if one.fraction is None else f" · {figures.percent(one.fraction)}"
    return f"{one.label} · {_place(one)}{share}"


def _share(one: Running) -> Text:
    return Text("" if one.fraction is None else figures.percent(one.fraction), justify="right")


def _bar(fraction: float | None, width: int = 20) -> str:
    full = round(width * (fraction or 0.0))
    return "━" * full + "─" * (width - full)
