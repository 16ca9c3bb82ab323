"""The criteria by name, and their arithmetic: pure NumPy from measurements to (layers, heads) arrays.

Every array is float64, NaN where a head could not be measured. ``docs/criteria.md`` has the formulas and sources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from neural_plasticity.errors import ConfigError
from neural_plasticity.heads import BoolGrid, FloatGrid

if TYPE_CHECKING:
    from neural_plasticity.importance.scoring import Evidence

SequenceGrids = npt.NDArray[np.float64]  # (sequences, layers, heads)
Part = Literal["gradient", "entropy", "output_norm"]  # what the one pass can measure

COMBINED_WEIGHTS: Mapping[str, float] = {"gradient": 1.0, "fisher": 1.0, "output_norm": 1.0, "entropy": 1.0}


@dataclass(frozen=True)
class Criterion:
    """One way to score heads.

    ``prune_first`` says which end of the scale goes first; ``parts`` is what the one pass must measure for it, and
    ``beside`` names what is reported with it.
    """

    score: Callable[[Evidence], FloatGrid]
    prune_first: Literal["lowest", "highest"] = "lowest"
    parts: frozenset[Part] = frozenset()
    beside: tuple[str, ...] = ()


def mean_absolute(gradients: SequenceGrids) -> FloatGrid:
    """E|∂L/∂ξ| over sequences: Michel et al., arXiv 1905.10650, equation 2."""
    return _mean(np.abs(gradients))


def mean_square(gradients: SequenceGrids) -> FloatGrid:
    """E[(∂L/∂ξ)²] over sequences: the diagonal Fisher information of Kwon et al., arXiv 2204.09656."""
    return _mean(np.square(gradients))


def benefit(gradients: SequenceGrids) -> FloatGrid:
    """−E[∂L/∂ξ]: to first order, how far the loss falls per unit of gate. Above 0, the head helps.

    The sign is what regrowth needs (ξ = 0); the magnitude alone is no evidence that a head would help.
    """
    return -_mean(gradients)


def layer_normalised(scores: FloatGrid, active: BoolGrid | None = None) -> FloatGrid:
    """Each layer's scores divided by the L2 norm of its active heads' (Michel et al., section 2.2).

    Heads pruned earlier get a figure and move nobody else's; a layer of zeros stays zero.
    """
    counted = scores if active is None else np.where(active, scores, 0.0)
    norm = np.sqrt(np.nansum(np.square(counted), axis=1, keepdims=True))
    return scores / np.where(norm > 0, norm, 1.0)


def rank_fractions(scores: FloatGrid, among: BoolGrid) -> FloatGrid:
    """Each head's rank among the heads of ``among``, as a fraction in [0, 1]; ties share their mean rank.

    Heads outside ``among`` get the rank they would have there, and do not move anyone else's.
    """
    field = scores[among & ~np.isnan(scores)]
    if not field.size:
        return np.full(scores.shape, np.nan)
    below = (field < scores[..., None]).sum(-1)
    upto = (field <= scores[..., None]).sum(-1)
    return np.where(np.isnan(scores), np.nan, (below + upto) / (2.0 * field.size))


def combined_rank(scores: Mapping[str, FloatGrid], weights: Mapping[str, float], active: BoolGrid) -> FloatGrid:
    """Weighted mean of the rank fractions among active heads, 1 = most worth keeping.

    Criteria of which the highest is pruned first (entropy) are ranked from the other end.

    Raises:
        ConfigError: no weight is positive, one is negative or not finite.
    """
    values = np.array(list(weights.values()), dtype=np.float64)
    if not values.size or not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise ConfigError(f"combined weights {dict(weights)}: expected non-negative numbers, at least one positive.")
    total = np.zeros(active.shape)
    for name, weight in weights.items():
        towards_keeping = -scores[name] if criterion(name).prune_first == "highest" else scores[name]
        total += weight * rank_fractions(towards_keeping, active)
    return total / values.sum()


def random_scores(present: BoolGrid, seed: int) -> FloatGrid:
    """Uniform numbers in [0, 1), the same for the same seed and shape; NaN where there is no head."""
    return np.where(present, np.random.default_rng(seed).random(present.shape), np.nan)


def criterion(name: str) -> Criterion:
    """The criterion called ``name``: one of ``CRITERIA``, or a user's own as ``package.module:function``.

    The function takes an :class:`~neural_plasticity.importance.Evidence` and returns a (layers, heads) array of
    which the lowest is pruned first; or it is itself a :class:`Criterion`.

    Raises:
        ConfigError: there is none of that name, or it cannot be imported.
    """
    if ":" in name:
        return _imported(name)
    if name not in CRITERIA:
        raise ConfigError(f"criterion {name!r}: expected one of {', '.join(CRITERIA)}, or package.module:function.")
    return CRITERIA[name]


def _imported(name: str) -> Criterion:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"criterion {name!r}: expected package.module:function to import; {error}.") from error
    if isinstance(found, Criterion):
        return found
    if not callable(found):
        raise ConfigError(f"criterion {name!r}: expected a function of the evidence, got {type(found).__name__}.")
    return Criterion(found, parts=ALL_PARTS)


def _mean(values: SequenceGrids) -> FloatGrid:
    """Mean over sequences, NaN (silently) where there are none."""
    return values.mean(axis=0) if len(values) else np.full(values.shape[1:], np.nan)


_GRADIENT: frozenset[Part] = frozenset({"gradient"})
_ENTROPY: frozenset[Part] = frozenset({"entropy"})
ALL_PARTS: frozenset[Part] = frozenset({"gradient", "entropy", "output_norm"})

CRITERIA: Mapping[str, Criterion] = {
    "entropy": Criterion(lambda e: e.measured.entropy, "highest", _ENTROPY, beside=("first_token_mass",)),
    "first_token_mass": Criterion(lambda e: e.measured.first_token_mass, "highest", _ENTROPY),
    "gradient": Criterion(lambda e: mean_absolute(e.measured.gradients), parts=_GRADIENT),
    "gradient_normalised": Criterion(
        lambda e: layer_normalised(mean_absolute(e.measured.gradients), e.heads.mask), parts=_GRADIENT
    ),
    "gradient_signed": Criterion(lambda e: benefit(e.measured.gradients), parts=_GRADIENT),
    "fisher": Criterion(lambda e: mean_square(e.measured.gradients), parts=_GRADIENT),
    "output_norm": Criterion(lambda e: e.measured.output_norm, parts=frozenset({"output_norm"})),
    "magnitude": Criterion(lambda e: e.magnitude),
    "ablation": Criterion(lambda e: e.ablation),
    "random": Criterion(lambda e: random_scores(e.heads.present, e.seed)),
    "combined": Criterion(lambda e: e.combined, parts=ALL_PARTS),
}
