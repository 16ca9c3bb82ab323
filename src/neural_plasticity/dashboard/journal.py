"""The writing side of a dashboard: one call, one commit, then the sinks. Knows threads, forks and how scripts end."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - wandb needs it, and it cannot be imported any more while Python exits
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from neural_plasticity.dashboard.draft import Draft, Grid, Position
from neural_plasticity.errors import RecordError
from neural_plasticity.events import Annotation, Event, LogLine, PhaseEnded, RunEnded, RunStarted, RunState
from neural_plasticity.record import RecordWriter, Run, Sink, open_run
from neural_plasticity.record.schema import FILE_NAME
from neural_plasticity.record.sinks import close_all, show

_log = logging.getLogger(__name__)
_SHAPE_KEYS = (("num_layers", "num_heads"), ("n_layer", "n_head"), ("num_hidden_layers", "num_attention_heads"))


class Journal:
    """Records the drafts of calls, in the order in which they come. Safe from several threads.

    In a forked child (a data loader's worker) nothing can be recorded: that is logged once, and the child goes on.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.directory = directory
        self.clock = clock
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._sinks: list[Sink] = []
        self._reader: tuple[int, Run] | None = None
        self._said_forked = False
        self._waiting: list[str] | None = []  # said before the run's first event
        self.closed = False
        existing = directory / FILE_NAME
        again = existing.is_file() and existing.stat().st_size > 0
        # The same script run again into the same directory: its own attempt, with nothing of the earlier one in it.
        self.record = RecordWriter.reopen(directory, after_seq=0) if again else RecordWriter.create(directory)
        self.position = Position()

    def begin(self, started: RunStarted, tags: tuple[str, ...], sinks: Sequence[Sink]) -> None:
        """The first events; ``sinks`` follow from here on."""
        self._sinks = list(sinks)
        if any(started.shape):
            self.position = Position(grid=Grid(started.shape, "config"))
        events: list[Event] = [started]
        if tags:
            events.append(Annotation(tags=tags))
        notes = list(self.record.notes)
        if self.record.attempt > 1:
            notes.append(
                f"{self.directory} already holds a run: this is attempt {self.record.attempt}, from the beginning; "
                'what was there stays in the record (attempt="all").'
            )
        notes += self._waiting or ()
        self._waiting = None
        events += [LogLine(message=note, level="warning") for note in notes]
        self._append(events)

    def tell(self, step: Any, *calls: Callable[[Draft], None]) -> None:
        """Record what ``calls`` make of this step, all of it or nothing, then show it.

        Raises:
            InputError: something in it cannot be used; the record is as it was.
            RecordError: it cannot be written, or the run has been finished.
        """
        if self.forked:
            return
        with self._lock:
            if self.closed:
                raise RecordError(f"{self.directory}: finish() has ended this run; make another dashboard to go on.")
            draft = Draft(self.position, step, self.clock())
            for call in calls:
                call(draft)
            self._append(draft.events)
            self.position = draft.position

    def say(self, message: str, level: Any = "warning") -> None:
        """A line for the log and the console."""
        if self._waiting is not None:
            self._waiting.append(message)
        elif not self.forked and not self.closed:
            here = self.position
            line = LogLine(step=max(here.step, 0), phase=here.phase, cycle=here.cycle, message=message, level=level)
            with self._lock:
                self._append([line])

    def note(self, said: Annotation) -> None:
        """Tags or a note, at the present place."""
        here = self.position
        with self._lock:
            self._append([replace(said, step=max(here.step, 0), phase=here.phase, cycle=here.cycle)])

    def _append(self, events: Sequence[Event]) -> None:
        self.record.append_many(events)
        for event in events:
            show(event, self.record, self._sinks)

    @property
    def forked(self) -> bool:
        """True in a child of the process that made this; the first time, a log line says what that means."""
        if os.getpid() == self._process:
            return False
        if not self._said_forked:
            self._said_forked = True
            _log.warning(
                "%s: process %d is a fork of the one that writes this run; what it reports is not recorded.",
                self.directory, os.getpid(),
            )  # fmt: skip
        return True

    def alone(self) -> AbstractContextManager[Any]:
        """No other thread in here meanwhile. A fork has one thread only, and maybe a lock that nobody will release."""
        return self._lock if os.getpid() == self._process else nullcontext()

    @property
    def reader(self) -> Run:
        """The record, for reading; a connection of this process's own, which is closed at the end of the run."""
        with self.alone():
            if self._reader is None or self._reader[0] != os.getpid():
                self._reader = (os.getpid(), open_run(self.directory))
            return self._reader[1]

    def end(self, state: RunState, reason: str = "", last_view: Callable[[Run], object] | None = None) -> None:
        """Record how the run ended, make ``last_view`` of it, close the sinks and the record. Once is enough."""
        if self.closed or os.getpid() != self._process:
            return
        with self._lock:
            here = self.position
            place: Mapping[str, Any] = {"step": max(here.step, 0), "phase": here.phase, "cycle": here.cycle}
            phase_over = PhaseEnded(
                **{**place, "cycle": here.phase_cycle}, seconds=self.clock() - here.phase_since, summary=here.losses
            )
            ended = RunEnded(**place, state=state, reason=reason, summary=here.losses)
            try:
                self._append([phase_over, ended] if here.phase else [ended])
                if last_view is not None:
                    self._attempt(last_view)
            finally:
                try:
                    close_all(self._sinks, ended, self.record)
                finally:
                    self.closed = True
                    if self._reader is not None:  # no reader: then the record becomes one plain file
                        self._reader[1].close()
                        self._reader = None
                    self.record.close()

    def _attempt(self, view: Callable[[Run], object]) -> None:
        try:
            with open_run(self.directory) as run:  # the reader may be gone, this late
                view(run)
        except Exception as error:  # the run is complete without this view of it
            self.say(f"the page was not written: {type(error).__name__}: {error}")


def end_at_exit(journal: Journal, last_view: Callable[[Run], object]) -> None:
    """End a run whose script never called ``finish()``, as the script itself ended."""
    # At a prompt or in a notebook the last error is only that of some line.
    failed = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
    state: RunState = "finished" if failed is None else "stopped" if isinstance(failed, KeyboardInterrupt) else "failed"
    try:
        journal.end(state, "" if failed is None else how(failed), last_view)
    except Exception as error:  # at exit nobody can catch it
        _log.warning("%s: the end of the run was not recorded: %s", journal.directory, error)


def how(error: BaseException) -> str:
    """An exception as the reason why a run ended."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shape_in(config: Mapping[str, Any]) -> tuple[int, int]:
    """(layers, heads) that a configuration names; (0, 0) where it does not."""
    for layers, heads in _SHAPE_KEYS:
        found = (config.get(layers), config.get(heads))
        if all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in found):
            return found  # type: ignore[return-value]
    return 0, 0


def new_directory(now: datetime) -> Path:
    """``output/neural_plasticity_[timestamp]``, made; with a number where two runs begin in the same second.

    Raises:
        RecordError: it cannot be made.
    """
    base = Path("output") / f"neural_plasticity_{now:%Y%m%d-%H%M%S}"
    number = 1
    while True:
        directory = base if number == 1 else base.with_name(f"{base.name}-{number}")
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise RecordError(f"output_dir {directory}: cannot be made: {error.strerror}.") from error
        else:
            return directory
