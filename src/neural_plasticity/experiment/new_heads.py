"""New heads beyond the original number, born in the growth phase: where, why, and that nothing changed at birth."""

from __future__ import annotations

import numpy as np

from neural_plasticity.errors import ConfigError
from neural_plasticity.events import HeadsGrown
from neural_plasticity.experiment.state import Experiment
from neural_plasticity.heads import BoolGrid, grid_of
from neural_plasticity.policies.births import Births, layers_at_random, layers_by_worth
from neural_plasticity.policies.selection import check_plan

_BIRTH = 15  # purpose number of Experiment.seed_for


def new_heads(x: Experiment, count: int) -> HeadsGrown:
    """Give the model ``count`` new heads, and tell it. They learn in the training that follows, like all others.

    What they are chosen by is this cycle's analysis. Loss is measured before and after: the same, to rounding.
    """
    seed = x.seed_for(_BIRTH)
    births = x.devices.agreed(_births(x, count, seed))
    before = x.validation_loss()
    wanted = {layer: births.layers.count(layer) for layer in births.layers}
    heads = x.heads.add(wanted, seed)
    after = x.validation_loss()
    x.born_in |= dict.fromkeys(heads, x.clock.cycle)
    # A layer's numbers follow the order in which it was given its heads.
    left = {
        layer: [why for at, why in zip(births.layers, births.reasons, strict=True) if at == layer] for layer in wanted
    }
    return HeadsGrown(
        heads=heads,
        origin="added",
        strategy=x.config.new_heads_rule,
        rule=births.rule,
        reasons={f"{head.layer}.{head.head}": left[head.layer].pop(0) for head in heads},
        loss_before=before,
        loss_after=after,
        details={
            "seed": seed,
            "layer_worths": [None if np.isnan(worth) else float(worth) for worth in births.worths],
            "key_value_heads": {str(head): int(x.heads.kv_groups[head]) for head in heads},
        },
        **x.clock.at(),
    )


def too_young(x: Experiment) -> BoolGrid:
    """(layers, heads), True where a head was born or came back in the cycle before: this one's pruning leaves it alone.

    It has had the growth phase only: a new one wrote nothing at birth, a returned one was not part of what healed, so
    that by most measures it would be the first to go. Where whole key/value groups go, its group stays with it. Nothing
    is spared where nothing else could go.
    """
    young = grid_of([head for head, born in x.born_in.items() if born == x.clock.cycle - 1], x.heads.shape)
    if x.config.prune_unit == "kv_group":
        groups = x.heads.kv_groups
        young |= np.stack([np.isin(row, row[new]) for row, new in zip(groups, young, strict=True)])
    young &= x.heads.mask
    level = x.config.levels[x.clock.cycle - 1]
    try:
        check_plan(
            (level,),
            x.heads.mask & ~young,
            min_heads_per_layer=x.config.min_heads_per_layer,
            unit=x.config.prune_unit,
            kv_groups=x.heads.kv_groups,
            spared=young,
        )
    except ConfigError:
        young[:] = False
    return young


def _births(x: Experiment, count: int, seed: int) -> Births:
    where = x.heads.mask if x.heads.mask.any() else x.heads.present  # a model may have lost every head
    if x.config.new_heads_rule == "random":
        return layers_at_random(where, count, seed)
    earlier = np.array([len(added) for added in x.heads.added], dtype=np.int64)
    return layers_by_worth(np.where(x.heads.mask, x.scores["gradient"], np.nan), where, count, earlier)
