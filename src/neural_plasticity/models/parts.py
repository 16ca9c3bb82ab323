"""Tensors of which each process holds a part: ``DTensor`` divided along its first dimension, as FSDP2's parameters are.

Every function does the plain thing with a tensor that is not divided. Where something is exchanged, every process has
to call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard


def whole(tensor: Tensor) -> Tensor:
    """All of it, on every process: ``tensor`` itself where it is not divided."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, model: Tensor) -> Tensor:
    """``tensor``, the same on every process, held as ``model`` is. Nothing is exchanged."""
    if not isinstance(model, DTensor):
        return tensor
    first, last = _rows(len(tensor), model.device_mesh)
    part = tensor[first:last].clone()
    return DTensor.from_local(
        part, model.device_mesh, (Shard(0),), run_check=False, shape=tensor.shape, stride=tensor.stride()
    )


def places(tensor: Tensor, dim: int, index: Tensor) -> tuple[Tensor, Tensor]:
    """Some places along ``dim``, ``index`` (n,) int64, as far as this process holds them: (part, its index).

    The part shares the memory of ``tensor``.
    """
    if not isinstance(tensor, DTensor):
        return tensor, index
    if dim:
        return tensor.to_local(), index
    first, last = _rows(len(tensor), tensor.device_mesh)
    return tensor.to_local(), index[(index >= first) & (index < last)] - first


def put(tensor: Tensor, dim: int, index: Tensor, values: Tensor) -> None:
    """``tensor.index_copy_(dim, index, values)``, whose ``values`` are given whole on every process."""
    part, here = places(tensor, dim, index)
    if isinstance(tensor, DTensor):
        first, last = _rows(len(tensor), tensor.device_mesh)
        values = values[first:last] if dim else values[(index >= first) & (index < last)]
    part.index_copy_(dim, here, values)


@torch.no_grad()
def fill(target: Tensor, value: Tensor, mesh: DeviceMesh) -> None:
    """Let ``target``, divided or not, be ``value`` of the main process; others give a shape without content (meta)."""
    empty = torch.empty(value.shape, dtype=target.dtype, device=target.device)
    given = empty if value.is_meta else empty.copy_(value)
    distributed.broadcast(given, src=0, group=mesh.get_group())
    if isinstance(target, DTensor):
        first, last = _rows(len(target), mesh)
        target.to_local().copy_(given[first:last])
    else:
        target.copy_(given)


def held_as(model: Tensor, value: Tensor) -> Tensor:
    """A copy of ``value``, held as ``model`` is; where that is divided, only the main process's need have content."""
    if not isinstance(model, DTensor):
        return value.to(model.device, copy=True)
    held = torch.zeros_like(model, dtype=value.dtype, requires_grad=False)
    fill(held, value, model.device_mesh)
    return held


def shapes_of(value: Any) -> Any:
    """``value`` (mappings of tensors, however deep) with shapes without content (meta) for tensors of any size."""
    if isinstance(value, Mapping):
        return {name: shapes_of(one) for name, one in value.items()}
    return value.to("meta") if isinstance(value, Tensor) and value.ndim else value


def _rows(rows: int, mesh: DeviceMesh) -> tuple[int, int]:
    """The first of this process's rows, and the one after its last: as `torch.chunk` divides."""
    each = -(-rows // mesh.size())
    return min(mesh.get_local_rank() * each, rows), min((mesh.get_local_rank() + 1) * each, rows)


def gathered(value: Any, known: dict[int, Tensor] | None = None) -> Any:
    """``value`` (mappings of tensors, however deep) with divided tensors whole in the main process's CPU memory.

    Elsewhere they are on the meta device: shapes without content. Tensors that are one stay one. What is not divided is
    as it was.
    """
    known = {} if known is None else known
    if isinstance(value, Mapping):
        return {name: gathered(one, known) for name, one in value.items()}
    if not isinstance(value, DTensor):
        return value
    if id(value) not in known:
        full = whole(value.detach())
        main = value.device_mesh.get_rank() == 0
        known[id(value)] = full.cpu() if main else torch.empty_like(full, device="meta")
    return known[id(value)]
