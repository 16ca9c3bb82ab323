"""A run as the page's document: named sections, each a view model, each with the events that change it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from neural_plasticity import events as ev
from neural_plasticity.errors import RecordError
from neural_plasticity.record import Run
from neural_plasticity.record.schema import SCHEMA_VERSION
from neural_plasticity.record.snapshot import Snapshot, snapshot
from neural_plasticity.views import figures
from neural_plasticity.views.analysis import analysis
from neural_plasticity.views.attention_evolution import attention_evolution
from neural_plasticity.views.curves import clock_set_back, curves
from neural_plasticity.views.cycles import cycles
from neural_plasticity.views.embeddings import embeddings
from neural_plasticity.views.evaluation import evaluation
from neural_plasticity.views.fine_tuning import fine_tuning
from neural_plasticity.views.growth import growth
from neural_plasticity.views.happenings import raw_events
from neural_plasticity.views.heads_history import heads_history
from neural_plasticity.views.overview import overview
from neural_plasticity.views.pruning import pruning
from neural_plasticity.views.texts import all_samples, log, settings
from neural_plasticity.views.timeline import timeline
from neural_plasticity.views.warmup import warmup


@dataclass(frozen=True)
class Budget:
    """How much of what may be long a document holds."""

    curve_points: int
    scores: int
    attention_bytes: int
    sample_characters: int
    log_lines: int
    events: int
    decision_cells: int = 150_000
    embedding_cells: int = 200_000
    context_points: int = 2_000  # of the loss in the panels of single phases


FILE = Budget(20_000, 600_000, 1_500_000, 2_000_000, 2_000, 500)
LIVE = Budget(4_000, 400_000, 1_000_000, 500_000, 500, 200, context_points=1_500)


@dataclass(frozen=True)
class Meta:
    """What the document is about: ``seq`` is the last event in it, ``notes`` say what was left out and how."""

    seq: int
    written: float  # unix seconds
    record: str
    notes: tuple[str, ...]
    schema: int
    version: str
    simulated: bool


@dataclass(frozen=True)
class Section:
    """How a section is built, and the kinds of events that change it."""

    build: Callable[[Snapshot, Budget], Any]
    kinds: frozenset[str]


def _kinds(*types: type[ev.Event]) -> frozenset[str]:
    return frozenset(one.kind for one in types)


_PHASES = (ev.PhaseStarted, ev.PhaseEnded)
_CHANGES = (ev.HeadsPruned, ev.HeadsGrown, ev.StateRestored)
_ENDS = (ev.RunStarted, ev.RunEnded)

# The page adds the points of a phase to curves, timeline, warm-up and fine-tuning itself while the run goes on, and
# shows these sections as they are made when it ends. What cycles say of the training is made here.
SECTIONS: Mapping[str, Section] = {
    "overview": Section(
        lambda run, _: overview(run),
        _kinds(*_ENDS, *_PHASES, *_CHANGES, ev.Progress, ev.Stabilised, ev.CycleJudged,
               ev.Evaluation, ev.Annotation, ev.LogLine),
    ),
    "timeline": Section(
        lambda run, budget: timeline(run, most=budget.context_points),
        _kinds(*_ENDS, *_PHASES, *_CHANGES, ev.Stabilised),
    ),
    "curves": Section(lambda run, budget: curves(run, budget.curve_points), _kinds(ev.StepMetrics)),
    "heads": Section(
        lambda run, budget: heads_history(run, budget.scores), _kinds(ev.RunStarted, *_CHANGES, ev.HeadScores)
    ),
    "warmup": Section(
        lambda run, budget: warmup(run, budget.context_points), _kinds(*_PHASES, ev.Stabilised, ev.RunEnded)
    ),
    "analysis": Section(lambda run, _: analysis(run), _kinds(ev.HeadScores, *_CHANGES)),
    "pruning": Section(lambda run, budget: pruning(run, budget.decision_cells), _kinds(*_CHANGES)),
    "fine_tuning": Section(
        lambda run, budget: fine_tuning(run, budget.context_points), _kinds(*_PHASES, *_CHANGES, ev.RunEnded)
    ),
    "evaluation": Section(lambda run, _: evaluation(run), _kinds(ev.Evaluation, ev.TextSample)),
    "cycles": Section(
        lambda run, _: cycles(run),
        _kinds(*_PHASES, *_CHANGES, ev.CycleJudged, ev.Evaluation, ev.StepMetrics, ev.RunEnded),
    ),
    "attention": Section(
        lambda run, budget: attention_evolution(run, budget.attention_bytes), _kinds(ev.AttentionMaps)
    ),
    "growth": Section(lambda run, _: growth(run), _kinds(*_CHANGES, ev.HeadScores, ev.PhaseStarted)),
    "embeddings": Section(lambda run, budget: embeddings(run, budget.embedding_cells), _kinds(ev.Embedding)),
    "samples": Section(lambda run, budget: all_samples(run, budget.sample_characters), _kinds(ev.TextSample)),
    "settings": Section(lambda run, _: settings(run), _kinds(ev.RunStarted)),
    "log": Section(lambda run, budget: log(run, budget.log_lines), _kinds(ev.LogLine)),
    "events": Section(lambda run, budget: raw_events(run, budget.events), frozenset(ev.EVENT_TYPES)),
}  # fmt: skip
META = "meta"


def document(run: Run, names: Iterable[str] | None = None, budget: Budget = FILE) -> dict[str, Any]:
    """The sections ``names`` (None: all) of a run as it is now, and ``meta``, which is always there.

    Raises:
        RecordError: no such section.
    """
    now = snapshot(run)
    wanted = list(SECTIONS) if names is None else [name for name in dict.fromkeys(names) if name != META]
    for name in wanted:
        if name not in SECTIONS:
            raise RecordError(f"section {name!r}: expected one of {META}, {', '.join(SECTIONS)}.")
    built = {}
    for name in sorted(
        wanted, key=lambda name: name != "curves"
    ):  # these read all metrics at once, others find them read
        built[name] = SECTIONS[name].build(now, budget)
    sections = {name: built[name] for name in wanted}
    return {META: _meta(now, sections), **sections}


def _meta(run: Snapshot, sections: Mapping[str, Any]) -> Meta:
    started = run.started
    return Meta(
        seq=run.last_seq,
        written=time.time(),
        record=str(run.path),
        notes=tuple(_notes(run, sections)),
        schema=SCHEMA_VERSION,
        version=_version(),
        simulated=started is not None and started.simulated,
    )


def _notes(run: Snapshot, sections: Mapping[str, Any]) -> Iterable[str]:
    """What the document leaves out, one line each."""
    if "curves" in sections and not sections["curves"].exact:
        longest = max(sections["curves"].series, key=lambda one: one.total)
        yield (
            f"Curves: {len(longest.steps):,} of {longest.total:,} points, "
            "the lowest, the highest and every break of each stretch among them."
        )
    if "curves" in sections and sections["curves"].left_out:
        yield f"Curves: {sections['curves'].left_out:,} metrics are left out."
    for name in ("heads", "attention", "embeddings"):
        if name in sections and sections[name].thinned:
            yield sections[name].thinned
    if "pruning" in sections and sections["pruning"].left_out:
        yield f"Pruning: {sections['pruning'].left_out:,} decisions between the first and the latest are left out."
    if "samples" in sections and sections["samples"].left_out:
        yield f"Text samples: {sections['samples'].left_out:,} are left out, the earliest ones."
    for name, what in (("log", "log lines"), ("events", "events")):
        if name in sections:
            section = sections[name]
            shown = len(section.lines if name == "log" else section.rows)
            if shown < section.total:
                yield f"The last {shown:,} of {section.total:,} {what}."
    back = clock_set_back(run) if "curves" in sections else 0.0
    if back > 1:
        yield f"The machine's clock went back by {figures.duration(back)}; the time axis leaves that out."


def _version() -> str:
    try:
        return metadata.version("neural-plasticity")
    except metadata.PackageNotFoundError:  # a checkout on the path, not installed
        return "unknown"
