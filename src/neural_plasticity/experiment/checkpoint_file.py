"""One checkpoint as one safetensors file: tensors as they are, all else as JSON in its metadata. Nothing is unpickled.

The JSON holds a checksum (CRC-32) of every tensor, and the metadata one of the JSON: what a disk or a copy has changed
is noticed. That is no protection against somebody who means harm; against that, whoever uses what was read checks it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from neural_plasticity.errors import RecordError, first_line
from neural_plasticity.experiment.memory import out_of_memory

FORMAT = "neural_plasticity checkpoint"
VERSION = 1
_MOST_TOLD = 2**25  # a hundred characters per tensor; the largest models have tens of thousands of these
_TENSOR = "$tensor"  # {"$tensor": name} stands for a tensor of the file
_SUM = "$crc32"
Known = dict[tuple[Any, ...], tuple[Tensor, dict[str, Any]]]


class DamagedCheckpoint(RecordError):
    """A file that is no whole checkpoint: cut off, changed, or never one."""


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` (mappings, sequences, numbers, texts, tensors, arrays) so that ``path`` is whole or not there.

    A tensor that stands in several places is kept once.

    Raises:
        OSError: it cannot be written; ``path`` is as it was.
    """
    tensors: dict[str, Tensor] = {}
    told = json.dumps(_flat(state, "", tensors, {}))  # floats in full; NaN and infinities as Python writes them
    metadata = {"format": FORMAT, "version": str(VERSION), "state": told, "crc32": f"{zlib.crc32(told.encode()):08x}"}
    # Tools may leave half a file where they were killed: in a folder of its own, it is found and goes.
    part = path.parent / ".part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        temporary = part / path.name
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(tensors, temporary, metadata)  # for its owner's eyes only, which the rest of the run is not
        temporary.chmod(stat.S_IMODE(mode))
        _to_disk(temporary)
        temporary.replace(path)
        _to_disk(path.parent)  # the name too
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read(path: Path, most_bytes: int) -> dict[str, Any]:
    """What `write` wrote: sequences as lists, tensors and arrays as tensors in the CPU's memory.

    Raises:
        DamagedCheckpoint: the file is damaged, no checkpoint, or larger than ``most_bytes``.
        RecordError: it was made by a later version, or it cannot be read now: the disk, its permissions or the memory
            refuse, which says nothing about the file.
    """
    try:
        with path.open("rb") as there:  # which has an error's number; safetensors would only have its words
            there.read(8)
        size = path.stat().st_size
        if size > most_bytes:
            raise DamagedCheckpoint(f"{size:,} bytes are more than a checkpoint of this model can have")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise DamagedCheckpoint("it is no checkpoint of a run")
            if metadata.get("version") != str(VERSION):
                raise RecordError(
                    f"{path}: checkpoint format {metadata.get('version')!r}, and this version of neural_plasticity "
                    f"reads format {VERSION}; go on with the version that wrote it."
                )
            told = metadata["state"]
            if len(told) > _MOST_TOLD:
                raise DamagedCheckpoint(f"{len(told):,} characters beside its tensors are more than any run has to say")
            if metadata["crc32"] != f"{zlib.crc32(told.encode()):08x}":
                raise DamagedCheckpoint("its checksum is wrong")
            state = _filled(json.loads(told), file, {})
    except RecordError:
        raise
    except (OSError, MemoryError) as error:
        raise RecordError(_unread(path, error)) from error
    # What a damaged or a made-up file makes the readers of safetensors and JSON raise.
    except (SafetensorError, ValueError, TypeError, LookupError, RuntimeError) as error:
        if out_of_memory(error):
            raise RecordError(_unread(path, error)) from error
        raise DamagedCheckpoint(f"it cannot be read ({type(error).__name__}: {first_line(error)})") from error
    if not isinstance(state, dict):
        raise DamagedCheckpoint("it holds no state")
    return state


def _unread(path: Path, error: Exception) -> str:
    if out_of_memory(error):
        return f"--resume: there is not enough memory to read {path}; free some, or resume on a larger machine."
    said = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"--resume: {path} cannot be read at present ({said}); nothing was changed. Try again when it can be."


def _flat(value: Any, name: str, tensors: dict[str, Tensor], known: Known) -> Any:
    """``value`` for JSON; its tensors go to ``tensors``, named by their places."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):
        value = value.detach()
        place = (value.data_ptr(), value.dtype, value.shape, value.stride(), value.device)
        if not value.numel() or place not in known:
            kept = value.cpu().contiguous()
            if kept.untyped_storage().nbytes() != kept.nbytes:
                kept = kept.clone()  # part of a larger one, of which another part may be kept too
            tensors[name] = kept
            known[place] = value, {_TENSOR: name, _SUM: checksum(kept)}  # held, or its place could become another's
        return known[place][1]
    if isinstance(value, Mapping):
        return {key: _flat(one, f"{name}/{key}" if name else str(key), tensors, known) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_flat(one, f"{name}/{place}", tensors, known) for place, one in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def _filled(value: Any, file: Any, known: dict[str, Tensor]) -> Any:
    """``value`` with the tensors of ``file`` in their places."""
    if isinstance(value, list):
        return [_filled(one, file, known) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {_TENSOR, _SUM}:
        return {name: _filled(one, file, known) for name, one in value.items()}
    name = value[_TENSOR]
    if name not in known:
        known[name] = file.get_tensor(name).clone()  # out of the mapped file, which may be replaced
        if checksum(known[name]) != value[_SUM]:
            raise DamagedCheckpoint(f"the checksum of {name} is wrong")
    return known[name]


def checksum(tensor: Tensor) -> int:
    """CRC-32 of a contiguous CPU tensor: its type, its shape, its bytes."""
    head = zlib.crc32(f"{tensor.dtype} {list(tensor.shape)}".encode())
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, head) if tensor.numel() else head


def _to_disk(path: Path) -> None:
    """Written through, file or directory; where directories cannot be opened (Windows), they need not be."""
    with contextlib.suppress(PermissionError) if path.is_dir() else contextlib.nullcontext():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
