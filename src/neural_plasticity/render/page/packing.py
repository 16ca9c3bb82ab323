"""A view model as bytes and back: JSON for what is small, raw arrays behind it. The page's one wire format.

``NPD1``, uint32 length of the JSON, the JSON, zeros up to a multiple of 8, then the arrays, each from a multiple of 8
(all little-endian). In the JSON an array is ``{"$array": [type, shape, offset]}``, offset counted from the first array;
a float that JSON cannot say is ``{"$float": "nan"}``. Dataclasses and mappings become objects, tuples lists.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_plasticity.errors import RecordError
from neural_plasticity.views import figures

MAGIC = b"NPD1"
MOST_CHARACTERS = 20_000
_ALIGN = 8
_TYPES = {"f8": "<f8", "f4": "<f4", "i4": "<i4", "i1": "|i1", "u1": "|u1"}
_INT32 = np.iinfo(np.int32)

Array = npt.NDArray[Any]


def pack(value: Any) -> bytes:
    """``value`` (dataclasses, mappings, sequences, arrays, text, numbers) as bytes; `unpack` and the page read it."""
    arrays = _Arrays()
    text = json.dumps(_plain(value, arrays), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    head = text.encode("utf-8")
    start = len(MAGIC) + 4 + len(head)
    return b"".join([MAGIC, struct.pack("<I", len(head)), head, bytes(-start % _ALIGN), *arrays.parts])


def unpack(data: bytes) -> Any:
    """What `pack` was given, as dictionaries, lists, numbers, text and arrays.

    Raises:
        RecordError: these are not packed bytes.
    """
    if data[:4] != MAGIC:
        raise RecordError("packed page data: expected bytes that begin with NPD1.")
    try:
        (length,) = struct.unpack_from("<I", data, 4)
        start = 8 + length
        start += -start % _ALIGN
        return _restored(json.loads(data[8 : 8 + length]), memoryview(data)[start:])
    except (struct.error, ValueError, TypeError, LookupError, RecursionError, OverflowError) as error:
        raise RecordError("packed page data: damaged.") from error


class _Arrays:
    """The array area while it grows."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def put(self, array: Array) -> dict[str, Any]:
        code, fitting = _fitting(array)
        data = np.ascontiguousarray(fitting, dtype=_TYPES[code]).tobytes()
        reference = {"$array": [code, list(array.shape), self.size]}
        padding = bytes(-len(data) % _ALIGN)
        self.parts += [data, padding]
        self.size += len(data) + len(padding)
        return reference


def _fitting(array: Array) -> tuple[str, Array]:
    """The smallest of our types that holds the array: integers beyond 32 bits become floats, as in JavaScript."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b":
        return "u1", array
    if kind == "f":
        return ("f8" if size >= 8 else "f4"), array
    if kind in "iu" and size == 1:
        return ("i1" if kind == "i" else "u1"), array
    if kind in "iu":
        small = not array.size or (array.min() >= _INT32.min and array.max() <= _INT32.max)
        return ("i4" if small else "f8"), array
    raise TypeError(f"array of dtype {array.dtype}: only numbers can be packed")


def _plain(value: Any, arrays: _Arrays) -> Any:
    """``value`` as JSON, arrays put aside."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, Enum):
        return _plain(value.value, arrays)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, np.ndarray):
        return arrays.put(value) if value.dtype.kind in "biuf" else _plain(value.tolist(), arrays)
    if isinstance(value, np.generic):
        return _plain(value.item(), arrays)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return _object(value, arrays)
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one, arrays) for one in value]
    return shown(str(value) if isinstance(value, PurePath) else repr(value))


def _object(value: Mapping[Any, Any], arrays: _Arrays) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, one in value.items():
        name = shown(str(key))
        while name in found or name in ("$array", "$float"):  # two names may look alike once they are cut
            name += "′"
        found[name] = _plain(one, arrays)
    return found


def shown(text: str) -> str:
    """Text from outside as the page has it: control characters visible, at most `MOST_CHARACTERS`, the cut said."""
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]}… ({len(text):,} characters)"
    return text if text.isprintable() else figures.visible(text)


def _restored(value: Any, area: memoryview) -> Any:
    if isinstance(value, list):
        return [_restored(one, area) for one in value]
    if not isinstance(value, dict):
        return value
    if "$float" in value:
        return float(value["$float"])
    if "$array" in value:
        code, shape, offset = value["$array"]
        dtype = np.dtype(_TYPES[code])
        return np.frombuffer(area, dtype, math.prod(shape), offset).reshape(shape)
    return {name: _restored(one, area) for name, one in value.items()}
