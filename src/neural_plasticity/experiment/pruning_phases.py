"""The phases that decide: analysis measures the heads, pruning gates off what the strategy chose, with reasons."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from functools import partial

from neural_plasticity.events import Event, HeadScores, HeadsPruned, PhaseEnded
from neural_plasticity.experiment.clock import PASS_WORK, Stage
from neural_plasticity.experiment.new_heads import too_young
from neural_plasticity.experiment.reporting import reported
from neural_plasticity.experiment.state import Experiment, ablation_passes
from neural_plasticity.heads import BoolGrid, FloatGrid, heads_of
from neural_plasticity.importance import score_heads
from neural_plasticity.policies.selection import decide_pruning, prune_count
from neural_plasticity.policies.statistics import paired_bootstrap_difference
from neural_plasticity.policies.strategies import StrategyContext

_SCORING = 2  # purpose numbers of Experiment.seed_for
_CHOICE = 3
_YOUNG = "came in the cycle before: not up for pruning until it has had a fine-tuning"

ALWAYS_MEASURED = ("entropy", "gradient", "gradient_normalised", "fisher", "output_norm", "combined", "magnitude")
"""Measured in every analysis, whatever the strategy: one pass gives all of them but magnitude, which needs none."""


def analysis(x: Experiment) -> Iterator[Event]:
    """Measure every head on validation text: one pass for most criteria, and ablation's own if the strategy asks."""
    strategy = x.strategies[x.clock.cycle - 1]
    criteria = tuple(dict.fromkeys((*ALWAYS_MEASURED, *strategy.criteria)))
    began = time.perf_counter()
    passes = ablation_passes(x.strategies, Stage(x.clock.phase, x.clock.cycle), x.heads)
    share = 1 / (1 + passes / PASS_WORK)
    x.scores = yield from _measured(x, tuple(name for name in criteria if name != "ablation"), 0.0, share)
    if "ablation" in criteria:
        x.scores |= yield from _measured(x, ("ablation",), share, 1.0)
    yield HeadScores(
        scores=x.scores,
        sequences=len(x.scoring),
        tokens=x.scoring.size,
        seconds=time.perf_counter() - began,
        **x.clock.at(),
    )
    yield PhaseEnded(seconds=x.clock.leave(), **x.clock.at())


def _measured(
    x: Experiment, criteria: tuple[str, ...], first: float, last: float
) -> Generator[Event, None, dict[str, FloatGrid]]:
    """Score the heads; what the measurement reports moves the phase from the fraction ``first`` to ``last``."""
    work = partial(score_heads, x.model, x.scoring_batches(), criteria, seed=x.seed_for(_SCORING), devices=x.devices)
    reports = reported(lambda report: work(progress=report), stepwise=x.devices.size > 1)
    try:
        while True:
            done, planned = next(reports)
            x.clock.reach(first + (last - first) * done / planned, done, planned)
            yield x.clock.progress()
    except StopIteration as finished:
        return dict(finished.value)


def pruning(x: Experiment) -> Iterator[Event]:
    """Choose the heads that go, gate them off, and measure what that costs on validation text."""
    cycle = x.clock.cycle
    strategy, level = x.strategies[cycle - 1], x.config.levels[cycle - 1]
    before = x.validation_losses()
    seed = x.seed_for(_CHOICE)
    young = too_young(x)
    choice = decide_pruning(
        strategy,
        _context(x, x.heads.mask & ~young, level, seed),
        level,
        min_heads_per_layer=x.config.min_heads_per_layer,
        unit=x.config.prune_unit,
        kv_groups=x.heads.kv_groups,
        spared=young,
    )
    choice = x.devices.agreed(choice)
    x.heads.prune(choice.heads)
    x.pruned_in |= dict.fromkeys(choice.heads, cycle)
    after = x.validation_losses()
    x.loss_before_pruning, x.loss_after_pruning = float(before.mean()), float(after.mean())
    x.damage = paired_bootstrap_difference(after, before, seed)
    x.clock.tick()
    yield HeadsPruned(
        heads=choice.heads,
        strategy=strategy.name,
        level=level,
        score=choice.score,
        rank=choice.rank,
        protected=choice.protected,
        threshold=choice.threshold,
        rule=choice.rule
        + (f"; {spared} that came in the cycle before stay for now" if (spared := int(young.sum())) else ""),
        seed=seed,
        reasons={**choice.reasons, **{f"{layer}.{head}": _YOUNG for layer, head in heads_of(young)}},
        loss_before=x.loss_before_pruning,
        loss_after=x.loss_after_pruning,
        **x.clock.at(),
    )
    yield x.clock.progress()
    yield PhaseEnded(
        seconds=x.clock.leave(),
        summary={
            "heads_pruned": len(choice.heads),
            "sparsity": x.sparsity,
            "loss_before_pruning": x.loss_before_pruning,
            "loss_after_pruning": x.loss_after_pruning,
            "damage_low": x.damage.low,
            "damage_high": x.damage.high,
        },
        **x.clock.at(),
    )


def _context(x: Experiment, mask: BoolGrid, level: float, seed: int) -> StrategyContext:
    """What the strategy may look at, and the heads it may take; what the analysis measured is not measured again."""

    def score(*criteria: str) -> dict[str, FloatGrid]:
        missing = tuple(name for name in criteria if name not in x.scores)
        batches, seed = x.scoring_batches(), x.seed_for(_SCORING)
        more = score_heads(x.model, batches, missing, seed=seed, devices=x.devices) if missing else {}
        return {name: {**x.scores, **more}[name] for name in criteria}

    return StrategyContext(
        model=x.model,
        heads=x.heads,
        batches=x.scoring_batches(),
        mask=mask,
        count=min(int(mask.sum()), prune_count(int(x.heads.mask.sum()), level)),
        cycle=x.clock.cycle,
        seed=seed,
        score=score,
    )
