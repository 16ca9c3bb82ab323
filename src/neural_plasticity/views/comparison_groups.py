"""Runs that differ in the seed alone, as one row: means and intervals over seeds.

Perplexities are averaged as losses (their logarithms), ratios likewise; the interval is Student's t over the seeds'
means, 95 %, one degree of freedom less than there are seeds. One seed has no interval: nothing is known of the spread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from neural_plasticity.views.comparison_run import TEST, RunLine
from neural_plasticity.views.comparison_settings import ENVIRONMENT, SEED, SettingsView
from neural_plasticity.views.cycles import Measured

METHOD = (
    "Means over seeds, perplexities averaged as losses; 95 % intervals by Student's t over the seeds' means. "
    "Runs with the same seed count once."
)
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Group:
    """``runs`` by number that are equal but for the seed; ``counted``: seeds with a result, on ``split`` text."""

    values: tuple[str, ...]  # of the settings that tell groups apart
    runs: tuple[int, ...]
    seeds: tuple[str, ...]
    counted: int
    split: str
    sparsity: Measured | None
    perplexity: Measured | None
    to_baseline: Measured | None
    to_control: Measured | None
    prefill_speedup: Measured | None
    size_reduction: Measured | None
    kind: int = 0


@dataclass(frozen=True)
class Groups:
    """All groups; ``settings`` names what tells them apart, ``repeated``: some group has more than one run."""

    settings: tuple[str, ...]
    rows: tuple[Group, ...]
    repeated: bool
    method: str = METHOD


def groups_of(lines: Sequence[RunLine], settings: SettingsView) -> Groups:
    """The groups of runs whose ``group`` has been set, in the order in which they first come."""
    members: dict[int, list[int]] = {}
    for place, line in enumerate(lines):
        members.setdefault(line.group, []).append(place)
    apart = [one for one in settings.differ if one.section != ENVIRONMENT and one.name != SEED]
    rows = tuple(_group(lines, runs, tuple(one.values[runs[0]] for one in apart)) for runs in members.values())
    return Groups(tuple(one.name for one in apart), rows, any(len(runs) > 1 for runs in members.values()))


def _group(lines: Sequence[RunLine], runs: Sequence[int], values: tuple[str, ...]) -> Group:
    own = [lines[place] for place in runs]
    splits = {line.outcome.split for line in own if line.outcome is not None}
    split = TEST if TEST in splits else next(iter(splits), "")
    counted = [line for line in own if line.outcome is not None and line.outcome.split == split]

    def over(value: Callable[[RunLine], float | None], log: bool = False) -> Measured | None:
        by_seed: dict[str, list[float]] = {}
        for place, line in enumerate(counted):
            found = value(line)
            if found is not None and math.isfinite(found) and (found > 0 or not log):
                # A run that told no seed stands for itself.
                by_seed.setdefault(line.seed or f"run {place}", []).append(math.log(found) if log else found)
        mean = interval([float(np.mean(each)) for each in by_seed.values()])
        return mean if mean is None or not log else _exp(mean)

    def value_of(measured: Measured | None) -> float | None:
        return None if measured is None else measured.value

    return Group(
        values=values,
        runs=tuple(runs),
        seeds=tuple(line.seed for line in own),
        counted=len({line.seed or f"run {place}" for place, line in enumerate(counted)}),
        split=split,
        sparsity=over(lambda line: line.outcome.sparsity if line.outcome else None),
        perplexity=over(lambda line: value_of(line.outcome.perplexity) if line.outcome else None, log=True),
        to_baseline=over(lambda line: value_of(line.outcome.to_baseline) if line.outcome else None, log=True),
        to_control=over(lambda line: value_of(line.outcome.to_control) if line.outcome else None, log=True),
        prefill_speedup=over(lambda line: line.prefill_speedup, log=True),
        size_reduction=over(lambda line: line.size_reduction),
        kind=own[0].kind,
    )


def interval(values: Sequence[float]) -> Measured | None:
    """Mean and 95 % t interval of independent values; of one value without an interval, of none nothing."""
    if not values:
        return None
    mean = float(np.mean(values))
    if len(values) < 2:
        return Measured(mean)
    from scipy.special import stdtrit  # takes a moment, which only repeated runs are worth

    half = float(stdtrit(len(values) - 1, 0.5 + _CONFIDENCE / 2) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return Measured(mean, mean - half, mean + half)


def _exp(measured: Measured) -> Measured:
    ends = (None if end is None else math.exp(min(end, 700.0)) for end in (measured.low, measured.high))
    return Measured(math.exp(min(measured.value, 700.0)), *ends)
