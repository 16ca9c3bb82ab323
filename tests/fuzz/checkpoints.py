"""Checkpoints as somebody might send them: a real one, changed in its bytes, its header, or what its JSON tells."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import strategies as st

from neural_plasticity.events import PhaseEnded
from neural_plasticity.experiment import Experiment, checkpoints, open_experiment, play
from tests.fuzz.law import holds
from tests.fuzz.records import JSON_NUMBERS, ODD_JSON, TEXTS, places
from tests.small_runs import save_model, save_text, small_config

_FOLDER = TemporaryDirectory()  # kept while the process lives
NAME = "event-0000000009.safetensors"


@cache
def opened() -> Experiment:
    """What checkpoints are read into: one layer, so that there can be many."""
    folder = Path(_FOLDER.name)
    model = save_model(folder / "model", n_layer=1, n_embd=8)
    text = save_text(folder / "text.txt", lines=600)
    config = small_config(model, text, warmup_steps=2, fine_tuning_steps=4, eval_sequences=4, control=True)
    return open_experiment(config)


@cache
def templates() -> tuple[bytes, ...]:
    """Checkpoints of one run: after a phase, and in the middle of training."""
    x = opened()
    found: list[bytes] = []
    stages = 0
    with TemporaryDirectory() as name:
        for number, event in enumerate(play(x), 1):
            stages += isinstance(event, PhaseEnded)
            if checkpoints.steps_at_rest(x, event) == 2 or isinstance(event, PhaseEnded):
                path = checkpoints.save(x, Path(name), checkpoints.Position(stages, number))
                found.append(path.read_bytes())
    return tuple(found)


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and what follows it."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: Any, body: bytes, length: int | None = None) -> bytes:
    """A safetensors file; ``length`` is what it says of its header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


@dataclass(frozen=True)
class Bytes:
    """Bytes overwritten; and where it ends, in ten-thousandths."""

    at: tuple[tuple[int, int], ...]
    length: int

    def of(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for place, value in self.at:
            changed[place % len(changed)] = value
        return bytes(changed[: len(changed) * self.length // 10_000])


@dataclass(frozen=True)
class Header:
    """One place of the header that is something else, and the length that it says of itself."""

    place: int
    leaf: Any
    length: int | None

    def of(self, data: bytes) -> bytes:
        header, body = parts(data)
        told = [(holder, key) for holder, key in places(header) if key not in ("state", "crc32")]
        holder, key = told[self.place % len(told)]
        holder[key] = self.leaf
        return joined(header, body, self.length)


@dataclass(frozen=True)
class Told:
    """Places of its JSON that are something else, its checksum right: as somebody writes it who means harm."""

    changes: tuple[tuple[int, Any, str | None], ...]
    deep: bool = False

    def of(self, data: bytes) -> bytes:
        header, body = parts(data)
        told = header["__metadata__"]
        state = json.loads(told["state"])
        for place, leaf, key in self.changes:
            at = list(places(state))
            holder, where = at[place % len(at)]
            if key is None:
                holder[where] = deepcopy(leaf)  # the next change may be inside it
            elif isinstance(holder, dict):
                holder[key] = holder.pop(where)
            else:
                holder.append(deepcopy(leaf))
        text = json.dumps(state)
        if self.deep:
            text = text.replace("null", "[" * 20_000 + "]" * 20_000, 1)
        told |= {"state": text, "crc32": f"{zlib.crc32(text.encode()):08x}"}
        return joined(header, body)


LEAVES: st.SearchStrategy[Any] = st.sampled_from((
    *JSON_NUMBERS, *TEXTS, *ODD_JSON, {"$tensor": "nowhere", "$crc32": 0}, {"$tensor": "mask", "$crc32": 1},
    {"$tensor": None, "$crc32": []},
))  # fmt: skip
HEADERS: st.SearchStrategy[Any] = st.sampled_from((
    *JSON_NUMBERS[:8], *ODD_JSON[:12], "F64", "BF16", "I8", "nonsense", [10**12], [0], [2**31, 2**31], [0, 2**62],
    [4, 2], [0, 10**12], [-8, 8], {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "x" * 100_000,
))  # fmt: skip
PLACE = st.integers(0, 100_000)
KEYS = st.sampled_from((None, None, None, "mask", "step", "", "$tensor", "\n"))
CHANGES: st.SearchStrategy[Callable[..., Any]] = st.one_of(
    st.builds(
        Bytes,
        st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=8).map(tuple),
        st.one_of(st.just(10_000), st.integers(0, 10_000)),
    ),
    st.builds(Header, PLACE, HEADERS, st.sampled_from((None, None, None, 0, 2**62, 2**63, 10**8, 99))),
    st.builds(Told, st.lists(st.tuples(PLACE, LEAVES, KEYS), min_size=1, max_size=3).map(tuple), st.booleans()),
    st.builds(Told, st.lists(st.tuples(PLACE, LEAVES, KEYS), min_size=1, max_size=3).map(tuple)),
)
WHICH = st.integers(0, 100)


def one_checkpoint(which: int, change: Bytes | Header | Told) -> list[str]:
    """The law, for a run that goes on from a changed checkpoint."""
    x, whole = opened(), templates()
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        (Path(name) / NAME).write_bytes(change.of(whole[which % len(whole)]))
        with holds() as errors:
            checkpoints.restore(x, Path(name))
    return errors
