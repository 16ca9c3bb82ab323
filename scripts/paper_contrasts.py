"""What is held against what in the public table: ratios of two perplexities that share everything but one thing.

A ratio is taken within a base model (nothing trained) or within a seed (tuned), where text, warm-up and the order of
training text are the same, and only then averaged: what base models or seeds differ in by themselves drops out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from neural_plasticity.sweep.table import Mean, ratio_interval

Row = dict[str, Any]
Key = tuple[float, str, str]  # share or level; arm, or the order of a ranking; strategy
Values = Mapping[Key, Mapping[str, float]]  # a perplexity, or a ratio to one baseline, by base model or seed
CHANCE = "random"


def paired(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Mean:
    """Geometric mean of ours / theirs over the replicates that both have, with its 95 % t-interval."""
    return ratio_interval([ours[name] / theirs[name] for name in ours if name in theirs])


def against_chance(values: Values) -> list[Row]:
    """Every strategy against random choice of as many heads, everything else equal."""
    return _rows(values, "strategy", lambda key: (key[0], key[1], CHANCE))


def between_ways(values: Values, way: str, other: str) -> list[Row]:
    """One way of removing heads against another one, by the same strategy."""
    only = {key: held for key, held in values.items() if key[1] in (way, other)}
    return _rows(only, "way", lambda key: (key[0], other, key[2]))


def _rows(values: Values, differs: str, against: Callable[[Key], Key]) -> list[Row]:
    rows = []
    for key, held in values.items():
        other = against(key)
        if other == key or other not in values:
            continue
        mean = paired(held, values[other])
        if mean.seeds:
            share, way, strategy = key
            rows.append(
                {
                    "share": share,
                    "way": way,
                    "strategy": strategy,
                    "differs": differs,
                    "against": other[2] if differs == "strategy" else other[1],
                    "ratio": mean.mean,
                    "ratio_low": mean.low,
                    "ratio_high": mean.high,
                    "replicates": mean.seeds,
                }
            )
    return rows


def chance_markdown(rows: Iterable[Row], title: str) -> str:
    """Strategies by shares; bold where the whole interval lies on one side of 1."""
    cells = {(row["strategy"], row["way"], row["share"]): row for row in rows}
    shares = sorted({share for _, _, share in cells})
    ways = {way for _, way, _ in cells}
    names = list(dict.fromkeys((strategy, way) for strategy, way, _ in cells))
    lines = [
        f"{title}\n",
        "| strategy | " + " | ".join(f"{share:.0%}" for share in shares) + " |",
        "|---|" + "---:|" * len(shares),
    ]
    for strategy, way in names:
        values = [_cell(cells.get((strategy, way, share))) for share in shares]
        label = strategy if len(ways) == 1 else f"{strategy}, {way}"
        lines.append(f"| {label} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def ways_markdown(rows: Iterable[Row]) -> str:
    """Ways held against each other, a column per pair; bold where the whole interval lies on one side of 1."""
    cells = {(row["share"], row["strategy"], row["way"], row["against"]): row for row in rows}
    pairs = list(dict.fromkeys((way, other) for _, _, way, other in cells))
    lines = [
        "Test perplexity of one way / of the other, paired by seed: geometric mean, 95 % t-interval.\n",
        "| asked | strategy | " + " | ".join(f"{way} / {other}" for way, other in pairs) + " |",
        "|---:|---|" + "---:|" * len(pairs),
    ]
    for share, strategy in dict.fromkeys((share, strategy) for share, strategy, _, _ in cells):
        values = [_cell(cells.get((share, strategy, *pair))) for pair in pairs]
        lines.append(f"| {share:.0%} | {strategy} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if math.isnan(row["ratio_low"]):
        return f"{row['ratio']:.3f}"
    text = f"{row['ratio']:.3f} ({row['ratio_low']:.3f}–{row['ratio_high']:.3f})"
    return f"**{text}**" if row["ratio_low"] > 1 or row["ratio_high"] < 1 else text
