"""The console as a sink: events in; on a terminal a live region with the log above it, elsewhere plain lines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from neural_plasticity import events as ev
from neural_plasticity.render.closing import Closing, closing_summary
from neural_plasticity.render.lines import lines
from neural_plasticity.render.live import LiveState, advance, live_view, time_left
from neural_plasticity.render.quiet import Once, routed
from neural_plasticity.views import figures
from neural_plasticity.views.palette import phase_label

REFRESHES_PER_SECOND = 2.0  # a draw costs about 4 ms of processor time, taken from the training
PLAIN_PROGRESS_SECONDS = 5.0  # at most one progress line in this time when output is not a terminal
PLAIN_WIDTH = 120  # of the closing table where there is no terminal to measure

# For terminals and files whose encoding has none of these.
_ASCII = str.maketrans(
    {
        "·": "|", "×": "x", "→": "->", "−": "-", "–": "-", "…": "...", "“": '"', "”": '"', "±": "+-", "↵": "/",
        "∞": "inf", "─": "-", "█": "#", "▓": "=", "▒": "+", "░": ".", "◆": "o", "✚": "*", "▶": ">", "✓": "v",
    }
)  # fmt: skip


class ConsoleView:
    """Shows a run as it happens. Use it as a context manager, or call `close` at the end.

    Args:
        console: where to write; by default standard output.
        live: True for the live region, False for plain lines; None: live on a terminal that can move its cursor.
        clock: seconds that only go forward; for tests.
        route: take in the warnings and log lines of libraries; False inside a script that has its own ways with them.
    """

    def __init__(
        self,
        console: Console | None = None,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
        route: bool = True,
    ) -> None:
        self._console = console if console is not None else Console(highlight=False)
        if live is None:
            live = self._console.is_terminal and not self._console.is_dumb_terminal and not self._console.is_jupyter
        self._is_live = live and not self._console.options.ascii_only
        self._clock = clock
        self._route = route
        self._state = LiveState()
        self._closing = Closing()
        self._files: dict[str, str] = {}
        self._stack: ExitStack | None = None
        self._once: Once | None = None
        self._lock = threading.RLock()  # library warnings may come from other threads
        self._started = clock()
        self._last_progress = float("-inf")
        self._stable_because = ""
        self._closed = False

    def __enter__(self) -> ConsoleView:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def handle(self, event: ev.Event) -> None:
        """Show one event."""
        self._open()
        with self._lock:
            self._state = advance(self._state, event)
            self._closing = self._closing.after(event)
            for line in lines(self._without_repetition(event)):
                self._print(line)
            if isinstance(event, ev.PhaseStarted):
                self._last_progress = float("-inf")
            if isinstance(event, ev.Progress) and not self._is_live:
                self._plain_progress(event)

    def _without_repetition(self, event: ev.Event) -> ev.Event:
        """A warm-up ends for the reason that the line before has just given."""
        if isinstance(event, ev.Stabilised):
            self._stable_because = event.reason
        elif isinstance(event, ev.PhaseEnded) and event.reason and event.reason == self._stable_because:
            return replace(event, reason="stable")
        return event

    def catch_up(self, events: Iterable[ev.Event]) -> None:
        """Take in what earlier attempts of a resumed run did, without showing it line by line."""
        with self._lock:
            for event in events:
                self._state = advance(self._state, event)
                self._closing = self._closing.after(event)

    def note_files(self, **paths: str | Path) -> None:
        """Files that the closing summary points to, by what they are: ``note_files(record=…, page=…)``."""
        self._files.update({name: str(path) for name, path in paths.items()})

    def close(self) -> None:
        """Take the live region down, give warnings and logging back, print the closing summary. Once is enough."""
        if self._closed:
            return
        self._closed = True
        if self._stack is not None:
            self._stack.close()
        if self._once is not None and self._once.held_back:
            self._print(Text(f"{figures.plural(self._once.held_back, 'repeated warning')} not shown again", "dim"))
        if self._closing.started is None:
            return
        closing = replace(self._closing, seconds=self._clock() - self._started, files=self._files)
        for part in closing_summary(closing, self._console.width if self._is_live else PLAIN_WIDTH):
            if self._is_live:
                self._console.print(part)
            else:
                for line in _laid_out(part):
                    self._write(Text(line))

    def _open(self) -> None:
        """Start the live region and the routing of warnings, at the first event or on entering the context."""
        if self._stack is not None or self._closed:
            return
        self._stack = ExitStack()
        if self._is_live:
            region = _Region(lambda: self._state)
            live = Live(
                region,
                console=self._console,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
                vertical_overflow="crop",
            )
            self._stack.enter_context(live)
        if self._route:
            self._once = self._stack.enter_context(routed(self._from_library))

    def _from_library(self, line: ev.LogLine) -> None:
        with self._lock:
            for text in lines(line):
                self._print(text)

    def _print(self, line: Text) -> None:
        stamp = figures.clock(self._clock() - self._started)
        if self._is_live:
            row = Table.grid(padding=(0, 1))
            row.add_column(width=max(len(stamp), 5), justify="right", style="dim", no_wrap=True)
            row.add_column(ratio=1, overflow="fold")
            row.add_row(stamp, line)
            self._console.print(row)
        else:
            self._write(Text(f"[{stamp}] ").append_text(line))

    def _write(self, text: Text) -> None:
        """One line, never wrapped: a log is searched, not looked at."""
        if self._console.options.ascii_only:
            plain = text.plain.translate(_ASCII).encode("ascii", "replace").decode()
            text = Text(plain)
        self._console.print(text, soft_wrap=True, highlight=False)

    def _plain_progress(self, event: ev.Progress) -> None:
        """A progress line, unless there was one a moment ago."""
        now = self._clock()
        if now - self._last_progress < PLAIN_PROGRESS_SECONDS:
            return
        self._last_progress = now
        latest = self._state.latest
        parts = [f"{figures.clean(phase_label(event.phase))} {event.done:,}/{event.planned:,} {event.unit}"]
        parts += [f"loss {figures.plain(latest['loss'])}"] if "loss" in latest else []
        parts += [f"validation {figures.plain(latest['validation_loss'])}"] if "validation_loss" in latest else []
        parts += [f"run {figures.percent(event.run_fraction)}", time_left(event, self._state.open_end)]
        prefix = f"cycle {event.cycle} · " if event.cycle else ""
        self._print(Text(prefix + " · ".join(parts)))


def _laid_out(part: Text | Table) -> list[str]:
    """Plain lines: text as it is, however long; a table at a fixed width, without trailing spaces."""
    if isinstance(part, Text):
        return [part.plain]
    drawn = Console(width=PLAIN_WIDTH, color_system=None, highlight=False, legacy_windows=False)
    with drawn.capture() as capture:
        drawn.print(part)
    return [line.rstrip() for line in capture.get().splitlines()]


class _Region:
    """Draws the state of the moment at the size of the moment, each time that rich refreshes."""

    def __init__(self, state: Callable[[], LiveState]) -> None:
        self._state = state

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield live_view(self._state(), options.max_width, console.height)
