"""A run that begins with another one's history: a copy of its record, up to one event, in a directory of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from neural_plasticity.errors import RecordError
from neural_plasticity.record.defence import distrust, said
from neural_plasticity.record.schema import (
    FILE_NAME,
    SCHEMA_VERSION,
    bring_up_to_date,
    check,
    open_for_reading,
    record_path,
)


def fork_record(origin: Path | str, run_dir: Path | str, kept_seq: int, files: Sequence[str] = ()) -> Path:
    """Copy the record of ``origin`` up to event ``kept_seq`` into the new directory ``run_dir``, and ``files`` with it.

    The copy keeps numbers, attempts and times; ``RecordWriter.reopen(run_dir, after_seq=kept_seq)`` goes on with it.
    It appears whole or not at all. ``origin`` is only read, and may be somebody else's at the same moment.

    Raises:
        RecordError: ``origin`` has no such record, or ``run_dir`` exists already or cannot be written.
    """
    source, target = record_path(origin), Path(run_dir)
    if target.exists():
        raise RecordError(f"{target}: already exists; a copy of a run needs a directory of its own.")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        _copy_record(source, part / FILE_NAME, kept_seq)
        for name in files:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(source.parent / name, part / name)
        part.rename(target)
    except (OSError, sqlite3.Error, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or said(error)
        raise RecordError(f"{target}: the record of {source.parent} cannot be copied there: {reason}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target / FILE_NAME


def _copy_record(source: Path, target: Path, kept_seq: int) -> None:
    reading, _ = open_for_reading(source)
    with contextlib.closing(reading), contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
        reading.backup(copy)
        distrust(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one plain file, whatever the original was written with
        copy.execute("PRAGMA secure_delete=ON")  # what is taken out is not there for a recovery to find
        version = check(copy, target)
        if version < SCHEMA_VERSION:  # its events may be in other tables
            bring_up_to_date(copy, version)
        copy.execute("DELETE FROM recorded WHERE seq > ?", (kept_seq,))
        copy.execute("DELETE FROM attempts WHERE first_seq > ?", (kept_seq,))


def _link_or_copy(source: Path, target: Path) -> None:
    """Checkpoints are replaced and never written into, so that a link is as good as a copy, and takes no room."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
