"""A model directory before any library opens it: what it may contain, name and claim (docs/security.md).

It comes from a colleague or a hub. Opening it must run none of its code, unpickle nothing, read no file outside of it,
and build no model that its own weights could not fill.
"""

from __future__ import annotations

import json
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from transformers import CONFIG_MAPPING
from transformers.initialization import no_init_weights

from neural_plasticity.errors import ModelError

_CONFIG, _TOKENIZER, _INDEX = "config.json", "tokenizer_config.json", "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
_MOST_JSON_BYTES = 64_000_000
_MOST_FILES = 10_000
_COUNTED = re.compile(r"(layer|expert|block)(?!.*_(size|dim)$)|_heads?$|^n_head$")  # what it has so many modules of
_LARGEST = 2**31  # of any other whole number in a configuration: a size, a token, a number of positions
# A compact model's configuration tells the size before pruning; ties and buffers are not in the file at all.
_MOST_TIMES, _ROOM = 8, 50_000_000  # weights
_MODULES_TIMES, _MODULES_ROOM = 64, 10_000  # modules for each tensor: weights of many experts may be one


def inspect(refuse: str, folder: Path, trust_remote_code: bool = False) -> None:
    """Refuse a directory that is not one model's own files, with safetensors for weights.

    Raises:
        ModelError: ``refuse`` and what is wrong.
    """
    _check_files(refuse, folder, links=trust_remote_code)
    config = _read(refuse, folder / _CONFIG)
    if (folder / _ADAPTER).exists():  # peft would build what it describes, of any size
        raise ModelError(f"{refuse} {_ADAPTER} describes an adapter; merge it into the weights first.")
    # Many models that transformers has a class for still carry the code from before it had: that class is used then.
    own = isinstance(config.get("model_type"), str) and config["model_type"] in CONFIG_MAPPING
    told = (_CONFIG, config), (_TOKENIZER, _read(refuse, folder / _TOKENIZER, needed=False))
    for file, values in told:
        if "auto_map" in values and not own and not trust_remote_code:
            raise ModelError(
                f"{refuse} {file} asks for code of its own to be run (auto_map); look at it, then allow it with "
                "--trust_remote_code."
            )
    for key, value in told[1][1].items():
        inside = not isinstance(value, str) or value == Path(value).name
        if key.endswith("_file") and key != "special_tokens_map_file" and not inside:
            raise ModelError(f"{refuse} {_TOKENIZER} names a file elsewhere ({key}: {value[:80]}); it is not read.")
    for key in ("attn_implementation", "_attn_implementation"):
        if "/" in str(config.get(key, "")):  # transformers would fetch such a kernel from the hub and run it
            raise ModelError(f"{refuse} {_CONFIG} asks for a kernel from elsewhere ({config[key]!s:.80}).")
    if not trust_remote_code:
        _check_counts(refuse, config, len(list(tensors(refuse, folder))))


def check_size(refuse: str, folder: Path, build: Callable[[], nn.Module]) -> None:
    """Refuse a configuration that describes a much larger model than the weights beside it could fill.

    ``build`` makes the model that it describes. It is ended as soon as that is too large, and allocates nothing.

    Raises:
        ModelError: it is.
    """
    shapes = [shape for _, shape in tensors(refuse, folder)]
    held = sum(map(prod, shapes))
    if not held:
        raise ModelError(f"{refuse} it has no weights; expected safetensors, as model.save_pretrained writes them.")
    most, most_modules = _MOST_TIMES * held + _ROOM, _MODULES_TIMES * len(shapes) + _MODULES_ROOM
    weights, modules, here = 0, 0, threading.get_ident()

    def count(_module: nn.Module, _name: str, made: nn.Module | nn.Parameter | None) -> None:
        nonlocal weights, modules
        if threading.get_ident() == here:
            weights += made.numel() if isinstance(made, nn.Parameter) else 0
            modules += isinstance(made, nn.Module)
            expect()

    def expect() -> None:
        if weights > most:
            raise ModelError(
                f"{refuse} {_CONFIG} describes more than {most:,} weights, its files hold {held:,}; nothing is opened."
            )
        if modules > most_modules:
            raise ModelError(
                f"{refuse} {_CONFIG} describes more than {most_modules:,} modules, its files hold {len(shapes):,} "
                "tensors; nothing is opened."
            )

    hooks = register_module_parameter_registration_hook(count), register_module_module_registration_hook(count)
    try:
        with torch.device("meta"), no_init_weights():
            empty = build()
    finally:
        for hook in hooks:
            hook.remove()
    weights = sum(one.numel() for one in (*empty.parameters(), *empty.buffers()))
    expect()


