"""How returned and added heads did since: against the median head that never went, measurement by measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neural_plasticity.heads import FloatGrid, HeadId, HeadState, StateGrid


@dataclass(frozen=True)
class Standing:
    """One life of one head: at each later measurement, ``ratio`` of its importance to the median survivor's, and
    ``rank``, its place among all active heads from 0 (least) to 1 (most); ``since`` is in cycles. Arrays (moments,)."""

    layer: int
    head: int
    name: str
    origin: str
    came_step: int
    steps: npt.NDArray[np.int64]
    since: npt.NDArray[np.int64]
    ratio: npt.NDArray[np.float64]
    rank: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Typical:
    """Medians over all ``heads`` (n,) that were measured ``since`` (n,) cycles after they came."""

    since: npt.NDArray[np.int64]
    heads: npt.NDArray[np.int64]
    ratio: npt.NDArray[np.float64]
    rank: npt.NDArray[np.float64]


def typical(standings: Sequence[Standing]) -> Typical | None:
    """The last measurement of each head in each cycle since it came, medians over heads; None without any."""
    found: dict[int, list[tuple[float, float]]] = {}
    for one in standings:
        last = {int(since): place for place, since in enumerate(one.since)}
        for since, place in last.items():
            found.setdefault(since, []).append((float(one.ratio[place]), float(one.rank[place])))
    if not found:
        return None
    ordered = sorted(found)
    medians = np.array([np.median(np.array(found[since]), axis=0) for since in ordered])
    return Typical(np.array(ordered), np.array([len(found[s]) for s in ordered]), medians[:, 0], medians[:, 1])


def against_survivors(scores: FloatGrid, states: StateGrid, heads: Sequence[HeadId]) -> list[tuple[float, float]]:
    """(ratio to the median of the heads that never went, rank among the active) of each head; NaN where unknown.

    ``scores`` and ``states``: (layers, heads), of one shape.
    """
    known = ~np.isnan(scores)
    survivors = scores[(states == HeadState.ACTIVE) & known]
    field = scores[(states > HeadState.PRUNED) & known]
    median = float(np.median(survivors)) if survivors.size else np.nan
    found = []
    for head in heads:
        value = float(scores[head])
        ratio = value / median if median else np.nan
        rank = ((field < value).sum() + (field <= value).sum()) / (2 * field.size) if field.size else np.nan
        found.append((ratio, float(rank) if not np.isnan(value) else np.nan))
    return found
