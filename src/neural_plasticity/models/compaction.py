"""From gates to a smaller model: pruned heads' weights are left out of the copy, and what counted them is corrected.

A copy is made by ``copy.deepcopy`` with the smaller parameters already in its memo, so the large ones are never copied.
The same surgery, done in place on a model without weights, is how a saved compact model is opened (`quantizer`).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from neural_plasticity.errors import ModelError
from neural_plasticity.models.attach import _remove_hooks, follow_backend
from neural_plasticity.models.headless import BiasOnly, HeadlessAttention
from neural_plasticity.models.layouts import KINDS, Kind, LayerLayout, layer_layouts, plasticity_record
from neural_plasticity.models.seam import LayerSeam, backend_of, seam_of

Model = TypeVar("Model", bound=nn.Module)

QUANT_METHOD = "plasticity"  # the name under which transformers' quantiser registry knows how to open the result


def compact(model: Model) -> Model:
    """A physically smaller copy of ``model`` with the gated model's logits; ``model`` is untouched.

    Heads whose gate is 0 are left out, and so is a key/value head once no query head reads it; a layer that lost every
    head keeps its output bias. The copy shares nothing with ``model``, runs without the seam wherever query heads still
    share key/value heads evenly, and can be attached, pruned and compacted again. ``config`` keeps the original counts
    (rotary embeddings and caches read them) and tells in ``config.plasticity`` which heads are left, as indices of the
    original grid: ``{"shape": [layers, heads], "query_heads": [[…], …], "kv_heads": [[…], …]}``. A model without pruned
    heads gives an equal copy.

    Raises:
        UnsupportedModelError: the model's heads cannot be reached.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    layouts = layer_layouts(model)
    targets = tuple(without_pruned(layout) for layout in layouts)
    surgery = plan_surgery(model, layouts, targets)
    memo: dict[int, Any] = {id(model.get_submodule(path)): new for path, new in surgery.modules.items()}
    memo |= {id(model.get_parameter(path)): new for path, new in surgery.parameters.items()}
    seams = [seam for module in model.modules() if (seam := seam_of(module)) is not None]
    memo |= {id(seam): None for seam in seams}  # the copy gets its own, where it needs one
    small = copy.deepcopy(model, memo)
    for module in small.modules():
        if "plasticity" in module._modules:
            del module._modules["plasticity"]
    correct_counts(small, layouts, targets)
    if any(target.heads < layout.heads for layout, target in zip(layouts, targets, strict=True)):
        write_record(small.config, targets)
    install_seams(small, targets)
    return small


def is_pruned(model: nn.Module) -> bool:
    """Whether ``compact`` would make the model smaller: some head that is physically there is gated off."""
    return any(seam is not None and not bool((seam.gate != 0).all()) for seam in map(seam_of, model.modules()))


def without_pruned(layout: LayerLayout) -> LayerLayout:
    """The layout of what is left of this layer once gated heads are gone; its module is still the old one."""
    seam = seam_of(layout.module)
    if seam is None:
        return layout
    active = (seam.gate != 0).tolist()
    return keep_heads(layout, [head for head, on in zip(layout.query_ids, active, strict=True) if on])


def keep_heads(layout: LayerLayout, query_ids: Sequence[int]) -> LayerLayout:
    """``layout`` with only these query heads (numbers of the original grid) and the key/value heads they read."""
    used = {query // layout.group_size for query in query_ids}
    kv_ids = tuple(kv for kv in layout.kv_ids if kv in used)
    return dataclasses.replace(
        layout, heads=len(query_ids), kv_heads=len(kv_ids), query_ids=tuple(query_ids), kv_ids=kv_ids
    )


# --- surgery: the same for a copy with weights and for a skeleton without ---------------------------------------------


@dataclass(frozen=True)
class Surgery:
    """What changes: modules and parameters by their path under the model."""

    modules: dict[str, nn.Module] = field(default_factory=dict)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)


