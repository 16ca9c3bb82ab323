"""What was decided and why, and what the models wrote: the parts of a run that are read rather than plotted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neural_plasticity.events import CycleJudged, HeadsGrown, HeadsPruned, StateRestored
from neural_plasticity.heads import FloatGrid, HeadId, heads_of
from neural_plasticity.record import Run
from neural_plasticity.views import figures

_MODEL_ORDER = ("baseline", "current", "pruned", "control")


@dataclass(frozen=True)
class HeadDecision:
    """One head of a decision: outcome (pruned, kept, regrown, added), score and rank as text, and the reason."""

    head: str
    outcome: str
    score: str
    rank: str
    reason: str


@dataclass(frozen=True)
class Decision:
    """One pruning or growth decision with a row per head."""

    step: int
    cycle: int
    outcome: str
    title: str
    rule: str
    rows: tuple[HeadDecision, ...]


@dataclass(frozen=True)
class SampleRow:
    """One prompt and what each model made of it last; empty where a model was not asked."""

    prompt: str
    texts: tuple[str | None, ...]


@dataclass(frozen=True)
class Samples:
    """Prompts by models, the models in the order of ``models``."""

    models: tuple[str, ...]
    rows: tuple[SampleRow, ...]


def decisions(run: Run) -> tuple[Decision, ...]:
    """Every decision of the run's history, in order."""
    return tuple(
        _pruning(event)
        if isinstance(event, HeadsPruned)
        else Decision(
            event.step,
            event.cycle,
            event.origin,
            decision_title(event),
            figures.clean(event.rule),
            tuple(_row(HeadId(*head), event.origin, event.score, None, event.reasons) for head in event.heads),
        )
        for event in run.decisions()
    )


def _pruning(event: HeadsPruned) -> Decision:
    rows = [_row(HeadId(*head), "pruned", event.score, event.rank, event.reasons) for head in event.heads]
    if event.protected is not None:
        rows += [_row(head, "kept", event.score, event.rank, event.reasons) for head in heads_of(event.protected)]
    rule = figures.clean(event.rule)
    if event.threshold is not None:
        rule += f"{'; ' if rule else ''}threshold {figures.significant(event.threshold)}"
    if event.seed is not None:
        rule += f"{'; ' if rule else ''}seed {event.seed}"
    return Decision(event.step, event.cycle, "pruned", decision_title(event), rule, tuple(rows))


def decision_title(event: HeadsPruned | HeadsGrown) -> str:
    """What was decided in one line: ``7 heads pruned by gradient at level 0.15, loss 1.860 → 1.970 (+0.110)``."""
    if isinstance(event, HeadsGrown) and not event.heads:
        return f"No head came back{_by(event.strategy)}: {figures.plural(len(event.reasons), 'head')} considered"
    title = f"{figures.plural(len(event.heads), 'head')} {_outcome(event)}{_by(event.strategy)}"
    if isinstance(event, HeadsPruned) and event.level is not None:
        title += f" at level {figures.significant(event.level, 2)}"
    return title + _loss(event.loss_before, event.loss_after)


def judged_title(event: CycleJudged) -> str:
    """``Cycle 2 inside the budget``, or outside it."""
    return f"Cycle {event.cycle} {'inside' if event.inside else 'outside'} the budget"


def restored_title(event: StateRestored) -> str:
    """``Back to cycle 2``, or to the baseline."""
    return f"Back to cycle {event.to_cycle}" if event.to_cycle else "Back to the baseline"


def _outcome(event: HeadsPruned | HeadsGrown) -> str:
    return event.origin if isinstance(event, HeadsGrown) else "pruned"


def _by(strategy: str) -> str:
    return f" by {figures.clean(strategy)}" if strategy else ""


def _loss(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return ""
    return f", loss {figures.plain(before)} → {figures.plain(after)} ({figures.signed(after - before)})"


def _row(
    head: HeadId, outcome: str, score: FloatGrid | None, rank: Any | None, reasons: Mapping[str, str]
) -> HeadDecision:
    place = int(rank[head.layer, head.head]) if rank is not None else -1
    return HeadDecision(
        str(head),
        outcome,
        figures.MISSING if score is None else figures.significant(float(score[head.layer, head.head])),
        figures.MISSING if place < 0 else f"{place + 1:,}",
        figures.clean(reasons.get(f"{head.layer}.{head.head}", "")) or "no reason recorded",
    )


def samples(run: Run) -> Samples:
    """The last text of every model for every prompt, prompts in the order in which they first came."""
    last: dict[str, dict[str, str]] = {}
    for sample in run.samples():
        last.setdefault(sample.prompt, {})[sample.model] = sample.text
    seen = {model for texts in last.values() for model in texts}
    models = (*(model for model in _MODEL_ORDER if model in seen), *sorted(seen - set(_MODEL_ORDER)))
    rows = [
        SampleRow(
            figures.visible(prompt),
            tuple(figures.visible(texts[model]) if model in texts else None for model in models),
        )
        for prompt, texts in last.items()
    ]
    return Samples(models, tuple(rows))
