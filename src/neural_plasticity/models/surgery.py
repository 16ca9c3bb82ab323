"""Layers with other heads than they have: the parameters that turn one layout into another, and what counts them.

The same for a copy that becomes smaller (`compaction`), a model that gains heads (`widening`), and a skeleton without
weights that is about to be filled from a file (`quantizer`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from neural_plasticity.errors import ModelError
from neural_plasticity.models.headless import BiasOnly, HeadlessAttention
from neural_plasticity.models.layouts import KINDS, Kind, LayerLayout
from neural_plasticity.models.parts import like, whole

QUANT_METHOD = "plasticity"  # the name under which transformers' quantiser registry knows how to open the result


# --- layouts from layouts ---------------------------------------------------------------------------------------------


def keep_heads(layout: LayerLayout, query_ids: Sequence[int]) -> LayerLayout:
    """``layout`` with only these query heads (numbers of the grid) and the key/value heads they read."""
    used = {layout.groups[query] for query in query_ids}
    kv_ids = tuple(kv for kv in layout.kv_ids if kv in used)
    return dataclasses.replace(
        layout, heads=len(query_ids), kv_heads=len(kv_ids), query_ids=tuple(query_ids), kv_ids=kv_ids
    )


def with_added(layout: LayerLayout, added: Sequence[int]) -> LayerLayout:
    """``layout`` with ``added`` in place of the added heads it has had: the key/value head that each of them reads.

    One that the original model does not have is the new head's own. Those that ``layout`` has had and lost stay lost.
    """
    groups = (*layout.groups[: layout.original], *added)
    query_ids = [head for head in layout.query_ids if head < len(groups)]
    query_ids += range(len(layout.groups), len(groups))
    kv_ids = {kv for kv in layout.kv_ids if kv in groups}.union(groups[len(layout.groups) :])
    return dataclasses.replace(
        layout,
        heads=len(query_ids),
        kv_heads=len(kv_ids),
        query_ids=tuple(query_ids),
        kv_ids=tuple(sorted(kv_ids)),
        groups=groups,
    )


# --- parameters -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surgery:
    """What changes: modules and parameters by their path under the model."""

    modules: dict[str, nn.Module] = field(default_factory=dict)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)


class Moved(NamedTuple):
    """Where a parameter's rows go: ``before[i]`` becomes ``after[i]`` along ``dim``, which gets ``size`` places."""

    dim: int
    before: Tensor  # (n,) int64
    after: Tensor  # (n,) int64
    size: int


def plan_surgery(model: nn.Module, layouts: Sequence[LayerLayout], targets: Sequence[LayerLayout]) -> Surgery:
    """The new modules and parameters that turn ``layouts`` into ``targets``. Nothing is changed yet.

    What belongs to heads that ``layouts`` do not have is zero.
    """
    surgery = Surgery()
    for layout, target in zip(layouts, targets, strict=True):
        if target.query_ids == layout.query_ids:
            continue
        if target.heads:
            surgery.parameters.update(_other_rows(model, layout, target))
        else:
            surgery.modules.update(_headless(layout))
    return surgery


def perform(model: nn.Module, surgery: Surgery) -> None:
    """Put the new modules and parameters into ``model`` itself."""
    for path, module in surgery.modules.items():
        model.set_submodule(path, module)
    for path, parameter in surgery.parameters.items():
        owner, _, name = path.rpartition(".")
        model.get_submodule(owner).register_parameter(name, parameter)


def moved_rows(
    layout: LayerLayout, target: LayerLayout, renumbered: Mapping[Kind, Mapping[int, int]] | None = None
) -> dict[str, Moved]:
    """{parameter: where its rows go} for the heads that both have; in ``target`` they may be ``renumbered``."""
    found: dict[str, list[Moved]] = {}
    for before, after in zip(layout.slices(), target.slices(), strict=True):
        numbers = {head: head for head in _ids(layout, before.kind)} if renumbered is None else renumbered[before.kind]
        mine, theirs = _ids(layout, before.kind), _ids(target, before.kind)
        both = [head for head in mine if numbers.get(head) in theirs]
        old = before.index[[mine.index(head) for head in both]].flatten()
        new = after.index[[theirs.index(numbers[head]) for head in both]].flatten()
        found.setdefault(before.parameter, []).append(Moved(before.dim, old, new, after.index.numel()))
    return {
        name: Moved(
            parts[0].dim,
            torch.cat([part.before for part in parts]),
            torch.cat([part.after for part in parts]),
            sum(part.size for part in parts),
        )
        for name, parts in found.items()
    }


def _ids(layout: LayerLayout, kind: Kind) -> tuple[int, ...]:
    return layout.query_ids if kind in ("query", "output") else layout.kv_ids


