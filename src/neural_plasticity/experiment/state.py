"""Everything that a run holds in memory, opened and checked before anything slow starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from neural_plasticity.config import RunConfig
from neural_plasticity.data.corpus import Corpus, load_corpus
from neural_plasticity.data.tokens import IntBlocks, spread, token_blocks
from neural_plasticity.errors import ConfigError, CorpusError
from neural_plasticity.experiment.clock import (
    GENERATION_WORK,
    WATCHED_SEQUENCES,
    Clock,
    Stage,
    planned_work,
    stages,
)
from neural_plasticity.experiment.devices import open_devices
from neural_plasticity.experiment.judged_text import JudgedText, judged_text, refuse_hopeless_budget
from neural_plasticity.experiment.training import Losses, Training, batches_of, held_out_losses
from neural_plasticity.heads import BoolGrid, FloatGrid, HeadId, StateGrid, first_states, heads_of
from neural_plasticity.models.adapters import check_installed
from neural_plasticity.models.attach import Heads, attach
from neural_plasticity.models.compaction import check_compaction
from neural_plasticity.models.devices import Devices
from neural_plasticity.models.loading import load_model
from neural_plasticity.models.sharding import twin
from neural_plasticity.models.widening import check_widening
from neural_plasticity.policies.plugins import evaluate_with_plugin, load_plugin
from neural_plasticity.policies.selection import check_plan, possible_cycles
from neural_plasticity.policies.statistics import Interval
from neural_plasticity.policies.strategies import Strategy, resolve_strategy

UNKNOWN = Interval(math.nan, math.nan, math.nan)
Evaluator = Callable[[nn.Module], Mapping[str, float]]


class Kept(NamedTuple):
    """A state that a run may return to: how it was at the end of ``cycle`` (`checkpoints.captured`), at ``step``."""

    cycle: int
    step: int
    state: dict[str, Any]


@dataclass
class Experiment:
    """The state that phases work on. ``losses`` holds test losses per sequence, by model name."""

    config: RunConfig
    model: nn.Module
    tokenizer: Any
    heads: Heads
    corpus: Corpus
    train: IntBlocks
    validation: IntBlocks
    test: IntBlocks
    devices: Devices
    strategies: tuple[Strategy, ...]
    evaluator: Evaluator | None
    plan: tuple[Stage, ...]
    clock: Clock
    added_before: tuple[tuple[int, ...], ...]  # `Heads.added` when the run began
    states: StateGrid  # of every head, as the events so far have left it
    judged: JudgedText | None = None  # with --cycles auto
    kept: Kept | None = None  # with --cycles auto: the last state inside the budget
    stopped: str | None = None  # with --cycles auto: why there is no further cycle
    control: nn.Module | None = None
    losses: dict[str, Losses] = field(default_factory=dict)
    baseline: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, FloatGrid] = field(default_factory=dict)
    closing: dict[str, Any] = field(default_factory=dict)
    pruned_in: dict[HeadId, int] = field(default_factory=dict)  # cycle that pruned each head that is off
    born_in: dict[HeadId, int] = field(default_factory=dict)  # cycle in which a new or returned head came
    returns: dict[HeadId, int] = field(default_factory=dict)  # how often a head has come back
    damage: Interval = UNKNOWN  # validation loss after minus before the last pruning
    loss_before_pruning: float = math.nan
    loss_after_pruning: float = math.nan
    training: Training | None = None  # while a training phase is under way

    @property
    def device(self) -> torch.device:
        return self.devices.device

    @property
    def scoring(self) -> IntBlocks:
        """The validation blocks on which heads are scored and decisions are taken (sequences, tokens)."""
        return spread(self.validation, self.config.score_sequences)

    @property
    def watched(self) -> IntBlocks:
        """The validation blocks whose loss is followed, before and after pruning and during training."""
        return spread(self.scoring, WATCHED_SEQUENCES)

    def validation_losses(self) -> Losses:
        """Loss of each watched block (sequences,), in nats per token."""
        return self.losses_of(self.watched)

    def losses_of(self, blocks: IntBlocks) -> Losses:
        """Loss of each block (sequences,) as the model is now, in nats per token."""
        return held_out_losses(self.model, blocks, self.config.sequences_at_once, self.device, self.devices)

    def validation_loss(self) -> float:
        """Mean loss over the watched blocks, in nats per token."""
        return float(np.mean(self.validation_losses()))

    @property
    def test_share(self) -> float:
        """The part of an evaluation's work that its losses take; the rest is speed, samples and maps."""
        return len(self.test) / (len(self.test) + GENERATION_WORK)

    @property
    def heads_before(self) -> BoolGrid:
        """(layers, heads), True where a head was there when the run began: not added by it."""
        grid = self.heads.present
        for layout, added in zip(self.heads.layouts, self.added_before, strict=True):
            grid[layout.layer, layout.original + len(added) :] = False
        return grid

    @property
    def shape_before(self) -> tuple[int, int]:
        """(layers, heads) of the grid when the run began."""
        pairs = zip(self.heads.layouts, self.added_before, strict=True)
        return self.heads.shape[0], max(layout.original + len(added) for layout, added in pairs)

    @property
    def absent_before(self) -> tuple[HeadId, ...]:
        """Places of that grid without a head."""
        return heads_of(~self.heads_before[:, : self.shape_before[1]])

    @property
    def sparsity(self) -> float:
        """Fraction of the model's heads that are pruned."""
        mask = self.heads.mask
        return float(1 - mask.sum() / max(1, self.heads.present.sum()))

    @property
    def pad_token_id(self) -> int:
        """What generation pads with; a model without an end-of-text token pads with 0."""
        for candidate in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if candidate is not None:
                return int(candidate)
        return 0

    def work_of(self, stage: Stage) -> float:
        """Cost of a stage, as the clock counts it."""
        return planned_work(stage, self.config, ablation_passes(self.strategies, stage, self.heads))

    def copy_of_model(self) -> nn.Module:
        """A second model with the same weights, for the control."""
        return twin(self.model)

    def scoring_batches(self, blocks: IntBlocks | None = None) -> list[dict[str, Tensor]]:
        """Batches for ``score_heads``: of the scoring blocks, or of ``blocks``."""
        chosen = self.scoring if blocks is None else blocks
        return [{"input_ids": one} for one in batches_of(chosen, self.config.sequences_at_once, self.device)]

    def seed_for(self, purpose: int) -> int:
        """A seed of its own for each purpose in each cycle, so that resuming or skipping a phase shifts no other."""
        return int(np.random.SeedSequence([self.config.seed, self.clock.cycle, purpose]).generate_state(1)[0])


