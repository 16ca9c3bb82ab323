"""Slow, obvious counterparts of what ``measure`` and ``ablation`` do fast; tests compare the two.

One sequence at a time, no padding, no probe and no sampling: attention maps from the model's own eager attention, one
backward per sequence, an explicit output projection per head, one forward per ablated head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from neural_plasticity.heads import FloatGrid, heads_of
from neural_plasticity.models.attach import Heads
from neural_plasticity.models.seam import AttentionCall


class GateProbe:
    """Scales each layer's heads by ``gates`` (layers, heads) and keeps every head's output."""

    def __init__(self, gates: Tensor) -> None:
        self.gates = gates
        self.outputs: dict[int, Tensor] = {}  # per layer (B, T, H, D)

    def observe(self, call: AttentionCall) -> Tensor:
        self.outputs[call.layer] = call.output.detach()
        return torch.stack([call.output[:, :, h] * self.gates[call.layer, h] for h in range(len(call.gate))], dim=2)


def sequence_loss(model: nn.Module, ids: Tensor, causal: bool) -> Tensor:
    """Mean token loss of one unpadded sequence (T,)."""
    logits = model(input_ids=ids[None], use_cache=False).logits[0] if causal else model(input_ids=ids[None]).logits[0]
    return nn.functional.cross_entropy(logits[:-1], ids[1:]) if causal else nn.functional.cross_entropy(logits, ids)


def gradients(heads: Heads, sequences: Sequence[Tensor], causal: bool) -> np.ndarray:
    """∂L/∂ξ (sequences, layers, heads), one backward per sequence."""
    found = []
    for ids in sequences:
        gates = torch.tensor(heads.mask, dtype=next(heads.model.parameters()).dtype, requires_grad=True)
        with heads.probing(GateProbe(gates)):
            (gradient,) = torch.autograd.grad(sequence_loss(heads.model, ids, causal), gates)
        found.append(gradient.double().numpy())
    return np.stack(found)


def benefits(heads: Heads, sequences: Sequence[Tensor], causal: bool, step: float = 1e-5) -> np.ndarray:
    """−∂L/∂ξ (sequences, layers, heads) by differences of fourth order on each gate; NaN for active heads."""
    found = np.full((len(sequences), *heads.shape), np.nan)
    gates = torch.tensor(heads.mask, dtype=next(heads.model.parameters()).dtype)
    for layer, head in heads_of(heads.present & ~heads.mask):
        for number, ids in enumerate(sequences):
            slope = 0.0
            for steps, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
                gates[layer, head] = steps * step
                with heads.probing(GateProbe(gates)), torch.no_grad():
                    slope += weight * float(sequence_loss(heads.model, ids, causal)) / (12 * step)
            gates[layer, head] = 0
            found[number, layer, head] = -slope
    return found


def output_norm(heads: Heads, sequences: Sequence[Tensor], causal: bool) -> FloatGrid:
    """Mean over positions of the norm of each head's own contribution to the residual stream."""
    total, positions = np.zeros(heads.shape), 0
    for ids in sequences:
        probe = GateProbe(torch.tensor(heads.mask, dtype=next(heads.model.parameters()).dtype))
        with heads.probing(probe), torch.no_grad():
            sequence_loss(heads.model, ids, causal)
        for layout in heads.layouts:
            for head, weight in enumerate(layout.output_weight().detach()):
                written = probe.outputs[layout.layer][0, :, head] @ weight  # (T, hidden)
                total[layout.layer, head] += float(written.norm(dim=-1).sum())
        positions += len(ids)
    return total / positions


def entropy(maps: Sequence[Sequence[Tensor]], visible: Callable[[int, int], int]) -> tuple[FloatGrid, FloatGrid]:
    """Normalised entropy and mass on the first token from full attention maps.

    Args:
        maps: per sequence, per layer, (heads, T, T) probabilities.
        visible: (position, length) -> number of keys that the position sees.
    """
    totals: list[np.ndarray] = []
    positions = 0
    for per_layer in maps:
        length = per_layer[0].shape[-1]
        seen = [i for i in range(length) if visible(i, length) >= 2]
        positions += len(seen)
        for i in seen:
            p = np.stack([layer[:, i].double().numpy() for layer in per_layer])  # (layers, heads, T)
            terms = np.where(p > 0, -p * np.log(np.where(p > 0, p, 1)), 0).sum(-1)
            totals.append(np.stack([terms / np.log(visible(i, length)), p[..., 0]]))
    mean = np.sum(totals, axis=0) / positions
    return mean[0], mean[1]


def ablation(heads: Heads, sequences: Sequence[Tensor], causal: bool) -> FloatGrid:
    """E[L(off) − L(on)], one head and one sequence at a time."""
    change = np.zeros(heads.shape)
    for layer, head in heads_of(heads.present):
        for ids in sequences:
            loss = []
            for state in (False, True):
                mask = heads.mask
                mask[layer, head] = state
                with heads.gated(mask), torch.no_grad():
                    loss.append(float(sequence_loss(heads.model, ids, causal)))
            change[layer, head] += (loss[0] - loss[1]) / len(sequences)
    return change
