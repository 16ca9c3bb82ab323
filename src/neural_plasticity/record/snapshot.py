"""A record as it is at one moment, read once: what a page is built of, so that all its parts agree."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import index

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import AttentionMaps, Embedding, Event, HeadScores, LogLine, Phase, StepMetrics
from neural_plasticity.record.reader import Recorded, checked_place, reads
from neural_plasticity.record.run import Run
from neural_plasticity.record.schema import of_kind
from neural_plasticity.record.spans import Attempt, AttemptChoice, Span, is_time

# What may be large or many is read where it is needed, not kept.
_NOT_KEPT = frozenset({StepMetrics.kind, HeadScores.kind, AttentionMaps.kind, Embedding.kind, LogLine.kind})
_KEPT_BYTES = 400_000_000  # of curves


@dataclass(frozen=True)
class Place:
    """Where an event stands, without its content."""

    seq: int
    attempt: int
    time: float
    step: int
    phase: Phase
    cycle: int


def snapshot(run: Run) -> Snapshot:
    """``run`` as it is now; a snapshot is its own."""
    return run if isinstance(run, Snapshot) else Snapshot(run)


class Snapshot(Run):
    """A run up to its present last event. Small events and curves are read once and kept; not for several threads."""

    def __init__(self, run: Run) -> None:
        self.path = run.path
        self._run = run  # owns the connection
        self._connection, self._lock, self._notes = run._connection, run._lock, run._notes
        self._known_layouts = run._known_layouts
        self._now = run.last_seq
        self._kept: dict[tuple[str, AttemptChoice], tuple[Recorded, ...]] = {}
        self._places: dict[tuple[str, AttemptChoice], tuple[Place, ...]] = {}
        self._names: dict[AttemptChoice, tuple[str, ...]] = {}
        self._curves: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = {}

    def close(self) -> None:
        """Nothing to let go of: the run that this was made of owns the file."""

    @property
    def last_seq(self) -> int:
        """Number of the last event that is looked at."""
        return self._now

    @cached_property
    def _attempts(self) -> tuple[Attempt, ...]:
        return super().attempts

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every stretch of writing, abandoned tails included."""
        return self._attempts

    def _spans(self, attempt: AttemptChoice) -> tuple[Span, ...]:
        return tuple((low, min(high, self._now)) for low, high in super()._spans(attempt) if low <= self._now)

    @cached_property
    def _shape(self) -> tuple[int, int]:
        return super().shape

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads) at the start of the run."""
        return self._shape

    def metrics(self, attempt: AttemptChoice = "latest") -> tuple[str, ...]:
        """Names of the metrics that have values, in the order in which they first came."""
        if attempt not in self._names:
            self._names[attempt] = super().metrics(attempt)
        return self._names[attempt]

    def records(
        self, kind: str | type[Event] | None = None, attempt: AttemptChoice = "latest", after_seq: int = 0
    ) -> Iterator[Recorded]:
        """Events with their places."""
        name = kind.kind if isinstance(kind, type) else kind
        if name is None or name in _NOT_KEPT or after_seq:
            return super().records(kind, attempt, after_seq)
        if (name, attempt) not in self._kept:
            self._kept[name, attempt] = tuple(super().records(name, attempt))
        wanted = kind if isinstance(kind, type) else Event
        return (one for one in self._kept[name, attempt] if isinstance(one.event, wanted))

    def columns(
        self, names: Sequence[str], attempt: AttemptChoice = "latest"
    ) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
        """Steps and values of several metrics; those of the run's history are kept while there is room."""
        if attempt != "latest":
            return super().columns(names, attempt)
        missing = [name for name in names if name not in self._curves]
        read = super().columns(missing) if missing else {}
        room = _KEPT_BYTES - sum(steps.nbytes + values.nbytes for steps, values in self._curves.values())
        for name, (steps, values) in read.items():
            room -= steps.nbytes + values.nbytes
            if room > 0:
                self._curves[name] = (steps, values)
        known = {**self._curves, **read}
        return {name: known[name] for name in names if name in known}

    @reads("a curve")
    def last_value(self, name: str, before: int | None = None) -> float | None:
        """A metric's last value in the history, below event number ``before`` where that is given."""
        places = {number: known.index(name) for number, known in self._layouts().items() if name in known}
        for low, high in reversed(self._spans("latest")) if places else ():
            rows = self._query(
                f"SELECT layout, data FROM metrics WHERE layout IN ({','.join(map(str, places))}) "
                "AND seq BETWEEN ? AND ? ORDER BY seq DESC LIMIT 1",
                (low, high if before is None else min(high, before - 1)),
            )
            if rows:
                return float(np.frombuffer(rows[0][1], dtype="<f8")[places[rows[0][0]]])
        return None

    def places(self, kind: type[Event], attempt: AttemptChoice = "latest") -> tuple[Place, ...]:
        """Where events of one kind stand, in order, their content unread."""
        if (kind.kind, attempt) not in self._places:  # scores are found by looking through everything
            self._places[kind.kind, attempt] = self._places_in(kind, self._spans(attempt))
        return self._places[kind.kind, attempt]

    @reads("an event")
    def _places_in(self, kind: type[Event], spans: Iterable[Span]) -> tuple[Place, ...]:
        sql = (
            "SELECT seq, attempt, time, step, phase, cycle FROM recorded "
            f"WHERE {of_kind(kind.kind)} AND seq BETWEEN ? AND ? ORDER BY seq"
        )
        return tuple(_place(*row) for low, high in spans for row in self._query(sql, (kind.kind, low, high)))

    @reads("a curve")
    def ends(self, kind: type[Event]) -> tuple[int, ...]:
        """Steps of the first and the last event of one kind in the history; none, where there is none."""
        if kind is not StepMetrics:
            return tuple(place.step for place in self.places(kind)[:: max(len(self.places(kind)) - 1, 1)])
        spans = self._spans("latest")
        sql = "SELECT step FROM metrics WHERE seq BETWEEN ? AND ? ORDER BY seq"
        first = (row for span in spans for row in self._query(f"{sql} LIMIT 1", span))
        last = (row for span in reversed(spans) for row in self._query(f"{sql} DESC LIMIT 1", span))
        return tuple(index(row[0]) for rows in (first, last) for row in itertools.islice(rows, 1))

    def outlines(self, seqs: Iterable[int]) -> Iterator[Recorded]:
        """As `at`, in the order given; arrays have their shape but no content (0 or NaN everywhere, in no memory)."""
        return (one for seq in seqs for one in self._recorded(seq, seq, get=self._outline))

    def count(self, *kinds: str, attempt: AttemptChoice = "latest") -> int:
        """How many events there are; of these ``kinds`` only, where they are given."""
        total = 0
        for low, high in self._spans(attempt):
            if not kinds:  # every event has the next number
                total += high - low + 1
            for where, named in _conditions(kinds) if kinds else ():
                sql = f"SELECT count(*) FROM recorded WHERE {where} seq BETWEEN ? AND ?"
                total += self._query(sql, (*named, low, high))[0][0]
        return total

    def latest(
        self, most: int, kinds: Sequence[str] = (), before: int | None = None, attempt: AttemptChoice = "latest"
    ) -> list[Recorded]:
        """The last ``most`` events below number ``before``, in order, of these ``kinds`` or of all.

        As `outlines`: for lists of what happened.
        """
        found: list[int] = []
        for low, high in reversed(self._spans(attempt)):
            high = high if before is None else min(high, before - 1)
            for where, named in _conditions(kinds):
                sql = f"SELECT seq FROM recorded WHERE {where} seq BETWEEN ? AND ? ORDER BY seq DESC LIMIT ?"
                found += [row[0] for row in self._query(sql, (*named, low, high, most))]
        return list(self.outlines(sorted(found)[-most:]))

    @reads("the time of an event")
    def times(self, most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Step and unix seconds of about ``most`` events spread evenly over the history, in recorded order."""
        spans = self._spans("latest")
        total = sum(high - low + 1 for low, high in spans)
        chosen: list[int] = []
        for low, high in spans:
            count = min(high - low + 1, max(2, round(most * (high - low + 1) / total)))
            chosen += np.unique(np.linspace(low, high, count).round().astype(np.int64)).tolist()
        rows = []
        for start in range(0, len(chosen), 500):
            some = chosen[start : start + 500]
            marks = ",".join("?" * len(some))
            rows += self._query(f"SELECT step, time FROM recorded WHERE seq IN ({marks}) ORDER BY seq", tuple(some))
        if not all(type(step) is int and is_time(at) for step, at in rows):
            raise TypeError("coordinates")
        return np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.float64)


def _place(seq: int, attempt: int, at: float, step: int, phase: str, cycle: int) -> Place:
    checked_place(attempt, at, step, phase, cycle)
    return Place(seq, attempt, at, step, phase, cycle)


def _conditions(kinds: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """For each of these kinds (one for all, when none is named) a condition, ready to go on, and its parameters."""
    if not kinds:
        yield "", ()
    for kind in kinds:  # one query each: the index is by kind, then number
        yield f"{of_kind(kind)} AND", (kind,)
