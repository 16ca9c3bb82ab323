"""Rows straight from the pages of an SQLite file and of its write-ahead log, for when SQLite cannot read them any more.

The format is fixed and public: https://www.sqlite.org/fileformat2.html (1.6 b-tree pages, 2.1 records, 4 the log).
Every leaf page of a table is looked at by itself, so that a damaged page costs its own rows and no others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HEADER, FRAME = 32, 24  # bytes of the log's header, and of each frame's
_TABLE_LEAF = 0x0D
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # serial type: bytes

Words = npt.NDArray[np.uint32]


def page_sizes(header: bytes) -> list[int]:
    """Page sizes to try, given a file's first bytes: the one it states where that can be, ours, and SQLite's own."""
    said = int.from_bytes(header[16:18], "big")
    said = 65_536 if said == 1 else said
    possible = [said] if 512 <= said <= 65_536 and said & (said - 1) == 0 else []
    return list(dict.fromkeys([*possible, 1024, 4096]))


def log_is_damaged(path: Path) -> bool:
    """Whether events committed to the log of ``path`` lie behind a damaged place, where SQLite does not see them."""
    log = path.with_name(path.name + "-wal")
    try:
        if log.stat().st_size <= HEADER:
            return False
        with path.open("rb") as file:
            size = page_sizes(file.read(100))[0]
        return bool(Log(log.read_bytes(), size).broken)
    except OSError:
        return False


class Damaged(ValueError):
    """These bytes are not what they should be."""


class Log:
    """A write-ahead log: which frames are whole, and up to where something was committed.

    ``broken``: places before the last commit whose frame is not what its checksum says. SQLite ignores such a frame and
    all that follow it, without a word.
    """

    def __init__(self, data: bytes, page_size: int) -> None:
        self.page_size = page_size
        count = max(len(data) - HEADER, 0) // (FRAME + page_size)
        raw = np.frombuffer(data, np.uint8, count * (FRAME + page_size), min(HEADER, len(data)))
        self._frames = raw.reshape(count, FRAME + page_size)
        fields = np.ascontiguousarray(self._frames[:, :FRAME]).view(">u4").astype(np.uint32)  # (frames, 6)
        self.pages, commits, salts, sums = fields[:, 0], fields[:, 1], fields[:, 2:4], fields[:, 4:6]
        head = np.frombuffer(data[:HEADER].ljust(HEADER, b"\0"), ">u4").astype(np.uint32)
        same = (salts == head[4:6]).all(axis=1)  # frames of an earlier round of the log have other salts
        if count and not same.any():  # the header itself is damaged: the first frame's round is the present one
            same = (salts == salts[0]).all(axis=1)
        end = count if same.all() else int(np.argmin(same))
        later = np.flatnonzero(same[end:]) + end  # a damaged salt in the middle
        end = int(later[-1]) + 1 if later.size else end
        before = np.vstack([head[6:8], sums])[:count]
        self.whole = same & (self._sums(before, "<u4" if head[0] & 1 == 0 else ">u4") == sums).all(axis=1)
        committed = np.flatnonzero(self.whole[:end] & (commits[:end] > 0))
        self.end = int(committed[-1]) + 1 if committed.size else 0
        self.broken = np.flatnonzero(~self.whole[: self.end]).tolist()

    def _sums(self, before: Words, order: str) -> Words:
        """Checksums (frames, 2) that frames should have, each from its predecessor's: s0 += x0 + s1; s1 += x1 + s0."""
        parts = np.concatenate([self._frames[:, :8], self._frames[:, FRAME:]], axis=1)
        words = np.ascontiguousarray(parts).view(order).astype(np.uint32)
        pairs = words.reshape(len(words), words.shape[1] // 2, 2)
        steps, weights = np.eye(2, dtype=np.uint32), []  # the recurrence is linear, modulo 2**32
        step, entry = np.array([[1, 1], [1, 2]], np.uint32), np.array([[1, 0], [1, 1]], np.uint32)
        for _ in range(pairs.shape[1]):
            weights.append(steps @ entry)
            steps = steps @ step
        weighed = np.einsum("fpj,pij->fi", pairs, np.array(weights[::-1], np.uint32))
        return before @ steps.T + weighed

    def versions(self) -> dict[int, bytes]:
        """The last whole, committed version of each page in the log."""
        places = (place for place in range(self.end) if self.whole[place])
        return {int(self.pages[place]): self._frames[place, FRAME:].tobytes() for place in places}


class Pages:
    """An SQLite file as pages; ``newer`` are those of its log, which take their places."""

    def __init__(self, data: bytes, page_size: int, newer: dict[int, bytes]) -> None:
        self._data, self.size, self._newer = data, page_size, newer
        self.count = max(len(data) // page_size, *newer, 0) if newer else len(data) // page_size
        self.damaged = 0

    def page(self, number: int) -> bytes:
        """Page ``number``, from 1."""
        if number in self._newer:
            return self._newer[number]
        if not 1 <= number <= len(self._data) // self.size:
            raise Damaged(f"page {number} is not there")
        return self._data[(number - 1) * self.size : number * self.size]

    def rows(self) -> Iterator[list[Any]]:
        """Every row of every table that can be read, its rowid before its values."""
        for number in range(1, self.count + 1):
            try:
                page = self.page(number)
            except Damaged:
                self.damaged += 1
                continue
            start = 100 if number == 1 else 0
            if page[start] != _TABLE_LEAF:
                continue
            (cells,) = struct.unpack_from(">H", page, start + 3)
            for cell in range(min(cells, self.size // 4)):
                try:
                    (at,) = struct.unpack_from(">H", page, start + 8 + 2 * cell)
                    yield self._row(page, at)
                except (Damaged, IndexError, struct.error, UnicodeDecodeError):
                    self.damaged += 1

    def _row(self, page: bytes, at: int) -> list[Any]:
        length, at = _varint(page, at)
        rowid, at = _varint(page, at)
        most = self.size - 35
        if length > self.count * self.size:
            raise Damaged("longer than the file")
        local = length
        if length > most:
            least = (self.size - 12) * 32 // 255 - 23
            local = least + (length - least) % (self.size - 4)
            local = least if local > most else local
        payload = page[at : at + local]
        if length > local:
            (following,) = struct.unpack_from(">I", page, at + local)
            parts = [payload]
            for _ in range(-(-(length - local) // (self.size - 4))):
                overflow = self.page(following)
                parts.append(overflow[4:])
                (following,) = struct.unpack_from(">I", overflow)
            payload = b"".join(parts)[:length]
        if len(payload) != length:
            raise Damaged("cut short")
        return [rowid, *_values(payload)]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        byte = data[at + place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + place + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64 if value >> 63 else 0), at + 9


def _values(payload: bytes) -> list[Any]:
    header, at = _varint(payload, 0)
    if header > len(payload):
        raise Damaged("a header longer than its row")
    body, values = header, []
    while at < header:
        kind, at = _varint(payload, at)
        value, body = _value(payload, kind, body)
        values.append(value)
    if body != len(payload):
        raise Damaged("a row of another length than its header says")
    return values


def _value(payload: bytes, kind: int, at: int) -> tuple[Any, int]:
    if kind == 0:
        return None, at
    if kind in (8, 9):
        return kind - 8, at
    size = _INTEGERS.get(kind, 8 if kind == 7 else (kind - 12) // 2)
    raw = payload[at : at + size]
    if kind in (10, 11) or len(raw) != size:
        raise Damaged("a value that reaches beyond its row")
    if kind in _INTEGERS:
        return int.from_bytes(raw, "big", signed=True), at + size
    if kind == 7:
        return struct.unpack(">d", raw)[0], at + size
    return (raw.decode() if kind % 2 else raw), at + size
