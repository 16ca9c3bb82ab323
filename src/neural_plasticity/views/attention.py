"""Attention patterns of the probe prompts: the same heads in the baseline and the pruned model, and their drift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import AttentionMaps
from neural_plasticity.heads import HeadId
from neural_plasticity.record import Run
from neural_plasticity.views import figures

_TOGETHER = 16_384  # values

Pattern = npt.NDArray[np.float64]  # (T, T): from each position (rows) to each position (columns), rows sum to 1


@dataclass(frozen=True)
class HeadPatterns:
    """One head: its pattern per model and its drift from first to last model.

    A pattern is None where the head was pruned, or where ``recorded`` is False: nobody looked at it.
    """

    head: HeadId
    patterns: tuple[Pattern | None, ...]
    drift: float | None
    recorded: tuple[bool, ...]


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

    The control, which loses no head, is left out beside others.
    Shown are the heads that changed most, then pruned ones; without a second model the first heads.
    """
    last: dict[str, dict[str, list[AttentionMaps]]] = {}
    for event in run.attention():
        if event.maps.ndim == (4 if event.all_heads else 3) and event.maps.size:
            of_model = last.setdefault(event.prompt, {}).setdefault(event.model, [])
            # All heads at once replace what was seen before; single ones are added to it.
            of_model[:] = [event] if event.all_heads else [*of_model, event]
    if not last:
        return Attention("", (), (), (), 0, "No attention maps were recorded.")
    for of_prompt in last.values():
        if len(of_prompt) > 1:
            of_prompt.pop("control", None)
    prompt, maps = max(last.items(), key=lambda one: len(one[1]))
    models = sorted(maps, key=lambda name: (name != "baseline", name != "current", name != "pruned", name))[:3]
    looked = {name: [head for event in maps[name] for head in looked_at(event)] for name in models}
    every = [head for heads in looked.values() for head in heads]
    layers, heads_each = (1 + max(head[axis] for head in every) for axis in range(2))
    side = min(min(event.maps.shape[-2:]) for name in models for event in maps[name])
    grids = [np.full((layers, heads_each, side, side), np.nan) for _ in models]
    recorded = [np.zeros((layers, heads_each), bool) for _ in models]
    for name, grid, there in zip(models, grids, recorded, strict=True):
        for event in maps[name]:
            for head in looked_at(event):
                pattern = event.pattern(*head)
                grid[head] = np.nan if pattern is None else pattern[:side, :side]
                there[head] = True
    known = [np.asarray(np.isfinite(grid).any(axis=(2, 3))) for grid in grids]
    drift = _drift(grids[0], grids[-1]) if len(grids) > 1 else np.full((layers, heads_each), np.nan)
    chosen = _chosen(drift, known[0], most, sorted(set(every)))
    heads = tuple(
        HeadPatterns(
            head,
            tuple(grid[head] if there[head].any() else None for grid, there in zip(grids, known, strict=True)),
            None if np.isnan(drift[head]) else float(drift[head]),
            tuple(bool(there[head]) for there in recorded),
        )
        for head in chosen
    )
    left_out = max(int(np.any(known, axis=0).sum()) - len(chosen), 0)  # those with a pattern
    tokens = tuple(figures.shorten(figures.clean(token), 12) for token in maps[models[0]][-1].tokens[:side])
    return Attention(figures.clean(prompt), tokens, tuple(models), heads, left_out)


def looked_at(event: AttentionMaps) -> list[HeadId]:
    """The heads whose patterns an event holds, pruned ones included."""
    if not event.all_heads:
        return [HeadId(*head) for head in event.heads[: len(event.maps)]]
    return [HeadId(int(layer), int(head)) for layer, head in np.ndindex(*event.maps.shape[:2])]


def _chosen(drift: Pattern, known: npt.NDArray[np.bool_], most: int, heads: Sequence[HeadId]) -> list[HeadId]:
    """Heads that changed most, and a quarter for heads that are gone in the last model; what is left is filled up."""
    changed = sorted((one for one in heads if not np.isnan(drift[one])), key=lambda one: -float(drift[one]))
    gone = [one for one in heads if np.isnan(drift[one]) and known[one]]
    rest = [one for one in heads if np.isnan(drift[one]) and not known[one]]
    kept = changed[: most - min(len(gone), most // 4)] if changed else []
    return sorted([*kept, *gone, *rest][:most])


def _drift(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(layers, heads) mean over rows of the Jensen-Shannon divergence in bits; NaN where either is unknown."""
    return row_divergence(before, after)


def row_divergence(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Jensen-Shannon divergence of the rows of (…, T, T) in bits, mean over the rows; NaN where either is unknown.

    A few heads at a time, which the processor's cache holds: with thousands of heads a third of the time.
    """
    rows = before.shape[-2:]
    a, b = before.reshape(-1, *rows), after.reshape(-1, *rows)
    found = np.empty(len(a))
    for start in range(0, len(a), each := max(_TOGETHER // max(math.prod(rows), 1), 1)):
        some = slice(start, start + each)
        middle = (a[some] + b[some]) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            halves = [
                np.where(one > 0, one * np.log2(one / middle), 0.0 * middle).sum(-1) for one in (a[some], b[some])
            ]
        found[some] = (halves[0] + halves[1]).mean(-1) / 2
    return found.reshape(before.shape[:-2])