def tensors(refuse: str, folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor in the directory's safetensors, from their headers.

    Raises:
        ModelError: they cannot be read, they are pickled, or an index names a file elsewhere.
    """
    files = sorted(folder.glob("*.safetensors"))
    parts(refuse, folder)
    pickled = next((one.name for pattern in ("*.bin", "*.pt", "*.pth") for one in folder.glob(pattern)), None)
    if not files and pickled:
        raise ModelError(
            f"{refuse} its weights are pickled ({pickled}), and a pickle can run code; expected safetensors, as "
            "model.save_pretrained writes them."
        )
    for one in files:
        try:
            with safe_open(one, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - not a mapping
                    yield name, tuple(opened.get_slice(name).get_shape())
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"{refuse} {one.name} cannot be read ({error!s:.120}).") from error


def parts(refuse: str, folder: Path) -> set[str]:
    """The files that the directory's index of weights names; none where it has no index.

    Raises:
        ModelError: it cannot be read, or names a file elsewhere.
    """
    listed = _read(refuse, folder / _INDEX, needed=False).get("weight_map", {})
    files: set[str] = set()
    for file in listed.values() if isinstance(listed, dict) else [None]:
        if not isinstance(file, str) or Path(file).name != file:
            raise ModelError(f"{refuse} {_INDEX} names a file elsewhere ({file!s:.80}); it is not read.")
        files.add(file)
    return files


def _check_files(refuse: str, folder: Path, links: bool) -> None:
    """Plain files and directories only; ``links`` may lead anywhere, or only to where the hub's cache keeps files."""
    real = folder.resolve()
    allowed = [real]
    if real.parent.name == "snapshots" and real.parent.parent.name.startswith("models--"):
        allowed.append(real.parent.parent / "blobs")
    seen = 0
    for path, directories, names in os.walk(folder):
        for name in (*directories, *names):
            one = Path(path, name)
            seen += 1
            try:
                kind, end = one.stat().st_mode, one.resolve()
            except (OSError, RuntimeError):
                raise ModelError(f"{refuse} {one.name} cannot be read; nothing is opened.") from None
            if not links and not any(map(end.is_relative_to, allowed)):
                raise ModelError(
                    f"{refuse} {one.name} is a link out of the directory; put the file itself there, or a hard link."
                )
            if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                raise ModelError(f"{refuse} {one.name} is neither a file nor a directory; nothing is opened.")
            if seen > _MOST_FILES:
                raise ModelError(f"{refuse} more than {_MOST_FILES:,} files; expected the directory of one model.")


def _read(refuse: str, path: Path, needed: bool = True) -> Mapping[str, Any]:
    if not needed and not path.exists():
        return {}
    try:
        if path.stat().st_size > _MOST_JSON_BYTES:
            raise ModelError(f"{refuse} {path.name} is larger than {_MOST_JSON_BYTES:,} bytes; nothing is opened.")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{refuse} {path.name} cannot be read ({error!s:.120}).") from error
    if not isinstance(found, dict):
        raise ModelError(f"{refuse} {path.name} cannot be read (expected an object).")
    return found


def _check_counts(refuse: str, config: Mapping[str, Any], held: int) -> None:
    """Counts of modules are loops, in libraries too, before anything is allocated."""
    waiting: list[tuple[str, Any]] = list(config.items())
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += ((key, one) for one in value if isinstance(one, dict | list))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            counted = _COUNTED.search(key)
            if isinstance(value, float) and not counted:
                continue  # no size: a base of rotary embeddings may be 4.6e10
            most = max(held, 4_096) if counted else _LARGEST
            if not -most <= value <= most:
                raise ModelError(f"{refuse} {_CONFIG} says {key} {value!s:.40}; at most {most:,} are possible here.")
