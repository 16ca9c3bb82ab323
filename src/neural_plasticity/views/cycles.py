"""Cycle by cycle: what was pruned, what it cost, what came back, how the training went, and what it adds up to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import Evaluation, HeadsGrown, HeadsPruned
from neural_plasticity.heads import StateGrid
from neural_plasticity.record import PhaseSpan, Run
from neural_plasticity.views.heads_at import states_at, states_by_cycle
from neural_plasticity.views.judging import Judgement, Returned, judgements, returned
from neural_plasticity.views.knee import knee
from neural_plasticity.views.recovery import (
    Cumulative,
    CycleRecovery,
    Measured,
    cumulative,
    cycle_recovery,
    inside,
    of_model,
)
from neural_plasticity.views.results import number
from neural_plasticity.views.timeline import Curves, smoothed

__all__ = ["CURVES", "TUNING", "Cycle", "Cycles", "Measured", "Training", "cycle_numbers", "cycles"]

TUNING = "fine-tuning"
GRADIENT_NORMS = ("gradient_norm", "grad_norm")  # ours, and what other people's training loops call it
CURVES = ("loss", "validation_loss", "control_loss", "tokens_per_second", "learning_rate", *GRADIENT_NORMS)


@dataclass(frozen=True)
class Training:
    """How fine-tuning went: steps, seconds, training loss at its lowest and where, and per step.

    ``steps_to_90``: steps until the running mean had come 90 % of its way from its first to its lowest; None: unknown.
    ``drop_per_step``: validation loss won back per step; ``area`` and ``steps_to_half`` as in `CycleRecovery`.
    """

    steps: int
    seconds: float
    best_loss: float | None
    best_step: int | None
    loss_per_100_steps: float | None
    steps_to_90: int | None
    tokens_per_second: float | None
    learning_rate: float | None  # the highest
    learning_rate_mean: float | None
    gradient_norm: float | None  # before clipping: the median
    gradient_norm_max: float | None
    drop_per_step: float | None
    area: float | None
    steps_to_half: float | None


@dataclass(frozen=True)
class Cycle:
    """One cycle; what was not recorded is None. Losses are those of the decision and of the fine-tuning's summary."""

    cycle: int
    strategy: str
    level: float | None
    pruned: int
    grown: int
    heads_left: int
    sparsity: float
    loss_before: float | None
    loss_pruned: float | None
    loss_after: float | None
    training: Training | None
    perplexity: Measured | None
    control_perplexity: Measured | None
    impact: Measured | None  # test loss against the baseline, paired
    impact_on_control: Measured | None  # test loss against the control, paired
    seconds: float  # of all its phases

    @property
    def recovered(self) -> float | None:
        """Share of the loss that pruning cost and fine-tuning brought back; None when pruning cost nothing."""
        if self.loss_before is None or self.loss_pruned is None or self.loss_after is None:
            return None
        lost = self.loss_pruned - self.loss_before
        return (self.loss_pruned - self.loss_after) / lost if lost > 0 else None


@dataclass(frozen=True)
class Cycles:
    """All cycles; ``pruned_in`` (layers, heads): the cycle in which a head was last pruned, 0 for never.

    ``recoveries`` of the cycles that trained; ``cumulative`` of the baseline and of every cycle. ``judged``: the
    verdicts of ``--cycles auto``, and where it ``returned`` to. ``knee``: the cycle from which on heads cost more and
    more, of ln(perplexity / the control's, or without one the baseline's) over sparsity; None: no bend.
    """

    cycles: tuple[Cycle, ...]
    baseline: Measured | None
    pruned_in: npt.NDArray[np.int64]
    states: StateGrid
    recoveries: tuple[CycleRecovery, ...] = ()
    cumulative: tuple[Cumulative, ...] = ()
    judged: tuple[Judgement, ...] = ()
    returned: Returned | None = None
    knee: int | None = None
    empty: str | None = None


