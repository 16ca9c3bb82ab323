"""The scores of a decision as people know them."""

from __future__ import annotations

import numpy as np

from neural_plasticity.events import HeadsPruned
from neural_plasticity.heads import FloatGrid

HIGHEST_FIRST = frozenset({"entropy"})  # strategies that take the highest measured value first


def as_known(event: HeadsPruned) -> tuple[FloatGrid | None, float | None]:
    """Score (layers, heads) and threshold as measured.

    A decision is recorded with what its strategy ordered by, the lowest going first. Where the highest goes first that
    was the measured value with its sign turned: here it is turned back. Scores that a script recorded as measured
    (some above zero) stay as they are.
    """
    score, threshold = event.score, event.threshold
    if score is None or event.strategy not in HIGHEST_FIRST:
        return score, threshold
    finite = score[np.isfinite(score)]
    if not (finite < 0).any() or (finite > 0).any():
        return score, threshold
    return 0.0 - score, None if threshold is None else 0.0 - threshold
