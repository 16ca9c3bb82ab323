"""A record's events by number: the file, read-only, and what stands in it. What they mean is `Run`'s affair."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import numpy as np

from neural_plasticity.errors import RecordError
from neural_plasticity.events import Event, StepMetrics
from neural_plasticity.record.arrays import Array, possible, restore, unpack
from neural_plasticity.record.codec import decode_event
from neural_plasticity.record.defence import Guarded, said
from neural_plasticity.record.schema import how_to_recover, of_kind, open_for_reading
from neural_plasticity.record.spans import Attempt, AttemptChoice, Span, is_time, read_attempts, spans_of

_CHUNK = 2_000  # rows per query: no read lasts long, so that a writer can always reset its log
_CHUNK_BYTES = 64_000_000  # or so many; one row may still be larger
_LAST_SEQ = "SELECT coalesce((SELECT seq FROM recorded ORDER BY seq DESC LIMIT 1), 0)"

# What decoding raises when the bytes are not of our making.
_DAMAGED = (
    ValueError, TypeError, LookupError, AttributeError, SyntaxError, OverflowError, RecursionError, MemoryError,
    zlib.error,
)  # fmt: skip

T = TypeVar("T")
P = ParamSpec("P")


def reads(what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """For methods that make something of rows: what they cannot make sense of is said to be damaged.

    SQLite keeps values of any type in any column, and such a method has no other use for an exception.
    """

    def made(method: Callable[P, T]) -> Callable[P, T]:
        @wraps(method)
        def told(*arguments: P.args, **options: P.kwargs) -> T:
            reader = arguments[0]
            assert isinstance(reader, Reader)
            with reader._damage_told(what):
                return method(*arguments, **options)

        return told

    return made


@dataclass(frozen=True)
class Recorded:
    """An event with its place: number in the record, attempt (from 1), and unix seconds when it was recorded."""

    seq: int
    attempt: int
    time: float
    event: Event


class Reader:
    """The events of one record. Every call reads what is there now. Safe from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection, note = open_for_reading(path)
        self._lock = threading.Lock()
        self._notes = (note,) if note else ()
        self._known_layouts: dict[int, tuple[str, ...]] = {}
        self._finalizer = weakref.finalize(self, self._connection.close)

    def close(self) -> None:
        """Let go of the file; harmless when repeated."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def _query(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[Any]:
        return self._read(lambda connection: connection.execute(sql, arguments).fetchall())

    def _read(self, read: Callable[[Guarded], T]) -> T:
        try:
            with self._lock:
                self._connection.begin()
                return read(self._connection)
        except (sqlite3.Error, MemoryError, OverflowError, UnicodeError) as error:
            what_helps = f"; {how_to_recover(self.path)}" if "malformed" in str(error) else ""
            why = said(error) or "it needs too much memory"
            raise RecordError(f"{self.path}: cannot be read: {why}{what_helps}.") from error

    @contextlib.contextmanager
    def _damage_told(self, what: str) -> Iterator[None]:
        try:
            yield
        except RecordError:
            raise
        except _DAMAGED as error:
            raise RecordError(
                f"{self.path}: {what} cannot be read, the file is damaged; {how_to_recover(self.path)}."
            ) from error

    @property
    @reads("the list of attempts")
    def attempts(self) -> tuple[Attempt, ...]:
        """Every stretch of writing, abandoned tails included."""
        return self._read(read_attempts)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about this record or how it is read, one line each."""
        lines = [line for one in self.attempts for line in one.notes]
        return tuple(dict.fromkeys((*lines, *self._notes)))

    def _spans(self, attempt: AttemptChoice) -> tuple[Span, ...]:
        return spans_of(self.attempts, attempt)

    def events(
        self, kind: str | type[Event] | None = None, attempt: AttemptChoice = "latest", after_seq: int = 0
    ) -> Iterator[Event]:
        """Events in the order in which they were recorded; ``kind`` as a name or an event type."""
        return (one.event for one in self.records(kind, attempt, after_seq))

    def records(
        self, kind: str | type[Event] | None = None, attempt: AttemptChoice = "latest", after_seq: int = 0
    ) -> Iterator[Recorded]:
        """As ``events``, each with its number, attempt and time.

        A ``kind`` given as a type gives events of that type only; what stands under its name in the record and does
        not fit it is an `UnknownEvent`, and comes with all events, or with the name.
        """
        name = kind.kind if isinstance(kind, type) else kind
        wanted = kind if isinstance(kind, type) else Event
        last = self.last_seq
        for low, high in self._spans(attempt):
            found = self._recorded(max(low, after_seq + 1), min(high, last), name)
            yield from (one for one in found if isinstance(one.event, wanted))

    def tail(self, after_seq: int = 0, limit: int = 10_000) -> list[Recorded]:
        """What was recorded after event ``after_seq``, any attempt, at most ``limit``: the cursor of live views.

        Call again with the last one's ``seq``.
        """
        found: list[Recorded] = []
        for one in self.records(attempt="all", after_seq=after_seq):
            if len(found) == limit:
                break
            found.append(one)
        return found

    @property
    def last_seq(self) -> int:
        """Number of the last event recorded; 0 when there is none."""
        return int(self._query(_LAST_SEQ)[0][0])

    def _recorded(
        self, low: int, high: int, kind: str | None = None, get: Callable[[Any], Array] | None = None
    ) -> Iterator[Recorded]:
        """Events with these numbers, both included; of one ``kind`` only, where it is given; arrays through ``get``."""
        columns = "seq, attempt, time, kind, version, layout, payload, data, step, phase, cycle, phase_step"
        where, arguments = ("", ()) if kind is None else (f"{of_kind(kind)} AND ", (kind,))
        sql = f"SELECT {columns} FROM recorded WHERE {where}seq BETWEEN ? AND ? ORDER BY seq LIMIT {_CHUNK}"
        while low <= high:
            rows, more = self._read(lambda connection: _some(connection.execute(sql, (*arguments, low, high))))  # noqa: B023
            for seq, attempt, at, name, version, layout, payload, data, *place in rows:
                with self._damage_told(f"event {seq}"):
                    if not low <= seq <= high:
                        raise ValueError("pages that lead round in circles")
                    low = seq + 1
                    there = checked_place(attempt, at, *place)
                    if type(name) is not str or type(version) is not int:
                        raise TypeError("kind")
                    event: Event
                    if layout is None:
                        event = decode_event(name, version, payload, there, get or partial(self._array, inline=data))
                    else:
                        values = np.frombuffer(data, dtype="<f8").tolist()
                        event = StepMetrics(metrics=dict(zip(self._names_of(layout), values, strict=True)), **there)
                yield Recorded(seq, attempt, at, event)
            if not more:
                return

    def _array(self, reference: Any, inline: bytes | None) -> Array:
        if isinstance(reference, list):
            dtype, shape, start, size = reference
            return restore(dtype, shape, (inline or b"")[start : start + size])  # None: only empty arrays
        rows = self._query("SELECT dtype, shape, codec, data FROM blobs WHERE hash = ?", (bytes.fromhex(reference),))
        if not rows:
            raise RecordError(
                f"{self.path}: array {reference} is missing, the file is damaged; {how_to_recover(self.path)}."
            )
        return unpack(*rows[0])

    def _outline(self, reference: Any) -> Array:
        """An array of the right type and shape that takes no room; 0 or NaN everywhere."""
        if isinstance(reference, list):
            dtype, shape = reference[0], reference[1]
        else:
            rows = self._query("SELECT dtype, shape FROM blobs WHERE hash = ?", (bytes.fromhex(reference),))
            dtype, shape = rows[0] if rows else ("<f8", "[0]")
        kind, sides = possible(dtype, shape)
        if kind.itemsize > 1_024:  # text of millions of characters takes its room even where it is not read
            kind = np.dtype("U1")
        return np.broadcast_to(np.full((), math.nan if kind.kind == "f" else 0).astype(kind), sides)

    def _names_of(self, layout: Any) -> tuple[str, ...]:
        known = self._known_layouts
        return known[layout] if layout in known else self._layouts()[layout]

    @reads("the list of metrics")
    def _layouts(self) -> dict[int, tuple[str, ...]]:
        known = self._known_layouts  # once in the file a layout never changes; the dictionary may be in use elsewhere
        rows = self._query("SELECT id, names FROM layouts WHERE id > ? ORDER BY id", (max(known, default=0),))
        if rows:
            known = self._known_layouts = {**known, **{number: _metric_names(names) for number, names in rows}}
        return known


def _some(rows: Iterator[Any]) -> tuple[list[Any], bool]:
    """The next rows, at most `_CHUNK_BYTES` of them or one; True when there may be more."""
    found, size = [], 0
    for row in rows:
        found.append(row)
        size += sum(len(part) for part in row[6:8] if isinstance(part, str | bytes))
        if size > _CHUNK_BYTES:
            return found, True
    return found, len(found) == _CHUNK


def _metric_names(text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("names of metrics")
    return tuple(names)


def checked_place(attempt: Any, at: Any, step: Any, phase: Any, cycle: Any, phase_step: Any = 0) -> dict[str, Any]:
    """The common fields of an event from its row.

    Raises:
        TypeError: they are not of the types that we write.
    """
    numbers = (attempt, step, cycle, phase_step)
    if not all(type(one) is int for one in numbers) or type(phase) is not str or not is_time(at):
        raise TypeError("coordinates")
    return {"step": step, "phase": phase, "cycle": cycle, "phase_step": phase_step}
