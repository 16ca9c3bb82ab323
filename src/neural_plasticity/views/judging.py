"""When to stop, as it was decided: each cycle's verdict, and where the run returned to."""

from __future__ import annotations

from dataclasses import dataclass

from neural_plasticity.events import CycleJudged, StateRestored
from neural_plasticity.record import Run
from neural_plasticity.views import figures


@dataclass(frozen=True)
class Judgement:
    """One cycle held against the allowed increase: ``log_ratio`` is ln(perplexity / the control's), on validation text.

    ``inside`` when ``log_ratio_high``, the upper end of its 95 % interval, is at most ``budget``, ln(1 + increase).
    """

    step: int
    cycle: int
    log_ratio: float
    log_ratio_low: float
    log_ratio_high: float
    budget: float
    inside: bool
    sparsity: float
    perplexity: float
    control_perplexity: float
    sequences: int
    documents: int
    reason: str


@dataclass(frozen=True)
class Returned:
    """The run went back to what it was at the end of ``to_cycle`` (0: before any pruning)."""

    step: int
    cycle: int
    to_cycle: int
    to_step: int
    reason: str


def judgements(run: Run) -> tuple[Judgement, ...]:
    """Every verdict, in order; a cycle that was judged again after a resume has the later one."""
    latest = {event.cycle: event for event in run.events(CycleJudged) if isinstance(event, CycleJudged)}
    return tuple(
        Judgement(
            one.step, one.cycle, one.log_ratio, one.log_ratio_low, one.log_ratio_high, one.budget, one.inside,
            one.sparsity, one.perplexity, one.control_perplexity, one.sequences, one.documents,
            figures.clean(one.reason),
        )
        for one in latest.values()
    )  # fmt: skip


def returns(run: Run) -> tuple[Returned, ...]:
    """Every return to an earlier state, in order."""
    return tuple(
        Returned(one.step, one.cycle, one.to_cycle, one.to_step, figures.clean(one.reason))
        for one in run.events(StateRestored)
        if isinstance(one, StateRestored)
    )


def returned(run: Run) -> Returned | None:
    """The last return to an earlier state; None without one."""
    found = returns(run)
    return found[-1] if found else None
