"""From gates to a smaller model: pruned heads' weights are left out of the copy, and what counted them is corrected.

A copy is made by ``copy.deepcopy`` with the smaller parameters already in its memo, so the large ones are never copied.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from neural_plasticity.errors import ModelError
from neural_plasticity.models.attach import _remove_hooks, follow_backend
from neural_plasticity.models.layouts import LayerLayout, layer_layouts, unsupported
from neural_plasticity.models.proof import trial
from neural_plasticity.models.reshaping import counts_itself, reshape
from neural_plasticity.models.seam import LayerSeam, backend_of, seam_of
from neural_plasticity.models.sharding import bare, mesh_of, shard
from neural_plasticity.models.surgery import correct_counts, keep_heads, plan_surgery, write_record

Model = TypeVar("Model", bound=nn.Module)


def compact(model: Model) -> Model:
    """A physically smaller copy of ``model`` with the gated model's logits; ``model`` is untouched.

    Heads whose gate is 0 are left out, and so is a key/value head once no query head reads it; a layer that lost every
    head keeps its output bias. The copy shares nothing with ``model``, runs without the seam wherever query heads still
    share key/value heads evenly, and can be attached, pruned and compacted again. ``config`` keeps the original counts
    (rotary embeddings and caches read them) and tells in ``config.plasticity`` which heads are left, as indices of the
    original grid: ``{"shape": [layers, heads], "query_heads": [[…], …], "kv_heads": [[…], …]}``. A model without pruned
    heads gives an equal copy. The copy of a model that is divided over processes is divided over them too.

    Raises:
        UnsupportedModelError: the model's heads cannot be reached, or its code does not allow fewer of them: the copy's
            outputs on a few tokens are not the gated model's.
        ModelError: a gate is neither open nor closed: a head is on its way back.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    with bare(model):
        small = _smaller_copy(model)
    if (mesh := mesh_of(model)) is not None:
        shard(small, mesh)
    if is_pruned(model):
        with trial(model) as gated, trial(small) as compacted:
            _check_same(model, gated(), compacted)
    return small


@torch.no_grad()
def check_compaction(model: Any) -> None:
    """Refuse now what `compact` would refuse later. The attached model is as it was afterwards.

    In one layer of each kind of attention module, the heads of the first key/value head (where there is but one, the
    first head) go for a moment.

    Raises:
        UnsupportedModelError: the architecture's code does not allow fewer heads.
    """
    layouts = layer_layouts(model)
    tried = {type(one.module): one for one in reversed(layouts) if one.heads > 1}.values()
    targets = tuple(_without_first(one) if one in tried else one for one in layouts)
    seams = [(seam_of(layout.module), layout, target) for layout, target in zip(layouts, targets, strict=True)]
    gates = [(seam, seam.gate) for seam, _, _ in seams if seam is not None]
    try:
        for seam, layout, target in seams:
            if seam is not None and target is not layout:
                stays = torch.tensor([head in target.query_ids for head in layout.query_ids], device=seam.gate.device)
                seam.gate = seam.gate * stays
        with trial(model) as forward:
            expected = forward()
            back = reshape(model, layouts, targets, plan_surgery(model, layouts, targets))
            try:
                _check_same(model, expected, forward)
            finally:
                back()
    finally:
        for seam, gate in gates:
            seam.gate = gate


def _without_first(layout: LayerLayout) -> LayerLayout:
    first = layout.groups[layout.query_ids[0]]
    others = [head for head in layout.query_ids if layout.groups[head] != first]
    return keep_heads(layout, others or layout.query_ids[1:])


def _check_same(model: nn.Module, expected: Tensor, compacted: Callable[[], Tensor]) -> None:
    """Other shapes round in other ways, which adds up over layers: what is looked for here is far larger than that."""
    try:
        found = compacted()
    except (RuntimeError, IndexError) as error:
        raise counts_itself(model, error) from error
    tolerance = torch.finfo(expected.dtype).eps ** 0.5 * max(1.0, float(expected.abs().max()))
    if found.shape != expected.shape or not float((found - expected).abs().max()) <= tolerance:
        raise unsupported(model, "once heads are cut out it computes something else than with the same heads gated off")


def _smaller_copy(model: Model) -> Model:
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
    if not bool(((seam.gate == 0) | (seam.gate == 1)).all()):
        raise ModelError(
            f"layer {layout.layer}: a head is coming back and its gate is not yet 1, so it cannot be compacted yet."
        )
    return keep_heads(layout, [head for head, on in zip(layout.query_ids, active, strict=True) if on])


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
