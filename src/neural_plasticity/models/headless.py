"""What is left of an attention layer that lost every head: its output bias, and its place in the cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, EncoderDecoderCache

PLACEHOLDER_NUMBERS = 2  # per token, sequence and headless layer: one key and one value of width 1


class BiasOnly(nn.Module):
    """An output projection without inputs: (…, anything) → (…, hidden), the bias at every position, zeros without one.

    Takes the place of the projection under the same name, so the bias keeps its name in the state dict. ``weight`` is a
    mark of one number: a saved file without it would open in a transformers that knows nothing of us, with random
    weights in this layer; a weight of the wrong size is refused.
    """

    bias: nn.Parameter | None
    weight: Tensor

    def __init__(self, hidden: int, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.hidden = hidden
        self.register_parameter("bias", bias)
        self.register_buffer("weight", torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.bias is None:
            return inputs.new_zeros(*inputs.shape[:-1], self.hidden)
        return self.bias.expand(*inputs.shape[:-1], self.hidden)

    def extra_repr(self) -> str:
        return f"hidden={self.hidden}, bias={self.bias is not None}"


class HeadlessAttention(nn.Module):
    """Stands in for an attention module without heads, and returns what such modules return: (output, no weights).

    Caches count their tokens in layer 0, or in the first layer of a kind: a layer that stored nothing would make
    cached positions and masks wrong. So it stores a placeholder of one head of width 1 (width 0 would count as empty).

    ``projection``: the name of the output projection where it belongs to the attention module; None where the parent
    applies it (BERT), whose `BiasOnly` then ignores what it is given.
    """

    plasticity_headless = True

    def __init__(self, layer_idx: int, is_causal: bool, projection: str | None, output: BiasOnly | None) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.is_causal = is_causal
        self.projection = projection
        if projection is not None and output is not None:
            self.add_module(projection, output)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        """(B, T, hidden) → (B, T, hidden); a cache is found among the arguments by type: its name differs by model."""
        cache = next((value for value in (*args, *kwargs.values()) if isinstance(value, Cache)), None)
        if isinstance(cache, EncoderDecoderCache):
            cache = cache.self_attention_cache
        if cache is not None:
            batch, tokens = hidden_states.shape[:2]
            placeholder = torch.zeros(batch, 1, tokens, 1, dtype=hidden_states.dtype, device=hidden_states.device)
            cache.update(placeholder, placeholder, self.layer_idx)
        if self.projection is None:
            return hidden_states, None
        output = self.get_submodule(self.projection)(hidden_states)
        if torch.is_grad_enabled() and hidden_states.requires_grad:
            # Zero gradients rather than none for the norm before this layer: data-parallel training insists on one.
            output = output + 0.0 * hidden_states[..., :1]
        return output, None

    def extra_repr(self) -> str:
        return f"layer_idx={self.layer_idx}"
