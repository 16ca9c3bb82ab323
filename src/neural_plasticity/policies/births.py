"""Which layers get new heads. Pure functions of measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neural_plasticity.heads import BoolGrid, FloatGrid

Worths = npt.NDArray[np.float64]  # (layers,), NaN: the layer has no active head that was measured


@dataclass(frozen=True)
class Births:
    """``layers``: the layer of each new head, in the order in which they were given; ``reasons`` in the same order."""

    layers: tuple[int, ...]
    worths: Worths
    rule: str
    reasons: tuple[str, ...]


def layers_by_worth(scores: FloatGrid, active: BoolGrid, count: int, earlier: npt.NDArray[np.int64]) -> Births:
    """Give ``count`` new heads, one after another, to the layer whose heads are worth the most.

    A layer's worth is the mean of ``scores`` (layers, heads; high = worth keeping) over its active heads. It is shared
    with every new head that the layer has been given, ``earlier`` (layers,) ones included: worth / (1 + new heads), so
    that one good layer does not take all of them. Of equal ones, the first. Where nothing was measured, all layers of
    ``active`` are worth the same.
    """
    measured = active & np.isfinite(scores)
    sums = np.where(measured, scores, 0.0).sum(axis=1)
    numbers = measured.sum(axis=1)
    worths = np.divide(sums, numbers, out=np.full(len(sums), np.nan), where=numbers > 0)
    given = earlier.astype(np.int64).copy()
    layers, reasons = [], []
    known = measured.any()
    for _ in range(count):
        if known:
            shares = np.where(np.isnan(worths), -np.inf, worths / (1 + given))
        else:
            shares = np.where(active.any(axis=1), 1 / (1 + given), -np.inf)
        layer = int(np.argmax(shares))
        shared = f", shared with {given[layer]} new" if given[layer] else ""
        reasons.append(
            f"layer {layer}: its {numbers[layer]} active heads are worth {worths[layer]:.3g} each by gradient{shared}; "
            f"the most of {len(worths)} layers"
            if known
            else f"layer {layer}: no active head was measured, so that layers get new ones in turn"
        )
        layers.append(layer)
        given[layer] += 1
    rule = "each new head goes to the layer with the highest mean gradient importance / (1 + new heads it has)"
    return Births(tuple(layers), worths, rule, tuple(reasons))


def layers_at_random(active: BoolGrid, count: int, seed: int) -> Births:
    """Give ``count`` new heads to layers with active heads, drawn evenly: what a rule has to be better than."""
    layers = np.flatnonzero(active.any(axis=1))
    drawn = tuple(int(layer) for layer in np.random.default_rng(seed).choice(layers, size=count))
    reasons = tuple(f"layer {layer}: drawn at random from {len(layers)} layers, seed {seed}" for layer in drawn)
    return Births(drawn, np.full(len(active), np.nan), "each new head goes to a random layer", reasons)
