"""Run a model on a batch without disturbing it, and take each sequence's own mean token loss."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from neural_plasticity.errors import InputError, ModelError
from neural_plasticity.models.sharding import decoder_layers, mesh_of

Batch = Mapping[str, Any]
IGNORED = -100  # label of a token that does not count
LOSS_ROWS = 64  # rows of logits handled at once in the loss


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and frozen parameters inside; every training flag and ``requires_grad`` as before afterwards."""
    training = [(module, module.training) for module in model.modules()]
    frozen = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in frozen:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, flag in training:
            module.training = flag
        for parameter, needs_grad in frozen:
            parameter.requires_grad_(needs_grad)


@contextmanager
def recomputed(model: nn.Module) -> Iterator[None]:
    """Inside, a backward recomputes activation functions instead of keeping their intermediate values.

    GPT-2's GELU is written out in Python and keeps four tensors as wide as the MLP, most of what the layers hold.
    The values are the same to the last bit; only transformers' own parameter-free activations are touched. Of a model
    that FSDP divides whole layers are computed again: its activations, and bfloat16 copies of its weights, are too much
    for one device as well.
    """
    if mesh_of(model) is None:
        modules = [one for one in model.modules() if type(one).__module__ == "transformers.activations"]
    else:
        modules = list(decoder_layers(model))
    before = [(module, module.__dict__.get("forward")) for module in modules]
    try:
        for module in modules:
            module.forward = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)
        yield
    finally:
        for module, own in before:
            if own is None:
                del module.forward
            else:
                module.forward = own


def on_device(batch: Batch, model: nn.Module) -> dict[str, Tensor]:
    """The batch's tensors on the model's device.

    Raises:
        InputError: there are no ``input_ids`` of shape (batch, tokens), or another tensor's batch size differs.
    """
    device = next(model.parameters()).device
    tensors = {name: torch.as_tensor(value).to(device) for name, value in batch.items() if value is not None}
    ids = tensors.get("input_ids")
    if ids is None or ids.dim() != 2 or ids.numel() == 0:
        came = "none" if ids is None else f"shape {tuple(ids.shape)}"
        raise InputError(f"batch: expected input_ids of shape (batch, tokens), got {came}.")
    for name in ("attention_mask", "labels"):
        value = tensors.get(name)
        if value is not None and value.shape[0] != len(ids):
            raise InputError(f"batch: {name} has shape {tuple(value.shape)}, expected {len(ids)} sequences.")
    return tensors


def part_of(batch: Mapping[str, Tensor], places: Tensor) -> dict[str, Tensor]:
    """The sequences at ``places`` (n,); what does not hold one item per sequence stays as it is."""
    size = len(batch["input_ids"])
    return {
        name: value[places.to(value.device)] if value.dim() and len(value) == size else value
        for name, value in batch.items()
    }


def real_tokens(batch: Mapping[str, Tensor]) -> Tensor:
    """(B, T) bool: False where the token is padding."""
    mask = batch.get("attention_mask")
    return torch.ones_like(batch["input_ids"], dtype=torch.bool) if mask is None else mask.bool()


def logits_of(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """The model's logits; with padding, positions count real tokens only, as if there were none.

    Raises:
        ModelError: the model returns no logits (it has no head).
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    accepted = inspect.signature(model.forward).parameters
    real = real_tokens(batch)
    if "position_ids" in accepted and "position_ids" not in inputs and not bool(real.all()):
        inputs["position_ids"] = (real.long().cumsum(1) - 1).clamp_min(0) + _first_position(model)
    if "use_cache" in accepted:
        inputs["use_cache"] = False  # type: ignore[assignment]
    output = model(**inputs)
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise ModelError(f"{type(model).__name__}: expected a model that returns logits (…ForCausalLM, …ForMaskedLM).")
    return logits


def _first_position(model: nn.Module) -> int:
    """The first token's position: 0, but where padding has a position of its own, the one after it (RoBERTa)."""
    tables = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    padding = next((getattr(table, "padding_idx", None) for table in tables), None)
    return 0 if padding is None else int(padding) + 1


def targets_of(batch: Mapping[str, Tensor], logits: Tensor, causal: bool) -> Tensor:
    """What each row of ``logits`` should predict, ``IGNORED`` where nothing: (B, T), or (B,) for a classifier.

    Labels default to the input; causal models predict the next token. Padding neither predicts nor is predicted.

    Raises:
        InputError: a classifier without labels, or labels of another shape.
    """
    labels = batch.get("labels")
    ids = batch["input_ids"]
    if logits.dim() == 2:
        if labels is None or labels.shape != logits.shape[:1]:
            raise InputError(f"batch: logits of shape {tuple(logits.shape)} need labels of shape ({len(ids)},).")
        return labels
    labels = ids if labels is None else labels
    if labels.shape != ids.shape:
        raise InputError(f"batch: labels have shape {tuple(labels.shape)}, expected {tuple(ids.shape)} as input_ids.")
    real = real_tokens(batch)
    targets = labels.masked_fill(~real, IGNORED)
    if causal:
        targets = nn.functional.pad(targets[:, 1:], (0, 1), value=IGNORED).masked_fill(~real, IGNORED)
    return targets


def _blocks(rows: Tensor) -> tuple[Tensor, ...]:
    return torch.split(rows, LOSS_ROWS)


class _TokenLoss(torch.autograd.Function):
    """Cross entropy per row whose backward turns the logits into their own gradient, in place.

    Logits are the largest tensor of a small model by far; stock cross entropy holds three of them (logits, log
    softmax, gradient), this holds one. Autograd's version counter fails loudly if anything else still needs them.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        wide = torch.promote_types(logits.dtype, torch.float32)
        log_total = torch.cat([rows.to(wide).logsumexp(-1) for rows in _blocks(logits)])
        chosen = logits.gather(1, targets.clamp_min(0)[:, None]).squeeze(1)
        ctx.save_for_backward(logits, log_total, targets)
        return torch.where(targets == IGNORED, 0, log_total - chosen)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        logits, log_total, targets = ctx.saved_tensors
        logits = logits.detach()  # same memory and version counter, no history
        upstream = torch.where(targets == IGNORED, 0, upstream)[:, None]
        for rows, total, scale in zip(_blocks(logits), _blocks(log_total), _blocks(upstream), strict=True):
            rows.copy_((rows - total[:, None]).exp_().mul_(scale))
        logits.scatter_add_(1, targets.clamp_min(0)[:, None], -upstream.to(logits.dtype))
        return logits, None


def sequence_losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Each sequence's mean token loss (nats) and number of predicted tokens, both (B,); 0 where there are none.

    ``logits``: (B, T, V) or (B, V). They are used up: a backward overwrites them with their gradient.
    """
    batch = len(logits)
    flat = logits.reshape(-1, logits.shape[-1])
    losses: Tensor = _TokenLoss.apply(flat, targets.reshape(-1))  # type: ignore[no-untyped-call]
    counts = (targets != IGNORED).view(batch, -1).sum(1)
    return losses.view(batch, -1).sum(1) / counts.clamp_min(1), counts