def _other_rows(model: nn.Module, layout: LayerLayout, target: LayerLayout) -> dict[str, nn.Parameter]:
    found = {}
    for name, move in moved_rows(layout, target).items():
        old = model.get_parameter(name)
        shape = [move.size if dim == move.dim else size for dim, size in enumerate(old.shape)]
        rows = whole(old.detach()).index_select(move.dim, move.before.to(old.device))
        new = rows.new_zeros(shape).index_copy_(move.dim, move.after.to(old.device), rows)
        found[name] = nn.Parameter(like(new, old), requires_grad=old.requires_grad)
    return found


def _headless(layout: LayerLayout) -> dict[str, nn.Module]:
    """The stand-in for an attention module, and for its output projection where that lies in the parent module."""
    projection = layout.projection("output")
    old_bias = getattr(projection, "bias", None)
    bias = None
    if isinstance(old_bias, nn.Parameter):
        bias = nn.Parameter(old_bias.detach().clone(), requires_grad=old_bias.requires_grad)
    output = BiasOnly(layout.output_weight().shape[-1], bias)
    output.train(projection.training)
    path = layout.projection_path("output")
    inside = path.startswith(f"{layout.path}.")
    layer_idx = getattr(layout.module, "layer_idx", None)  # None: built without one, as some encoders are
    attention = HeadlessAttention(
        layer_idx=layout.layer if layer_idx is None else int(layer_idx),
        is_causal=bool(getattr(layout.module, "is_causal", True)),
        projection=path.removeprefix(f"{layout.path}.") if inside else None,
        output=output if inside else None,
    )
    attention.train(layout.module.training)
    return {layout.path: attention} if inside else {layout.path: attention, path: output}


def correct_counts(model: nn.Module, layouts: Sequence[LayerLayout], targets: Sequence[LayerLayout]) -> None:
    """Make each attention module and projection of ``model`` say how many heads it now has."""
    for layout, target in zip(layouts, targets, strict=True):
        if not target.heads:
            continue
        module = model.get_submodule(layout.path)
        for name, value in layout.counts(target.heads, target.kv_heads).items():
            setattr(module, name, value)
        if not target.even_groups:
            module.num_key_value_groups = 1  # type: ignore[assignment]  # the seam expands key/value heads itself
        for kind in KINDS:
            _read_features(model.get_submodule(layout.projection_path(kind)))


def _read_features(projection: nn.Module) -> None:
    weight: Any = projection.weight
    if isinstance(projection, Conv1D):
        projection.nx, projection.nf = weight.shape
    elif isinstance(projection, nn.Linear):
        projection.out_features, projection.in_features = weight.shape


# --- what the model says about itself ---------------------------------------------------------------------------------


def write_record(config: Any, targets: Sequence[LayerLayout]) -> None:
    """Write ``config.plasticity``, and tell transformers how a saved copy is opened."""
    record: dict[str, Any] = {
        "shape": [len(targets), max(len(target.groups) for target in targets)],
        "query_heads": [list(target.query_ids) for target in targets],
        "kv_heads": [list(target.kv_ids) for target in targets],
    }
    if any(target.added for target in targets):
        record["added"] = [list(target.added) for target in targets]
    config.plasticity = record
    config.quantization_config = {"quant_method": QUANT_METHOD}


def targets_of(layouts: Sequence[LayerLayout], record: Mapping[str, Any]) -> tuple[LayerLayout, ...]:
    """The layouts that ``config.plasticity`` tells of, from those of the unpruned model.

    Raises:
        ModelError: the record does not fit the model.
    """
    try:
        added = record["added"] if "added" in record else [[]] * len(layouts)
        whole = [with_added(layout, [int(kv) for kv in new]) for layout, new in zip(layouts, added, strict=True)]
        targets = tuple(
            keep_heads(layout, [int(head) for head in heads])
            for layout, heads in zip(whole, record["query_heads"], strict=True)
        )
        fits = all(
            set(target.query_ids) <= set(layout.query_ids) for layout, target in zip(whole, targets, strict=True)
        )
        fits &= [list(target.kv_ids) for target in targets] == [list(kv) for kv in record["kv_heads"]]
        fits &= all(kv in (*one.groups[: one.original], number) for one in whole for number, kv in _numbered(one))
    except (LookupError, TypeError, ValueError):
        fits = False
    if not fits:
        raise ModelError(
            f"config.plasticity: expected query_heads, kv_heads and what was added for {len(layouts)} layers of "
            f"{layouts[0].heads} heads, got {str(dict(record))[:120]}; save the model again."
        )
    return targets


def _numbered(layout: LayerLayout) -> Iterable[tuple[int, int]]:
    """(number, key/value head) of each added head."""
    return enumerate(layout.added, layout.original)
