"""Arrays as rows of a record tell of them, and packed documents: small, so that there can be very many."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from hypothesis import strategies as st

from neural_plasticity.errors import RecordError
from neural_plasticity.record.arrays import MOST_ARRAY_BYTES, unpack
from neural_plasticity.record.reader import _DAMAGED as DAMAGED
from neural_plasticity.render.page.packing import MAGIC, pack
from neural_plasticity.render.page.packing import unpack as unpack_document
from tests.fuzz.law import Broken, holds

DTYPES = st.one_of(
    st.sampled_from(
        ("<f8", "<f4", "<f2", ">f4", "|i1", "<U3", "|O", "?", "<M8[s]", "[('a', '<i2')]", "<V8", "f8", "x")
    ),
    st.sampled_from(("<U536870911", "|S2147483647", "[" * 300, "[('a', '|O')]", "[('a', '<f8', (100000, 100000))]")),
    st.text(max_size=6),
)
SHAPES = st.one_of(
    st.sampled_from(("[2, 3]", "[6]", "[3, 2, 1]", "[1, 6]")),
    st.lists(st.integers(-2, 9), max_size=4).map(str),
    st.sampled_from(
        ("[1000000, 1000000]", "[0, 1000000000000]", "[]", "3", "null", "[1.5]", "[[1]]", "[1" + ", 1" * 70 + "]")
    ),
    st.text(max_size=6),
)
BOMB = zlib.compress(bytes(50_000_000), 9)  # 49 kB
DATA = st.one_of(
    st.binary(max_size=64),
    st.binary(max_size=64).map(zlib.compress),
    st.sampled_from((BOMB, zlib.compress(bytes(48)), zlib.compress(bytes(6)), bytes(48), bytes(6))),
)
CODECS = st.sampled_from(("raw", "zlib", "steps", "steps", "pickle", ""))


def one_array(dtype: Any, shape: Any, codec: str, data: bytes) -> list[str]:
    """An array, or one of the errors that readers turn into theirs."""
    with holds() as errors:
        try:
            array = unpack(dtype, shape, codec, data)
        except DAMAGED as error:
            return [type(error).__name__]
        if array.nbytes > MOST_ARRAY_BYTES or array.flags.writeable or array.dtype.hasobject:
            raise Broken(f"{array.dtype} {array.shape}")
    return errors


DOCUMENT = pack({"a": np.arange(6.0).reshape(2, 3), "b": [1, None, {"c": float("nan")}], "t": "x" * 30})
JSON = st.sampled_from((
    '{"$array":["f8",[2,3],0]}', '{"$array":["f8",[1000000,1000000],0]}', '{"$array":["f8",[-1],0]}', "[" * 3_000,
    '{"$array":["x",[2],0]}', '{"$array":["f8",[2],9999]}', '{"$array":["f8",[2],-8]}', '{"$float":[]}', '{"$array":3}',
    "9" * 5_000, "{}", "nul",
))  # fmt: skip
PACKED = st.one_of(
    st.binary(max_size=60),
    st.tuples(
        st.lists(st.tuples(st.integers(0, len(DOCUMENT) - 1), st.integers(0, 255)), max_size=6), st.integers(0, 400)
    ).map(lambda drawn: _changed(*drawn)),
    st.tuples(JSON, st.binary(max_size=60)).map(
        lambda drawn: MAGIC + struct.pack("<I", len(drawn[0])) + drawn[0].encode() + drawn[1]
    ),
)


def _changed(at: list[tuple[int, int]], length: int) -> bytes:
    data = bytearray(DOCUMENT)
    for place, value in at:
        data[place] = value
    return bytes(data[:length])


def one_document(data: bytes) -> list[str]:
    """A document, or a RecordError."""
    with holds() as errors:
        try:
            unpack_document(data)
        except RecordError as error:
            errors.append(type(error).__name__)
    return errors
