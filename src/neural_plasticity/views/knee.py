"""The knee of a curve of cost over sparsity: up to it heads go cheaply, from there on they cost more and more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FEWEST = 4  # points; three always have a corner
LEAST = 0.1  # of the way from the first cost to the last: what a chord may miss a straight curve by


def knee(
    sparsity: Sequence[float] | npt.NDArray[np.float64],
    cost: Sequence[float] | npt.NDArray[np.float64],
    noise: float = 0.0,
) -> int | None:
    """The place of the knee among the points, None where there is none.

    It is where the curve lies furthest below the straight line from its first to its last point, after it was made to
    rise (a dip of the cost on the way is noise): Kneedle's offline rule for a convex, increasing curve (Satopää et al.
    2011, ICDCS Workshops, 166–171). There is none with fewer than four points, where the cost does not rise, and where
    the curve is off the line by no more than a tenth of its height, or by no more than ``noise``.
    """
    x, y = np.asarray(sparsity, dtype=np.float64), np.asarray(cost, dtype=np.float64)
    places = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    places = places[np.argsort(x[places], kind="stable")]
    if len(places) < FEWEST:
        return None
    x, y = x[places], np.minimum.accumulate(y[places][::-1])[::-1]
    if not x[-1] > x[0] or not y[-1] > y[0]:
        return None
    chord = y[0] + (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0])
    below = chord - y
    found = int(np.argmax(below))
    return int(places[found]) if below[found] > max(LEAST * (y[-1] - y[0]), noise) else None
