"""The page's wire format: what goes in comes out, arrays lie where a browser can use them, and text is harmless."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neural_plasticity.errors import RecordError
from neural_plasticity.heads import HeadId, HeadState
from neural_plasticity.render.page.packing import MOST_CHARACTERS, pack, unpack

words = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words.map("k".__add__), inner, max_size=4),
    max_leaves=20,
)


def parts(packed: bytes) -> tuple[Any, int]:
    """The JSON and where the arrays begin, read as the format's description says."""
    assert packed[:4] == b"NPD1"
    (length,) = struct.unpack("<I", packed[4:8])
    return json.loads(packed[8 : 8 + length]), math.ceil((8 + length) / 8) * 8


@given(plain)
def test_plain_values_come_back(value: Any) -> None:
    assert unpack(pack({"it": value}))["it"] == value


@given(
    arrays.arrays(
        st.sampled_from(["<f8", ">f8", "<f4", "<f2", "<i8", "<i4", "<i2", "i1", "u1", "<u4", "?"]),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    )
)
def test_arrays_of_numbers_come_back(array: np.ndarray) -> None:
    back = unpack(pack([array, array[..., None]]))[0]
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array.astype(np.float64) if back.dtype.kind == "f" else array)


def test_each_array_begins_at_a_multiple_of_eight_and_says_its_type() -> None:
    columns = [np.arange(3, dtype=np.int8), np.arange(5.0), np.ones((3, 3), bool), np.float32([1.5]), np.int64([7])]
    packed = pack(columns)
    described, start = parts(packed)
    assert [one["$array"][0] for one in described] == ["i1", "f8", "u1", "f4", "i4"]
    assert [one["$array"][1] for one in described] == [[3], [5], [3, 3], [1], [1]]
    offsets = [one["$array"][2] for one in described]
    assert all(offset % 8 == 0 for offset in offsets)
    assert np.frombuffer(packed, "<f8", 5, start + offsets[1]).tolist() == [0, 1, 2, 3, 4]


def test_integers_beyond_32_bits_become_floats() -> None:
    described, _ = parts(pack(np.array([2**31 - 1, -(2**31)])))
    assert described["$array"][0] == "i4"
    assert unpack(pack(np.array([2**40]))).dtype == np.float64


def test_what_json_cannot_say_is_said() -> None:
    described, _ = parts(pack([math.nan, math.inf, -math.inf, np.float32(math.nan)]))
    assert described == [{"$float": "nan"}, {"$float": "inf"}, {"$float": "-inf"}, {"$float": "nan"}]
    assert math.isnan(unpack(pack(math.nan)))


@dataclass(frozen=True)
class Thing:
    head: HeadId
    state: HeadState
    values: np.ndarray
    more: Any = None


def test_dataclasses_named_tuples_and_enumerations() -> None:
    back = unpack(pack(Thing(HeadId(1, 2), HeadState.REGROWN, np.array(["a", "b"]), {3: Path("x/y"), "s": {1}})))
    assert back == {"head": [1, 2], "state": 2, "values": ["a", "b"], "more": {"3": str(Path("x/y")), "s": [1]}}


def test_text_is_made_visible_and_cut_once_for_everything() -> None:
    back = unpack(pack({"\x1b[2J": "a\x00b\u202e\ud800\n\tc", "long": "x" * 1_000_000}))
    assert "".join(back).isprintable()
    assert back["␛[2J"] == "a␀b��\n\tc"
    assert back["long"] == "x" * MOST_CHARACTERS + "… (1,000,000 characters)"


def test_names_that_look_alike_once_cut_are_both_there() -> None:
    back = unpack(pack({"x" * 30_000 + "1": 1, "x" * 30_000 + "2": 2, "$array": 3, "$float": 4}))
    assert sorted(back.values()) == [1, 2, 3, 4]


def test_other_bytes_are_refused() -> None:
    with pytest.raises(RecordError, match="begin with NPD1"):
        unpack(b"PK\x03\x04 something else")
