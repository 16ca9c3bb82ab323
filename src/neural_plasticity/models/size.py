"""What a model weighs: its parameters, their bytes, and the key/value cache that each token takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neural_plasticity.models.headless import PLACEHOLDER_NUMBERS
from neural_plasticity.models.layouts import LayerLayout, layer_layouts


@dataclass(frozen=True)
class ModelSize:
    """Sizes of a whole model.

    ``parameters`` counts every parameter once (tied weights once), ``bytes`` what they take in the dtype they have.
    ``kv_cache_bytes_per_token`` is for one sequence, in the model's dtype, until a sliding window is full; 0 for an
    encoder. A gated head counts in full: it is still there.
    """

    parameters: int
    bytes: int
    kv_cache_bytes_per_token: int


def model_size(model: Any) -> ModelSize:
    """Measure ``model`` as it physically is.

    Raises:
        UnsupportedModelError: the model's heads cannot be reached, so its cache cannot be counted.
    """
    parameters = list(model.parameters())  # torch lists a shared parameter once
    numbers = sum(_cached_numbers(layout) for layout in layer_layouts(model))
    return ModelSize(
        parameters=sum(parameter.numel() for parameter in parameters),
        bytes=sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        kv_cache_bytes_per_token=numbers * model.dtype.itemsize,
    )


def _cached_numbers(layout: LayerLayout) -> int:
    """Numbers that one token leaves in this layer's cache: a key and a value per key/value head."""
    if not getattr(layout.module, "is_causal", True):
        return 0
    return 2 * layout.kv_heads * layout.head_dim if layout.heads else PLACEHOLDER_NUMBERS
