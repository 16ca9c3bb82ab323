"""Reading a run: ``open_run(path)``. Read-only, without torch, also while another process writes."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from neural_plasticity.errors import RecordError
from neural_plasticity.events import (
    Annotation,
    AttentionMaps,
    Evaluation,
    Event,
    HeadScores,
    HeadsGrown,
    HeadsPruned,
    LogLine,
    PhaseEnded,
    PhaseStarted,
    Progress,
    RunEnded,
    RunStarted,
    StepMetrics,
    TextSample,
)
from neural_plasticity.heads import FloatGrid, StateGrid
from neural_plasticity.record import tables
from neural_plasticity.record.arrays import Array, restore, unpack
from neural_plasticity.record.codec import decode_event
from neural_plasticity.record.columns import by_step, stretches
from neural_plasticity.record.history import PhaseSpan, RunSummary, head_states, phase_spans, seen_shape
from neural_plasticity.record.schema import of_kind, open_for_reading, record_path
from neural_plasticity.record.spans import Attempt, AttemptChoice, Span, read_attempts, spans_of

if TYPE_CHECKING:
    import pandas as pd

_CHUNK = 2_000  # rows per query: no read lasts long, so that a writer can always reset its log
_LAST_SEQ = "SELECT coalesce((SELECT seq FROM recorded ORDER BY seq DESC LIMIT 1), 0)"
_COUNT = "SELECT count(*) FROM recorded"  # reads the whole file: asked rarely
STALE_SECONDS = 120.0

E = TypeVar("E", bound=Event)
T = TypeVar("T")


@dataclass(frozen=True)
class Recorded:
    """An event with its place: number in the record, attempt (from 1), and unix seconds when it was recorded."""

    seq: int
    attempt: int
    time: float
    event: Event


def open_run(path: Path | str) -> Run:
    """Open the record of a run: a run directory, or its ``run.sqlite``.

    Raises:
        RecordError: there is no record, it cannot be read, or a newer version wrote it.
    """
    return Run(record_path(path))


class Run:
    """A run's record, read-only. Every call reads what is there now, so a running run can be followed.

    ``attempt`` in the methods: ``"latest"`` is the run's history (the latest attempt, and before it what earlier
    ones did up to the point it was resumed at), ``"all"`` shows abandoned tails too, a number one attempt's own
    events. Arrays of events are read-only; ``scores`` and ``heads`` give fresh ones. Safe from several threads.
    """

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

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _query(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[Any]:
        return self._read(lambda connection: connection.execute(sql, arguments).fetchall())

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._lock:
                return read(self._connection)
        except sqlite3.Error as error:
            raise RecordError(f"{self.path}: cannot be read: {error}.") from error

    # Events ------------------------------------------------------------------------------------------------------

    @property
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
        """As ``events``, each with its number, attempt and time."""
        name = kind.kind if isinstance(kind, type) else kind
        last = self.last_seq
        for low, high in self._spans(attempt):
            yield from self._recorded(max(low, after_seq + 1), min(high, last), name)

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
        layouts: dict[int, tuple[str, ...]] = {}
        while low <= high:
            rows = self._query(sql, (*arguments, low, high))
            for seq, attempt, at, name, version, layout, payload, data, *place in rows:
                event: Event
                if layout is None:
                    arrays = get or partial(self._array, inline=data)
                    try:
                        event = decode_event(name, version, payload, coordinates(place), arrays)
                    except RecordError:
                        raise
                    except (ValueError, TypeError, LookupError, SyntaxError, zlib.error) as error:
                        raise RecordError(f"{self.path}: event {seq} cannot be read, the file is damaged.") from error
                else:
                    if layout not in layouts:
                        layouts = self._layouts()
                    values = np.frombuffer(data, dtype="<f8").tolist()
                    metrics = dict(zip(layouts[layout], values, strict=True))
                    event = StepMetrics(metrics=metrics, **coordinates(place))
                yield Recorded(seq, attempt, at, event)
            if len(rows) < _CHUNK:
                return
            low = rows[-1][0] + 1

    def _array(self, reference: Any, inline: bytes | None) -> Array:
        if isinstance(reference, list):
            dtype, shape, start, size = reference
            return restore(dtype, shape, (inline or b"")[start : start + size])  # None: only empty arrays
        rows = self._query("SELECT dtype, shape, codec, data FROM blobs WHERE hash = ?", (bytes.fromhex(reference),))
        if not rows:
            raise RecordError(f"{self.path}: array {reference} is missing from the record; the file is damaged.")
        return unpack(*rows[0])

    def _layouts(self) -> dict[int, tuple[str, ...]]:
        known = self._known_layouts  # once in the file a layout never changes; the dictionary may be in use elsewhere
        rows = self._query("SELECT id, names FROM layouts WHERE id > ? ORDER BY id", (max(known, default=0),))
        if rows:
            known = self._known_layouts = {**known, **{number: tuple(json.loads(names)) for number, names in rows}}
        return known

    # Metrics -----------------------------------------------------------------------------------------------------

    def metrics(self, attempt: AttemptChoice = "latest") -> tuple[str, ...]:
        """Names of the metrics that have values, in the order in which they first came."""
        used = {row[0] for low, high in self._spans(attempt) for row in self._query(
            "SELECT DISTINCT layout FROM metrics WHERE seq BETWEEN ? AND ?", (low, high))}  # fmt: skip
        layouts = self._layouts()
        return tuple(dict.fromkeys(name for number in sorted(used) for name in layouts[number]))

    def series(
        self, name: str, attempt: AttemptChoice = "latest"
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Steps and values of one metric, by step (in recorded order within a step); NaN and infinities included.

        Raises:
            RecordError: no such metric.
        """
        found = self.columns((name,), attempt)
        if name not in found:
            raise RecordError(
                f"metric {name!r}: expected one of {', '.join(self.metrics('all')) or '(none recorded)'}."
            )
        return found[name]

    def columns(
        self, names: Sequence[str], attempt: AttemptChoice = "latest"
    ) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
        """As ``series`` for several metrics in one pass; names that were never recorded are left out."""
        layouts = self._layouts()
        places = {
            name: {number: known.index(name) for number, known in layouts.items() if name in known} for name in names
        }
        places = {name: at for name, at in places.items() if at}
        if not places:
            return {}
        spans, last = self._spans(attempt), self.last_seq
        parts = [part for low, high in spans for part in stretches(self._query, places, low, min(high, last))]
        return {
            name: by_step(
                np.concatenate([np.empty(0, np.int64), *(part[name][0] for part in parts)]),
                np.concatenate([np.empty(0, np.float64), *(part[name][1] for part in parts)]),
            )
            for name in places
        }

    # Heads -------------------------------------------------------------------------------------------------------

    def heads(self, step: int | None = None, attempt: AttemptChoice = "latest") -> StateGrid:
        """(layers, heads) values of ``HeadState`` after ``step`` (None: now), rebuilt from the decisions.

        Raises:
            RecordError: the run has not said its shape yet.
        """
        return head_states(self.shape, self._decisions(attempt), step)

    def _decisions(self, attempt: AttemptChoice) -> list[Event]:
        return [one.event for one in self._merged(attempt, HeadsPruned, HeadsGrown)]

    def decisions(self, attempt: AttemptChoice = "latest") -> list[HeadsPruned | HeadsGrown]:
        """Every pruning and growth decision with its reasons, in order."""
        return [event for event in self._decisions(attempt) if isinstance(event, HeadsPruned | HeadsGrown)]

    def score_names(self, attempt: AttemptChoice = "latest") -> tuple[str, ...]:
        """Head criteria that were measured, in the order in which they first came."""
        return tuple(dict.fromkeys(name for event in self._all(HeadScores, attempt) for name in event.scores))

    def scores(self, name: str, step: int | None = None, attempt: AttemptChoice = "latest") -> FloatGrid:
        """(layers, heads) float64: the criterion as last measured at or before ``step`` (None: now).

        Raises:
            RecordError: it was not measured by then.
        """
        found: FloatGrid | None = None
        for event in self._all(HeadScores, attempt):
            if name in event.scores and (step is None or event.step <= step):
                found = event.scores[name]
        if found is None:
            by = "" if step is None else f" by step {step}"
            known = ", ".join(self.score_names(attempt)) or "(none recorded)"
            raise RecordError(f"score {name!r}: not measured{by}; expected one of {known}.")
        return np.array(found, dtype=np.float64)

    # Everything else ---------------------------------------------------------------------------------------------

    def _all(self, kind: type[E], attempt: AttemptChoice = "latest") -> list[E]:
        return [event for event in self.events(kind, attempt) if isinstance(event, kind)]

    def samples(self, model: str | None = None, attempt: AttemptChoice = "latest") -> list[TextSample]:
        """Generated texts, of one ``model`` (baseline, current, pruned, control) or of all."""
        return [event for event in self._all(TextSample, attempt) if model in (None, event.model)]

    def attention(
        self,
        model: str | None = None,
        prompt: str | None = None,
        cycle: int | None = None,
        step: int | None = None,
        attempt: AttemptChoice = "latest",
    ) -> list[AttentionMaps]:
        """Attention maps, narrowed by what is given."""
        wanted = {"model": model, "prompt": prompt, "cycle": cycle, "step": step}
        return [
            event
            for event in self._all(AttentionMaps, attempt)
            if all(value is None or getattr(event, name) == value for name, value in wanted.items())
        ]

    def evaluations(self, attempt: AttemptChoice = "latest") -> list[Evaluation]:
        """Results on test text, in order."""
        return self._all(Evaluation, attempt)

    def log(self, attempt: AttemptChoice = "latest") -> list[LogLine]:
        """The log."""
        return self._all(LogLine, attempt)

    def phases(self, attempt: AttemptChoice = "latest") -> list[PhaseSpan]:
        """Phase spans in order; the one still running reaches to the last event."""
        step, at, *_ = self._last(attempt)
        return phase_spans(self._merged(attempt, PhaseStarted, PhaseEnded), step, at)

    def _merged(self, attempt: AttemptChoice, *kinds: type[Event]) -> list[Recorded]:
        """Events of these kinds in one order."""
        return sorted((one for kind in kinds for one in self.records(kind, attempt)), key=lambda one: one.seq)

    def _last(self, attempt: AttemptChoice = "latest") -> tuple[int, float, str, int, int]:
        """step, time, phase, cycle and seq of the last event; zeros when there is none."""
        for low, high in reversed(self._spans(attempt)):
            # A note that somebody adds a week later does not make the run a week long.
            rows = self._query(
                "SELECT step, time, phase, cycle, seq FROM recorded"
                " WHERE kind <> ? AND seq BETWEEN ? AND ? ORDER BY seq DESC LIMIT 1",
                (Annotation.kind, low, high),
            )
            if rows:
                return tuple(rows[0])
        return 0, 0.0, "", 0, 0

    def _latest(self, kind: type[E]) -> Recorded | None:
        """The last event of one kind in the run's history."""
        for low, high in reversed(self._spans("latest")):
            rows = self._query(
                f"SELECT max(seq) FROM recorded WHERE {of_kind(kind.kind)} AND seq BETWEEN ? AND ?",
                (kind.kind, low, high),
            )
            if rows[0][0] is not None:
                return next(self._recorded(rows[0][0], rows[0][0]))
        return None

    @property
    def started(self) -> RunStarted | None:
        """The latest attempt's first event: configuration, model, data, environment."""
        found = self._latest(RunStarted)
        return found.event if found and isinstance(found.event, RunStarted) else None

    @property
    def config(self) -> Mapping[str, Any]:
        """The latest attempt's configuration; empty before the run said it."""
        return self.started.config if self.started else {}

    @property
    def name(self) -> str:
        """The run's name; its directory's before the run said it."""
        return self.started.name if self.started else self.path.resolve().parent.name

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads) at the start of the run; where the run never said it, the grid that its heads need.

        Raises:
            RecordError: the run has not begun.
        """
        first = next(self.events(RunStarted), None)
        if not isinstance(first, RunStarted):
            raise RecordError(f"{self.path}: the run has not said its shape (layers, heads) yet.")
        if any(first.shape):
            return first.shape
        return seen_shape(
            one.event for one in self._merged("latest", HeadScores, AttentionMaps, HeadsPruned, HeadsGrown)
        )

    @property
    def annotation(self) -> Annotation:
        """Tags and note of the run as last edited; ``annotate(run_dir, …)`` edits them."""
        tags: tuple[str, ...] = ()
        note = ""
        for event in self._all(Annotation, "all"):  # about the run, so a resumed attempt takes none of it back
            tags = tags if event.tags is None else event.tags
            note = note if event.note is None else event.note
        return Annotation(tags=tags, note=note)

    def summary(self, stale_after: float = STALE_SECONDS) -> RunSummary:
        """Where the run stands; a running run silent for ``stale_after`` seconds is ``stale`` (killed, or stuck).

        Raises:
            RecordError: the run has not begun, or the record cannot be read.
        """
        attempts = self.attempts
        if not attempts:
            raise RecordError(f"{self.path}: the run has not begun yet; there is nothing to show.")
        started, ended, progress = (self._latest(kind) for kind in (RunStarted, RunEnded, Progress))
        attempt = attempts[-1]
        over = ended.event if ended and ended.attempt == attempt.attempt else None
        begun = started.event if started else None
        how = progress.event if progress else None
        step, at, phase, cycle, _ = self._last()
        state = over.state if isinstance(over, RunEnded) else "running"
        grid = self.heads() if begun else np.empty((0, 0), np.int8)
        last_event = max(at, attempt.started)
        return RunSummary(
            name=self.name,
            state=state,
            stale=state == "running" and time.time() - last_event > stale_after,
            reason=over.reason if isinstance(over, RunEnded) else "",
            simulated=isinstance(begun, RunStarted) and begun.simulated,
            shape=(grid.shape[0], grid.shape[1]),
            attempt=attempt.attempt,
            phase=phase,
            cycle=cycle,
            step=step,
            events=self._event_count(),
            started=attempts[0].started,
            last_event=last_event,
            run_fraction=how.run_fraction if isinstance(how, Progress) else None,
            seconds_left=how.seconds_left if isinstance(how, Progress) and state == "running" else None,
            heads_present=int(np.count_nonzero(grid >= 0)),
            heads_pruned=int(np.count_nonzero(grid == 0)),
            metrics=self.last_metrics(),
            result=over.summary if isinstance(over, RunEnded) else {},
            notes=self.notes,
        )

    def _event_count(self) -> int:
        return int(self._query(_COUNT)[0][0])

    def last_metrics(self) -> dict[str, float]:
        """Each metric's last value in the run's history."""
        found: dict[str, tuple[int, float]] = {}
        for number, names in self._layouts().items():
            for low, high in reversed(self._spans("latest")):
                rows = self._query(
                    "SELECT seq, data FROM metrics WHERE layout = ? AND seq BETWEEN ? AND ? ORDER BY seq DESC LIMIT 1",
                    (number, low, high),
                )
                if rows:
                    seq, data = rows[0]
                    for name, value in zip(names, np.frombuffer(data, dtype="<f8").tolist(), strict=True):
                        found[name] = max(found.get(name, (0, 0.0)), (seq, value), key=lambda one: one[0])
                    break
        return {name: value for name, (_, value) in found.items()}

    def to_pandas(self, name: str | None = None, attempt: AttemptChoice = "latest") -> pd.DataFrame:
        """One metric (columns ``step`` and its name), or all: one row per metrics event.

        Raises:
            RecordError: pandas is not installed, or no such metric.
        """
        return tables.series_frame(self, name, attempt) if name else tables.metrics_frame(self, attempt)

    def to_csv(self, path: Path | str, attempt: AttemptChoice = "latest") -> Path:
        """All metrics, one row per metrics event: empty where a metric has no value, ``nan`` where it was NaN."""
        return tables.write_csv(self, Path(path), attempt)


def coordinates(place: list[Any]) -> dict[str, Any]:
    """The common fields of an event from a row's last columns."""
    step, phase, cycle, phase_step = place
    return {"step": step, "phase": phase, "cycle": cycle, "phase_step": phase_step}
