"""The single file of a run, kept up to date while the run goes on, without the training waiting for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from neural_plasticity.events import Event, PhaseEnded, RunEnded
from neural_plasticity.record import open_run
from neural_plasticity.render.page import PAGE_NAME, write_page

EVERY_SECONDS = 60.0
SHARE = 0.05  # of the time that writing may take: the page of a very long run is written less often


def _nobody(_line: str) -> None:
    """Where nobody wants to know."""


class PageSink:
    """Rewrites the page after every phase, once a minute in between, and when the run has ended.

    All but the last are written by a thread; where one is still being written, the next moment will do. Where one
    cannot be written, ``say`` gets a line and the next one is tried; only when the last one fails has the sink failed.
    """

    def __init__(
        self, run_dir: Path, say: Callable[[str], object] = _nobody, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.run_dir = run_dir
        self._say = say
        self._clock = clock
        self._next = clock() + EVERY_SECONDS
        self._due = False
        self._thread: threading.Thread | None = None
        self._problem: Exception | None = None

    def handle(self, event: Event) -> None:
        if isinstance(event, RunEnded):
            self.close()
            self._write()
            return
        if self._problem is not None:
            problem, self._problem = self._problem, None
            self._say(f"the page could not be written and will be tried again: {type(problem).__name__}: {problem}")
        self._due = self._due or isinstance(event, PhaseEnded) or self._clock() >= self._next
        if self._due and (self._thread is None or not self._thread.is_alive()):
            self._due = False
            self._next = float("inf")  # said when it is written
            self._thread = threading.Thread(target=self._write_behind, name="page-writer", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait for a page that is being written."""
        if self._thread is not None:
            self._thread.join()

    def _write_behind(self) -> None:
        began = self._clock()
        try:
            self._write()
        except Exception as error:
            self._problem = error
        now = self._clock()
        self._next = now + max(EVERY_SECONDS, (now - began) / SHARE)

    def _write(self) -> None:
        with open_run(self.run_dir) as run:
            write_page(run, self.run_dir / PAGE_NAME)
