"""Metrics read as columns: millions of rows as arrays, joined inside SQLite and parsed in one piece."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_plasticity.record.arrays import Array

Query = Callable[[str, tuple[Any, ...]], list[Any]]
_NEXT = "SELECT seq FROM recorded WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT 1"
_CHUNK = 50_000  # rows per query: no read lasts long, so that a writer can always reset its log
_CHUNK_BYTES = 16_000_000  # of values per query: a script may record thousands of metrics in each row

Steps = npt.NDArray[np.int64]
Series = tuple[Steps, npt.NDArray[np.float64]]


def columns(parts: Iterable[dict[str, Series]], names: Iterable[str]) -> dict[str, Series]:
    """What `stretches` gave, joined: each metric's steps and values by step. Metrics of the same rows share steps."""
    listed = list(parts)
    pieces = {name: tuple(part[name][0] for part in listed) for name in names}
    steps: dict[tuple[int, ...], tuple[Steps, Array | None]] = {}
    found = {}
    for name, own in pieces.items():
        key = tuple(map(id, own))
        if key not in steps:
            joined = np.concatenate([np.empty(0, np.int64), *own])
            order = _order(joined)
            steps[key] = (joined if order is None else joined[order]), order
        at, order = steps[key]
        # The pieces go as soon as they are joined: ten million steps of a metric are 80 MB.
        values = np.concatenate([np.empty(0, np.float64), *(part.pop(name)[1] for part in listed)])
        found[name] = at, values if order is None else values[order]
    return found


def stretches(
    query: Query, places: Mapping[str, Mapping[int, int]], low: int, high: int
) -> Iterator[dict[str, Series]]:
    """Steps and values of each metric, stretch by stretch; ``places``: name -> layout -> position in its rows.

    SQLite joins a stretch of rows into one text, so that no Python object is made per row: a third of the time. Of each
    row that is the part in which the metrics lie, whole: a function call for each metric costs more than its bytes.

    Raises:
        ValueError: what it joins are not the whole numbers and eight bytes each that we write.
    """
    at: dict[int, list[int]] = {}
    for of in places.values():
        for number, place in of.items():
            at.setdefault(number, []).append(place)
    known = np.array(sorted(at), np.int64)
    first, width = (np.array(one, np.int64) for one in zip(*(_part(at[int(one)]) for one in known), strict=True))
    sql = (
        f"SELECT group_concat(step), group_concat(layout), group_concat({_hex_of(known, first, width)}, '') FROM "
        f"(SELECT * FROM metrics WHERE layout IN ({','.join(map(str, known))}) AND seq BETWEEN ? AND ? ORDER BY seq)"
    )
    chunk = int(np.clip(_CHUNK_BYTES // (8 * width.max()), 1, _CHUNK))
    start = low
    while start <= high:
        ((steps, layouts, data),) = query(sql, (start, min(start + chunk - 1, high)))
        start += chunk
        if steps is None:  # numbers have no gaps; in a record of somebody else's making one may be for ever
            if start > high:
                return
            start = next((row[0] for row in query(_NEXT, (start, high))), high + 1)
            continue
        at_step, layout = _numbers(steps), _numbers(layouts)
        which = np.searchsorted(known, layout)
        ends = np.cumsum(width[which])
        raw = bytes.fromhex(data)
        if len(raw) != 8 * ends[-1] or len(at_step) != len(layout):
            raise ValueError(f"metrics before event {start:,}")
        values = np.frombuffer(raw, dtype="<f8").astype(np.float64, copy=False)
        begins = ends - width[which] - first[which]
        rows: dict[tuple[int, ...], tuple[Steps, Any]] = {}  # of the layouts that have a metric: steps, and which rows
        part = {}
        for name, of in places.items():
            if (key := tuple(of)) not in rows:
                has_it = np.isin(known, key)[which]
                rows[key] = (at_step, slice(None)) if has_it.all() else (at_step[has_it], has_it)
            own, mask = rows[key]
            place_in = np.array([of.get(int(one), 0) for one in known], np.int64)
            part[name] = own, values[(begins + place_in[which])[mask]]
        yield part


def _numbers(joined: str) -> Steps:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what is no number: some say so, some end too early
        return np.fromstring(joined, dtype=np.int64, sep=",")


def _part(places: Sequence[int]) -> tuple[int, int]:
    """The first of these positions, and how many there are from it to the last."""
    return min(places), max(places) - min(places) + 1


def _hex_of(layouts: Array, first: Array, width: Array) -> str:
    """SQL for the wanted part of a row in hexadecimal."""
    alike: dict[tuple[int, int], list[str]] = {}
    for layout, *part in zip(layouts.tolist(), first.tolist(), width.tolist(), strict=True):
        alike.setdefault((part[0], part[1]), []).append(str(layout))
    whens = (
        f"WHEN layout IN ({','.join(of)}) THEN hex(substr(data, {8 * start + 1}, {8 * count}))"
        for (start, count), of in alike.items()
    )
    return f"CASE {' '.join(whens)} END"


def _order(steps: Steps) -> Array | None:
    """What sorts the steps, in recorded order within a step; None: they are in order."""
    return np.argsort(steps, kind="stable") if np.any(np.diff(steps) < 0) else None
