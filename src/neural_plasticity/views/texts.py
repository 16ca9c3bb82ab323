"""What is read rather than plotted, all of it: every text sample, the settings, the log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neural_plasticity.events import LogLine, TextSample
from neural_plasticity.record import Run
from neural_plasticity.record.snapshot import snapshot
from neural_plasticity.views import figures
from neural_plasticity.views.results import number

CHARACTERS = 2_000_000  # of samples in a document
_LONGEST = 20_000  # of one text; the page's packing cuts there too


@dataclass(frozen=True)
class Sample:
    """One generated text."""

    step: int
    cycle: int
    phase: str
    model: str
    prompt: str
    text: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class AllSamples:
    """Samples in order; of too many, ``left_out`` early ones (after each model's first for a prompt) are missing."""

    rows: tuple[Sample, ...]
    left_out: int = 0
    empty: str | None = None


@dataclass(frozen=True)
class Setting:
    """A titled list of names and values."""

    title: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Line:
    """One line of the log."""

    seq: int
    step: int
    time: float
    level: str
    message: str


@dataclass(frozen=True)
class Log:
    """The last lines of ``total``."""

    lines: tuple[Line, ...]
    total: int


def all_samples(run: Run, most_characters: int = CHARACTERS) -> AllSamples:
    """Every text sample; when they are too long in all, the first of each model and prompt and the latest."""
    found = [event for event in run.events(TextSample) if isinstance(event, TextSample)]
    sizes = [min(len(one.prompt), _LONGEST) + min(len(one.text), _LONGEST) for one in found]
    first = {(one.model, one.prompt): place for place, one in reversed(list(enumerate(found)))}
    wanted = [*sorted(first.values()), *range(len(found) - 1, -1, -1)]
    kept: set[int] = set()
    room = most_characters
    for place in wanted:
        if place not in kept and sizes[place] <= room:
            kept.add(place)
            room -= sizes[place]
    rows = tuple(_sample(one) for place, one in enumerate(found) if place in kept)
    return AllSamples(rows, len(found) - len(rows), None if rows else "No text was sampled.")


def _sample(one: TextSample) -> Sample:
    metrics = {name: value for name in one.metrics if (value := number(one.metrics, name)) is not None}
    return Sample(one.step, one.cycle, one.phase, one.model, one.prompt, one.text, metrics)


def settings(run: Run) -> tuple[Setting, ...]:
    """Configuration, data and environment of the latest attempt, and the model that the run began with.

    Parts that were not recorded are left out.
    """
    begun, started = run.begun, run.started
    if begun is None or started is None:
        return ()
    parts = (
        ("Configuration", started.config),
        ("Model", begun.model),
        ("Data", started.data),
        ("Environment", started.environment),
    )
    return tuple(Setting(title, _pairs(values)) for title, values in parts if values)


def _pairs(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((figures.clean(str(name)[:1_000]), _written(value)) for name, value in values.items())


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: figures.MISSING}[value]
    return json.dumps(value, ensure_ascii=False, default=str)


def log(run: Run, most: int = 2_000) -> Log:
    """The last ``most`` lines of the log."""
    now = snapshot(run)
    lines = tuple(
        Line(one.seq, one.event.step, one.time, one.event.level, one.event.message)
        for one in now.latest(most, (LogLine.kind,))
        if isinstance(one.event, LogLine)
    )
    return Log(lines, now.count(LogLine.kind))
