"""Pruned heads stand still: an optimiser step leaves their parameters and their optimiser state as they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from neural_plasticity.heads import BoolGrid
from neural_plasticity.models.layouts import LayerLayout
from neural_plasticity.models.parts import places

if TYPE_CHECKING:
    from neural_plasticity.models.attach import Heads


class Protection:
    """Saves what belongs to pruned heads alone before each step of an optimiser, and puts it back afterwards.

    A closed gate makes a head's gradient zero, but weight decay and momentum would still move it. Protected are the
    query, key and value rows with their biases and the output projection's slices of each pruned query head; a
    key/value head once no active query head reads it. The output bias and query/key norms belong to no head alone and
    train on. Only those slices are copied, in the parameter and in every optimiser state tensor of its shape; state of
    another shape (Adafactor's factored moments) is shared with active heads and stays the optimiser's own. Of what is
    held in parts, each process protects its own.
    """

    def __init__(self, heads: Heads, optimizer: torch.optim.Optimizer) -> None:
        self._heads = heads
        # Accelerate wraps optimisers; the hooks belong on the one that steps.
        self._optimizer: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
        self._plan_key: bytes | None = None
        self._plan: list[tuple[nn.Parameter, int, Tensor]] = []
        self._saved: list[tuple[Tensor, int, Tensor, Tensor]] = []
        self._hooks = (
            self._optimizer.register_step_pre_hook(self._before),
            self._optimizer.register_step_post_hook(self._after),
        )

    def remove(self) -> None:
        """End the protection."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def _before(self, *_: Any) -> None:
        self._restore()  # of a step that raised
        trained = {id(one) for group in self._optimizer.param_groups for one in group["params"]}
        for parameter, dim, index in self._current_plan():
            if id(parameter) not in trained:
                continue
            self._save(parameter, dim, index)
            states = list(_state_tensors(self._optimizer, parameter))
            for state in states:
                self._save(state, dim, index)
            if not states:
                # State that this step will create should start as for a weight and gradient of zero.
                for tensor in (parameter, parameter.grad):
                    if tensor is not None:
                        part, here = places(tensor, dim, index)
                        part.index_fill_(dim, here, 0)

    @torch.no_grad()
    def _after(self, *_: Any) -> None:
        self._restore()

    def _save(self, tensor: Tensor, dim: int, index: Tensor) -> None:
        part, here = places(tensor, dim, index)
        self._saved.append((part, dim, here, part.index_select(dim, here)))

    def _restore(self) -> None:
        for tensor, dim, index, values in self._saved:
            tensor.index_copy_(dim, index, values)
        self._saved.clear()

    def _current_plan(self) -> list[tuple[nn.Parameter, int, Tensor]]:
        """(parameter, dimension, places) to keep under the mask of this moment."""
        mask = self._heads.mask
        key = mask.tobytes()
        if key != self._plan_key:
            self._plan = list(_plan(self._heads, mask))
            self._plan_key = key
        return self._plan


def still_places(heads: Heads) -> list[tuple[nn.Parameter, int, Tensor]]:
    """(parameter, dimension, places) of what belongs to heads alone that are pruned now."""
    return list(_plan(heads, heads.mask))


def _plan(heads: Heads, mask: BoolGrid) -> Iterator[tuple[nn.Parameter, int, Tensor]]:
    for layout in heads.layouts:
        still = still_heads(layout, mask[layout.layer])
        places: dict[tuple[str, int], list[Tensor]] = {}
        for one in layout.slices():
            chosen = one.index[still[one.kind in ("key", "value")]]
            places.setdefault((one.parameter, one.dim), []).append(chosen.flatten())
        for (name, dim), parts in places.items():
            index = torch.cat(parts)
            if len(index):
                parameter = heads.model.get_parameter(name)
                yield parameter, dim, index.to(parameter.device)


def still_heads(layout: LayerLayout, active: BoolGrid) -> tuple[Tensor, Tensor]:
    """Local numbers of one layer's pruned query heads, and of the key/value heads that no active query head reads.

    ``active`` (heads of the original grid,): the layer's row of the mask.
    """
    on = np.asarray(active)[list(layout.query_ids)]
    read = set(layout.kv_of_query[torch.from_numpy(on)].tolist())
    silent = [kv for kv in range(layout.kv_heads) if kv not in read]
    return torch.from_numpy(np.flatnonzero(~on)), torch.tensor(silent, dtype=torch.int64)


def _state_tensors(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> Iterator[Tensor]:
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            yield value
