"""Tags and notes on a run, editable at any time, also long after it ended."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from neural_plasticity.errors import RecordError
from neural_plasticity.events import Annotation
from neural_plasticity.record.store import RecordWriter


def annotate(run_dir: Path | str, tags: Iterable[str] | None = None, note: str | None = None) -> Annotation:
    """Replace the tags or the note of a run; None leaves that part as it is. ``Run.annotation`` reads them.

    Raises:
        RecordError: no run there, it is being written by another process, or a value is not text.
    """
    made = annotation(tags, note)
    with RecordWriter.amend(run_dir) as writer:
        writer.append(made)
    return made


def annotation(tags: Iterable[str] | None, note: str | None) -> Annotation:
    """The event that says so.

    Raises:
        RecordError: a value is not text.
    """
    kept = None if tags is None else (tags,) if isinstance(tags, str) else tuple(tags)
    for value in (*(kept or ()), *([] if note is None else [note])):
        if not isinstance(value, str):
            raise RecordError(f"annotate: expected tags and note as text, got {type(value).__name__}.")
    return Annotation(tags=kept, note=note)
