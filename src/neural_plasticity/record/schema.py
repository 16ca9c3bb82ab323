"""The record's file: table layout, its version, and opening it for writing or for reading (docs/record.md)."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from neural_plasticity.errors import RecordError
from neural_plasticity.record.defence import Guarded, check_tables, distrust, said
from neural_plasticity.record.pages import log_is_damaged

FILE_NAME = "run.sqlite"
SCHEMA_VERSION = 3  # 3: blobs in steps; 2: one table for all events
APPLICATION_ID = 0x4E504C52  # "NPLR", so that `file` and we can tell a record from another SQLite database
BUSY_MS = 30_000
PAGE_BYTES = 1024  # a commit writes whole pages, and an event is small: SQLite's 4096 costs a fifth of the rate
CHECKPOINT_PAGES = 16_000  # 16 MB of WAL between checkpoints: each syncs, and SQLite's 1000 costs a third of the rate

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE attempts (
    attempt INTEGER PRIMARY KEY,   -- from 1
    first_seq INTEGER NOT NULL,    -- the attempt's events have seq >= first_seq (and below the next attempt's)
    kept_seq INTEGER NOT NULL,     -- earlier events up to here belong to this attempt's history
    resumed_step INTEGER,          -- the step it was resumed at, where one was given
    started REAL NOT NULL,         -- unix seconds
    notes TEXT NOT NULL            -- JSON list of lines: what differs from a normal record (no WAL, no lock)
);
CREATE TABLE layouts (             -- names: JSON list of metric names
    id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE
);
CREATE TABLE blobs (
    hash BLOB PRIMARY KEY,         -- blake2b (16 bytes) of dtype, shape and bytes
    dtype TEXT NOT NULL, shape TEXT NOT NULL, codec TEXT NOT NULL, data BLOB NOT NULL
);
"""
# All events in one table: what is recorded together then lies on one page, and goes in with one statement. Scores may
# come at every step; an index entry for each would cost a seventh of the rate, so they are found by looking through.
RECORDED = """
CREATE TABLE recorded (
    seq INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, cycle INTEGER NOT NULL, phase TEXT NOT NULL,
    phase_step INTEGER NOT NULL, step INTEGER NOT NULL, time REAL NOT NULL,
    kind TEXT NOT NULL, version INTEGER NOT NULL,
    layout INTEGER,                -- metrics: which names, in which order; else NULL
    payload TEXT,                  -- else: JSON
    data BLOB                      -- metrics: little-endian float64, one per name; else: small arrays, back to back
);
CREATE INDEX events_by_kind ON recorded (kind) WHERE layout IS NULL AND kind <> 'head_scores';
CREATE VIEW events AS              -- every event except metrics
    SELECT seq, attempt, cycle, phase, phase_step, step, time, kind, version, payload, data AS arrays
    FROM recorded WHERE layout IS NULL;
CREATE VIEW metrics AS             -- metrics events
    SELECT seq, attempt, cycle, phase, phase_step, step, time, layout, data FROM recorded WHERE layout IS NOT NULL;
"""
# Schema 1 had tables where the views are now. Read through this, columns of one type each so that SQLite can look into
# it; brought up to date when such a record is written to.
_RECORDED_IN_1 = """
SELECT seq, attempt, cycle, phase, phase_step, step, time, kind, version, CAST(NULL AS INTEGER) AS layout, payload,
    arrays AS data FROM main.events UNION ALL
SELECT seq, attempt, cycle, phase, phase_step, step, time, CAST('metrics' AS TEXT), CAST(1 AS INTEGER), layout,
    CAST(NULL AS TEXT), data FROM main.metrics
"""
# Readers make their own view of metrics: one in the file could be anything.
_METRICS = """
SELECT seq, attempt, cycle, phase, phase_step, step, time, layout, data FROM main.recorded WHERE layout IS NOT NULL
"""
_TABLE, *_OTHERS = RECORDED.split(";\n")
_COPY = f"INSERT INTO recorded {_RECORDED_IN_1} ORDER BY seq"
_FROM_1 = (_TABLE, _COPY, "DROP TABLE events", "DROP TABLE metrics", *_OTHERS)