def open_experiment(config: RunConfig) -> Experiment:
    """Load the model and the text, attach the gates, and check that the plan is possible.

    Raises:
        InputError: something given cannot be used (one line, naming the flag).
    """
    config = config.checked()
    strategies = tuple(resolve_strategy(name) for name in config.strategies)
    evaluate = None
    if config.eval is not None:
        evaluate = partial(evaluate_with_plugin, load_plugin(config.eval, "--eval"), config.eval)
    devices = open_devices(config)
    with devices.opening():
        corpus = load_corpus(config.dataset, config.dataset_config)
        model, tokenizer = load_model(
            config.model_name, device=str(devices.loads_on), trust_remote_code=config.trust_remote_code
        )
        heads = attach(model)
        check_compaction(model)  # rather now than in the evaluation after it
        if config.grow_new_heads:
            check_widening(model)
        devices.hold(model)
    if devices.agreed(corpus.sha256) != corpus.sha256:
        raise CorpusError(f"--dataset {config.dataset}: another text on another machine; give all of them the same.")
    check_plan(
        config.levels[:1] if config.auto else config.levels,
        heads.mask,
        min_heads_per_layer=config.min_heads_per_layer,
        unit=config.prune_unit,
        kv_groups=heads.kv_groups,
    )
    if config.grow_new_heads > heads.mask.size:
        raise ConfigError(
            f"--grow_new_heads {config.grow_new_heads}: expected at most as many as the model has, {heads.mask.size}."
        )
    if config.lora_rank is not None:
        check_installed()
    if config.gradient_checkpointing and not getattr(model, "supports_gradient_checkpointing", False):
        raise ConfigError(f"--gradient_checkpointing: {config.model_name} cannot do it; leave it out.")
    tokens = _sequence_length(config, model)
    train, validation, test = (
        token_blocks(documents, tokenizer, tokens) for documents in (corpus.train, corpus.validation, corpus.test)
    )
    if config.batch_size > len(train):
        raise ConfigError(
            f"--batch_size {config.batch_size}: the training text has {len(train)} sequences of {tokens} tokens; "
            "give a smaller batch or more text."
        )
    judged = None
    if config.auto:
        judged = judged_text(config, corpus.validation, tokenizer, validation)
        refuse_hopeless_budget(config, model, heads, judged, devices)
    plan = stages(_most_cycles(config, heads), config.grows, config.auto)
    total = sum(planned_work(stage, config, ablation_passes(strategies, stage, heads)) for stage in plan)
    torch.manual_seed(config.seed)
    return Experiment(
        config=config,
        model=model,
        tokenizer=tokenizer,
        heads=heads,
        corpus=corpus,
        train=train,
        validation=validation,
        test=spread(test, config.eval_sequences),
        devices=devices,
        strategies=strategies,
        evaluator=None if evaluate is None else partial(evaluate, tokenizer=tokenizer),
        plan=plan,
        clock=Clock(total),
        added_before=heads.added,
        states=first_states(heads.mask, heads.present),
        judged=judged,
    )


def _most_cycles(config: RunConfig, heads: Heads) -> int:
    """The cycles of the plan; with ``--cycles auto`` those until no head may go any more, where that is known.

    It is not where heads come back, where whole groups go, or where a strategy of the user's own says how many go.
    """
    if not config.auto or config.grows or config.prune_unit != "head" or ":" in config.pruning_strategy:
        return config.cycle_count
    return possible_cycles(
        config.levels,
        heads.mask,
        min_heads_per_layer=config.min_heads_per_layer,
        unit=config.prune_unit,
        kv_groups=heads.kv_groups,
    )


def ablation_passes(strategies: tuple[Strategy, ...], stage: Stage, heads: Heads) -> int:
    """Extra forward passes per scored sequence that a cycle's strategy asks for: one per head for ablation."""
    if stage.phase != "analysis" or "ablation" not in strategies[stage.cycle - 1].criteria:
        return 0
    return int(heads.present.sum())


def _sequence_length(config: RunConfig, model: nn.Module) -> int:
    limit = getattr(model.config, "max_position_embeddings", None)
    if config.sequence_length is None:
        return min(256, int(limit)) if limit else 256
    if limit and config.sequence_length > limit:
        raise ConfigError(
            f"--sequence_length {config.sequence_length}: {config.model_name} takes at most {limit} tokens."
        )
    return config.sequence_length
