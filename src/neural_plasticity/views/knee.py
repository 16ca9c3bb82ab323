"""The knee of a curve of cost over sparsity: up to it heads go cheaply, from there on they cost more and more."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

FEWEST = 4  # points; three always have a corner
LEAST = 0.1  # of the way from the first cost to the last: what a chord may miss a straight curve by

Values = Sequence[float] | npt.NDArray[np.float64]


def knee(sparsity: Values, cost: Values, noise: float | Values = 0.0) -> int | None:
    """The place of the knee among the points, None where there is none.

    It is where the curve lies furthest below the straight line from its first to its last point, after it was made to
    rise (a dip of the cost on the way is noise): Kneedle's offline rule for a convex, increasing curve (Satopää et al.
    2011, ICDCS Workshops, 166–171). There is none with fewer than four points, where the cost does not rise, and where
    the curve is off the line by no more than a tenth of its height, or by no more than its ``noise``: half the width
    of each point's 95 % interval, NaN where it has none, which may then hide any bend. The point's own and the line's
    share of its end's count, and the more so the more points there are to pick the furthest from.
    """
    x, y = np.asarray(sparsity, dtype=np.float64), np.asarray(cost, dtype=np.float64)
    spread = np.broadcast_to(np.asarray(noise, dtype=np.float64), x.shape)
    places = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    places = places[np.argsort(x[places], kind="stable")]
    if len(places) < FEWEST:
        return None
    x, y, spread = x[places], np.minimum.accumulate(y[places][::-1])[::-1], spread[places]
    if not x[-1] > x[0] or not y[-1] > y[0]:
        return None
    along = (x - x[0]) / (x[-1] - x[0])
    below = y[0] + (y[-1] - y[0]) * along - y
    ends = np.hypot((1 - along) * spread[0], along * spread[-1])
    needed = np.maximum(LEAST * (y[-1] - y[0]), _widened(len(x) - 2) * np.hypot(spread, ends))
    found = int(np.argmax(below))
    return int(places[found]) if below[found] > needed[found] else None  # NaN is not


def _widened(picked_from: int) -> float:
    """By what a 95 % interval widens when the furthest of so many points is looked at (Bonferroni)."""
    normal = NormalDist()
    return normal.inv_cdf(1 - 0.025 / picked_from) / normal.inv_cdf(0.975)
