"""Proof on a tiny forward pass that the seam reaches every head, since some architectures accept it and ignore it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neural_plasticity.models.layouts import IGNORES_SEAM, LayerLayout, unsupported
from neural_plasticity.models.seam import AttentionCall, seam_of

_TOKENS = 6


@contextmanager
def trial(model: Any) -> Iterator[Callable[[], Tensor]]:
    """A function that runs ``model`` on a few fixed tokens and returns its first output; nothing of it remains.

    Dropout is off, no random numbers are drawn, and every module's training mode comes back.
    """
    if getattr(model, "main_input_name", "input_ids") != "input_ids":
        raise unsupported(model, f"it reads {model.main_input_name}, not tokens")
    embedding = model.get_input_embeddings()
    if embedding.weight.device.type == "meta":
        raise unsupported(model, "its weights are not loaded (meta device)")
    ids = (torch.arange(3, 3 + _TOKENS) * 5 % model.config.vocab_size)[None].to(embedding.weight.device)
    training = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            yield lambda: model(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
    finally:
        for module, mode in training:
            module.training = mode


class _Recorder:
    """Keeps what each layer's attention function saw, and sends on a part of it: half-closed gates on every head."""

    FACTOR = 0.5  # exact in floating point, and told apart from a model that ignores what we return

    def __init__(self) -> None:
        self.calls: dict[int, list[AttentionCall]] = {}

    def observe(self, call: AttentionCall) -> Tensor:
        self.calls.setdefault(call.layer, []).append(call)
        return call.output * self.FACTOR


def prove(model: nn.Module, layouts: tuple[LayerLayout, ...], forward: Callable[[], Tensor], expected: Tensor) -> None:
    """Check that outputs are as before, and layer by layer that gates work and that the layout's rows are the heads'.

    Raises:
        UnsupportedModelError: a check failed; the line says which, and where.
    """
    plain = forward()
    tolerance = 64 * torch.finfo(plain.dtype).eps * max(1.0, float(expected.abs().max()))
    if plain.shape != expected.shape or not float((plain - expected).abs().max()) <= tolerance:
        raise unsupported(model, "its outputs change when the attention function is replaced by an equal one")
    recorder = _Recorder()
    with ExitStack() as stack:
        seen = {layout.layer: _watch(stack, layout, recorder) for layout in layouts if layout.heads}
        forward()
    for layout in layouts:
        reason = _fault(layout, recorder, seen[layout.layer]) if layout.heads else None
        if reason is not None:
            raise unsupported(model, f"{reason} ({layout.path})")


def _watch(stack: ExitStack, layout: LayerLayout, recorder: _Recorder) -> dict[str, Tensor]:
    """Put the recorder on one layer and keep its output projection's input and its value projection's output."""
    seen: dict[str, Tensor] = {}

    def before_output(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen["joined"] = args[0]

    def after_value(_: nn.Module, _args: Any, out: Tensor) -> None:
        seen["value"] = out

    stack.callback(layout.projection("output").register_forward_pre_hook(before_output).remove)
    stack.callback(layout.projection("value").register_forward_hook(after_value).remove)
    seam = seam_of(layout.module)
    assert seam is not None
    earlier, seam.probe = seam.probe, recorder
    stack.callback(setattr, seam, "probe", earlier)
    return seen


def _fault(layout: LayerLayout, recorder: _Recorder, seen: dict[str, Tensor]) -> str | None:
    """Why this layer's heads are not where the layout says they are; None if they are."""
    calls = recorder.calls.get(layout.layer, [])
    if not calls:
        return IGNORES_SEAM
    if len(calls) > 1:
        return "several layers share one attention module, so that their heads are not separate"
    call = calls[0]
    mask: object = call.mask
    batch, tokens = call.output.shape[:2]
    if call.output.shape[2:] != (layout.heads, layout.head_dim) or call.value.shape[1] != layout.kv_heads:
        return f"its attention function sees other heads than the {layout.heads} of {layout.head_dim} in its weights"
    if mask is not None and not isinstance(mask, Tensor):
        return f"its attention mask is a {type(mask).__name__}, not a tensor; load it with 'sdpa' or 'eager'"
    if mask is not None and mask.dim() == 4 and mask.shape[1] != 1:
        return "its attention mask differs between heads"
    sent = (call.output * recorder.FACTOR).reshape(batch, tokens, -1)
    if not torch.equal(seen["joined"].reshape(batch, tokens, -1), sent):
        return "something comes between its heads and the output projection"
    values = seen["value"].reshape(batch, tokens, -1)[..., layout.head_index("value").to(sent.device)]
    if not torch.equal(values, call.value.transpose(1, 2)):
        return "its values are not rows of its value projection"
    return None
