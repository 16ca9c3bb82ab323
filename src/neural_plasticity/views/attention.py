"""Attention patterns of the probe prompts: the same heads in the baseline and the pruned model, and their drift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import AttentionMaps
from neural_plasticity.heads import HeadId
from neural_plasticity.record import Run
from neural_plasticity.views import figures

Pattern = npt.NDArray[np.float64]  # (T, T): from each position (rows) to each position (columns), rows sum to 1


@dataclass(frozen=True)
class HeadPatterns:
    """One head: its pattern per model (None: pruned, or not recorded) and its drift from first to last model."""

    head: HeadId
    patterns: tuple[Pattern | None, ...]
    drift: float | None


@dataclass(frozen=True)
class Attention:
    """Heads by models for one prompt; ``drift`` is the mean Jensen-Shannon divergence of the rows, in bits (0 to 1)."""

    prompt: str
    tokens: tuple[str, ...]
    models: tuple[str, ...]
    heads: tuple[HeadPatterns, ...]
    left_out: int = 0
    empty: str | None = None


def attention(run: Run, most: int = 8) -> Attention:
    """The last maps of the first and the last model for the first prompt that both have; ``most`` heads.

    Shown are the heads that changed most, then pruned ones; without a second model the first heads.
    """
    last: dict[str, dict[str, AttentionMaps]] = {}
    for event in run.attention():
        if event.maps.ndim == 4 and event.maps.size:
            last.setdefault(event.prompt, {})[event.model] = event
    if not last:
        return Attention("", (), (), (), 0, "No attention maps were recorded.")
    prompt, maps = max(last.items(), key=lambda one: len(one[1]))
    models = sorted(maps, key=lambda name: (name != "baseline", name != "current", name != "pruned", name))[:3]
    shape = tuple(min(maps[name].maps.shape[axis] for name in models) for axis in range(4))
    side = min(shape[2:])
    grids = [np.asarray(maps[name].maps[: shape[0], : shape[1], :side, :side], np.float64) for name in models]
    known = [np.asarray(np.isfinite(grid).any(axis=(2, 3))) for grid in grids]
    drift = _drift(grids[0], grids[-1]) if len(grids) > 1 else np.full(shape[:2], np.nan)
    chosen = _chosen(drift, known[0], most)
    heads = tuple(
        HeadPatterns(
            head,
            tuple(grid[head] if there[head].any() else None for grid, there in zip(grids, known, strict=True)),
            None if np.isnan(drift[head]) else float(drift[head]),
        )
        for head in chosen
    )
    tokens = tuple(figures.shorten(figures.clean(token), 12) for token in maps[models[0]].tokens[:side])
    return Attention(figures.clean(prompt), tokens, tuple(models), heads, int(drift.size) - len(chosen))


def _chosen(drift: Pattern, known: npt.NDArray[np.bool_], most: int) -> list[HeadId]:
    """Heads that changed most, and a quarter for heads that are gone in the last model; what is left is filled up."""
    heads = [HeadId(int(layer), int(head)) for layer, head in np.ndindex(*drift.shape)]
    changed = sorted((one for one in heads if not np.isnan(drift[one])), key=lambda one: -float(drift[one]))
    gone = [one for one in heads if np.isnan(drift[one]) and known[one]]
    rest = [one for one in heads if np.isnan(drift[one]) and not known[one]]
    kept = changed[: most - min(len(gone), most // 4)] if changed else []
    return sorted([*kept, *gone, *rest][:most])


def _drift(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(layers, heads) mean over rows of the Jensen-Shannon divergence in bits; NaN where either is unknown."""
    middle = (before + after) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        halves = [np.where(one > 0, one * np.log2(one / middle), 0.0 * middle).sum(-1) for one in (before, after)]
    return (halves[0] + halves[1]).mean(-1) / 2
