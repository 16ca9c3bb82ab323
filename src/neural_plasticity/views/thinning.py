"""Which points of a long curve are kept so that no extreme is lost: vectorised, a million points in milliseconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

LEAST = 6  # points: of one stretch its first, last, lowest and highest, and two that are not finite

Indices = npt.NDArray[np.int64]


def kept_points(values: npt.NDArray[np.float64], most: int) -> Indices:
    """Indices of ``most`` points, in order (all of them, when there are no more than that).

    The curve is cut into even stretches; of each its first, last, lowest and highest finite point is kept. Every NaN
    and infinity is kept where these fill at most a quarter of the room, otherwise the first and last of each stretch.
    What room is then left is filled evenly. ``most`` below `LEAST` is taken as that.
    """
    total, most = len(values), max(most, LEAST)
    if total <= most:
        return np.arange(total)
    finite = np.isfinite(values)
    odd = np.flatnonzero(~finite)
    keeps_all = len(odd) <= most // 4
    stretches = max((most - len(odd)) // 4 if keeps_all else most // LEAST, 1)
    kept = np.zeros(total, dtype=bool)
    width = -(-total // stretches)
    starts = np.arange(0, total, width)
    ends = np.minimum(starts + width, total) - 1
    kept[starts] = kept[ends] = True
    kept[_extreme(values, finite, starts, width, np.inf, np.argmin)] = True
    kept[_extreme(values, finite, starts, width, -np.inf, np.argmax)] = True
    if keeps_all:
        kept[odd] = True
    else:
        of = odd // width
        kept[odd[np.flatnonzero(np.diff(of, prepend=-1))]] = True
        kept[odd[np.flatnonzero(np.diff(of, append=of[-1] + 1))]] = True
    room = most - int(np.count_nonzero(kept))
    if room > 0:
        left = np.flatnonzero(~kept)
        kept[left[np.linspace(0, len(left) - 1, room).astype(np.int64)]] = True
    return np.flatnonzero(kept)


def _extreme(
    values: npt.NDArray[np.float64],
    finite: npt.NDArray[np.bool_],
    starts: Indices,
    width: int,
    worst: float,
    find: Callable[..., Indices],
) -> Indices:
    """Index of the extreme finite value of each stretch that has one."""
    padded = np.full(len(starts) * width, worst)
    padded[: len(values)][finite] = values[finite]
    table = padded.reshape(len(starts), width)
    found = starts + find(table, axis=1)
    some = np.abs(table[np.arange(len(starts)), found - starts]) < np.inf
    return found[some]
