"""What can still be read of a damaged record, as a new record: nothing else is lost, and what is missing is said."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from neural_plasticity.errors import RecordError
from neural_plasticity.record.arrays import unpack
from neural_plasticity.record.lock import DirectoryLock
from neural_plasticity.record.pages import Log, Pages, page_sizes
from neural_plasticity.record.reader import Reader
from neural_plasticity.record.schema import FILE_NAME, open_for_writing, record_path

_RECORDED = (
    int,
    int,
    int,
    str,
    int,
    int,
    (int, float),
    str,
    int,
    (int, type(None)),
    (str, type(None)),
    (bytes, type(None)),
)
_TABLES: dict[str, tuple[Any, ...]] = {  # types of the columns; the first is the rowid itself, but for blobs
    "recorded": _RECORDED,
    "attempts": (int, int, int, (int, type(None)), (int, float), str),
    "layouts": (int, str),
    "blobs": (bytes, str, str, str, bytes),
}
# A page that was taken out of use may still hold rows of an older history: what was recorded later counts.
_INSERT = {
    name: f"INSERT INTO {name} VALUES ({', '.join('?' * len(types))}) ON CONFLICT DO "
    + ("UPDATE SET {0} WHERE excluded.time > time" if name == "recorded" else "NOTHING")
    for name, types in _TABLES.items()
}
_COLUMNS = ("attempt", "cycle", "phase", "phase_step", "step", "time", "kind", "version", "layout", "payload", "data")
_CHECKPOINT = re.compile(r"event-(\d{10,19})\.safetensors")  # as experiment/checkpoints.py names them, with torch
_INSERT["recorded"] = _INSERT["recorded"].format(", ".join(f"{name} = excluded.{name}" for name in _COLUMNS))


@dataclass(frozen=True)
class Recovered:
    """A record made of what could be read: its file, how many events it holds, which numbers are missing."""

    path: Path
    events: int
    missing: tuple[tuple[int, int], ...]  # first and last number of each stretch
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((f"{self.events:,} events recovered.", *self.notes))


def recover(source: Path | str, target: Path | str | None = None) -> Recovered:
    """Make a record in the new directory ``target`` of all that can be read in ``source``, which is left as it is.

    Without ``target`` it is made beside the damaged one, with ``-recovered`` after its name. Checkpoints come along:
    ``--resume`` can go on from one after which no event is needed that is lost.

    Raises:
        RecordError: there is no record, nothing of it can be read, ``target`` exists, or a process is writing to it.
    """
    path = record_path(source)
    if not path.is_file():
        raise RecordError(f"{source}: expected a run directory with {FILE_NAME} in it, found none.")
    directory = _beside(path) if target is None else Path(target)
    if directory.exists():
        raise RecordError(f"{directory}: already exists; what is recovered needs a directory of its own.")
    part = directory.with_name(f".{directory.name}.{os.getpid()}.part")
    lock = DirectoryLock(path.parent)
    try:
        part.mkdir(parents=True)
        found = _rebuilt(path, part)
        if (path.parent / "checkpoints").is_dir():
            shutil.copytree(path.parent / "checkpoints", part / "checkpoints", symlinks=True)
        part.rename(directory)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecordError(f"{directory}: the record of {path.parent} cannot be recovered there: {reason}.") from error
    finally:
        lock.release()
        shutil.rmtree(part, ignore_errors=True)
    return Recovered(directory / FILE_NAME, *found)


def _beside(path: Path) -> Path:
    directory = path.parent.resolve()
    return directory.parent / f"{directory.name}-recovered"


def _rebuilt(path: Path, part: Path) -> tuple[int, tuple[tuple[int, int], ...], tuple[str, ...]]:
    with _mapped(path) as data, _mapped(path.with_name(path.name + "-wal")) as log:
        tried: list[_Filled] = []
        for size in page_sizes(data[:100]):
            tried.append(_into(part / f"{size}.sqlite", data, log[:], size))
            if tried[-1].rows and not tried[-1].damaged:
                break
        early = _ends_early(data)
    best = max(tried, key=lambda one: one.rows)
    if not best.rows:
        raise RecordError(f"{path}: nothing of it can be read; is it the record of a run?")
    (part / f"{best.size}.sqlite").rename(part / FILE_NAME)
    for other in part.glob("[0-9]*.sqlite*"):
        other.unlink()
    dropped = _drop_what_cannot_be_read(part / FILE_NAME)
    with contextlib.closing(sqlite3.connect(part / FILE_NAME, isolation_level=None)) as connection:
        seqs = [row[0] for row in connection.execute("SELECT seq FROM recorded ORDER BY seq")]
        if not seqs:
            raise RecordError(f"{path}: no event in it can be read.")
        missing = tuple((low + 1, high - 1) for low, high in pairwise([0, *seqs]) if high > low + 1)
        notes = [f"Missing: {_said(missing)}."] if missing else []
        notes += [f"Damaged and left out: {best.damaged + dropped} rows or pages."] if best.damaged + dropped else []
        notes += [*best.notes, *early, *_lost_at_the_end(seqs[-1], path.parent / "checkpoints")]
        notes.insert(0, _said_first(path, len(seqs), damaged=bool(notes)))
        _say(connection, notes)
        connection.execute("PRAGMA journal_mode=DELETE")
    with (part / FILE_NAME).open("rb+") as file:
        os.fsync(file.fileno())
    return len(seqs), missing, tuple(notes)


def _said_first(path: Path, events: int, damaged: bool) -> str:
    source = path.resolve().parent
    if damaged:
        return f"Recovered from a damaged record ({source}): {events:,} events can be read."
    return f"Recovered from {source}, where no damage was found: {events:,} events."


def _ends_early(data: Any) -> list[str]:
    """A line where a file is shorter than its own header says."""
    size, stated = page_sizes(data[:100])[0], int.from_bytes(data[28:32], "big") if data else 0
    whole = size * stated
    return [f"Its file ends early: {len(data):,} of {whole:,} bytes are there."] if len(data) < whole else []


def _lost_at_the_end(last: int, checkpoints: Path) -> list[str]:
    """What checkpoints, which are named by the event that they follow, tell of events after ``last``."""
    found = [int(match[1]) for path in checkpoints.glob("event-*") if (match := _CHECKPOINT.fullmatch(path.name))]
    if max(found, default=0) <= last:
        return []
    usable = max((one for one in found if one <= last), default=None)
    on = (
        "No checkpoint is from before that, so that --resume cannot go on with it; start a new run."
        if usable is None
        else f"--resume goes on from the checkpoint after event {usable:,}."
    )
    return [f"Events after {last:,} are lost: a checkpoint was written after event {max(found):,}. {on}"]


@dataclass
class _Filled:
    """A database made with one assumption on the page size."""

    size: int
    rows: int
    damaged: int
    notes: list[str]


def _into(target: Path, data: bytes, log: bytes, size: int) -> _Filled:
    """Put every row that can be read, taking pages to be of ``size`` bytes, into a new record at ``target``."""
    frames = Log(log, size)
    pages = Pages(data, size, frames.versions())
    connection, _ = open_for_writing(target)
    with contextlib.closing(connection):
        connection.execute("PRAGMA synchronous=OFF")  # it is moved to its place when all is done
        connection.execute("BEGIN")
        rows = 0
        for row in pages.rows():
            name, values = _recognised(row)
            if name is not None:
                connection.execute(_INSERT[name], values)
                rows += name == "recorded"
        connection.execute("COMMIT")
    notes = [f"Its log was damaged in {len(frames.broken)} places."] if frames.broken else []
    return _Filled(size, rows, pages.damaged, notes)


def _recognised(row: list[Any]) -> tuple[str | None, list[Any]]:
    """The table that a row (rowid first) belongs to, by its columns, and its values there."""
    rowid, *values = row
    for name, types in _TABLES.items():
        if len(types) != len(values):
            continue
        if name != "blobs":
            if values[0] is not None or not 0 < rowid < 2**62:
                return None, []
            values[0] = rowid
        if all(isinstance(value, kind) for value, kind in zip(values, types, strict=True)):
            return name, values
    return None, []


def _drop_what_cannot_be_read(path: Path) -> int:
    """Take out what is in the file but says nothing any more; returns how many events."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for digest, *stored in connection.execute("SELECT hash, dtype, shape, codec, data FROM blobs").fetchall():
            if not _is(digest, *stored):
                connection.execute("DELETE FROM blobs WHERE hash = ?", (digest,))
        _name_the_nameless(connection)
        seqs = [row[0] for row in connection.execute("SELECT seq FROM recorded")]
        unreadable = []
        with contextlib.closing(Reader(path)) as reader:
            for seq in seqs:
                try:
                    list(reader._recorded(seq, seq))
                except (RecordError, ValueError, LookupError, TypeError):
                    unreadable.append(seq)
        connection.executemany("DELETE FROM recorded WHERE seq = ?", ((seq,) for seq in unreadable))
    return len(unreadable)


