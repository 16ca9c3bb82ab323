"""The evidence for growth, to first order: each switched-off head's benefit, sequence by sequence.

With ξ a head's gate and L a sequence's mean token loss, the benefit is −∂L/∂ξ at ξ = 0: to first order, how far L falls
per unit of gate. Its sign is the evidence; the magnitude alone is none (a harmful head has one, too).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neural_plasticity.heads import FloatGrid
from neural_plasticity.importance.criteria import SequenceGrids, mean_absolute
from neural_plasticity.importance.forward import Batch
from neural_plasticity.importance.onepass import Progress, measure
from neural_plasticity.models.attach import Heads
from neural_plasticity.models.devices import ALONE, Devices


@dataclass(frozen=True)
class Benefits:
    """From one backward per batch: ``off`` (sequences, layers, heads) is −∂L/∂ξ of the heads that are switched off,
    ``on`` (layers, heads) E|∂L/∂ξ| of the active ones, NaN elsewhere; ``losses`` (sequences,) in nats per token."""

    off: SequenceGrids
    on: FloatGrid
    losses: npt.NDArray[np.float64]


def benefits(
    heads: Heads, batches: Sequence[Batch], *, progress: Progress | None = None, devices: Devices = ALONE
) -> Benefits:
    """Measure every present head of an attached model, at the gate it has now.

    One backward of the sum of the sequences' losses gives each sequence its own gradient, whatever the batch size.

    Raises:
        InputError: no batches, or one that is not as described in ``score_heads``.
    """
    mask, present = heads.mask, heads.present
    measured = measure(heads, batches, frozenset({"gradient"}), progress=progress, devices=devices)
    return Benefits(
        off=np.where(present & ~mask, -measured.gradients, np.nan),
        on=np.where(mask, mean_absolute(measured.gradients), np.nan),
        losses=measured.losses,
    )