def plan_surgery(model: nn.Module, layouts: Sequence[LayerLayout], targets: Sequence[LayerLayout]) -> Surgery:
    """The new modules and parameters that turn ``layouts`` into ``targets``. Nothing is changed yet."""
    surgery = Surgery()
    for layout, target in zip(layouts, targets, strict=True):
        if target.heads == layout.heads:
            continue
        if target.heads:
            surgery.parameters.update(_fewer_rows(model, layout, target))
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


def kept_rows(layout: LayerLayout, target: LayerLayout) -> dict[str, tuple[int, Tensor]]:
    """{parameter: (dimension, (n,) int64 places in ``layout``'s weights, ascending)} of what ``target`` holds.

    Ascending order is the target's own order whatever the wiring, so place ``i`` of the smaller weight is ``places[i]``
    of the larger one.
    """
    places: dict[str, tuple[int, list[Tensor]]] = {}
    for part in layout.slices():
        mine, kept = _ids(layout, part.kind), _ids(target, part.kind)
        local = [mine.index(head) for head in kept]
        places.setdefault(part.parameter, (part.dim, []))[1].append(part.index[local].flatten())
    return {name: (dim, torch.cat(index).sort().values) for name, (dim, index) in places.items()}


def _ids(layout: LayerLayout, kind: Kind) -> tuple[int, ...]:
    return layout.query_ids if kind in ("query", "output") else layout.kv_ids


def _fewer_rows(model: nn.Module, layout: LayerLayout, target: LayerLayout) -> dict[str, nn.Parameter]:
    found = {}
    for name, (dim, places) in kept_rows(layout, target).items():
        old = model.get_parameter(name)
        rows = old.detach().index_select(dim, places.to(old.device))
        found[name] = nn.Parameter(rows, requires_grad=old.requires_grad)
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


# --- what the smaller model says about itself, and how it runs --------------------------------------------------------


def write_record(config: Any, targets: Sequence[LayerLayout]) -> None:
    """Write ``config.plasticity``, and tell transformers how a saved copy is opened."""
    earlier = plasticity_record(config)
    heads = int(earlier["shape"][1]) if earlier is not None else int(config.num_attention_heads)
    config.plasticity = {
        "shape": [len(targets), heads],
        "query_heads": [list(target.query_ids) for target in targets],
        "kv_heads": [list(target.kv_ids) for target in targets],
    }
    config.quantization_config = {"quant_method": QUANT_METHOD}


def targets_of(layouts: Sequence[LayerLayout], record: Mapping[str, Any]) -> tuple[LayerLayout, ...]:
    """The layouts that ``config.plasticity`` tells of, from those of the unpruned model.

    Raises:
        ModelError: the record does not fit the model.
    """
    try:
        targets = tuple(
            keep_heads(layout, [int(head) for head in heads])
            for layout, heads in zip(layouts, record["query_heads"], strict=True)
        )
        fits = all(
            set(target.query_ids) <= set(layout.query_ids) for layout, target in zip(layouts, targets, strict=True)
        )
        fits &= [list(target.kv_ids) for target in targets] == [list(kv) for kv in record["kv_heads"]]
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise ModelError(
            f"config.plasticity: expected query_heads and kv_heads for {len(layouts)} layers of "
            f"{layouts[0].heads} heads, got {str(dict(record))[:120]}; save the model again."
        )
    return targets


def install_seams(model: nn.Module, targets: Sequence[LayerLayout]) -> None:
    """Give layers with uneven groups their seam, and the model the attention function that this needs, or its own."""
    _remove_hooks(model)  # a copy of an attached model brought its hook along
    config: Any = model.config
    config._attn_implementation = backend_of(config._attn_implementation)
    uneven = [target for target in targets if not target.even_groups]
    for target in uneven:
        module = model.get_submodule(target.path)
        device = next(module.parameters()).device
        module.plasticity = LayerSeam(target.layer, target.kv_of_query.to(device), even_groups=False)
    if uneven:
        body: Any = model.base_model
        body.register_forward_pre_hook(follow_backend)
        follow_backend(model)