def cycles(run: Run, curves: Curves | None = None) -> Cycles:
    """The cycles of a run, numbered from 1; without any, ``empty`` says so.

    ``curves``: `CURVES` as ``run.columns`` gave them, where they have been read already.
    """
    decisions = run.decisions()
    back = returned(run)
    judged = judgements(run)
    spans = run.phases()
    numbers = cycle_numbers(decisions, spans)
    grid = states_at(run)
    states: StateGrid = np.empty((0, 0), np.int8) if grid is None else grid
    pruned_in = np.zeros(states.shape, dtype=np.int64)
    for decision in decisions:
        given_up = back is not None and back.to_cycle < decision.cycle <= back.cycle
        if isinstance(decision, HeadsPruned) and not given_up:
            for head in decision.heads:
                pruned_in[head] = decision.cycle
    evaluations = run.evaluations()
    curves = curves if curves is not None else run.columns(CURVES) if numbers else {}
    ends = states_by_cycle(run, numbers)
    found = [_cycle(number, ends[number], decisions, spans, evaluations, curves) for number in numbers]
    listed = tuple(one for one, _ in found)
    baseline = of_model(evaluations, "baseline")
    added_up = _cumulative(run, listed, evaluations, baseline) if numbers else ()
    return Cycles(
        cycles=listed,
        baseline=baseline,
        pruned_in=pruned_in,
        states=states,
        recoveries=tuple(recovery for _, recovery in found if recovery is not None),
        cumulative=added_up,
        judged=judged,
        returned=back,
        knee=_knee(added_up, judged),
        empty=None if numbers else "No cycle recorded: nothing was pruned.",
    )


def _cumulative(
    run: Run, listed: Sequence[Cycle], evaluations: Sequence[Evaluation], baseline: Measured | None
) -> tuple[Cumulative, ...]:
    start = states_at(run, up_to_cycle=0)
    active = int((start > 0).sum()) if start is not None else 0
    present = int((start >= 0).sum()) if start is not None else 0
    rows = [cumulative(0, active, 1 - active / present if present else 0.0, (), baseline)]
    for one in listed:
        own = [evaluation for evaluation in evaluations if evaluation.cycle == one.cycle]
        rows.append(cumulative(one.cycle, one.heads_left, one.sparsity, own, baseline))
    return tuple(rows)


def _knee(rows: Sequence[Cumulative], judged: Sequence[Judgement]) -> int | None:
    """The cycle at the bend, as judged or, where nothing was, as evaluated; the baseline costs nothing, exactly."""
    if judged and rows:
        halves = [(one.log_ratio_high - one.log_ratio_low) / 2 for one in judged]
        places = [rows[0].sparsity, *(one.sparsity for one in judged)]
        bend = knee(places, [0.0, *(one.log_ratio for one in judged)], [0.0, *halves])
        return None if not bend else judged[bend - 1].cycle
    measured = [one for one in rows if one.cycle == 0 or one.ratio_to_control or one.ratio_to_baseline]
    controlled = all(one.ratio_to_control for one in measured if one.cycle)
    ratios = [one.ratio_to_control if controlled else one.ratio_to_baseline for one in measured]
    costs = [(0.0, 0.0) if not one.cycle else _log(ratio) for one, ratio in zip(measured, ratios, strict=True)]
    found = knee([one.sparsity for one in measured], [cost for cost, _ in costs], [half for _, half in costs])
    return None if not found else measured[found].cycle


def _log(ratio: Measured | None) -> tuple[float, float]:
    """A ratio's logarithm and half the width of its interval, NaN where unknown."""
    if ratio is None or not ratio.value > 0:
        return math.nan, math.nan
    if ratio.low is None or ratio.high is None or not 0 < ratio.low <= ratio.high:
        return math.log(ratio.value), math.nan
    return math.log(ratio.value), math.log(ratio.high / ratio.low) / 2


def cycle_numbers(decisions: Sequence[HeadsPruned | HeadsGrown], spans: Sequence[PhaseSpan]) -> tuple[int, ...]:
    """The cycles of a run, in order."""
    return tuple(sorted({one.cycle for one in (*decisions, *spans) if one.cycle > 0}))


