"""The one seam: an attention function that supported models call, with a gate per query head and room for a probe.

transformers looks its attention function up by name on every call. We register one function per backend, named
``plasticity_<backend>`` ("sdpa", "eager", "flash_attention_2", …), together with that backend's mask function: a name
without a mask function would get no mask at all. The function delegates to the backend and then scales each head's
output, before the output projection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

PREFIX = "plasticity_"
_EAGER = f"{PREFIX}eager_"
AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class AttentionCall:
    """One layer's attention as a probe sees it. B: batch, T: queries, S: keys, H: query heads, K: key/value heads."""

    layer: int
    module: nn.Module
    query: Tensor  # (B, H, T, D)
    key: Tensor  # (B, K, S, D)
    value: Tensor  # (B, K, S, D)
    mask: Tensor | None  # (B or 1, 1, T, S): bool (True = visible) or additive float; None: causal or everything
    scaling: float  # multiplies q·k
    is_causal: bool  # what None as mask means
    output: Tensor  # (B, T, H, D), per head, before gate and output projection
    gate: Tensor  # (H,), 1 = active, 0 = pruned
    kv_of_query: Tensor  # (H,) int64: which key/value head each query head reads
    softcap: float | None = None  # where there is one, a scaled q·k x becomes softcap · tanh(x / softcap) (Gemma 2)


class Probe(Protocol):
    """Watches attention, and decides what goes on: ``observe`` returns the gated output (B, T, H, D)."""

    def observe(self, call: AttentionCall) -> Tensor: ...


class LayerSeam(nn.Module):
    """What the attention function needs to know about one layer; lives on the attention module as ``plasticity``.

    Buffers (they follow the model to its device and are never saved): ``gate`` (H,), and ``kv_of_query`` (H,).
    ``even_groups`` says that the backend's own grouping (consecutive query heads share a key/value head) is the
    layer's grouping, as in every unpruned model.
    """

    gate: Tensor
    kv_of_query: Tensor

    def __init__(self, layer: int, kv_of_query: Tensor, even_groups: bool = True) -> None:
        super().__init__()
        self.layer = layer
        self.even_groups = even_groups
        self.probe: Probe | None = None
        self.register_buffer("gate", torch.ones(len(kv_of_query), device=kv_of_query.device), persistent=False)
        self.register_buffer("kv_of_query", kv_of_query, persistent=False)


def seam_of(module: nn.Module) -> LayerSeam | None:
    """The seam that ``attach`` put on this attention module, if any."""
    seam = getattr(module, "plasticity", None)
    return seam if isinstance(seam, LayerSeam) else None


def backend_of(name: str) -> str:
    """The backend's own name, whether or not the seam lies over it: "plasticity_sdpa" and "sdpa" are "sdpa"."""
    return "eager" if name.startswith(_EAGER) else name.removeprefix(PREFIX)


def register_backend(backend: str, eager: AttentionFunction | None) -> str | None:
    """Register the seam over ``backend`` and return its name; None when there is no such backend.

    "eager" is not in transformers' registry: each model file has its own function, ``eager`` (None: it has none), so
    the seam's name carries the model's file.
    """
    if backend == "eager":
        function = eager
        name = f"{_EAGER}{eager.__module__.rsplit('.', 1)[-1]}" if eager is not None else ""
    else:
        function = ALL_ATTENTION_FUNCTIONS.get(backend)
        name = PREFIX + backend
    if function is None or backend not in ALL_MASK_ATTENTION_FUNCTIONS.valid_keys():
        return None
    if name not in ALL_ATTENTION_FUNCTIONS.valid_keys():
        if "flash" in backend:
            function = _under_own_name(function, backend)
        ALL_ATTENTION_FUNCTIONS.register(name, gated(function))
        ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[backend])
    return name


def _under_own_name(function: AttentionFunction, backend: str) -> AttentionFunction:
    """Flash functions load their kernel by the name in the module's configuration, which is ours: show them theirs."""

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        config: Any = module.config
        stand_in: Any = SimpleNamespace(
            config=SimpleNamespace(**{**config.__dict__, "_attn_implementation": backend}),
            is_causal=getattr(module, "is_causal", True),
            layer_idx=getattr(module, "layer_idx", None),
            modules=module.modules,
        )
        return function(stand_in, *args, **kwargs)

    return call


def gated(backend: AttentionFunction) -> AttentionFunction:
    """``backend`` with a gate on each head's output, and any grouping of query heads over key/value heads."""

    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        seam = seam_of(module)
        if seam is None:  # a module that was not attached: cross attention, or a model that shares the config
            return backend(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        backend_key, backend_value = key, value
        if not seam.even_groups:  # the layer sets num_key_value_groups to 1, so the backend expands nothing itself
            backend_key, backend_value = key[:, seam.kv_of_query], value[:, seam.kv_of_query]
        output, weights = backend(module, query, backend_key, backend_value, attention_mask, scaling=scaling, **kwargs)
        if seam.probe is None:
            return output * seam.gate.to(output.dtype)[:, None], weights
        causal = kwargs.get("is_causal")
        call = AttentionCall(
            layer=seam.layer,
            module=module,
            query=query,
            key=key,
            value=value,
            mask=attention_mask,
            scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
            is_causal=bool(getattr(module, "is_causal", True) if causal is None else causal),
            output=output,
            gate=seam.gate,
            kv_of_query=seam.kv_of_query,
            softcap=kwargs.get("softcap"),
        )
        return seam.probe.observe(call), weights

    return attention