# Shared-memory locking does not reach across hosts, so WAL would corrupt a record on these.
_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "lustre", "gpfs", "beegfs", "ceph", "afs", "glusterfs", "drvfs"}
)


def of_kind(kind: str) -> str:
    """SQL condition for rows of ``recorded`` of this kind, its one parameter; repeats the index's own condition."""
    if kind == "metrics":
        return "kind = ? AND layout IS NOT NULL"
    return "kind = ? AND layout IS NULL" + ("" if kind == "head_scores" else " AND kind <> 'head_scores'")


def how_to_recover(path: Path) -> str:
    """What helps where a record is damaged."""
    return f"plasticity recover {path.parent} saves what can be read"


def record_path(path: Path | str) -> Path:
    """The record's file, given a run directory or the file itself.

    Raises:
        RecordError: the directory's record is a link that leads out of it. Whoever made the directory does not choose
            which of this machine's files are shown; who opens it may give the file itself.
    """
    path = Path(path)
    if path.is_file():
        return path
    record = path / FILE_NAME
    if record.is_symlink() and not record.resolve().is_relative_to(path.resolve()):
        raise RecordError(f"{record}: is a link out of its directory, to {record.resolve()}; open that file itself.")
    return record


def file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Type of the file system that holds ``path``; an empty string where the platform does not tell."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    found, kind = "", ""
    target = str(path.resolve())
    for line in lines:
        _, point, name, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(found):
            found, kind = point, name
    return kind


def choose_journal(connection: sqlite3.Connection, path: Path) -> str | None:
    """Turn WAL on where it works; otherwise a rollback journal, and a line that says so."""
    kind = file_system(path.parent)
    network = kind in _NETWORK_FILE_SYSTEMS or kind.startswith("fuse.")
    wanted = "delete" if network else "wal"
    (answer,) = connection.execute(f"PRAGMA journal_mode={wanted}").fetchone()
    if answer == "wal":
        return None
    why = f"{kind} is not a local file system" if network else f"SQLite answered {answer!r}"
    return f"No write-ahead log here ({why}): a rollback journal is used, which is slower and makes readers wait."


def open_for_writing(path: Path) -> tuple[sqlite3.Connection, str | None]:
    """Open or create the file, with its tables; also a note when WAL could not be had.

    Raises:
        RecordError: not a record, damaged, or written by a newer version.
    """
    if log_is_damaged(path):  # SQLite would go on without what lies behind the damage, and write over it
        raise RecordError(f"{path}: its write-ahead log is damaged; {how_to_recover(path)}, and can be resumed.")
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    try:
        distrust(connection)
        empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        version = SCHEMA_VERSION if empty else check(connection, path)
        if empty:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        note = choose_journal(connection, path)
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        connection.execute("PRAGMA synchronous=FULL")
        if empty:
            _create_tables(connection)
        if version < SCHEMA_VERSION:
            bring_up_to_date(connection, version)
    except BaseException:
        connection.close()
        raise
    return connection, note


def _create_tables(connection: sqlite3.Connection) -> None:
    meta = {"schema_version": SCHEMA_VERSION, "created": time.time(), "package_version": _package_version()}
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute("BEGIN IMMEDIATE")
    for statement in (*TABLES.split(";\n"), *RECORDED.split(";\n")):
        connection.execute(statement)
    connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
    connection.execute("COMMIT")


def bring_up_to_date(connection: sqlite3.Connection, version: int) -> None:
    """Make a record of schema ``version`` one of the present schema, whole or not at all."""
    now = f"UPDATE meta SET value = {SCHEMA_VERSION} WHERE key = 'schema_version'"
    connection.execute("BEGIN IMMEDIATE")
    for statement in (*(_FROM_1 if version == 1 else ()), now):
        connection.execute(statement)  # an error leaves the record as it was: closing the connection takes all back
    connection.execute("COMMIT")


