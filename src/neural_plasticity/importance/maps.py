"""Attention maps of a short prompt, for looking at: every head's full (T, T) pattern."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neural_plasticity.errors import InputError
from neural_plasticity.importance.entropy import expanded_keys, row_scores, visible_keys
from neural_plasticity.importance.forward import logits_of, on_device, undisturbed
from neural_plasticity.importance.scoring import attached
from neural_plasticity.models.seam import AttentionCall


class _MapProbe:
    """Keeps each layer's attention probabilities in half precision."""

    def __init__(self) -> None:
        self.maps: dict[int, Tensor] = {}  # per layer (H, T, T)

    def observe(self, call: AttentionCall) -> Tensor:
        index = torch.arange(call.query.shape[2], device=call.query.device)[None]
        visible, bias = visible_keys(call, index)
        probabilities = row_scores(call, expanded_keys(call), index, visible, bias).softmax(-1)
        probabilities = probabilities * visible[:, None]  # a padded query sees nothing: zeros, not a uniform row
        self.maps[call.layer] = probabilities[0].to(torch.float16).cpu()
        return call.output * call.gate.to(call.output.dtype)[:, None]


def attention_maps(model: nn.Module, input_ids: Any, attention_mask: Any = None) -> npt.NDArray[np.float16]:
    """Attention probabilities of one sequence: (layers, heads, T, T), query × key, NaN for pruned or absent heads.

    Args:
        model: attached or not; left as it was found.
        input_ids: (T,) or (1, T) token ids.
        attention_mask: of the same shape, 0 for padding.

    Raises:
        UnsupportedModelError: the model's heads cannot be reached.
        InputError: more than one sequence, or none.
    """
    given = {"input_ids": input_ids, "attention_mask": attention_mask}
    rows = {name: torch.as_tensor(value) for name, value in given.items() if value is not None}
    rows = {name: value[None] if value.dim() == 1 else value for name, value in rows.items()}
    if len(rows["input_ids"]) != 1:
        raise InputError(f"input_ids: expected one sequence, got shape {tuple(rows['input_ids'].shape)}.")
    probe = _MapProbe()
    with attached(model) as heads, undisturbed(model), torch.no_grad():
        batch = on_device(rows, model)
        with heads.probing(probe):
            logits_of(model, batch)
        length = batch["input_ids"].shape[1]
        maps = np.full((*heads.shape, length, length), np.nan, dtype=np.float16)
        for layer, found in probe.maps.items():
            maps[layer, heads.present[layer]] = found.numpy()
        maps[~heads.mask] = np.nan
    return maps
