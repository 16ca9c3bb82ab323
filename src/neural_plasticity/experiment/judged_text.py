"""The validation text on which ``--cycles auto`` judges a cycle, and whether a budget can be met on it at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from neural_plasticity.config import RunConfig
from neural_plasticity.data.corpus import Document
from neural_plasticity.data.tokens import IntBlocks, block_documents, spread, spread_places
from neural_plasticity.errors import ConfigError
from neural_plasticity.experiment.training import Losses, held_out_losses
from neural_plasticity.importance import score_heads
from neural_plasticity.models.attach import Heads
from neural_plasticity.models.devices import Devices
from neural_plasticity.policies.stopping import IntArray, even_share, percent

_TRIED = 32  # sequences that the trial before anything slow takes …
_LAYERS = 8  # … with one head off in each of so many layers


@dataclass(frozen=True)
class JudgedText:
    """Blocks (sequences, tokens) with the number of the document that each comes from.

    ``scored_on``: the text is so short that heads are scored on some of them too, which flatters the choice a little.
    """

    blocks: IntBlocks
    documents: IntArray
    scored_on: bool


def judged_text(config: RunConfig, documents: Sequence[Document], tokenizer: Any, validation: IntBlocks) -> JudgedText:
    """``--judge_sequences`` blocks that no decision about heads is taken on, evenly from all documents.

    Where that leaves less than half of the validation text, all of it may be taken.
    """
    places = np.arange(len(validation))
    decided_on = [spread_places(len(validation), config.score_sequences)]
    if config.growth:
        decided_on.append(spread_places(len(validation), 2 * config.score_sequences))
    free = np.setdiff1d(places, np.concatenate(decided_on))
    scored_on = len(free) < min(config.sequences_to_judge, len(validation) / 2)
    if scored_on:
        free = places
    owners = block_documents(documents, tokenizer, validation.shape[1])[free]
    chosen = even_share(owners, config.sequences_to_judge)
    return JudgedText(validation[free[chosen]], owners[chosen], scored_on)


def refuse_hopeless_budget(
    config: RunConfig, model: nn.Module, heads: Heads, text: JudgedText, devices: Devices
) -> None:
    """Refuse a budget that lies below the noise of the smallest change there is: one head off, nothing trained.

    A cycle prunes at least one head and then trains, so its losses spread wider about the control's than this. What the
    head of least magnitude does is not always least: that of each layer is tried, and the quietest counts.

    Raises:
        ConfigError: no cycle could be judged inside the budget on this text.
    """
    if len(text.blocks) < 2:
        raise ConfigError(
            f"--cycles auto: the validation text has {len(text.blocks)} sequence(s) of {text.blocks.shape[1]} tokens, "
            "and one alone gives no interval; give more text or a smaller --sequence_length."
        )
    tried = spread(text.blocks, _TRIED)
    worth = np.where(heads.mask, score_heads(model, [], ("magnitude",))["magnitude"], np.inf)

    def losses() -> Losses:
        return held_out_losses(model, tried, config.sequences_at_once, devices.device, devices)

    whole = losses()
    spreads = []
    layers = np.flatnonzero(heads.mask.any(axis=1))
    for layer in layers[spread_places(len(layers), _LAYERS)]:
        mask = heads.mask
        mask[layer, np.argmin(worth[layer])] = False
        with heads.gated(mask):
            spreads.append(np.std(losses() - whole, ddof=1))
    noise = 1.96 * float(min(spreads)) / math.sqrt(len(text.blocks))
    if noise > config.loss_budget:
        raise ConfigError(
            f"--max_perplexity_increase {math.expm1(config.loss_budget):g}: below what {len(text.blocks)} validation "
            f"sequences can tell: switching off one head alone leaves ± {percent(noise)} at least, so no cycle could "
            f"be judged inside it. Give at least {percent(3 * noise)} or more --judge_sequences."
        )