def _package_version() -> str:
    try:
        return metadata.version("neural-plasticity")
    except metadata.PackageNotFoundError:  # a checkout on the path, not installed
        return "unknown"


def check(connection: sqlite3.Connection, path: Path) -> int:
    """The record's schema version; refuses what is not a record that this version understands.

    Raises:
        RecordError: another kind of file, or a newer schema.
    """
    try:
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        row = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    except (sqlite3.DatabaseError, UnicodeError) as error:  # SQLite's messages may quote what is not UTF-8
        if _cannot_open(error):
            raise
        if "malformed" in str(error):
            raise RecordError(f"{path}: the file is damaged ({said(error)}); {how_to_recover(path)}.") from error
        raise RecordError(f"{path}: expected the record of a run, but this file is not one ({said(error)}).") from error
    if owner != APPLICATION_ID:  # other programs have such a table too, and would find theirs changed
        raise RecordError(f"{path}: expected the record of a run, but this file is another program's.")
    if row is None or not isinstance(row[0], int) or row[0] < 1:
        raise RecordError(f"{path}: expected the record of a run, but this file does not state its schema version.")
    if row[0] > SCHEMA_VERSION:
        raise RecordError(
            f"{path}: written with record schema {row[0]}, this version reads up to {SCHEMA_VERSION}; "
            "upgrade neural-plasticity to open it."
        )
    try:
        check_tables(connection, path, row[0])
    except (sqlite3.DatabaseError, UnicodeError) as error:
        raise RecordError(f"{path}: its tables cannot be read, the file is damaged ({said(error)}).") from error
    return row[0]


def _cannot_open(error: Exception) -> bool:
    return "unable to open" in str(error) or "readonly" in str(error) or "read-only" in str(error)


def open_for_reading(path: Path) -> tuple[Guarded, str | None]:
    """Open read-only, also while another process writes, and on read-only media; a note says how if not plainly.

    Raises:
        RecordError: no such file, not a record, or written by a newer version.
    """
    if not path.is_file():  # nor a pipe, which would be waited for
        raise RecordError(f"{path.parent}: expected a run directory with {path.name} in it, found none.")
    log = path.with_name(path.name + "-wal")
    ways: list[Callable[[], tuple[Guarded, str | None]]] = [lambda: (_connect(path, "mode=ro"), None)]
    if log.is_file() and not log.is_symlink() and log.stat().st_size:
        # Immutable would skip the log, and with it the last events; so read a copy, log included.
        ways.append(lambda: _open_copy(path, log))
    else:
        ways.append(lambda: (_connect(path, "mode=ro&immutable=1"), None))
    problem: Exception | None = None
    for way in ways:
        try:
            connection, note = way()
            if log_is_damaged(path):
                note = f"The write-ahead log is damaged, and later events cannot be seen: {how_to_recover(path)}."
            return connection, note
        except (sqlite3.Error, OSError, UnicodeError) as error:
            problem = error
    raise RecordError(f"{path}: cannot be opened for reading: {said(problem)}.") from problem


def _connect(path: Path, options: str) -> Guarded:
    uri = f"{path.resolve().as_uri()}?{options}"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000, factory=Guarded
    )
    try:
        distrust(connection)
        if check(connection, path) == 1:
            connection.execute(f"CREATE TEMP VIEW recorded AS {_RECORDED_IN_1}")
        else:
            connection.execute(f"CREATE TEMP VIEW metrics AS {_METRICS}")
    except BaseException:
        connection.close()
        raise
    return connection


def _open_copy(path: Path, log: Path) -> tuple[Guarded, str | None]:
    folder = Path(tempfile.mkdtemp(prefix="neural-plasticity-"))
    try:
        for source in (path, log):
            shutil.copyfile(source, folder / source.name)
        connection = _connect(folder / path.name, "mode=ro")
        connection.execute("SELECT count(*) FROM attempts").fetchone()  # the log is open now: the names can go
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
    return connection, f"{path.parent} is read-only and its run did not close: read from a copy made now."
