"""Reading a run: ``open_run(path)``. Read-only, without torch, also while another process writes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
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
    StateRestored,
    TextSample,
)
from neural_plasticity.heads import FloatGrid, HeadState, StateGrid
from neural_plasticity.record import tables
from neural_plasticity.record.columns import columns, stretches
from neural_plasticity.record.history import Change, PhaseSpan, RunSummary, head_states, phase_spans, seen_shape
from neural_plasticity.record.reader import Reader, Recorded, checked_place, reads
from neural_plasticity.record.schema import of_kind, record_path
from neural_plasticity.record.spans import LAST, AttemptChoice, Span

if TYPE_CHECKING:
    import pandas as pd

STALE_SECONDS = 120.0
_FEW = 16  # layouts that are looked for one by one

E = TypeVar("E", bound=Event)


def open_run(path: Path | str) -> Run:
    """Open the record of a run: a run directory, or its ``run.sqlite``.

    Raises:
        RecordError: there is no record, it cannot be read, or a newer version wrote it.
    """
    return Run(record_path(path))


class Run(Reader):
    """A run's record, read-only. Every call reads what is there now, so a running run can be followed.

    ``attempt`` in the methods: ``"latest"`` is the run's history (the latest attempt, and before it what earlier
    ones did up to the point it was resumed at), ``"all"`` shows abandoned tails too, a number one attempt's own
    events. Arrays of events are read-only; ``scores`` and ``heads`` give fresh ones. Safe from several threads.
    """

    # Metrics -----------------------------------------------------------------------------------------------------

    @reads("the list of metrics")
    def metrics(self, attempt: AttemptChoice = "latest") -> tuple[str, ...]:
        """Names of the metrics that have values, in the order in which they first came."""
        layouts = self._layouts()
        used = self._used_layouts(self._spans(attempt))
        return tuple(dict.fromkeys(name for number in sorted(used) for name in layouts[number]))

    def _used_layouts(self, spans: Sequence[Span]) -> set[int]:
        """Layouts that rows in these ranges of event numbers have."""
        known = self._layouts()
        if len(known) > _FEW:
            sql = "SELECT DISTINCT layout FROM metrics WHERE seq BETWEEN ? AND ?"
            return {row[0] for span in spans for row in self._query(sql, span)}
        sql = "SELECT 1 FROM metrics WHERE layout = ? AND seq BETWEEN ? AND ? LIMIT 1"  # reads up to its first row only
        return {number for number in known if any(self._query(sql, (number, *span)) for span in spans)}

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

    @reads("a curve")
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
        parts = (part for low, high in spans for part in stretches(self._query, places, low, min(high, last)))
        return columns(parts, places)

    # Heads -------------------------------------------------------------------------------------------------------

    def heads(self, step: int | None = None, attempt: AttemptChoice = "latest") -> StateGrid:
        """(layers, heads) values of ``HeadState`` after ``step`` (None: now), rebuilt from the decisions.

        Raises:
            RecordError: the run has not said its shape yet.
        """
        return head_states(self.start, self.changes(attempt), step)

    def changes(self, attempt: AttemptChoice = "latest") -> list[Change]:
        """Everything that moved the states of heads, in order: decisions, and returns to an earlier state."""
        found = [one.event for one in self._merged(attempt, HeadsPruned, HeadsGrown, StateRestored)]
        return [event for event in found if isinstance(event, Change)]

    def decisions(self, attempt: AttemptChoice = "latest") -> list[HeadsPruned | HeadsGrown]:
        """Every pruning and growth decision with its reasons, in order."""
        return [event for event in self.changes(attempt) if isinstance(event, HeadsPruned | HeadsGrown)]

    def score_names(self, attempt: AttemptChoice = "latest") -> tuple[str, ...]:
        """Head criteria that were measured, in the order in which they first came."""
        found = self._outlines(attempt, HeadScores)
        return tuple(dict.fromkeys(name for one in found if isinstance(one, HeadScores) for name in one.scores))

    def scores(self, name: str, step: int | None = None, attempt: AttemptChoice = "latest") -> FloatGrid:
        """(layers, heads) float64: the criterion as last measured at or before ``step`` (None: now).

        Raises:
            RecordError: it was not measured by then.
        """
        for event in self._backwards(HeadScores, step, attempt):
            if name in event.scores:
                return np.array(event.scores[name], dtype=np.float64)
        by = "" if step is None else f" by step {step}"
        known = ", ".join(self.score_names(attempt)) or "(none recorded)"
        raise RecordError(f"score {name!r}: not measured{by}; expected one of {known}.")

    def _backwards(self, kind: type[E], step: int | None, attempt: AttemptChoice) -> Iterator[E]:
        """Events of one kind at or before ``step``, the last one first: each is looked for when it is asked for."""
        sql = (
            f"SELECT seq FROM recorded WHERE {of_kind(kind.kind)} AND step <= ? AND seq BETWEEN ? AND ?"
            " ORDER BY seq DESC LIMIT 1"
        )
        for low, high in reversed(self._spans(attempt)):
            while rows := self._query(sql, (kind.kind, LAST if step is None else step, low, high)):
                ((seq,),) = rows
                high = seq - 1
                yield from (one.event for one in self._recorded(seq, seq) if isinstance(one.event, kind))

    def _outlines(self, attempt: AttemptChoice, *kinds: type[Event]) -> Iterator[Event]:
        """Events of these kinds in order, their arrays without content."""
        last = self.last_seq
        found = (
            one
            for kind in kinds
            for low, high in self._spans(attempt)
            for one in self._recorded(low, min(high, last), kind.kind, self._outline)
        )
        return (one.event for one in (sorted(found, key=lambda one: one.seq) if len(kinds) > 1 else found))

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

    @reads("the last event")
    def _last(self, attempt: AttemptChoice = "latest") -> tuple[int, float, str, int, int]:
        """step, time, phase, cycle and seq of the last event; zeros when there is none."""
        for low, high in reversed(self._spans(attempt)):
            # A note that somebody adds a week later does not make the run a week long.
            rows = self._query(
                "SELECT step, time, phase, cycle, seq, attempt FROM recorded"
                " WHERE kind <> ? AND seq BETWEEN ? AND ? ORDER BY seq DESC LIMIT 1",
                (Annotation.kind, low, high),
            )
            if rows:
                step, at, phase, cycle, seq, number = rows[0]
                checked_place(number, at, step, phase, cycle)
                return step, at, phase, cycle, seq
        return 0, 0.0, "", 0, 0

    def _latest(self, kind: type[E]) -> Recorded | None:
        """The last event of one kind in the run's history."""
        for low, high in reversed(self._spans("latest")):
            rows = self._query(
                f"SELECT max(seq) FROM recorded WHERE {of_kind(kind.kind)} AND seq BETWEEN ? AND ?",
                (kind.kind, low, high),
            )
            if rows[0][0] is not None:
                return next((one for one in self.at((rows[0][0],)) if isinstance(one.event, kind)), None)
        return None

    def at(self, seqs: Iterable[int]) -> list[Recorded]:
        """The events with these numbers, in order."""
        return [one for seq in sorted(set(seqs)) for one in self._recorded(seq, seq)]

    @property
    def started(self) -> RunStarted | None:
        """The latest attempt's first event: configuration, model, data, environment."""
        found = self._latest(RunStarted)
        return found.event if found and isinstance(found.event, RunStarted) else None

    @property
    def begun(self) -> RunStarted | None:
        """The history's first event: what the run began with. A later attempt's model has heads born since then."""
        return next((event for event in self.events(RunStarted) if isinstance(event, RunStarted)), None)

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
        first = self.begun
        if first is None:
            raise RecordError(f"{self.path}: the run has not said its shape (layers, heads) yet.")
        if any(first.shape):
            return first.shape
        return seen_shape(self._outlines("latest", HeadScores, AttentionMaps, HeadsPruned, HeadsGrown))

    @property
    def start(self) -> StateGrid:
        """(layers, heads) states before any decision: active, or absent where the model has no such head.

        Raises:
            RecordError: the run has not begun.
        """
        grid: StateGrid = np.full(self.shape, HeadState.ACTIVE, dtype=np.int8)
        begun = self.begun
        for layer, head in begun.absent if begun else ():
            if layer < grid.shape[0] and head < grid.shape[1]:
                grid[layer, head] = HeadState.ABSENT
        return grid

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
            events=self.last_seq,  # every event has the next number: counting rows would read the whole file
            started=attempts[0].started,
            last_event=last_event,
            run_fraction=1.0 if state == "finished" else how.run_fraction if isinstance(how, Progress) else None,
            seconds_left=how.seconds_left if isinstance(how, Progress) and state == "running" else None,
            heads_present=int(np.count_nonzero(grid >= 0)),
            heads_pruned=int(np.count_nonzero(grid == 0)),
            metrics=self.last_metrics(),
            result=over.summary if isinstance(over, RunEnded) else {},
            notes=self.notes,
        )

    @reads("a curve")
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
