"""Which events belong to a run's history when it was resumed: attempts, as ranges of event numbers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from neural_plasticity.errors import RecordError

AttemptChoice = int | Literal["latest", "all"]
Span = tuple[int, int]  # first and last event number, both included
LAST = 2**63 - 1
_YEAR_9999 = 253_000_000_000.0


@dataclass(frozen=True)
class Attempt:
    """One stretch of writing: its first event number, and up to where the history before it still counts."""

    attempt: int
    first_seq: int
    kept_seq: int
    resumed_step: int | None
    started: float
    notes: tuple[str, ...] = ()


def is_time(value: Any) -> bool:
    """Whether this is a time in unix seconds, in the years that calendars know."""
    return type(value) in (int, float) and 0 <= value < _YEAR_9999


def read_attempts(connection: sqlite3.Connection) -> tuple[Attempt, ...]:
    """All attempts, the first one first.

    Raises:
        ValueError, TypeError: they are not as we write them.
    """
    rows = connection.execute(
        "SELECT attempt, first_seq, kept_seq, resumed_step, started, notes FROM attempts ORDER BY attempt"
    )
    return tuple(_attempt(place, *row) for place, row in enumerate(rows, start=1))


def _attempt(place: int, number: Any, first: Any, kept: Any, step: Any, started: Any, notes: str) -> Attempt:
    said = json.loads(notes)
    if number != place or type(first) is not int or type(kept) is not int or not 0 <= kept < first:
        raise ValueError(f"attempt {number}")
    if not isinstance(step, int | None) or not is_time(started) or not all(isinstance(one, str) for one in said):
        raise TypeError(f"attempt {number}")
    return Attempt(number, first, kept, step, started, tuple(said))


def latest_spans(attempts: Sequence[Attempt]) -> tuple[Span, ...]:
    """The latest attempt, and of each earlier history what lies before the point it was resumed at."""
    spans: list[Span] = []
    for one in attempts:
        while spans and spans[-1][0] > one.kept_seq:
            spans.pop()
        if spans:
            low, high = spans[-1]
            spans[-1] = (low, min(high, one.kept_seq))
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
