"""The one pass: a forward and a backward per batch that measure every head's gradient, entropy and output norm."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neural_plasticity.errors import InputError
from neural_plasticity.heads import BoolGrid, FloatGrid
from neural_plasticity.importance.criteria import ALL_PARTS, Part, SequenceGrids
from neural_plasticity.importance.entropy import QueryRows, all_rows, entropy_sums, sampled_rows
from neural_plasticity.importance.forward import (
    Batch,
    logits_of,
    on_device,
    part_of,
    real_tokens,
    recomputed,
    sequence_losses,
    targets_of,
    undisturbed,
)
from neural_plasticity.models.attach import Heads
from neural_plasticity.models.devices import ALONE, Devices
from neural_plasticity.models.layouts import LayerLayout
from neural_plasticity.models.seam import AttentionCall

Progress = Callable[[int, int], None]  # batches (or heads) done, planned


@dataclass(frozen=True)
class Measurements:
    """What the pass saw. Grids are (layers, heads) float64, NaN where no head is present or the part was not asked for.

    A pruned head is measured as it is now: its gradient at gate 0, and entropy and norm of the output it would have
    without the gate, from the hidden states of the model without it.
    """

    gradients: SequenceGrids  # (sequences, layers, heads): ∂L/∂ξ of each sequence's own mean token loss L
    losses: npt.NDArray[np.float64]  # (sequences,) nats per token
    entropy: FloatGrid  # 0 (one key) … 1 (uniform)
    first_token_mass: FloatGrid  # mean attention on the first real token
    output_norm: FloatGrid  # E‖W_o a‖ over real positions, in units of the residual stream
    sequences: int
    tokens: int  # real input tokens


class _PassProbe:
    """Gives each layer a gate of shape (batch, heads), and measures on the way what needs no gradient."""

    def __init__(self, grams: Sequence[Tensor], rows: QueryRows | None, real: Tensor, parts: Collection[Part]) -> None:
        self.grams = grams  # per layer (H, D, D)
        self.rows = rows
        self.real = real
        self.parts = parts
        self.gates: dict[int, Tensor] = {}
        self.entropy: dict[int, Tensor] = {}  # per layer (3, H)
        self.norms: dict[int, Tensor] = {}  # per layer (H,)

    def observe(self, call: AttentionCall) -> Tensor:
        # Under autocast the model's values come rounded; what is computed from them here is not rounded again.
        with torch.no_grad(), torch.autocast(call.output.device.type, enabled=False):
            if self.rows is not None:
                self.entropy[call.layer] = entropy_sums(call, self.rows)
            if "output_norm" in self.parts:
                self.norms[call.layer] = norm_sums(call.output, self.grams[call.layer], self.real)
        # In float32 at least: the gradient is a sum over positions, of which bfloat16 would keep eight bits.
        gate = call.gate.to(torch.promote_types(call.output.dtype, torch.float32)).expand(len(call.output), -1).clone()
        if "gradient" in self.parts:
            self.gates[call.layer] = gate.requires_grad_()
        return (call.output * gate[:, None, :, None]).to(call.output.dtype)


def output_gram(weight: Tensor) -> Tensor:
    """W Wᵀ per head, (H, D, D), of output weights (H, D, hidden): ‖W_o a‖² = aᵀ (W Wᵀ) a costs D² and not D·hidden."""
    weight = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
    return weight @ weight.transpose(-1, -2)


def norm_sums(output: Tensor, gram: Tensor, real: Tensor) -> Tensor:
    """Σ‖W_o a‖ over real positions, (H,). ``output``: (B, T, H, D); ``gram``: (H, D, D); ``real``: (B, T) bool."""
    batch, length, heads, width = output.shape
    a = output.permute(2, 0, 1, 3).reshape(heads, batch * length, width).to(gram.dtype)
    squared = (torch.bmm(a, gram) * a).sum(-1).clamp_min(0)  # (H, B·T)
    return squared.sqrt_() @ real.reshape(-1).to(gram.dtype)


def measure(
    heads: Heads,
    batches: Sequence[Batch],
    parts: Collection[Part] = ALL_PARTS,
    *,
    entropy_rows: int | None = 64,
    seed: int = 0,
    progress: Progress | None = None,
    devices: Devices = ALONE,
) -> Measurements:
    """Measure every present head on ``batches``; the model, its gates, gradients and modes stay as they are.

    Args:
        heads: the attached model's heads.
        batches: dicts of ``input_ids`` (B, T), optionally ``attention_mask``, ``labels`` and other model inputs.
        parts: what to measure; without "gradient" there is no backward.
        entropy_rows: query positions sampled per sequence for entropy; None takes every position.
        seed: of the sampled positions.
        progress: called with (batches done, batches) after each.
        devices: the processes that share the work: each is given the same batches, takes its part, and gets it all.

    Raises:
        InputError: no batches, or one that is not as described.
    """
    if not batches:
        raise InputError("batches: expected at least one batch of input_ids, got none.")
    if entropy_rows is not None and entropy_rows < 1:
        raise InputError(f"entropy_rows: expected at least 1, or None for every position; got {entropy_rows}.")
    model, layouts = heads.model, heads.layouts
    generator = torch.Generator().manual_seed(seed)
    grams = [output_gram(layout.output_weight()) for layout in layouts] if "output_norm" in parts else []
    causal = decodes(layouts)
    losses, gradients, entropy, norms, tokens = [], [], [], [], 0
    for done, raw in enumerate(batches, start=1):
        batch = on_device(raw, model)
        real = real_tokens(batch)
        rows = None
        if "entropy" in parts:
            rows = all_rows(real) if entropy_rows is None else sampled_rows(real, entropy_rows, generator)
        sequences, share = len(real), devices.share(len(real))
        if devices.size > 1:  # rows were drawn for all, so that they do not depend on how many share the work
            batch = part_of(batch, share.places)
            real = real[share.places] & share.real[:, None].to(real.device)
            rows = None if rows is None else rows.of(share)
        probe = _PassProbe(grams, rows, real, parts)
        with (
            undisturbed(model),
            recomputed(model),
            heads.probing(probe),
            torch.set_grad_enabled("gradient" in parts),
        ):
            with devices.autocast():
                logits = logits_of(model, batch)
            loss, counts = sequence_losses(logits, targets_of(batch, logits, causal))
            del logits  # the loss may use it up
            counted = numpy(devices.joined(counts, sequences)) > 0
            gates = in_order(probe.gates)
            if gates:
                # The sum over sequences, not the mean: each gets its own gradient, whatever the batch size.
                found = torch.cat(torch.autograd.grad(loss.sum(), gates), dim=1)
                gradients.append(numpy(devices.joined(found, sequences))[counted])
        losses.append(numpy(devices.joined(loss, sequences))[counted])
        entropy += [numpy(torch.cat(in_order(probe.entropy), dim=1))] if probe.entropy else []
        norms += [numpy(torch.cat(in_order(probe.norms)))] if probe.norms else []
        tokens += int(real.sum())
        if progress is not None:
            progress(done, len(batches))
    present = heads.present
    total = int(devices.summed(tokens))
    entropy_sum, first_sum, weight = devices.summed(np.sum(entropy, axis=0)) if entropy else np.full((3, 1), np.nan)
    with np.errstate(invalid="ignore"):  # no position with two visible keys: NaN, not measured
        entropy_mean, first_mean = entropy_sum / weight, first_sum / weight
    loss_array = np.concatenate(losses)
    return Measurements(
        gradients=on_grid(np.concatenate(gradients) if gradients else np.full((len(loss_array), 1), np.nan), present),
        losses=loss_array,
        entropy=on_grid(entropy_mean, present),
        first_token_mass=on_grid(first_mean, present),
        output_norm=on_grid(devices.summed(np.sum(norms, axis=0)) / total if norms else np.array([np.nan]), present),
        sequences=len(loss_array),
        tokens=total,
    )


def decodes(layouts: Sequence[LayerLayout]) -> bool:
    """Whether the model predicts the next token (its attention is causal) or, as BERT, the token itself."""
    return bool(getattr(layouts[0].module, "is_causal", True))


def in_order(by_layer: dict[int, Tensor]) -> list[Tensor]:
    """The layers' tensors from the first layer on; layers without heads never call."""
    return [by_layer[layer] for layer in sorted(by_layer)]


def numpy(tensor: Tensor) -> npt.NDArray[np.float64]:
    """As a float64 array, off the device and out of the graph."""
    return cast("npt.NDArray[np.float64]", tensor.detach().cpu().double().numpy())


def on_grid(flat: npt.NDArray[np.float64], present: BoolGrid) -> npt.NDArray[np.float64]:
    """Values of the present heads in reading order, (…, P) or (…, 1), as (…, layers, heads); NaN where none is."""
    grid = np.full((*flat.shape[:-1], *present.shape), np.nan)
    grid[..., present] = flat
    return grid