def _is(digest: bytes, dtype: str, shape: str, codec: str, data: bytes) -> bool:
    """Whether an array is the one that its name, made of its content, promises."""
    try:
        raw = unpack(dtype, shape, codec, data).tobytes()
    except Exception:  # whatever decompressing damaged bytes raises
        return False
    found = hashlib.blake2b(f"{dtype}{shape}".encode(), digest_size=16)
    found.update(raw)
    return found.digest() == digest


def _name_the_nameless(connection: sqlite3.Connection) -> None:
    """Metrics whose names are lost keep their values, under names that say so."""
    sql = (
        "SELECT layout, max(length(data)) / 8 FROM recorded WHERE layout IS NOT NULL "
        "AND layout NOT IN (SELECT id FROM layouts) GROUP BY layout"
    )
    for layout, count in connection.execute(sql).fetchall():
        names = json.dumps([f"lost name {layout}.{place}" for place in range(count)])
        connection.execute("INSERT INTO layouts VALUES (?, ?)", (layout, names))


def _say(connection: sqlite3.Connection, notes: list[str]) -> None:
    """Begin attempts whose beginning is lost where their first event is, and leave ``notes`` with the last one."""
    known = {row[0] for row in connection.execute("SELECT attempt FROM attempts")}
    firsts = connection.execute("SELECT attempt, min(seq), min(time) FROM recorded GROUP BY attempt").fetchall()
    for attempt, first, began in firsts:
        if attempt not in known:
            row = (attempt, first, first - 1, None, began, "[]")
            connection.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?)", row)
            if attempt > 1:
                notes.append(f"Where attempt {attempt} went on is lost: everything before it is shown.")
    (last, said) = connection.execute("SELECT attempt, notes FROM attempts ORDER BY attempt DESC LIMIT 1").fetchone()
    with contextlib.suppress(ValueError):
        notes = [*json.loads(said), *notes]
    connection.execute("UPDATE attempts SET notes = ? WHERE attempt = ?", (json.dumps(notes), last))


def _said(missing: Sequence[tuple[int, int]]) -> str:
    parts = [f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in missing[:5]]
    more = f" and {len(missing) - 5} more stretches" if len(missing) > 5 else ""
    total = sum(high - low + 1 for low, high in missing)
    return f"{total:,} events, number {', '.join(parts)}{more}"


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[Any]:
    """The bytes of a file, read as they are needed; none where there is no file."""
    if not path.is_file() or not path.stat().st_size:
        yield b""
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data
