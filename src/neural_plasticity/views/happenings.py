"""What happened, one line per event: the raw events, and the few that somebody who comes back wants to know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from neural_plasticity import events as ev
from neural_plasticity.record import Recorded, Run, UnknownEvent
from neural_plasticity.record.snapshot import snapshot
from neural_plasticity.views import figures
from neural_plasticity.views.palette import phase_label
from neural_plasticity.views.results import number, verdicts
from neural_plasticity.views.story import decision_title, judged_title, restored_title

_NOTABLE = (
    ev.RunStarted, ev.RunEnded, ev.PhaseStarted, ev.Stabilised, ev.HeadsPruned, ev.HeadsGrown, ev.Evaluation,
    ev.CycleJudged, ev.StateRestored,
)  # fmt: skip
_LOG_LOOKED_AT = 200  # of the last log lines, for warnings among them


@dataclass(frozen=True)
class RawEvent:
    """One event in a line of text."""

    seq: int
    attempt: int
    time: float
    kind: str
    step: int
    phase: str
    cycle: int
    text: str


@dataclass(frozen=True)
class RawEvents:
    """Some of the ``total`` events, in order."""

    rows: tuple[RawEvent, ...]
    total: int


@dataclass(frozen=True)
class Recent:
    """Something notable: what happened (``title``) and why (``detail``)."""

    seq: int
    step: int
    time: float
    kind: str
    title: str
    detail: str


def raw_events(run: Run, most: int = 500, before: int | None = None, kind: str | None = None) -> RawEvents:
    """The last ``most`` events below number ``before``, all attempts, of one ``kind`` or of all."""
    now = snapshot(run)
    kinds = (kind,) if kind else ()
    rows = tuple(
        RawEvent(
            one.seq, one.attempt, one.time, figures.clean(_kind(one.event)), one.event.step,
            figures.clean(one.event.phase), one.event.cycle, figures.shorten(describe(one.event), 400),
        )
        for one in now.latest(most, kinds, before, "all")
    )  # fmt: skip
    return RawEvents(rows, now.count(*kinds, attempt="all"))


def recent(run: Run, most: int = 8) -> tuple[Recent, ...]:
    """The last notable events, in order: transitions, decisions, results, warnings."""
    now = snapshot(run)
    found = [one for kind in _NOTABLE for one in list(now.records(kind))[-most:]]
    lines = now.latest(_LOG_LOOKED_AT, (ev.LogLine.kind,))
    found += [one for one in lines if isinstance(one.event, ev.LogLine) and one.event.level in ("warning", "error")]
    found.sort(key=lambda one: one.seq)
    return tuple(_recent(one) for one in found[-most:])


def _recent(one: Recorded) -> Recent:
    title, detail = _told(one.event)
    kind = one.event.level if isinstance(one.event, ev.LogLine) else _kind(one.event)
    if isinstance(one.event, ev.HeadsPruned | ev.HeadsGrown):
        kind = one.event.origin if isinstance(one.event, ev.HeadsGrown) else "pruned"
    return Recent(one.seq, one.event.step, one.time, kind, figures.shorten(title, 200), figures.shorten(detail, 400))


def _told(event: ev.Event) -> tuple[str, str]:
    """Title and detail of a notable event."""
    if isinstance(event, ev.RunStarted):
        return "Run started", figures.clean(event.name)
    if isinstance(event, ev.RunEnded):
        return f"Run {event.state}", figures.clean(event.reason)
    if isinstance(event, ev.PhaseStarted):
        label = figures.clean(phase_label(event.phase))
        return label[:1].upper() + label[1:], f"cycle {event.cycle}" if event.cycle else ""
    if isinstance(event, ev.Stabilised):
        return f"Loss stable at {figures.plain(event.loss)}", figures.clean(event.reason)
    if isinstance(event, ev.HeadsPruned | ev.HeadsGrown):
        reasons = [f"{figures.head_list(event.heads, 8)}", figures.clean(event.rule)]
        return decision_title(event), "; ".join(reason for reason in reasons if reason)
    if isinstance(event, ev.CycleJudged):
        return judged_title(event), figures.clean(event.reason)
    if isinstance(event, ev.StateRestored):
        return restored_title(event), figures.clean(event.reason)
    if isinstance(event, ev.Evaluation):
        said = verdicts(event.results)
        return "Evaluated", said[0] if said else _perplexities(event)
    return describe(event), ""


def _perplexities(event: ev.Evaluation) -> str:
    parts = (
        f"{figures.clean(str(model))} perplexity {figures.perplexity(value)}"
        for model, found in event.results.items()
        if (value := number(found, "perplexity")) is not None
    )
    return ", ".join(parts)


def _kind(event: ev.Event) -> str:
    return event.original_kind if isinstance(event, UnknownEvent) else event.kind


def describe(event: ev.Event) -> str:
    """An event's content in one line."""
    if isinstance(event, ev.StepMetrics):
        return _pairs(event.metrics)
    if isinstance(event, ev.Progress):
        left = f", about {figures.duration(event.seconds_left)} left" if event.seconds_left is not None else ""
        return f"{event.done:,} of {event.planned:,} {event.unit}, run {figures.percent(event.run_fraction)}{left}"
    if isinstance(event, ev.PhaseStarted):
        return f"planned: {event.planned:,} {event.unit}" if event.planned is not None else "begun"
    if isinstance(event, ev.PhaseEnded):
        parts = [figures.duration(event.seconds), figures.clean(event.reason), _pairs(event.summary)]
        return "; ".join(part for part in parts if part)
    if isinstance(event, ev.HeadScores):
        names = ", ".join(figures.clean(name) for name in event.scores)
        return f"{names} on {figures.plural(event.sequences, 'sequence')}"
    if isinstance(event, ev.TextSample):
        return f"{figures.clean(event.model)}: {_quoted(event.prompt)} → {_quoted(event.text)}"
    if isinstance(event, ev.AttentionMaps):
        shape = " × ".join(str(side) for side in event.maps.shape)
        return f"{figures.clean(event.model)}: {_quoted(event.prompt)}, {shape}"
    if isinstance(event, ev.Embedding):
        return f"{figures.clean(event.name)}, {' × '.join(str(side) for side in event.vectors.shape)}"
    if isinstance(event, ev.LogLine):
        return f"{event.level}: {figures.clean(event.message[:1_000])}"
    if isinstance(event, ev.Annotation):
        return _pairs({"tags": event.tags, "note": event.note})
    if isinstance(event, UnknownEvent):
        return f"of a newer version ({event.original_version}); {_pairs(event.payload)}"
    title, detail = _told(event)
    return f"{title}; {detail}" if detail else title


def _quoted(text: str) -> str:
    return f"“{figures.shorten(figures.clean(text[:200]), 80)}”"


def _pairs(values: Mapping[str, Any], most: int = 12) -> str:
    """Names and values; numbers as they are read, the rest as short text."""
    some = islice(values.items(), most)
    said = [f"{figures.shorten(figures.clean(str(name)), 60)} {_value(value)}" for name, value in some]
    return ", ".join([*said, *([f"and {len(values) - most:,} more"] if len(values) > most else [])])


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", figures.MINUS) if math.isfinite(value) else figures.plain(value)
    return figures.shorten(figures.clean(str(value)[:400]), 100)
