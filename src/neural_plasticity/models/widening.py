"""New heads beyond the original number: a layer gains query heads, and the model's function is unchanged at birth.

A new head's part of the output projection is zero, so it writes nothing, and training moves that part first. Its other
weights are random, as wide as those of the heads that its layer has: a trained model's weights have left the scale
that they were initialised with. Biases are zero.

Where every query head has a key and a value of its own, so has the new one. Where query heads share them, the new one
reads the key/value head that the fewest query heads read (of several, the first): the cache does not grow.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

from neural_plasticity.errors import HeadError
from neural_plasticity.heads import MOST, HeadId
from neural_plasticity.models.layouts import LayerLayout, layer_layouts
from neural_plasticity.models.parts import put, whole
from neural_plasticity.models.reshaping import Layouts, reshape
from neural_plasticity.models.surgery import Surgery, plan_surgery, with_added

Where = Mapping[int, int] | Iterable[int]


def add_heads(model: Any, where: Where, seed: int = 0) -> tuple[HeadId, ...]:
    """Give layers of an attached model new heads, switched on, and return them.

    ``where``: how many each layer gets, ``{layer: count}``, or one for each layer named. The same seed gives the same
    weights. Parameters of these layers are replaced, so an optimiser has to be made afterwards.

    Raises:
        HeadError: there is no such layer, or compaction left it without heads.
        UnsupportedModelError: the architecture's code does not allow other widths; the model is left as it was.
    """
    layouts = layer_layouts(model)
    counts = _counts(where, layouts)
    targets = tuple(_widened(layout, counts[layout.layer]) for layout in layouts)
    if targets == layouts:
        return ()
    _change(model, layouts, targets, seed)
    return tuple(
        HeadId(target.layer, head)
        for layout, target in zip(layouts, targets, strict=True)
        for head in target.query_ids[layout.heads :]
    )


def check_widening(model: Any) -> None:
    """Refuse now what ``add_heads`` would refuse later. The attached model is as it was afterwards.

    Raises:
        UnsupportedModelError: the architecture's code does not allow other widths.
    """
    layouts = layer_layouts(model)
    first = next((layout.layer for layout in layouts if layout.heads), None)
    if first is not None:
        _change(model, layouts, tuple(_widened(one, int(one.layer == first)) for one in layouts), seed=0)()


def set_added(model: Any, added: Sequence[Sequence[int]]) -> None:
    """Give an attached model exactly these added heads, per layer the key/value head that each reads.

    For weights that are about to be loaded: heads that were not there are random, and those that are too many go.

    Raises:
        HeadError: it is not one list per layer, or names a key/value head that there is not.
    """
    layouts = layer_layouts(model)
    if len(added) != len(layouts):
        raise HeadError(f"added heads: expected a list for each of {len(layouts)} layers, got {len(added)}.")
    for layout, new in zip(layouts, added, strict=True):
        if not all(kv in (*layout.kv_ids, number) for number, kv in enumerate(new, layout.original)):
            raise HeadError(f"added heads: layer {layout.layer} has no key/value heads {list(new)}.")
    targets = tuple(with_added(layout, tuple(new)) for layout, new in zip(layouts, added, strict=True))
    if any(target.groups != layout.groups for layout, target in zip(layouts, targets, strict=True)):
        _change(model, layouts, targets, seed=0)


def _counts(where: Where, layouts: Layouts) -> Counter[int]:
    """How many new heads each layer gets, checked."""
    given = where.items() if isinstance(where, Mapping) else ((layer, 1) for layer in where)
    counts = Counter[int]()
    for layer, count in given:
        if not isinstance(layer, SupportsIndex) or not 0 <= operator.index(layer) < len(layouts):
            raise HeadError(f"new heads in layer {layer!r}: the model has {len(layouts)} layers, counted from 0.")
        if not isinstance(count, SupportsIndex) or operator.index(count) < 0:
            raise HeadError(f"new heads in layer {layer}: expected a number from 0 on, got {count!r}.")
        counts[operator.index(layer)] += operator.index(count)
    for layer, count in counts.items():
        if count and not layouts[layer].heads:
            raise HeadError(f"new heads in layer {layer}: compaction took all its heads, and its attention with them.")
        if count > MOST - len(layouts[layer].groups):
            raise HeadError(f"new heads in layer {layer}: {count:,} are too many; a layer has at most {MOST:,}.")
    return counts


def _widened(layout: LayerLayout, count: int) -> LayerLayout:
    """``layout`` with ``count`` more heads; their numbers follow all that the layer ever had."""
    if not count:
        return layout
    shared = len(set(layout.groups[: layout.original])) < layout.original
    readers = Counter(layout.groups[query] for query in layout.query_ids)
    added = list(layout.added)
    for number in range(len(layout.groups), len(layout.groups) + count):
        chosen = min(layout.kv_ids, key=lambda kv: (readers[kv], kv)) if shared else number
        readers[chosen] += 1
        added.append(chosen)
    return with_added(layout, added)


@torch.no_grad()
def _change(model: Any, layouts: Layouts, targets: Layouts, seed: int) -> Callable[[], None]:
    """Turn ``layouts`` into ``targets`` in place and return the way back."""
    surgery = plan_surgery(model, layouts, targets)
    _initialise(model, layouts, targets, surgery, seed)
    return reshape(model, layouts, targets, surgery)


def _initialise(model: nn.Module, layouts: Layouts, targets: Layouts, surgery: Surgery, seed: int) -> None:
    """Random weights for the queries, keys and values that ``layouts`` do not have; everything else of them is zero."""
    generator = torch.Generator().manual_seed(seed)
    for layout, target in zip(layouts, targets, strict=True):
        for old, new in zip(layout.slices(), target.slices(), strict=True) if layout.groups != target.groups else ():
            wide = surgery.parameters[new.parameter]
            fresh = new.index[len(old.index) :].flatten()
            if new.kind == "output" or wide.dim() < 2 or not len(fresh):
                continue
            have = whole(model.get_parameter(old.parameter).detach())
            rows = have.index_select(old.dim, old.index.flatten().to(have.device))
            shape = [len(fresh) if dim == new.dim else size for dim, size in enumerate(wide.shape)]
            values = torch.randn(shape, generator=generator) * _width(rows, model)
            put(wide, new.dim, fresh.to(wide.device), values.to(wide.device, wide.dtype))


def _width(rows: Tensor, model: Any) -> float:
    """Standard deviation of these weights; where they are all alike, that of the model's own initialisation."""
    found = float(rows.float().std())
    return found if found > 0 else float(getattr(model.config, "initializer_range", 0.02))
