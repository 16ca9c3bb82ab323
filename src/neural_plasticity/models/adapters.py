"""Low-rank adapters (Hu et al., arXiv 2106.09685, by peft) that train in place of a model's weights, and are merged."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from neural_plasticity.errors import ConfigError
from neural_plasticity.models.attach import Heads
from neural_plasticity.models.parts import places
from neural_plasticity.models.protection import still_places
from neural_plasticity.models.sharding import apart


def check_installed() -> None:
    """Raises ConfigError where peft is not installed."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ConfigError("--lora_rank: peft is not installed; pip install 'neural-plasticity[lora]'.") from error


class Adapters:
    """Beside each linear layer W but the output embedding a B·A of ``rank``, scaled by 2; only these train.

    They change nothing at first (B is zero). `merge` adds them to the weights, where what belongs to pruned heads alone
    stays as it is. Everything else (embeddings, norms, biases) does not move at all.
    """

    def __init__(self, model: nn.Module, heads: Heads | None, rank: int, seed: int) -> None:
        check_installed()
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel

        self._model = model
        self._heads = heads
        self._trained = {name: one.requires_grad for name, one in model.named_parameters()}
        transposed = any(isinstance(module, Conv1D) for module in model.modules())
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", fan_in_fan_out=transposed)
        torch.manual_seed(seed)
        with apart(model), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft's remarks on what it finds
            self._tuner: Any = LoraModel(model, config, "default")

    def merge(self) -> None:
        """Add the adapters to the weights and take them out: the model is wired as before, and computes as now."""
        kept: list[tuple[Tensor, int, Tensor, Tensor]] = []
        with apart(self._model), torch.no_grad():
            if self._heads is not None:
                for parameter, dim, index in still_places(self._heads):
                    part, here = places(parameter, dim, index)
                    kept.append((part, dim, here, part.index_select(dim, here)))
            self._tuner.merge_and_unload()
            for part, dim, here, values in kept:
                part.index_copy_(dim, here, values)
            for name, parameter in self._model.named_parameters():
                parameter.requires_grad_(self._trained[name])
