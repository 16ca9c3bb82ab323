"""What clients are told while a run goes on: one update for a stretch of events. Pure functions of the record.

Updates over (a, b] and (b, c] tell together what one over (a, c] does, so a stream and a poll can not differ, and a
client that comes back with the last number that it has seen misses nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neural_plasticity.events import Annotation, Progress, RunEnded, StepMetrics
from neural_plasticity.record import Recorded, RunSummary
from neural_plasticity.record.run import STALE_SECONDS

POINTS = "curves"  # the section that new points belong to: a client adds them itself


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of an event in memory: its place and its numbers, never its arrays."""

    seq: int
    attempt: int
    kind: str
    step: int
    metrics: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Place:
    """Where the run stands after the last event; ``over``: how it ended, None while it has not."""

    attempt: int = 0
    phase: str = ""
    cycle: int = 0
    step: int = 0
    last_event: float = 0.0
    run_fraction: float | None = None
    seconds_left: float | None = None
    over: str | None = None

    @classmethod
    def of(cls, summary: RunSummary) -> Place:
        """The place that a summary tells."""
        return cls(
            attempt=summary.attempt,
            phase=summary.phase,
            cycle=summary.cycle,
            step=summary.step,
            last_event=summary.last_event,
            run_fraction=summary.run_fraction,
            seconds_left=summary.seconds_left,
            over=None if summary.state == "running" else summary.state,
        )

    def after(self, one: Recorded) -> Place:
        """The place after one more event."""
        event = one.event
        if isinstance(event, Annotation):  # somebody's remark, maybe a week later: the run has not moved
            return self
        start = self if one.attempt == self.attempt else Place(attempt=one.attempt)
        moved = replace(start, phase=event.phase, cycle=event.cycle, step=event.step, last_event=one.time)
        if isinstance(event, Progress):
            return replace(moved, run_fraction=event.run_fraction, seconds_left=event.seconds_left)
        if isinstance(event, RunEnded):
            fraction = 1.0 if event.state == "finished" else moved.run_fraction
            return replace(moved, over=event.state, run_fraction=fraction, seconds_left=None)
        return moved

    def state(self, now: float) -> str:
        """running, finished, stopped, failed, or stale: running, but silent for long."""
        if self.over is not None:
            return self.over
        return "stale" if now - self.last_event > STALE_SECONDS else "running"


def seen(one: Recorded) -> Seen:
    """What is kept of an event."""
    metrics = one.event.metrics if isinstance(one.event, StepMetrics) else None
    return Seen(one.seq, one.attempt, one.event.kind, one.event.step, metrics)


@dataclass(frozen=True)
class Update:
    """News for clients, up to event ``seq``; ``reset``: do not add to what is there, fetch the document again."""

    seq: int
    time: float
    state: str
    points: Mapping[str, Mapping[str, list[Any]]]
    changed: tuple[str, ...]
    progress: Mapping[str, Any]
    reset: bool = False

    def with_changed(self, names: Iterable[str]) -> Update:
        """The same, with more sections to fetch again."""
        return replace(self, changed=tuple(dict.fromkeys((*self.changed, *names))))

    def as_json(self) -> bytes:
        """As a client reads it; numbers that JSON lacks are words."""
        text = json.dumps(vars(self), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        return text.encode("ascii")

    def as_event(self) -> bytes:
        """As one server-sent event, whose id is the cursor to come back with."""
        return b"id: %d\nevent: update\ndata: %b\n\n" % (self.seq, self.as_json())


def update(
    events: Sequence[Seen],
    place: Place,
    seq: int,
    now: float,
    sections: Mapping[str, Collection[str]],
    known: Collection[str] = (),
) -> Update:
    """The update that tells ``events``; ``sections``: name -> kinds that change it; ``known``: metrics seen before."""
    points = _points(events)
    kinds = {one.kind for one in events}
    changed = [name for name, of in sections.items() if kinds & set(of) and name != POINTS]
    if POINTS in sections and not points.keys() <= set(known):
        changed.append(POINTS)  # a metric that the client has no label and no unit for
    return Update(seq, now, place.state(now), points, tuple(changed), _progress(place))


def reset(place: Place, seq: int, now: float) -> Update:
    """The update for a client that cannot go on from what it has."""
    return Update(seq, now, place.state(now), {}, (), _progress(place), reset=True)


def _points(events: Iterable[Seen]) -> dict[str, dict[str, list[Any]]]:
    found: dict[str, dict[str, list[Any]]] = {}
    for one in events:
        for name, value in (one.metrics or {}).items():
            points = found.setdefault(name, {"steps": [], "values": []})
            points["steps"].append(one.step)
            points["values"].append(plain(value))
    return found


def plain(value: float) -> float | str:
    """A number as JSON can hold it: NaN and infinities as words."""
    if math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _progress(place: Place) -> dict[str, Any]:
    numbers = {"run_fraction": place.run_fraction, "seconds_left": place.seconds_left}
    return {
        "phase": place.phase,
        "cycle": place.cycle,
        "step": place.step,
        "last_event": place.last_event,
        **{name: None if value is None else plain(value) for name, value in numbers.items()},
    }
