"""Leave-one-out ablation: how far the loss moves when one head is gated off; exact, the reference for the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from neural_plasticity.heads import FloatGrid, HeadId, heads_of
from neural_plasticity.importance.forward import (
    Batch,
    logits_of,
    on_device,
    part_of,
    sequence_losses,
    targets_of,
    undisturbed,
)
from neural_plasticity.importance.onepass import Progress, decodes, numpy
from neural_plasticity.models.attach import Heads
from neural_plasticity.models.devices import ALONE, Devices
from neural_plasticity.models.seam import AttentionCall

FORWARD_TOKENS = 4096  # copies of a batch share a forward up to this many tokens: fewer, fuller calls


class _GateProbe:
    """Applies gates of shape (batch, heads) per layer, in place of the model's own."""

    def __init__(self, gates: dict[int, Tensor]) -> None:
        self.gates = gates

    def observe(self, call: AttentionCall) -> Tensor:
        return call.output * self.gates[call.layer].to(call.output)[:, None, :, None]


def ablation(
    heads: Heads, batches: Sequence[Batch], *, progress: Progress | None = None, devices: Devices = ALONE
) -> FloatGrid:
    """E[L(head off) − L(head on)] over sequences, all other heads as they are now, (layers, heads) in nats per token.

    Above 0, the head helps. NaN for heads that are not present. One forward per head and batch; several heads share a
    call when the batch is small (``FORWARD_TOKENS``).
    """
    todo = heads_of(heads.present)
    total, sequences = np.zeros(heads.shape), 0
    for number, raw in enumerate(batches):
        batch = on_device(raw, heads.model)
        share = devices.share(len(batch["input_ids"]))
        if devices.size > 1:
            batch = part_of(batch, share.places)
        base, counted = _losses(heads, batch, [heads.mask], devices)
        counted &= share.real.numpy()
        sequences += int(counted.sum())
        done = number * len(todo)
        for group in _groups(todo, max(1, FORWARD_TOKENS // batch["input_ids"].numel())):
            flipped, _ = _losses(heads, batch, [_flip(heads.mask, head) for head in group], devices)
            for head, losses in zip(group, flipped, strict=True):
                change = float((losses - base[0])[counted].sum())
                total[head] += change if heads.mask[head] else -change
            done += len(group)
            if progress is not None:
                progress(done, len(todo) * len(batches))
    total, everywhere = devices.summed(total), int(devices.summed(sequences))
    return np.where(heads.present, total / everywhere if everywhere else np.nan, np.nan)


def _losses(
    heads: Heads, batch: dict[str, Tensor], masks: Sequence[np.ndarray], devices: Devices
) -> tuple[np.ndarray, np.ndarray]:
    """Losses (masks, B) of the batch under each mask, and which sequences count (B,), in one forward."""
    size = len(batch["input_ids"])
    copies = {name: torch.cat([value] * len(masks)) if len(value) == size else value for name, value in batch.items()}
    gates = {
        layout.layer: torch.tensor(
            np.stack([mask[layout.layer][heads.present[layout.layer]] for mask in masks]), dtype=torch.float32
        ).repeat_interleave(size, 0)
        for layout in heads.layouts
    }
    with undisturbed(heads.model), torch.no_grad(), heads.probing(_GateProbe(gates)):
        with devices.autocast():
            logits = logits_of(heads.model, copies)
        losses, counts = sequence_losses(logits, targets_of(copies, logits, decodes(heads.layouts)))
    return numpy(losses).reshape(len(masks), size), numpy(counts)[:size] > 0


def _flip(mask: np.ndarray, head: HeadId) -> np.ndarray:
    flipped = mask.copy()
    flipped[head] = ~flipped[head]
    return flipped


def _groups(todo: Sequence[HeadId], size: int) -> Iterator[Sequence[HeadId]]:
    for start in range(0, len(todo), size):
        yield todo[start : start + size]
