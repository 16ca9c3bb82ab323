"""The growth phase: pruned heads are tried on validation text, those that earn it come back, and training goes on.

The phase trains for as many steps whether a head came back or not: steps are what runs are compared by.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

from neural_plasticity.data.tokens import IntBlocks, spread
from neural_plasticity.events import Event, HeadScores, HeadsGrown, PhaseEnded
from neural_plasticity.experiment.clock import GROWTH_TRIALS, PASS_WORK, Stage, growth_measuring, planned_work
from neural_plasticity.experiment.new_heads import new_heads
from neural_plasticity.experiment.reporting import reported
from neural_plasticity.experiment.state import Experiment
from neural_plasticity.experiment.training import Losses, Training
from neural_plasticity.experiment.training_phases import training_steps, validation_metrics
from neural_plasticity.heads import BoolGrid, HeadId, grid_of
from neural_plasticity.importance.benefit import benefits
from neural_plasticity.policies.growth import (
    GrowthChoice,
    choose_heads_to_grow,
    growth_allowance,
    growth_candidates,
    screen,
    shortlist,
    to_try,
    weakest_of,
)

_SCREEN, _TRIAL, _DATA, _DROPOUT = 11, 12, 13, 14  # purpose numbers of Experiment.seed_for
STRATEGY = "benefit"
_GATE = "growth_gate"
T = TypeVar("T")


def growth(x: Experiment) -> Iterator[Event]:
    """Bring back the pruned heads that the evidence speaks for, then train with their gates rising from 0 to 1."""
    steps, ramp = x.config.steps_of_growth, x.config.steps_of_ramp
    if x.training is None:  # else they have come already
        memory = yield from _newcomers(x)
        x.training = Training(memory)
        x.clock.reach(_measuring_share(x), 0, steps)
        x.clock.unit = "steps"
    memory = x.training.memory
    returned = tuple(HeadId(*head) for head in memory["returned"])

    def raised(number: int) -> dict[str, float]:
        gate = ramp_gate(number, ramp)
        x.heads.fade_in(returned, gate)
        return {_GATE: gate}

    share = 1 - _measuring_share(x)
    before_step = raised if returned else None
    yield from training_steps(x, steps, data=_DATA, dropout=_DROPOUT, share=share, before_step=before_step)
    after = x.validation_loss()
    yield validation_metrics(x, after)
    yield PhaseEnded(
        reason=memory["reason"],
        summary={
            "heads_back": len(returned),
            "heads_born": x.config.heads_born_in(x.clock.cycle),
            "sparsity": x.sparsity,
            "loss_after_growth": after,
        },
        seconds=x.clock.leave(),
        **x.clock.at(),
    )


def _newcomers(x: Experiment) -> Generator[Event, None, dict[str, Any]]:
    """Let heads come back and be born as asked for; what the phase has to remember of it."""
    reason = ""
    returned: tuple[HeadId, ...] = ()
    if x.config.growth:
        returned, reason = yield from _returns(x)
    born = x.config.heads_born_in(x.clock.cycle)
    if born:
        yield new_heads(x, born)
        reason += f"{'; ' if reason else ''}{born} new"
    return {"returned": [list(head) for head in returned], "reason": reason}


def ramp_gate(number: int, ramp: int) -> float:
    """Gate of a returning head at training step ``number`` (from 0): it rises evenly and ends at exactly 1."""
    return min(1.0, (number + 1) / ramp)


def _returns(x: Experiment) -> Generator[Event, None, tuple[tuple[HeadId, ...], str]]:
    """Decide and switch on; the heads that came back, and what there is to say about it."""
    cycle, mask = x.clock.cycle, x.heads.mask
    candidates = growth_candidates(mask, x.heads.present, x.pruned_in, cycle)
    waiting = sum(when == cycle for when in x.pruned_in.values())
    if not candidates:
        return (), f"no head to consider: none was pruned before cycle {cycle}; trained on without a return"
    screened_on, tried_on = halves(x.validation, x.config.score_sequences)
    batches = x.scoring_batches(screened_on)
    measured = yield from _followed(
        x, lambda report: benefits(x.heads, batches, progress=report, devices=x.devices), 0, PASS_WORK, "batches"
    )
    screened = screen(measured.off, candidates, x.seed_for(_SCREEN))
    allowed = growth_allowance(waiting, x.config.growth_budget)
    lives = {head: 1 + x.returns.get(head, 0) for head in candidates}
    tried = to_try(screened, allowed)
    weak = shortlist(measured.on, mask, allowed) if tried else ()

    def decided(report: Callable[[int, int], None]) -> GrowthChoice:
        looks: dict[tuple[bytes, int], Losses] = {}

        def losses_of(wanted: BoolGrid, blocks: IntBlocks = tried_on) -> Losses:
            key = wanted.tobytes(), id(blocks)
            if key not in looks:
                with x.heads.gated(wanted):
                    looks[key] = x.losses_of(blocks)
                planned = 1 + len(tried) + 2 * len(weak)  # what it takes to the end is not known before
                report(min(len(looks), planned), planned)
            return looks[key]

        def without(head: HeadId) -> BoolGrid:
            return mask & ~grid_of((head,), mask.shape)

        rough = {head: float((losses_of(without(head), screened_on) - measured.losses).mean()) for head in weak}
        weakest = weakest_of(rough, allowed)
        return choose_heads_to_grow(
            screened,
            allowed,
            lambda more: losses_of(mask | grid_of(more, mask.shape)),
            {head: float((losses_of(without(head)) - losses_of(mask)).mean()) for head in weakest},
            x.heads.shape,
            x.seed_for(_TRIAL),
            lives=lives,
        )

    choice = yield from _followed(x, decided, PASS_WORK, PASS_WORK + GROWTH_TRIALS, "trials")
    choice = x.devices.agreed(choice)
    yield HeadScores(
        scores={"growth_benefit": choice.score, "growth_benefit_low": choice.low, "growth_benefit_high": choice.high},
        sequences=len(screened_on),
        tokens=screened_on.size,
        **x.clock.at(),
    )
    yield _switched_on(x, choice, waiting, len(tried_on))
    back = len(choice.heads)
    return choice.heads, f"{back} of {len(candidates)} considered heads came back" + ("" if back else "; trained on")


def _switched_on(x: Experiment, choice: GrowthChoice, waiting: int, tried_on: int) -> HeadsGrown:
    """Switch the chosen heads on and tell it, with the loss of the watched sequences before and after."""
    before = x.validation_loss()
    x.heads.regrow(choice.heads)
    after = x.validation_loss() if choice.heads else before
    for head in choice.heads:
        x.returns[head] = x.returns.get(head, 0) + 1
        x.pruned_in.pop(head, None)
        x.born_in[head] = x.clock.cycle
    rule = choice.rule + (f"; {waiting} pruned in this cycle wait for the next" if waiting else "")
    return HeadsGrown(
        heads=choice.heads,
        origin="regrown",
        strategy=STRATEGY,
        score=choice.score,
        low=choice.low,
        high=choice.high,
        rule=rule,
        reasons=choice.reasons,
        loss_before=before,
        loss_after=after,
        details={**choice.details, "waiting": waiting, "trial_sequences": tried_on},
        **x.clock.at(),
    )


def halves(validation: IntBlocks, sequences: int) -> tuple[IntBlocks, IntBlocks]:
    """Two sets of ``sequences`` blocks each (fewer if the text has fewer) that share none: to screen on, to try on.

    A single block is both; it gives no interval, and so brings nothing back.
    """
    both = spread(validation, 2 * sequences)
    return (both[::2], both[1::2]) if len(both) > 1 else (both, both)


def _followed(
    x: Experiment, work: Callable[[Callable[[int, int], None]], T], first: float, last: float, unit: str
) -> Generator[Event, None, T]:
    """What ``work(report)`` returns; its reports move the phase from ``first`` to ``last`` forwards per sequence."""
    stage = planned_work(Stage(x.clock.phase, x.clock.cycle), x.config, 0)
    per_forward = x.config.score_sequences / stage
    x.clock.unit = unit
    reports = reported(work, stepwise=x.devices.size > 1)
    try:
        while True:
            done, planned = next(reports)
            x.clock.reach(per_forward * (first + (last - first) * done / planned), done, planned)
            yield x.clock.progress()
    except StopIteration as finished:
        found: T = finished.value
        return found


def _measuring_share(x: Experiment) -> float:
    """The part of the phase's work that comes before its training."""
    return growth_measuring(x.config) / planned_work(Stage(x.clock.phase, x.clock.cycle), x.config, 0)
