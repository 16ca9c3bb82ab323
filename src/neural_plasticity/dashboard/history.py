"""What a dashboard's readable attributes show: folded from the record, and only ever from the record."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from neural_plasticity.events import Event, HeadsPruned, PhaseStarted, Stabilised, StepMetrics
from neural_plasticity.record import Run

CURVES = ("loss", "perplexity", "sparsity")


@dataclass
class History:
    """Lists that grow with the record. ``steps`` and ``curves`` are of one length: NaN where a metric has no value."""

    phases: list[str] = field(default_factory=list)
    transitions: list[int] = field(default_factory=list)
    stable: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CURVES})
    pruning: list[dict[str, Any]] = field(default_factory=list)
    seq: int = 0  # the last event that is in here

    def catch_up(self, run: Run) -> None:
        """Take in what was recorded since."""
        for one in run.records(after_seq=self.seq):
            fold = _FOLDS.get(type(one.event))
            if fold is not None:
                fold(self, one.event)
            self.seq = one.seq


def _phase(history: History, event: Any) -> None:
    history.phases.append(event.phase)
    history.transitions.append(event.step)


def _metrics(history: History, event: Any) -> None:
    history.steps.append(event.step)
    for name, values in history.curves.items():
        values.append(event.metrics.get(name, math.nan))


def _stable(history: History, event: Any) -> None:
    history.stable.append(event.step)


def _pruning(history: History, event: Any) -> None:
    history.pruning.append(pruning_info(event))


_FOLDS: Mapping[type[Event], Callable[[History, Any], None]] = {
    PhaseStarted: _phase,
    StepMetrics: _metrics,
    Stabilised: _stable,
    HeadsPruned: _pruning,
}


def pruning_info(event: HeadsPruned) -> dict[str, Any]:
    """A pruning event as the script told it, with its step: under the same keys, heads as (layer, head)."""
    told: dict[str, Any] = {
        "strategy": event.strategy or None,
        "pruning_level": event.level,
        "score": event.score,
        "rank": event.rank,
        "protected": event.protected,
        "threshold": event.threshold,
        "rule": event.rule or None,
        "seed": event.seed,
        "reasons": dict(event.reasons) or None,
        "loss_before": event.loss_before,
        "loss_after": event.loss_after,
    }
    return {
        **event.details,
        **{key: value for key, value in told.items() if value is not None},
        "pruned_heads": [tuple(head) for head in event.heads],
        "cycle": event.cycle,
        "step": event.step,
    }
