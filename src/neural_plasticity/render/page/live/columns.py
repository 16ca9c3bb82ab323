"""Metric columns, and where events stand, kept in memory and read on: no request reads a million rows again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import Event
from neural_plasticity.record import Run
from neural_plasticity.record.columns import stretches
from neural_plasticity.record.snapshot import Place, Snapshot
from neural_plasticity.record.spans import AttemptChoice, Span

Steps = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


class Column:
    """A metric's steps and values as recorded; appending costs as much as what is new.

    What `read` gave stays as it was: growing writes behind it or moves to a new buffer.
    """

    def __init__(self) -> None:
        self.through = 0  # every event up to this number has been taken in
        self._size = 0
        self._in_order = True
        self._steps: Steps = np.empty(0, np.int64)
        self._values: Values = np.empty(0, np.float64)

    def extend(self, steps: Steps, values: Values) -> None:
        """Take in what was recorded next."""
        if not len(steps):
            return
        size = self._size + len(steps)
        if size > len(self._steps):
            room = size + size // 2 + 1024  # what is not written to yet takes no memory
            before, self._steps, self._values = (self._steps, self._values), np.empty(room, np.int64), np.empty(room)
            self._steps[: self._size], self._values[: self._size] = (one[: self._size] for one in before)
        self._steps[self._size : size] = steps
        self._values[self._size : size] = values
        joint = self._steps[max(self._size - 1, 0) : size]
        self._in_order = self._in_order and not bool(np.any(np.diff(joint) < 0))
        self._size = size

    def read(self) -> tuple[Steps, Values]:
        """Steps and values by step, in recorded order within a step; not to be written to."""
        steps, values = self._steps[: self._size], self._values[: self._size]
        if not self._in_order:
            order = np.argsort(steps, kind="stable")
            steps, values = steps[order], values[order]
        steps.flags.writeable = values.flags.writeable = False
        return steps, values


class Columns:
    """The columns of one run's history, read on with every snapshot; for one thread at a time.

    A new attempt takes back what came after the point it was resumed at: then everything is read anew.
    """

    def __init__(self) -> None:
        self._history: tuple[Span, ...] = ()
        self._columns: dict[str, Column] = {}
        self._used: set[int] = set()  # layouts of rows
        self._names: tuple[str, ...] = ()
        self._through = 0
        self._places: dict[str, tuple[int, tuple[Place, ...]]] = {}  # kind -> through which event, and where

    def names(self, now: LiveSnapshot) -> tuple[str, ...]:
        """Names of the metrics that have values, in the record's order."""
        self._follow(now)
        came = now.used_layouts([(max(low, self._through + 1), high) for low, high in now.spans()]) - self._used
        self._through = now.last_seq
        if came:
            self._used |= came
            known = now.layouts()
            self._names = tuple(dict.fromkeys(name for number in sorted(self._used) for name in known[number]))
        return self._names

    def read(self, now: LiveSnapshot, names: Sequence[str]) -> dict[str, tuple[Steps, Values]]:
        """Steps and values of these metrics up to the snapshot; names that were never recorded are left out."""
        recorded = self.names(now)
        wanted = [name for name in dict.fromkeys(names) if name in recorded]
        for name in wanted:
            self._columns.setdefault(name, Column())
        for through in {self._columns[name].through for name in wanted}:
            self._read_on(now, [name for name in wanted if self._columns[name].through == through], through)
        return {name: self._columns[name].read() for name in wanted}

    def places(self, now: LiveSnapshot, kind: type[Event]) -> tuple[Place, ...]:
        """Where events of one kind stand in the history."""
        self._follow(now)
        through, known = self._places.get(kind.kind, (0, ()))
        known += now.places_in(kind, [(max(low, through + 1), high) for low, high in now.spans()])
        self._places[kind.kind] = now.last_seq, known
        return known

    def _read_on(self, now: LiveSnapshot, names: Sequence[str], through: int) -> None:
        layouts = now.layouts().items()
        places = {name: {number: known.index(name) for number, known in layouts if name in known} for name in names}
        for low, high in now.spans():
            for part in stretches(now.query, places, max(low, through + 1), high):
                for name, (steps, values) in part.items():
                    self._columns[name].extend(steps, values)
        for name in names:
            self._columns[name].through = now.last_seq

    def _follow(self, now: LiveSnapshot) -> None:
        spans = now.spans()
        history = (*spans[:-1], *((low, 0) for low, _ in spans[-1:]))  # the last span only grows
        if history != self._history:
            self._columns, self._used, self._names, self._through, self._places = {}, set(), (), 0, {}
            self._history = history


class LiveSnapshot(Snapshot):
    """A run up to one event, with its metrics from memory."""

    def __init__(self, run: Run, until: int, columns: Columns) -> None:
        super().__init__(run)
        self._now = until
        self._columns = columns

    def spans(self) -> tuple[Span, ...]:
        """Ranges of event numbers of the run's history."""
        return self._spans("latest")

    def places(self, kind: type[Event], attempt: AttemptChoice = "latest") -> tuple[Place, ...]:
        """Where events of one kind stand, in order, their content unread."""
        return self._columns.places(self, kind) if attempt == "latest" else super().places(kind, attempt)

    def places_in(self, kind: type[Event], spans: Sequence[Span]) -> tuple[Place, ...]:
        """Where events of one kind stand in these ranges of event numbers."""
        return self._places_in(kind, [(low, high) for low, high in spans if low <= high])

    def query(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[Any]:
        """Rows of the record."""
        return self._query(sql, arguments)

    def used_layouts(self, spans: Sequence[Span]) -> set[int]:
        """Layouts that rows in these ranges of event numbers have."""
        return self._used_layouts(spans)

    def layouts(self) -> dict[int, tuple[str, ...]]:
        """Metric names of each layout of rows."""
        return self._layouts()

    def metrics(self, attempt: AttemptChoice = "latest") -> tuple[str, ...]:
        """Names of the metrics that have values, in the order in which they first came."""
        return self._columns.names(self) if attempt == "latest" else super().metrics(attempt)

    def columns(self, names: Sequence[str], attempt: AttemptChoice = "latest") -> dict[str, tuple[Steps, Values]]:
        """Steps and values of several metrics."""
        return self._columns.read(self, names) if attempt == "latest" else super().columns(names, attempt)
