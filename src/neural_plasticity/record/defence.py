"""What a record from somebody else can do when it is opened: be read, and nothing else (docs/security.md).

SQLite runs what a file's schema says: views, triggers, virtual tables, generated columns. So the tables that we read
must be plain ones with our columns, triggers are refused, and no view of the file is ever used. Rows may claim any
size (an overflow chain may be a circle), and a query may never end (so may a tree of pages): both are bounded.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neural_plasticity.errors import RecordError

MOST_ROW_BYTES = 2**29  # of a row, a value, a column of one stretch of metrics: SQLite's own default is twice that
MOST_QUERY_SECONDS = 120.0
_STEPS_PER_LOOK = 1_000_000  # of SQLite's machine, some ten milliseconds
_MOST_OBJECTS = 1_000

_PLACE = ("seq", "attempt", "cycle", "phase", "phase_step", "step", "time")
_COMMON = {
    "meta": ("key", "value"),
    "attempts": ("attempt", "first_seq", "kept_seq", "resumed_step", "started", "notes"),
    "layouts": ("id", "names"),
    "blobs": ("hash", "dtype", "shape", "codec", "data"),
}
_SINCE_2 = {**_COMMON, "recorded": (*_PLACE, "kind", "version", "layout", "payload", "data")}
_IN_1 = {
    **_COMMON,
    "events": (*_PLACE, "kind", "version", "payload", "arrays"),
    "metrics": (*_PLACE, "layout", "data"),
}


class Guarded(sqlite3.Connection):
    """A connection whose queries end: `begin` gives the next one its time."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.begin()
        self.set_progress_handler(lambda: time.monotonic() > self._until, _STEPS_PER_LOOK)
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_ROW_BYTES)

    def begin(self, seconds: float = MOST_QUERY_SECONDS) -> None:
        """From now on SQLite may work for so long, then it answers "interrupted"."""
        self._until = time.monotonic() + seconds


def said(error: object) -> str:
    """SQLite's message on one line: it may quote the file."""
    return " ".join(str(error).split())[:200]


def distrust(connection: sqlite3.Connection) -> None:
    """Functions of SQLite with effects are closed to what the file says, other files cannot be attached to it."""
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0)
    if sys.version_info >= (3, 12):
        with contextlib.suppress(sqlite3.Error):  # a SQLite older than the setting
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)


def check_tables(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """The tables that are read are as this program makes them.

    Raises:
        RecordError: one is not, or the file has triggers, which would act when the run goes on.
    """
    expected: Mapping[str, tuple[str, ...]] = _IN_1 if version == 1 else _SINCE_2
    rows = connection.execute(
        "SELECT type, name, rootpage FROM sqlite_master WHERE type IN ('table', 'trigger', 'view') LIMIT ?",
        (_MOST_OBJECTS,),
    ).fetchall()
    kinds = {name: (kind, root) for kind, name, root in rows}
    unusual = [str(name) for kind, name, _ in rows if kind == "trigger"]
    for table, columns in expected.items():
        kind, root = kinds.get(table, ("nothing", 0))
        # Virtual tables have no page of their own. Asking for their columns would already run them.
        plain = kind == "table" and isinstance(root, int) and root > 0
        found = connection.execute(f"PRAGMA main.table_xinfo({table})").fetchall() if plain else []
        if tuple(name for _, name, *_ in found) != columns or any(hidden for *_, hidden in found):
            unusual.append(table)
    if unusual or len(rows) == _MOST_OBJECTS:
        raise RecordError(
            f"{path}: expected the record of a run, but its tables are not as this program makes them "
            f"({', '.join(unusual[:3]) or 'thousands of them'}); it is not opened."
        )
