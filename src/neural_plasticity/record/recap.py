"""A run's history in a few events: what has to be seen to stand where the run stands, without reading every step."""

from __future__ import annotations

from collections.abc import Iterator

from neural_plasticity.events import (
    EVENT_TYPES,
    AttentionMaps,
    Embedding,
    Event,
    HeadScores,
    LogLine,
    Progress,
    StepMetrics,
    TextSample,
)
from neural_plasticity.record.reader import Recorded
from neural_plasticity.record.run import Run
from neural_plasticity.record.snapshot import snapshot

_MANY = (StepMetrics, Progress, HeadScores, AttentionMaps, Embedding, TextSample, LogLine)


def recap(run: Run, steps: int = 240) -> Iterator[Event]:
    """The history in order, of what there is much of only what counts: every metric's last value, the metrics of the
    last ``steps`` steps, the last progress, the last head scores of each phase. Maps, texts and the log are left out.

    No step but these is decoded, so that ten million of them are a matter of seconds.
    """
    now = snapshot(run)
    found: list[Recorded] = [
        one for kind in EVENT_TYPES.values() if kind not in _MANY for one in now.records(kind)
    ]  # fmt: skip
    found += now.latest(steps, (StepMetrics.kind,)) + now.latest(1, (Progress.kind,))
    found += now.at({place.phase: place.seq for place in now.places(HeadScores)}.values())
    if metrics := now.last_metrics():
        yield StepMetrics(metrics=metrics)
    yield from (one.event for one in sorted(found, key=lambda one: one.seq))
