"""Attention heads by name: (layer, head) pairs, how people write them, and the states they go through."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neural_plasticity.errors import HeadError

BoolGrid = npt.NDArray[np.bool_]  # (layers, heads)
FloatGrid = npt.NDArray[np.float64]  # (layers, heads)
StateGrid = npt.NDArray[np.int8]  # (layers, heads), values of HeadState


MOST = 4_096  # layers, and heads in one: no model comes near, and a grid has to fit into memory
MOST_HEADS = 262_144  # of a grid, 20 times a model of 100 layers with 128 heads each


class HeadId(NamedTuple):
    """A query head: layer and head, both counted from 0."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"


class HeadState(IntEnum):
    """Where a head is in its life. ``ABSENT``: the grid has no such head (layers of unequal width)."""

    ABSENT = -1
    PRUNED = 0
    ACTIVE = 1
    REGROWN = 2
    ADDED = 3


def head_id(value: Any) -> HeadId:
    """Read a head written as ``(layer, head)``, ``[layer, head]``, ``"layer.head"`` or ``"L0H2"``.

    Raises:
        HeadError: it is none of these, or a number is negative or beyond any model.
    """
    parts: Any = value
    if isinstance(value, str):
        parts = value.upper().removeprefix("L").replace("H", ".").split(".")
    try:
        layer, head = (int(part) for part in parts)
    except (TypeError, ValueError) as error:
        raise HeadError(f"head {value!r}: expected (layer, head) or 'layer.head', for example (0, 2).") from error
    if layer < 0 or head < 0:
        raise HeadError(f"head {value!r}: layer and head are counted from 0; negative numbers mean nothing here.")
    if max(layer, head) >= MOST:
        raise HeadError(f"head {value!r}: expected a layer and a head below {MOST:,}.")
    return HeadId(layer, head)


def head_ids(values: Iterable[Any], shape: tuple[int, int] | None = None) -> tuple[HeadId, ...]:
    """Read several heads; with ``shape`` (layers, heads), refuse those outside the grid.

    Raises:
        HeadError: a head cannot be read or lies outside the grid.
    """
    found = tuple(head_id(value) for value in values)
    if shape is not None:
        for one in found:
            if one.layer >= shape[0] or one.head >= shape[1]:
                raise HeadError(f"head {one}: the model has {shape[0]} layers × {shape[1]} heads, counted from 0.")
    return found


def named(head: HeadId, incarnation: int = 1) -> str:
    """``L3H7``, and ``L3H7#2`` in its second life: after it was pruned and came back once."""
    return str(head) if incarnation <= 1 else f"{head}#{incarnation}"


def grid_of(heads: Iterable[HeadId], shape: tuple[int, int]) -> BoolGrid:
    """(layers, heads) grid that is True at ``heads``."""
    grid = np.zeros(shape, dtype=bool)
    for layer, head in heads:
        grid[layer, head] = True
    return grid


def first_states(mask: BoolGrid, present: BoolGrid) -> StateGrid:
    """(layers, heads) states before anything has happened: active, pruned, or absent where there is no such head."""
    states: StateGrid = np.full(present.shape, HeadState.ABSENT, dtype=np.int8)
    states[present] = HeadState.PRUNED
    states[present & mask] = HeadState.ACTIVE
    return states


def with_state(states: StateGrid, heads: Iterable[tuple[int, int]], new: HeadState) -> StateGrid:
    """A copy of ``states`` with ``heads`` in their new one; heads outside the grid make it larger."""
    heads = tuple(heads)
    layers = max([states.shape[0], *(layer + 1 for layer, _ in heads)])
    width = max([states.shape[1], *(head + 1 for _, head in heads)])
    found: StateGrid = np.full((layers, width), HeadState.ABSENT, dtype=np.int8)
    found[: states.shape[0], : states.shape[1]] = states
    for layer, head in heads:
        found[layer, head] = new
    return found


def heads_of(grid: BoolGrid) -> tuple[HeadId, ...]:
    """The heads where ``grid`` is True, in reading order."""
    return tuple(HeadId(int(layer), int(head)) for layer, head in np.argwhere(grid))