def _cycle(
    number_: int,
    states: StateGrid | None,
    decisions: Sequence[HeadsPruned | HeadsGrown],
    spans: Sequence[PhaseSpan],
    evaluations: Sequence[Evaluation],
    curves: Curves,
) -> tuple[Cycle, CycleRecovery | None]:
    pruned = [one for one in decisions if isinstance(one, HeadsPruned) and one.cycle == number_]
    grown = [one for one in decisions if isinstance(one, HeadsGrown) and one.cycle == number_]
    own = [span for span in spans if span.cycle == number_]
    tuning = [span for span in own if span.phase == TUNING]
    present = int((states >= 0).sum()) if states is not None else 0
    left = int((states > 0).sum()) if states is not None else 0
    summary = tuning[-1].summary if tuning else {}
    results = [one for one in evaluations if one.cycle == number_]
    loss_before = _first(number(summary, "loss_before_pruning"), *(one.loss_before for one in pruned))
    loss_pruned = _first(number(summary, "loss_after_pruning"), *(one.loss_after for one in reversed(pruned)))
    recovery = cycle_recovery(number_, tuning, curves, loss_before, loss_pruned)
    found = Cycle(
        cycle=number_,
        strategy=", ".join(dict.fromkeys(one.strategy for one in pruned if one.strategy)),
        level=pruned[-1].level if pruned else None,
        pruned=sum(len(one.heads) for one in pruned),
        grown=sum(len(one.heads) for one in grown),
        heads_left=left,
        sparsity=1 - left / present if present else 0.0,
        loss_before=loss_before,
        loss_pruned=loss_pruned,
        loss_after=_first(number(summary, "loss_after_fine_tuning"), _validation_at_end(tuning, curves)),
        training=_training(tuning, curves, recovery),
        perplexity=of_model(results, "pruned"),
        control_perplexity=of_model(results, "control"),
        impact=of_model(results, "comparison", "loss_difference"),
        impact_on_control=of_model(results, "comparison", "loss_difference_to_control"),
        seconds=sum(span.seconds for span in own),
    )
    return found, recovery


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _validation_at_end(tuning: Sequence[PhaseSpan], curves: Curves) -> float | None:
    """The last validation loss inside the fine-tuning, for records without a summary of it."""
    if not tuning or "validation_loss" not in curves:
        return None
    steps, values = curves["validation_loss"]
    own = values[(steps > tuning[0].first_step) & (steps <= tuning[-1].last_step)]
    return float(own[-1]) if len(own) else None


def _training(tuning: Sequence[PhaseSpan], curves: Curves, recovery: CycleRecovery | None) -> Training | None:
    if not tuning:
        return None
    first, last = tuning[0].first_step, tuning[-1].last_step
    steps, losses = inside(curves, "loss", first, last)
    rates, throughput = (inside(curves, name, first, last)[1] for name in ("learning_rate", "tokens_per_second"))
    norms = np.concatenate([inside(curves, name, first, last)[1] for name in GRADIENT_NORMS])
    lowest = int(np.argmin(losses)) if len(losses) else 0
    slope = float(np.polyfit(steps - steps[0], losses, 1)[0]) * 100 if np.count_nonzero(np.diff(steps)) > 1 else None
    return Training(
        steps=last - first,
        seconds=sum(span.seconds for span in tuning),
        best_loss=float(losses[lowest]) if len(losses) else None,
        best_step=int(steps[lowest]) if len(losses) else None,
        loss_per_100_steps=slope,
        steps_to_90=_steps_to_90(steps, losses),
        tokens_per_second=float(np.median(throughput)) if len(throughput) else None,
        learning_rate=float(rates.max()) if len(rates) else None,
        learning_rate_mean=float(rates.mean()) if len(rates) else None,
        gradient_norm=float(np.median(norms)) if len(norms) else None,
        gradient_norm_max=float(norms.max()) if len(norms) else None,
        drop_per_step=recovery.drop_per_step if recovery else None,
        area=recovery.area if recovery else None,
        steps_to_half=recovery.steps_to_half if recovery else None,
    )


def _steps_to_90(steps: npt.NDArray[np.int64], losses: npt.NDArray[np.float64]) -> int | None:
    if len(losses) < 10:
        return None
    curve, _ = smoothed("loss", steps, losses)
    start, low = curve.values[0], curve.values.min()
    if not start > low:
        return None
    reached = curve.values <= start - 0.9 * (start - low)
    return int(curve.steps[np.argmax(reached)] - steps[0])
