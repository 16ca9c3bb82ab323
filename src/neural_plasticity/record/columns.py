"""Metrics read as columns: millions of rows as arrays, joined inside SQLite and parsed in one piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_plasticity.record.arrays import Array

Query = Callable[[str, tuple[Any, ...]], list[Any]]
_CHUNK = 50_000  # rows per query: no read lasts long, so that a writer can always reset its log


def stretches(
    query: Query, places: Mapping[str, Mapping[int, int]], low: int, high: int
) -> Iterator[dict[str, tuple[Array, Array]]]:
    """Steps and values of each metric, stretch by stretch; ``places``: name -> layout -> position in its rows.

    SQLite joins a stretch of rows into one text, so that no Python object is made per row: a third of the time.
    """
    wanted = ",".join(map(str, sorted({layout for at in places.values() for layout in at})))
    columns = ", ".join(f"group_concat({_hex_of(at)}, '')" for at in places.values())
    sql = (
        f"SELECT group_concat(step), group_concat(layout), {columns} FROM "
        f"(SELECT * FROM metrics WHERE layout IN ({wanted}) AND seq BETWEEN ? AND ? ORDER BY seq)"
    )
    for start in range(low, high + 1, _CHUNK):
        ((steps, layouts, *data),) = query(sql, (start, min(start + _CHUNK - 1, high)))
        if steps is None:
            continue
        at_step, layout = (np.fromstring(text, dtype=np.int64, sep=",") for text in (steps, layouts))
        yield {
            name: (
                _where(at_step, layout, at),
                np.frombuffer(bytes.fromhex(column), dtype="<f8").astype(np.float64, copy=False),
            )
            for (name, at), column in zip(places.items(), data, strict=True)
        }


def _where(steps: Array, layout: Array, places: Mapping[int, int]) -> Array:
    """The steps of rows whose layout has the metric."""
    has_it = np.zeros(int(layout.max()) + 1, dtype=bool)
    has_it[[number for number in places if number < len(has_it)]] = True
    return steps[has_it[layout]]


def _hex_of(places: Mapping[int, int]) -> str:
    """SQL for a metric's eight bytes in hexadecimal, empty where the row's layout lacks it."""
    layouts_at: dict[int, list[str]] = {}
    for layout, place in places.items():
        layouts_at.setdefault(place, []).append(str(layout))
    whens = (
        f"WHEN layout IN ({','.join(at)}) THEN hex(substr(data, {8 * place + 1}, 8))"
        for place, at in layouts_at.items()
    )
    return f"CASE {' '.join(whens)} ELSE '' END"


def by_step(
    steps: npt.NDArray[np.int64], values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Sorted by step, in recorded order within a step."""
    if np.any(np.diff(steps) < 0):
        order = np.argsort(steps, kind="stable")
        return steps[order], values[order]
    return steps, values
