"""Arrays as bytes: small ones lie in their event's row, large ones once each in the blob table, by content."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_plasticity.errors import RecordError

Array = npt.NDArray[Any]

MOST_ARRAY_BYTES = 2**29  # 512 MiB: attention maps of 100 layers × 128 heads at 100 tokens, in float32
_MOST_SIDE_OF_NOTHING = 2**20  # an array of shape (10^12, 0) takes no room, and whoever goes through it for ever
_MOST_DESCRIPTION = 2_000  # characters of a dtype or a shape
# Up to here an array is cheaper in its row than looked up by hash: a head grid of 32 × 64 float64 is 16 KiB.
INLINE_BYTES = 16_384
# Compression is tried on blobs only, at level 1: attention maps halve and better (the future is all zeros),
# score grids and vectors are noise to zlib and stay raw. A sample decides, so noise costs next to nothing.
_SAMPLE_BYTES = 65_536
_WORTH = 0.85
# Attention maps come rounded to 254ths: what consists of 0, 1/254, …, 1 and NaN is kept as one byte per value, exactly.
STEPS = 254


def inline_reference(array: Array, start: int) -> str:
    """JSON text that says where in its event's row an array lies, and what it is."""
    return f"[{_described(array.dtype, array.shape)},{start},{array.nbytes}]"


@lru_cache(maxsize=256)
def _described(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    return ",".join(map(json.dumps, _describe(dtype, shape)))


def _describe(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[str, str]:
    """dtype and shape as text, byte order and structured fields included."""
    return str(np.lib.format.dtype_to_descr(dtype)), str(list(shape))


def restore(dtype: str, shape: str, data: bytes) -> Array:
    """The array, read-only, on the bytes given.

    Raises:
        ValueError, TypeError, SyntaxError: they do not fit, or are larger than any of ours.
    """
    kind, sides = possible(dtype, shape)
    if len(data) != kind.itemsize * math.prod(sides):
        raise ValueError(f"{len(data)} bytes for an array of shape {sides}")
    array = np.frombuffer(data, dtype=kind).reshape(sides) if data else np.empty(sides, dtype=kind)
    array.flags.writeable = False
    return array


def possible(dtype: str, shape: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """What a row says of an array, before any memory is taken for it.

    Raises:
        ValueError, TypeError, SyntaxError: it says nothing of sense, or an array larger than any of ours.
    """
    if max(len(dtype), len(shape)) > _MOST_DESCRIPTION:
        raise ValueError("a dtype or shape of thousands of characters")
    kind, sides = _dtype(dtype), json.loads(shape)
    if not isinstance(sides, list) or any(type(side) is not int or side < 0 for side in sides) or len(sides) > 32:
        raise ValueError(f"shape {shape}")
    size = kind.itemsize * math.prod(sides)
    if kind.hasobject or size > MOST_ARRAY_BYTES or (not size and max(sides, default=0) > _MOST_SIDE_OF_NOTHING):
        raise ValueError(f"an array of {dtype} and shape {shape}")
    return kind, tuple(sides)


def _dtype(text: str) -> np.dtype[Any]:
    fields: Any = ast.literal_eval(text) if text.startswith("[") else text
    return np.lib.format.descr_to_dtype(fields)


def _decompressed(data: bytes, size: int) -> bytes:
    """``size`` bytes, whatever more ``data`` would become."""
    unpacker = zlib.decompressobj()
    found = unpacker.decompress(data, size + 1) if size else b""
    if len(found) != size:
        raise ValueError(f"expected {size} bytes")
    return found


@dataclass(frozen=True)
class Blob:
    """A large array, ready for the blob table."""

    hash: bytes
    dtype: str
    shape: str
    raw: bytes

    @classmethod
    def of(cls, array: Array) -> Blob:
        """Name ``array`` by its content.

        Raises:
            RecordError: it is larger than what is kept of one array.
        """
        if array.nbytes > MOST_ARRAY_BYTES:
            raise RecordError(f"array of {array.nbytes:,} bytes: expected at most {MOST_ARRAY_BYTES:,}; record parts.")
        dtype, shape = _describe(array.dtype, array.shape)
        raw = array.tobytes()
        digest = hashlib.blake2b(f"{dtype}{shape}".encode(), digest_size=16)
        digest.update(raw)
        return cls(digest.digest(), dtype, shape, raw)

    def row(self) -> tuple[bytes, str, str, str, bytes]:
        """hash, dtype, shape, codec, data: compressed where that is worth it."""
        codes = _codes(self.dtype, self.raw)
        if codes is not None:
            return self.hash, self.dtype, self.shape, "steps", zlib.compress(codes, 1)
        sample = _sample(self.raw)
        if len(zlib.compress(sample, 1)) < _WORTH * len(sample):
            return self.hash, self.dtype, self.shape, "zlib", zlib.compress(self.raw, 1)
        return self.hash, self.dtype, self.shape, "raw", self.raw


def _sample(raw: bytes) -> bytes:
    """Bytes from the middle, where a map is neither its first nor its last rows."""
    start = max(0, (len(raw) - _SAMPLE_BYTES) // 2)
    return raw[start : start + _SAMPLE_BYTES]


@lru_cache(maxsize=8)
def _table(dtype: np.dtype[Any]) -> Array:
    """What each code of the codec "steps" stands for: 255 is NaN."""
    table = np.append(np.arange(STEPS + 1) / STEPS, np.nan).astype(dtype)
    table.flags.writeable = False
    return table


def _codes(described: str, raw: bytes) -> bytes | None:
    """The values as steps, one byte each; None unless they can be had back to the last bit."""
    if described.lstrip("<>=|") not in ("f2", "f4", "f8") or not raw:
        return None
    values = np.frombuffer(raw, dtype=_dtype(described))
    table = _table(values.dtype)
    for some in (values[:: max(len(values) // 256, 1)], values):  # a few tell nearly always that it cannot be
        with np.errstate(invalid="ignore", over="ignore"):
            steps = np.rint(some.astype(np.float64) * STEPS)
            codes = np.where(np.isnan(some), STEPS + 1, np.clip(steps, 0, STEPS)).astype(np.uint8)
        if table[codes].tobytes() != some.tobytes():
            return None
    return codes.tobytes()


def unpack(dtype: str, shape: str, codec: str, data: bytes) -> Array:
    """The array of a row of the blob table.

    Raises:
        ValueError, TypeError, SyntaxError, zlib.error: the row is not of our making.
    """
    kind, sides = possible(dtype, shape)
    if codec == "steps":
        if kind.kind != "f":
            raise ValueError(f"steps of {dtype}")
        array = _table(kind)[np.frombuffer(_decompressed(data, math.prod(sides)), np.uint8)].reshape(sides)
        array.flags.writeable = False
        return array
    if codec not in ("zlib", "raw"):
        raise ValueError(f"codec {codec!r}")
    return restore(dtype, shape, _decompressed(data, kind.itemsize * math.prod(sides)) if codec == "zlib" else data)
