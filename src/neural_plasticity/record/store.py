"""The writer: an event is committed to the run's SQLite file before the call that recorded it returns."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from operator import index
from pathlib import Path
from types import TracebackType
from typing import Any

from neural_plasticity.errors import RecordError
from neural_plasticity.events import Event, PhaseEnded, PhaseStarted, RunEnded, RunStarted, StepMetrics
from neural_plasticity.record.arrays import INLINE_BYTES, Array, Blob, inline_reference
from neural_plasticity.record.codec import encode_event
from neural_plasticity.record.defence import said
from neural_plasticity.record.lock import DirectoryLock
from neural_plasticity.record.schema import FILE_NAME, how_to_recover, open_for_writing, record_path
from neural_plasticity.record.spans import latest_spans, read_attempts

# Written through to the disk: a power cut may cost what came after the last of these, a killed process nothing.
_DURABLE = (RunStarted, RunEnded, PhaseStarted, PhaseEnded)
_ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# So many events at once are one statement, which commits by itself; the statements are made once.
_INSERT_EVENTS = tuple(f"INSERT INTO recorded VALUES {', '.join([_ROW] * count)}" for count in range(9))
_INSERT_BLOB = "INSERT INTO blobs VALUES (?, ?, ?, ?, ?)"
_INSERT_LAYOUT = "INSERT INTO layouts VALUES (?, ?)"
_INSERT_ATTEMPT = "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?)"

# Between commits the writer stays in a read transaction, which saves four of six lock calls per commit: a tenth of its
# time. SQLite folds its log in only outside of one, so it is left for large commits and at every so many small ones.
_COMMITS_PER_VIEW = 250

Row = tuple[Any, ...]
Statement = tuple[str, Row]


@lru_cache(maxsize=1024)
def _packer(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}d")


class RecordWriter:
    """Appends events to one run. Safe from several threads; one process at a time; refuses in a forked child.

    Use ``create`` or ``reopen``. ``attempt`` counts from 1; ``last_seq`` is the number of the last event
    acknowledged (keep it in checkpoints: ``reopen(after_seq=…)``); ``notes`` are lines a user should see.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: DirectoryLock, notes: tuple[str, ...]) -> None:
        self.path = path
        self.notes = notes
        self._shared = bool(notes)  # no lock or no log here, so somebody else may write
        self._connection = connection
        self._cursor = connection.cursor()
        self._view: sqlite3.Cursor | None = None
        self._commits = 0
        self._directory_lock = lock
        self._thread_lock = threading.RLock()
        self._process = os.getpid()
        self._closed = False
        self._layouts = _read_layouts(connection, {})
        row = connection.execute(
            "SELECT coalesce((SELECT max(seq) FROM recorded), 0), coalesce((SELECT max(attempt) FROM attempts), 0)"
        ).fetchone()
        self.last_seq: int = row[0]
        self._next = self.last_seq + 1
        self.attempt: int = row[1]

    @classmethod
    def create(cls, run_dir: Path | str) -> RecordWriter:
        """A new record in ``run_dir``, which is made if it does not exist.

        A record that holds no event is begun afresh: its run was killed before it could say anything.

        Raises:
            RecordError: the directory cannot be made or written, is a file, or already holds a run.
        """
        directory = Path(run_dir)
        with _one_line(directory):
            directory.mkdir(parents=True, exist_ok=True)
            writer = cls._open(directory / FILE_NAME)
            if writer.last_seq:
                writer._abandon()
                raise RecordError(
                    f"{directory}: already holds a run; give another output directory, or resume that run."
                )
            with writer._disposed_on_error():
                writer._connection.execute("DELETE FROM attempts")
                writer.attempt = 0
                writer._begin_attempt(kept_seq=0, resumed_step=None)
            return writer

    @classmethod
    def reopen(
        cls,
        run_dir: Path | str,
        *,
        after_seq: int | None = None,
        step: int | None = None,
        lock: DirectoryLock | None = None,
        notes: tuple[str, ...] = (),
    ) -> RecordWriter:
        """Go on with a run, in a new attempt.

        The history kept is everything up to event ``after_seq``, or up to (without) the first event at ``step``
        or later; with neither, all of it. What lies behind stays in the file and shows with ``attempt="all"``.
        ``lock``: the directory's, where it is held already; the writer takes it over. ``notes`` are kept with the
        attempt, beside its own.

        Raises:
            RecordError: no record there, another process writes to it, or ``after_seq`` lies outside it.
        """
        path = record_path(run_dir)
        if after_seq is not None and step is not None:
            raise RecordError("reopen: expected after_seq or step, got both; after_seq is the exact one.")
        if not path.is_file():
            raise RecordError(f"{run_dir}: expected a run directory with {FILE_NAME} in it, found none to resume.")
        with _one_line(path.parent):
            writer = cls._open(path, lock)
            writer.notes += notes
            with writer._disposed_on_error():
                kept = writer.last_seq if after_seq is None else index(after_seq)
                if not 0 <= kept <= writer.last_seq:
                    raise RecordError(
                        f"{path}: cannot resume after event {kept}; it holds events 1 to {writer.last_seq}."
                    )
                if step is not None:
                    kept = min(kept, writer._last_before(index(step)))
                writer._begin_attempt(kept_seq=kept, resumed_step=step)
            return writer

    @classmethod
    def amend(cls, run_dir: Path | str) -> RecordWriter:
        """Add to the latest attempt of a run that is over: annotations, never observations.

        Raises:
            RecordError: no record there, it cannot be written, or another process writes to it.
        """
        path = record_path(run_dir)
        if not path.is_file():
            raise RecordError(f"{run_dir}: expected a run directory with {FILE_NAME} in it, found none.")
        with _one_line(path.parent):
            writer = cls._open(path)
            if not writer.attempt:
                writer._abandon()
                raise RecordError(f"{run_dir}: its run never began; there is nothing to annotate.")
            return writer

    @classmethod
    def _open(cls, path: Path, lock: DirectoryLock | None = None) -> RecordWriter:
        lock = lock or DirectoryLock(path.parent)
        try:
            connection, note = open_for_writing(path)
        except BaseException:
            lock.release()
            raise
        return cls(path, connection, lock, tuple(line for line in (note, lock.note) if line))

    def _last_before(self, step: int) -> int:
        """The last event of the present history before the first one at ``step`` or later."""
        for low, high in latest_spans(read_attempts(self._connection)):
            sql = "SELECT min(seq) FROM recorded WHERE seq BETWEEN ? AND ? AND step >= ?"
            (first,) = self._connection.execute(sql, (low, high, step)).fetchone()
            if first is not None:
                return int(first) - 1
        return self.last_seq

    def _begin_attempt(self, kept_seq: int, resumed_step: int | None) -> None:
        self.attempt += 1
        row = (self.attempt, self._next, kept_seq, resumed_step, time.time(), json.dumps(self.notes))
        self._connection.execute(_INSERT_ATTEMPT, row)
        self._connection.execute("PRAGMA synchronous=NORMAL")

    def append(self, event: Event) -> int:
        """Record one event; it is committed when this returns. Returns its number in the record (``seq``).

        Raises:
            RecordError: the disk is full, a value cannot be kept, the record is closed, or this is a forked child.
        """
        return self._write((event,))

    def append_many(self, events: Iterable[Event]) -> list[int]:
        """Record several events in one commit: all of them or, when this raises, none."""
        listed = tuple(events)
        if not listed:
            return []
        last = self._write(listed)
        return list(range(last - len(listed) + 1, last + 1))

    def sync(self) -> None:
        """Write through to the disk what has been acknowledged so far: before a checkpoint that builds on it.

        Raises:
            OSError: the disk refuses.
        """
        with contextlib.suppress(FileNotFoundError):  # no write-ahead log: then every commit is written through
            # Never the record itself: closing a second descriptor of it would let go of SQLite's locks.
            descriptor = os.open(self.path.with_name(self.path.name + "-wal"), os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """Finish: the write-ahead log goes into the file where no reader holds it. Harmless when repeated."""
        if self._closed or os.getpid() != self._process:
            return
        with self._thread_lock:
            self._closed = True
            # One plain file is what people copy and put on read-only media. Not vital: WAL left behind reads as well.
            with contextlib.suppress(sqlite3.Error):
                self._cursor.close()  # a statement that failed half-way would hold the file
                self._leave_view()
                # A live page may hold the file open. Then at least everything lies in it, and the log is empty.
                self._connection.execute("PRAGMA busy_timeout=2000")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._connection.execute("PRAGMA busy_timeout=0")
                self._connection.execute("PRAGMA journal_mode=DELETE").fetchone()
            self._abandon()

    def discard(self) -> None:
        """Take the record back, and its directory if nothing else is in it: for a run that could not even begin.

        Raises:
            RecordError: events have been recorded; a record is never thrown away.
        """
        if self.last_seq:
            raise RecordError(f"{self.path}: holds {self.last_seq} events and is kept.")
        self.close()
        for suffix in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: somebody else's files
            self.path.parent.rmdir()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _abandon(self) -> None:
        self._closed = True
        with contextlib.suppress(sqlite3.Error):
            self._cursor.close()
            self._leave_view()
            self._connection.close()
        self._directory_lock.release()

    @contextlib.contextmanager
    def _disposed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._abandon()
            raise

    def _write(self, events: Iterable[Event]) -> int:
        if os.getpid() != self._process:
            raise RecordError(
                f"{self.path}: this writer belongs to process {self._process}; a forked child cannot write to it. "
                "Send its events to the parent."
            )
        with self._thread_lock:
            if self._closed:
                raise RecordError(f"{self.path}: the record is closed; RecordWriter.reopen() goes on with the run.")
            try:
                rows: list[Row] = []
                first: list[Statement] = []  # what the rows refer to and is not in the file yet
                durable = False
                for event in events:
                    rows.append(self._row(event, self._next, first))
                    self._next += 1
                    durable = durable or isinstance(event, _DURABLE)
                self._commit(rows, first, durable)
            except BaseException as error:
                self._look_again()
                if isinstance(error, OverflowError):
                    raise RecordError(
                        "step, cycle and phase_step: expected 64-bit numbers, got a larger one."
                    ) from error
                if isinstance(error, sqlite3.Error):
                    raise RecordError(
                        f"{self.path}: cannot record ({error}); free space or check the disk. "
                        "Everything recorded before is intact."
                    ) from error
                raise
            self.last_seq = self._next - 1
            return self.last_seq

    def _look_again(self) -> None:
        """What the file has now: an error or an interrupt may have come before a commit or after it."""
        self._layouts = _read_layouts(self._connection, self._layouts)
        with contextlib.suppress(sqlite3.Error):
            (last,) = self._connection.execute("SELECT coalesce(max(seq), 0) FROM recorded").fetchone()
            self._next = last + 1

    def _leave_view(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None

    def _commit(self, rows: list[Row], first: list[Statement], durable: bool) -> None:
        connection, execute = self._connection, self._cursor.execute  # one cursor: making one costs as much as a row
        small = not first and len(rows) < len(_INSERT_EVENTS)
        self._commits += 1
        if not small or self._commits % _COMMITS_PER_VIEW == 0:
            self._leave_view()
        if durable:
            connection.execute("PRAGMA synchronous=FULL")
        try:
            if small:
                execute(_INSERT_EVENTS[len(rows)], rows[0] if len(rows) == 1 else [*chain.from_iterable(rows)])
            else:
                execute("BEGIN IMMEDIATE")
                for statement in first:
                    execute(*statement)
                self._cursor.executemany(_INSERT_EVENTS[1], rows)
                execute("COMMIT")
        except BaseException as error:
            outdated = self._view is not None and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY_SNAPSHOT
            self._leave_view()
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            if not outdated:
                raise
            self._commit(rows, first, durable)  # somebody's database tool has written to the file meanwhile
            return
        finally:
            if durable:
                connection.execute("PRAGMA synchronous=NORMAL")
        if self._view is None and not self._shared:
            with contextlib.suppress(sqlite3.Error):  # the events are in; it can do without
                self._view = connection.execute("SELECT key FROM meta")  # its first row read, and no more

    def _row(self, event: Event, seq: int, first: list[Statement]) -> Row:
        """The row that records ``event``; what it refers to goes to ``first``."""
        try:
            place = (
                seq, self.attempt, index(event.cycle), _text(event.phase), index(event.phase_step), index(event.step),
                time.time(), event.kind, event.version,
            )  # fmt: skip
        except TypeError as error:
            raise RecordError(f"{event.kind} event: step, cycle and phase_step are whole numbers ({error}).") from error
        if type(event) is StepMetrics:
            return (*place, self._layout(tuple(event.metrics), first), None, _packed(event.metrics))
        small = bytearray()

        def put(array: Array) -> str:
            if array.nbytes > INLINE_BYTES:
                return f'"{self._keep(array, first)}"'
            start = len(small)
            small.extend(array.tobytes())
            return inline_reference(array, start)

        try:
            payload = encode_event(event, put)
        except RecordError:
            raise
        except (RecursionError, ValueError) as error:  # nested hundreds deep; a number of thousands of digits
            raise RecordError(f"{event.kind} event: a value cannot be kept ({error}).") from error
        return (*place, None, payload, bytes(small) or None)

    def _keep(self, array: Array, first: list[Statement]) -> str:
        blob = Blob.of(array)
        known = self._connection.execute("SELECT 1 FROM blobs WHERE hash = ?", (blob.hash,)).fetchone()
        if not known and not any(sql is _INSERT_BLOB and row[0] == blob.hash for sql, row in first):
            first.append((_INSERT_BLOB, blob.row()))
        return blob.hash.hex()

    def _layout(self, names: tuple[str, ...], first: list[Statement]) -> int:
        number = self._layouts.get(names)
        if number is None:
            number = len(self._layouts) + 1
            self._layouts[names] = number
            first.append((_INSERT_LAYOUT, (number, json.dumps(names))))
        return number


def _read_layouts(connection: sqlite3.Connection, otherwise: dict[tuple[str, ...], int]) -> dict[tuple[str, ...], int]:
    """Layouts by their names, as the file has them; ``otherwise`` where it cannot be read."""
    try:
        rows = connection.execute("SELECT id, names FROM layouts ORDER BY id").fetchall()
    except sqlite3.Error:
        return otherwise
    return {tuple(json.loads(names)): number for number, names in rows}


def _text(value: str) -> str:
    """``value``, with lone surrogates (which no file can hold as UTF-8) written out."""
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")


def _packed(metrics: Mapping[str, float]) -> bytes:
    try:
        return _packer(len(metrics)).pack(*metrics.values())
    except struct.error:
        for name, value in metrics.items():
            try:
                float(value)
            except (TypeError, ValueError, OverflowError) as error:
                raise RecordError(f"metric {name!r}: expected a number, got {value!r}.") from error
        return _packer(len(metrics)).pack(*(float(value) for value in metrics.values()))


@contextlib.contextmanager
def _one_line(directory: Path) -> Iterator[None]:
    """Errors of the file system and of SQLite, said in one line."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise RecordError(f"{directory}: expected a directory for the run, but a file is in the way.") from error
    except OSError as error:
        raise RecordError(f"{directory}: cannot be used as a run directory: {error.strerror}.") from error
    except sqlite3.Error as error:
        raise RecordError(f"{directory}: the record cannot be written there: {said(error)}.") from error
    except RecordError:
        raise
    except (ValueError, TypeError, LookupError, RecursionError, OverflowError) as error:  # values not of our making
        raise RecordError(f"{directory}: the record is damaged; {how_to_recover(directory / FILE_NAME)}.") from error
