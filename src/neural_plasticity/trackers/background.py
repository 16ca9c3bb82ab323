"""A tracker in a thread of its own, behind a bounded queue: it cannot block, slow or stop the experiment.

Nothing is lost when a tracker is too slow or breaks, since the record has every event already: what a tracker missed is
counted, said once, and filled in afterwards by ``plasticity sync``.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol

from neural_plasticity.events import Event, LogLine, Progress, StepMetrics
from neural_plasticity.record.sinks import Sink

CAPACITY = 10_000
CLOSE_SECONDS = 60.0
_FREQUENT = (StepMetrics, Progress, LogLine)


class Say(Protocol):
    """Where a tracker's own lines go: the console, the log."""

    def __call__(self, message: str, level: Literal["info", "warning"] = "warning", /) -> object: ...


SinkFactory = Callable[[Say], Sink]


def to_stderr(message: str, _level: str = "warning") -> None:
    """Say a line where there is no console view to say it in."""
    print(message, file=sys.stderr)  # noqa: T201


class BackgroundSink:
    """``make_sink`` and what it makes run in a daemon thread; ``handle`` only puts the event into the queue.

    ``make_sink`` receives a function to say lines with. Whatever the sink says, and what became of it, is passed to
    ``say`` in the thread that calls ``handle`` or ``close``, so ``say`` need not be safe from several threads.

    A full queue skips what comes. Half of it is kept for what is rare (decisions, samples, results, the end), so
    that a flood of step metrics costs step metrics only. ``ignored`` events are never queued. In a forked child, which
    has no such thread, every call does nothing.

    ``fill_in`` is the command that fills the tracker from the record.
    """

    def __init__(
        self,
        make_sink: SinkFactory,
        name: str,
        *,
        fill_in: str = "plasticity sync",
        say: Say = to_stderr,
        ignored: tuple[type[Event], ...] = (),
        capacity: int = CAPACITY,
        close_seconds: float = CLOSE_SECONDS,
    ) -> None:
        self.name = name
        self.skipped = 0
        self.handled = 0
        self.failure: BaseException | None = None
        self._make_sink = make_sink
        self._fill_in = fill_in
        self._say = say
        self._ignored = ignored
        self._capacity = max(capacity, 2)
        self._close_seconds = close_seconds
        self._process = os.getpid()
        self._queue: deque[Event] = deque()
        self._lines: deque[tuple[str, Literal["info", "warning"]]] = deque()
        self._changed = threading.Condition()
        self._closing = self._abandoned = self._closed = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    # In the experiment's thread ----------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Queue one event; returns at once and never raises."""
        if os.getpid() != self._process or self._closed or isinstance(event, self._ignored):
            return
        with self._changed:
            room = self._capacity // 2 if isinstance(event, _FREQUENT) else self._capacity
            if self.failure is not None or len(self._queue) >= room:
                self.skipped += 1
            else:
                self._queue.append(event)
                self._changed.notify()
        self._pass_on_lines()

    def close(self) -> None:
        """Let the sink finish, for at most ``close_seconds``; then say what it missed. Harmless when repeated."""
        if os.getpid() != self._process or self._closed:
            return
        self._closed = True
        with self._changed:
            self._closing = True
            self._changed.notify()
        in_time = self._over.wait(self._close_seconds)
        with self._changed:
            self._abandoned = True
            self.skipped += len(self._queue)
            self._queue.clear()
        self._pass_on_lines()
        if not in_time:
            self._say(f"{self.name} did not finish within {self._close_seconds:g} s and is left behind.")
        if self.skipped or not in_time:
            self._say(f"{self.name} missed {self.skipped:,} events; the record has them: {self._fill_in}")

    def _pass_on_lines(self) -> None:
        while self._lines:
            self._say(*self._lines.popleft())

    # In the tracker's thread -------------------------------------------------------------------------------------

    def _line(self, message: str, level: Literal["info", "warning"] = "warning", /) -> None:
        self._lines.append((message, level))

    def _work(self) -> None:
        try:
            sink = self._make_sink(self._line)
            while (event := self._next()) is not None:
                sink.handle(event)
                self.handled += 1
            if not self._abandoned:
                sink.close()
        except BaseException as failure:  # SystemExit, too, ends this thread and nothing else
            with self._changed:
                self.failure = failure
                # The event in hand was not shown either, unless it was the closing that failed.
                self.skipped += len(self._queue) + (not self._closing or bool(self._queue))
                self._queue.clear()
            said = str(failure).strip().partition("\n")[0]
            self._line(f"{self.name} is switched off: {type(failure).__name__}{': ' if said else ''}{said}")
        finally:
            self._over.set()

    def _next(self) -> Event | None:
        """The next event; None when there will be no more."""
        with self._changed:
            while not (self._queue or self._closing):
                self._changed.wait()
            return self._queue.popleft() if self._queue and not self._abandoned else None
