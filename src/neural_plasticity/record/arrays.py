"""Arrays as bytes: small ones lie in their event's row, large ones once each in the blob table, by content."""

from __future__ import annotations

import ast
import hashlib
import json
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

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
    """The array, read-only, on the bytes given."""
    return np.frombuffer(data, dtype=_dtype(dtype)).reshape(json.loads(shape)) if data else _empty(dtype, shape)


def _empty(dtype: str, shape: str) -> Array:
    array = np.empty(json.loads(shape), dtype=_dtype(dtype))
    array.flags.writeable = False
    return array


def _dtype(text: str) -> np.dtype[Any]:
    described: Any = ast.literal_eval(text) if text.startswith("[") else text
    return np.lib.format.descr_to_dtype(described)


@dataclass(frozen=True)
class Blob:
    """A large array, ready for the blob table."""

    hash: bytes
    dtype: str
    shape: str
    raw: bytes

    @classmethod
    def of(cls, array: Array) -> Blob:
        """Name ``array`` by its content."""
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
    """The array of a row of the blob table."""
    if codec == "steps":
        array = _table(_dtype(dtype))[np.frombuffer(zlib.decompress(data), np.uint8)].reshape(json.loads(shape))
        array.flags.writeable = False
        return array
    return restore(dtype, shape, zlib.decompress(data) if codec == "zlib" else data)
