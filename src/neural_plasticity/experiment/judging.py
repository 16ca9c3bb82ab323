"""``--cycles auto``: each cycle is judged on validation text, and a run that went too far goes back.

Going back restores weights, mask, control and everything else that phases change; only the clock goes on. The state to
go back to lies in the CPU's memory and in the checkpoint: as much again as the model and its control.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator

import numpy as np
from torch import nn

from neural_plasticity.errors import ConfigError
from neural_plasticity.events import CycleJudged, Event, HeadsGrown, HeadsPruned, PhaseEnded, StateRestored, StepMetrics
from neural_plasticity.experiment import checkpoints
from neural_plasticity.experiment.clock import Stage
from neural_plasticity.experiment.observing import observe
from neural_plasticity.experiment.state import Experiment
from neural_plasticity.experiment.training import Losses, batches_of, sequence_losses
from neural_plasticity.heads import HeadState, with_state
from neural_plasticity.policies.selection import possible_cycles
from neural_plasticity.policies.stopping import Verdict, judge_cycle, needed_sequences, percent

_BOOTSTRAP = 21  # purpose number of Experiment.seed_for


def judging(x: Experiment) -> Iterator[Event]:
    """Judge the cycle; outside the budget, put the model back to the last state inside, and end the cycles.

    Raises:
        ConfigError: the budget is below the noise, so no cycle can be inside it.
    """
    assert x.judged is not None  # --cycles auto sees to these
    assert x.control is not None
    assert x.kept is not None
    pruned = yield from _losses(x, x.model)
    control = yield from _losses(x, x.control)
    verdict = x.devices.agreed(
        judge_cycle(pruned, control, x.config.loss_budget, x.seed_for(_BOOTSTRAP), x.judged.documents)
    )
    yield CycleJudged(
        log_ratio=verdict.log_ratio.estimate,
        log_ratio_low=verdict.log_ratio.low,
        log_ratio_high=verdict.log_ratio.high,
        budget=verdict.budget,
        inside=verdict.inside,
        sparsity=x.sparsity,
        perplexity=verdict.perplexity,
        control_perplexity=verdict.control_perplexity,
        sequences=verdict.sequences,
        documents=verdict.documents,
        reason=verdict.reason + ("; heads were scored on some of them too" if x.judged.scored_on else ""),
        **x.clock.at(),
    )
    yield from observe(x, "pruned")
    cycle = x.clock.cycle
    if verdict.inside:
        checkpoints.keep(x)
        x.stopped = _no_further(x)
    elif not x.kept.cycle and not verdict.can_tell:
        raise ConfigError(_below_the_noise(verdict))
    else:
        yield from _back(x, f"cycle {cycle} was outside the budget")
    if x.stopped is not None:
        _end_the_cycles(x)
    said = (x.stopped or "") if verdict.inside else ""  # a return has said why itself
    yield PhaseEnded(reason=said, seconds=x.clock.leave(), **x.clock.at())


def _losses(x: Experiment, model: nn.Module) -> Generator[Event, None, Losses]:
    assert x.judged is not None
    parts: list[Losses] = []
    for batch in batches_of(x.judged.blocks, x.config.sequences_at_once, x.device):
        parts.append(sequence_losses(model, batch, x.devices))
        x.clock.tick(steps=0)
        yield x.clock.progress()
    return np.concatenate(parts)


def _back(x: Experiment, why: str) -> Iterator[Event]:
    """Return to the kept state, say so, and let there be no further cycle."""
    assert x.kept is not None
    checkpoints.reinstate(x, x.kept.state)
    where = f"the last state inside, at the end of cycle {x.kept.cycle}" if x.kept.cycle else "the unpruned model"
    x.stopped = f"{why}; returned to {where}, {_heads_off(x)}"
    x.clock.tick()  # a step of its own, as a pruning has: before it and after it are different states
    yield StateRestored(
        to_cycle=x.kept.cycle,
        to_step=x.kept.step,
        states=x.states.copy(),
        reason=f"{why}; {_heads_off(x)}",
        **x.clock.at(),
    )
    # Or the last figures on record would be those of the state that was given up.
    yield StepMetrics(metrics={"validation_loss": x.validation_loss(), "sparsity": x.sparsity}, **x.clock.at())


def _end_the_cycles(x: Experiment) -> None:
    """Drop the cycles that are not played; what is left is the evaluation of the state that the run has come to.

    Back at the baseline there is none: the baseline was evaluated before.
    """
    assert x.kept is not None
    here = x.plan.index(Stage("evaluation", x.clock.cycle, judges=True))
    final = (Stage("evaluation", x.kept.cycle),) if x.kept.cycle else ()
    left = sum(x.work_of(stage) for stage in final)
    x.clock.skip(sum(x.work_of(stage) for stage in x.plan[here + 1 :]) - left)
    x.plan = (*x.plan[: here + 1], *final)


def _no_further(x: Experiment) -> str | None:
    """Why there is no cycle after one that was inside; None: there is."""
    cycle = x.clock.cycle
    if not can_prune(x):
        return f"cycle {cycle} was inside the budget, and no further head may go; {_heads_off(x)}"
    if cycle == max(stage.cycle for stage in x.plan):
        return f"cycle {cycle} was inside the budget, and --max_cycles {cycle} is reached; {_heads_off(x)}"
    return None


def can_prune(x: Experiment) -> bool:
    """Whether a further cycle would find a head that may go."""
    found = possible_cycles(
        x.config.levels[:1],
        x.heads.mask,
        min_heads_per_layer=x.config.min_heads_per_layer,
        unit=x.config.prune_unit,
        kv_groups=x.heads.kv_groups,
    )
    return found > 0


def _heads_off(x: Experiment) -> str:
    off = int((x.states == HeadState.PRUNED).sum())
    return f"{off} of {int((x.states >= 0).sum())} heads removed" if off else "no head removed"


def _below_the_noise(verdict: Verdict) -> str:
    advice = f"give at least {percent(3 * verdict.noise)}"
    if math.isfinite(verdict.noise):
        more = needed_sequences(verdict.noise, verdict.budget, verdict.sequences)
        advice += f", or --judge_sequences {more} where the text has as many"
    else:
        advice = "give more text or a smaller --sequence_length"
    return (
        f"--max_perplexity_increase {math.expm1(verdict.budget):g}: below the noise. On {verdict.sequences} validation "
        f"sequences the interval of the first cycle reaches {percent(verdict.noise)} above its estimate, so even a "
        f"cycle that cost nothing would be outside; {advice}."
    )


def followed(x: Experiment, event: Event) -> None:
    """Keep ``x.states`` at what the events say."""
    if isinstance(event, HeadsPruned):
        x.states = with_state(x.states, event.heads, HeadState.PRUNED)
    elif isinstance(event, HeadsGrown):
        new = HeadState.ADDED if event.origin == "added" else HeadState.REGROWN
        x.states = with_state(x.states, event.heads, new)
