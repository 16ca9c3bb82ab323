"""Which events belong to a run's history when it was resumed: attempts, as ranges of event numbers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from neural_plasticity.errors import RecordError

AttemptChoice = int | Literal["latest", "all"]
Span = tuple[int, int]  # first and last event number, both included
LAST = 2**63 - 1


@dataclass(frozen=True)
class Attempt:
    """One stretch of writing: its first event number, and up to where the history before it still counts."""

    attempt: int
    first_seq: int
    kept_seq: int
    resumed_step: int | None
    started: float
    notes: tuple[str, ...] = ()


def read_attempts(connection: sqlite3.Connection) -> tuple[Attempt, ...]:
    """All attempts, the first one first."""
    rows = connection.execute(
        "SELECT attempt, first_seq, kept_seq, resumed_step, started, notes FROM attempts ORDER BY attempt"
    )
    return tuple(
        Attempt(number, first, kept, step, started, tuple(json.loads(notes)))
        for number, first, kept, step, started, notes in rows
    )


def latest_spans(attempts: Sequence[Attempt]) -> tuple[Span, ...]:
    """The latest attempt, and of each earlier history what lies before the point it was resumed at."""
    spans: list[Span] = []
    for one in attempts:
        spans = [(low, min(high, one.kept_seq)) for low, high in spans if low <= one.kept_seq]
        spans.append((one.first_seq, LAST))
    return tuple(spans)


def spans_of(attempts: Sequence[Attempt], choice: AttemptChoice) -> tuple[Span, ...]:
    """Ranges of event numbers: the history (``latest``), everything (``all``), or one attempt's own events.

    Raises:
        RecordError: there is no such attempt.
    """
    if choice == "latest":
        return latest_spans(attempts)
    if choice == "all":
        return ((1, LAST),)
    for one, following in zip(attempts, (*attempts[1:], None), strict=True):
        if one.attempt == choice:
            return ((one.first_seq, LAST if following is None else following.first_seq - 1),)
    raise RecordError(f"attempt {choice!r}: expected 'latest', 'all' or a number from 1 to {len(attempts)}.")
