"""Saving and opening compact models, and the way back to the original shape for programs that know nothing of us."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from transformers import AutoConfig, PreTrainedModel

from neural_plasticity.errors import ModelError, PeerError, UnsupportedModelError
from neural_plasticity.models import quantizer as quantizer  # registers how transformers opens a compact model
from neural_plasticity.models.compaction import compact, is_pruned
from neural_plasticity.models.inspection import check_size, inspect
from neural_plasticity.models.layouts import Kind, LayerLayout, layer_layouts, unsupported
from neural_plasticity.models.loading import opening
from neural_plasticity.models.seam import backend_of
from neural_plasticity.models.sharding import gathered_copy, mesh_of
from neural_plasticity.models.surgery import moved_rows


def save_pruned(model: Any, path: str | PathLike[str]) -> Path:
    """Save a model with its pruned heads gone: ``config.json`` and safetensors, in the dtype it has. Returns the path.

    A model with gated heads is compacted first (it stays as it is itself). What is saved opens with `load_pruned`, and
    with ``AutoModelForCausalLM.from_pretrained`` once ``neural_plasticity.models`` is imported. Of a model that FSDP
    divides, every process calls, and the main one writes.

    Raises:
        ModelError: ``path`` cannot be written.
        PeerError: it failed on the main process, where its own error is raised.
    """
    return _save(compact(model) if is_pruned(model) else model, path)


def load_pruned(path: str | PathLike[str], **options: Any) -> Any:
    """Open what `save_pruned` wrote, as the class it was saved from, in evaluation mode and in the dtype of the file.

    ``options`` go to ``from_pretrained`` (``dtype=``, ``device_map=``, ``attn_implementation=`` …).

    Raises:
        ModelError: ``path`` holds no saved model, or its weights do not fit its configuration.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        what = "a directory without config.json" if folder.is_dir() else "no directory"
        raise ModelError(f"{folder}: expected a directory that save_pruned wrote, found {what}.")
    inspect(f"{folder}: the saved model cannot be opened:", folder)
    with opening(f"{folder}: the saved model cannot be opened:"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        named = (config.architectures or ["?"])[0]
        model_class: Any = getattr(transformers, named, None) if isinstance(named, str) else None
        if not _is_model(model_class):
            raise ModelError(f"{folder}: config.json names no model class that transformers has; save the model again.")
        check_size(f"{folder}: the saved model cannot be opened:", folder, lambda: model_class(copy.deepcopy(config)))
        model, found = model_class.from_pretrained(
            folder, output_loading_info=True, use_safetensors=True, **{"dtype": "auto", **options}
        )
    wrong = sorted({*found["missing_keys"], *found["unexpected_keys"]})
    if wrong:
        raise ModelError(
            f"{folder}: the weights do not fit config.json ({len(wrong)} missing or unknown, such as {wrong[0]}); "
            "save the model again."
        )
    return model


def _is_model(named: object) -> bool:
    """Whether what transformers has under a name is a model's class, and not a function or a pipeline."""
    return isinstance(named, type) and issubclass(named, PreTrainedModel)


def export_dense(model: Any, path: str | PathLike[str]) -> Path:
    """Save the model in its original shape, zeros where heads were removed: stock transformers opens it. Returns path.

    A pruned head's query, key, value and output weights are zero, so it adds nothing and the logits are the same; the
    size is the original one again. With heads that were added, every layer is as wide as the widest, with zeros too.
    Of a model that FSDP divides, every process calls, and the main one writes.

    Raises:
        ModelError: ``path`` cannot be written.
        UnsupportedModelError: heads were added, and the architecture's configuration cannot say so.
        PeerError: as `save_pruned`.
    """
    return _save(compact(model) if is_pruned(model) else model, path, dense_copy)


@torch.no_grad()
def dense_copy(small: Any) -> Any:
    """A stock model with ``small``'s weights in place and zeros for every head that a layer has not."""
    layouts = layer_layouts(small)
    shape = _DenseShape(layouts)
    config = copy.deepcopy(small.config)
    for name in ("plasticity", "quantization_config"):
        config.__dict__.pop(name, None)
    config._attn_implementation = backend_of(config._attn_implementation)
    dense = _stock_model(small, config, shape).to(small.device).eval()
    if small.can_generate():
        dense.generation_config = copy.deepcopy(small.generation_config)

    have = dict(small.named_parameters()) | dict(small.named_buffers())
    for name, parameter in [*dense.named_parameters(), *dense.named_buffers()]:
        if name in have and have[name].shape == parameter.shape:
            parameter.copy_(have[name])
    for layout, whole in zip(layouts, layer_layouts(dense), strict=True):
        if not layout.heads:
            for part in whole.slices():
                dense.get_parameter(part.parameter).index_fill_(part.dim, part.index.flatten().to(small.device), 0)
            continue
        for name, move in moved_rows(layout, whole, shape.numbers(layout)).items():
            rows = have[name].index_select(move.dim, move.before.to(small.device))
            dense.get_parameter(name).zero_().index_copy_(move.dim, move.after.to(small.device), rows)
    return dense


class _DenseShape:
    """The smallest even shape that holds every layer's heads: each key/value head is read by equally many."""

    def __init__(self, layouts: Sequence[LayerLayout]) -> None:
        first = layouts[0]
        self.widened = any(head >= layout.original for layout in layouts for head in layout.query_ids)
        self.head_dim = next((layout.head_dim for layout in layouts if layout.heads), 0)
        self.kv_heads = len(set(first.groups[: first.original]))
        self.group = first.original // self.kv_heads  # as in the original model, then as large as is needed
        self._originals = (self.kv_heads, self.group)
        for layout in layouts:
            numbers = self.numbers(layout)
            self.kv_heads = max(self.kv_heads, 1 + max(numbers["key"].values(), default=0))
            joined = Counter(layout.groups[head] for head in layout.query_ids if head >= layout.original)
            shared = [count for kv, count in joined.items() if kv < self._originals[0]]
            self.group = max(self.group, self._originals[1] + max(shared, default=0))

    @property
    def heads(self) -> int:
        return self.kv_heads * self.group

    def widen(self) -> None:
        """One place more for each key/value head; where each has one query head, one key/value head more."""
        if self._originals[1] == self.group == 1:
            self.kv_heads += 1
        else:
            self.group += 1

    def numbers(self, layout: LayerLayout) -> dict[Kind, dict[int, int]]:
        """The dense number of each head of this layer: originals in their place, added ones after them."""
        kv_heads, group = self._originals
        own = [kv for kv in layout.kv_ids if kv >= kv_heads]
        kv_numbers = {kv: kv if kv < kv_heads else kv_heads + own.index(kv) for kv in layout.kv_ids}
        numbers: dict[int, int] = {}
        filled = Counter[int]()
        for head in layout.query_ids:
            kv = layout.groups[head]
            place = head % group if head < layout.original else filled[kv] + group * (kv < kv_heads)
            filled[kv] += head >= layout.original
            numbers[head] = kv_numbers[kv] * self.group + place
        return {"query": numbers, "output": numbers, "key": kv_numbers, "value": kv_numbers}


def _stock_model(small: Any, config: Any, shape: _DenseShape) -> Any:
    """A model of this configuration, in ``shape`` where heads were added.

    Raises:
        UnsupportedModelError: the configuration cannot say that shape.
    """
    if not shape.widened:
        return type(small)._from_config(config, dtype=small.dtype)
    refusal = unsupported(
        small,
        f"a stock model of it cannot have {shape.heads} heads of {shape.head_dim} as export_dense needs after heads "
        "were added; use save_pruned, or prune the added heads first",
    )
    while not _says(config, shape):
        shape.widen()
        if shape.heads > config.hidden_size:
            raise refusal
    try:
        dense = type(small)._from_config(config, dtype=small.dtype)
        found = layer_layouts(dense)
    except (ValueError, RuntimeError, UnsupportedModelError) as error:
        raise refusal from error
    if any((one.heads, one.kv_heads, one.head_dim) != (shape.heads, shape.kv_heads, shape.head_dim) for one in found):
        raise refusal
    return dense


def _says(config: Any, shape: _DenseShape) -> bool:
    """Let ``config`` speak of this shape. Whether it may: Llama's wants a width that is a multiple of the heads."""
    config.num_attention_heads, config.head_dim = shape.heads, shape.head_dim
    if getattr(config, "num_key_value_heads", None) is not None:
        config.num_key_value_heads = shape.kv_heads
    try:
        config.validate()
    except StrictDataclassError:
        return False
    return True


def _save(model: nn.Module, path: str | PathLike[str], shaped: Callable[[Any], Any] = lambda model: model) -> Path:
    folder = Path(path)
    mesh, whole = mesh_of(model), gathered_copy(model)
    saved = False
    try:
        if whole is not None:
            if folder.is_file():
                raise ModelError(
                    f"{folder}: expected a directory to save the model into, found a file; choose another."
                )
            shaped(whole).save_pretrained(folder)
        saved = True
    except OSError as error:
        raise ModelError(f"{folder}: the model cannot be saved there: {error}.") from error
    finally:
        if mesh is not None:  # the others wait for the main process, and hear how it went
            saved = _of_the_main_process(saved, mesh)
    if not saved:
        raise PeerError("the main process could not save the model, and says why.")
    return folder


def _of_the_main_process(fact: bool, mesh: DeviceMesh) -> bool:
    told = torch.tensor([fact], dtype=torch.int32, device=mesh.device_type)
    distributed.broadcast(told, src=0, group=mesh.get_group())
    return bool(told)
