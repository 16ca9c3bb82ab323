"""Saving and opening compact models, and the way back to the original shape for programs that know nothing of us."""

from __future__ import annotations

import copy
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig

from neural_plasticity.errors import ModelError
from neural_plasticity.models import quantizer as quantizer  # registers how transformers opens a compact model
from neural_plasticity.models.compaction import compact, is_pruned, kept_rows, targets_of
from neural_plasticity.models.layouts import layer_layouts, plasticity_record
from neural_plasticity.models.seam import backend_of


def save_pruned(model: Any, path: str | PathLike[str]) -> Path:
    """Save a model with its pruned heads gone: ``config.json`` and safetensors, in the dtype it has. Returns the path.

    A model with gated heads is compacted first (it stays as it is itself). What is saved opens with `load_pruned`, and
    with ``AutoModelForCausalLM.from_pretrained`` once ``neural_plasticity.models`` is imported.

    Raises:
        ModelError: ``path`` cannot be written.
    """
    small = compact(model) if is_pruned(model) else model
    return _save(small, path)


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
    try:
        config = AutoConfig.from_pretrained(folder)
        model_class = getattr(transformers, (config.architectures or ["?"])[0], None)
        if model_class is None:
            raise ModelError(f"{folder}: config.json names no model class that transformers has; save the model again.")
        model, found = model_class.from_pretrained(folder, output_loading_info=True, **{"dtype": "auto", **options})
    except ModelError:
        raise
    except Exception as error:  # unreadable JSON or safetensors, sizes that differ: each library has its own kind
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{folder}: the saved model cannot be opened: {reason[:200]}") from error
    wrong = sorted({*found["missing_keys"], *found["unexpected_keys"]})
    if wrong:
        raise ModelError(
            f"{folder}: the weights do not fit config.json ({len(wrong)} missing or unknown, such as {wrong[0]}); "
            "save the model again."
        )
    return model


def export_dense(model: Any, path: str | PathLike[str]) -> Path:
    """Save the model in its original shape, zeros where heads were removed: stock transformers opens it. Returns path.

    A pruned head's query, key, value and output weights are zero, so it adds nothing and the logits are the same; the
    size is the original one again.

    Raises:
        ModelError: ``path`` cannot be written.
    """
    return _save(dense_copy(compact(model) if is_pruned(model) else model), path)


@torch.no_grad()
def dense_copy(small: Any) -> Any:
    """A stock model of the original shape with ``small``'s weights in place and zeros for every removed head."""
    config = copy.deepcopy(small.config)
    for name in ("plasticity", "quantization_config"):
        config.__dict__.pop(name, None)
    config._attn_implementation = backend_of(config._attn_implementation)
    dense = type(small)._from_config(config, dtype=small.dtype).to(small.device).eval()
    if small.can_generate():
        dense.generation_config = copy.deepcopy(small.generation_config)
    record = plasticity_record(small.config)
    layouts = layer_layouts(dense)
    targets = layouts if record is None else targets_of(layouts, record)

    have = dict(small.named_parameters()) | dict(small.named_buffers())
    for name, parameter in [*dense.named_parameters(), *dense.named_buffers()]:
        if name in have and have[name].shape == parameter.shape:
            parameter.copy_(have[name])
    for layout, target in zip(layouts, targets, strict=True):
        if target.heads == layout.heads:
            continue
        for name, (dim, places) in kept_rows(layout, target).items():
            whole = dense.get_parameter(name)
            whole.zero_()
            if target.heads:
                whole.index_copy_(dim, places.to(whole.device), have[name])
    return dense


def _save(model: nn.Module, path: str | PathLike[str]) -> Path:
    folder = Path(path)
    if folder.is_file():
        raise ModelError(f"{folder}: expected a directory to save the model into, found a file; choose another path.")
    try:
        model.save_pretrained(folder)  # type: ignore[operator]
    except OSError as error:
        raise ModelError(f"{folder}: the model cannot be saved there: {error}.") from error
    return folder
