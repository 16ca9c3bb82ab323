"""Importance -> the heads that one cycle prunes, with the reason for each, and what protections kept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from neural_plasticity.errors import ConfigError, HeadError, InputError
from neural_plasticity.heads import BoolGrid, FloatGrid, HeadId, grid_of, heads_of
from neural_plasticity.policies.strategies import Strategy, StrategyContext

PruneUnit = Literal["head", "kv_group"]
RankGrid = npt.NDArray[np.int64]  # (layers, heads)
GroupGrid = npt.NDArray[np.int64]  # (layers, heads): the key/value head that each query head reads
Group = tuple[HeadId, ...]  # active heads of one layer that go together

# One head per layer: a layer without attention is a different architecture, so it has to be asked for (0).
MIN_HEADS_PER_LAYER = 1


@dataclass(frozen=True)
class PruningChoice:
    """What one cycle prunes and why; the fields are those of ``events.HeadsPruned``.

    ``score`` (layers, heads) is the importance that heads were ordered by, lowest first (a group's mean when the unit
    is a group), NaN where inactive; ``rank`` the place in that order, −1 where inactive or protected; heads of one
    group share a rank. ``threshold`` is the highest score that was pruned. A policy that names its heads itself has
    no score, rank or threshold.
    """

    heads: tuple[HeadId, ...]
    protected: BoolGrid
    rule: str
    reasons: Mapping[str, str] = field(default_factory=dict)  # "layer.head" -> one line
    score: FloatGrid | None = None
    rank: RankGrid | None = None
    threshold: float | None = None


def decide_pruning(
    strategy: Strategy,
    context: StrategyContext,
    level: float,
    *,
    min_heads_per_layer: int = MIN_HEADS_PER_LAYER,
    unit: PruneUnit = "head",
    kv_groups: GroupGrid | None = None,
    spared: BoolGrid | None = None,
) -> PruningChoice:
    """Ask ``strategy`` and turn its answer into a choice; the one call that an experiment needs.

    ``spared``: as for ``choose_heads_to_prune``.

    Raises:
        InputError: nothing can be pruned, a score is missing, or a user's own function gave no usable answer.
    """
    answer = strategy.apply(context)
    if isinstance(answer, tuple):
        return choose_listed_heads(
            answer,
            context.mask,
            strategy.name,
            min_heads_per_layer=min_heads_per_layer,
            unit=unit,
            kv_groups=kv_groups,
            spared=spared,
        )
    return choose_heads_to_prune(
        answer,
        context.mask,
        level,
        min_heads_per_layer=min_heads_per_layer,
        unit=unit,
        kv_groups=kv_groups,
        label=strategy.name,
        highest_first=strategy.highest_first,
        spared=spared,
    )


def prune_count(active: int, level: float) -> int:
    """How many of ``active`` heads (or groups) one cycle prunes: level × active, half rounded up, at least one."""
    return max(1, math.floor(level * active + 0.5 + 1e-9))  # 1e-9: 0.15 × 10 is a hair below 1.5 for some levels


def choose_heads_to_prune(
    importance_lh: FloatGrid,
    active: BoolGrid,
    level: float,
    *,
    min_heads_per_layer: int = MIN_HEADS_PER_LAYER,
    unit: PruneUnit = "head",
    kv_groups: GroupGrid | None = None,
    label: str = "score",
    highest_first: bool = False,
    spared: BoolGrid | None = None,
) -> PruningChoice:
    """The ``level`` × active heads of least importance, ties by layer and head; protections let the next one go.

    Args:
        importance_lh: (layers, heads), the lowest goes first; read only where ``active``.
        active: (layers, heads), True where a head can still be pruned.
        level: fraction of the heads that are on (of their groups with ``unit="kv_group"``), inside (0, 1).
        min_heads_per_layer: active query heads that every layer keeps.
        unit: single heads, or all query heads that read one key/value head, ordered by the mean of their scores.
        kv_groups: (layers, heads), needed for ``unit="kv_group"``.
        label: what the score is called in the reasons.
        highest_first: the reasons show −importance, because people know the criterion with that sign.
        spared: (layers, heads), True where a head is on but not up for pruning: its layer keeps it, so that it counts
            for ``min_heads_per_layer`` and in what the level is a share of.

    Raises:
        ConfigError: ``level`` is outside (0, 1).
        HeadError: shapes differ, or the importance of an active head is NaN.
        InputError: nothing can be pruned.
    """
    check_level(level)
    _check_scores(importance_lh, active, label)
    groups = _groups(active, unit, kv_groups)
    values = [float(np.mean([importance_lh[head] for head in group])) for group in groups]
    order = sorted(range(len(groups)), key=lambda i: (values[i], groups[i][0]))
    total = len(_groups(_on(active, spared), unit, kv_groups))
    wanted = prune_count(total, level) if groups else 0
    taken, kept = _take([groups[i] for i in order], wanted, _on(active, spared), min_heads_per_layer)
    if not taken:
        raise InputError(_nothing_left(_on(active, spared), min_heads_per_layer, unit))

    scores = _Ordered(groups, values, order, active, label, highest_first, unit)
    threshold = max(values[order[place]] for place in taken)
    heads = tuple(sorted(head for place in taken for head in groups[order[place]]))
    stay = tuple(sorted(head for place in kept for head in groups[order[place]]))
    protected = grid_of(stay, _shape(active))
    reasons = {_key(head): scores.reason(place, threshold) for place in taken for head in groups[order[place]]}
    keeps = f"; kept: layer {{}} would fall under {min_heads_per_layer} active head(s)"
    for place in kept:
        for head in groups[order[place]]:
            reasons[_key(head)] = scores.reason(place, threshold) + keeps.format(head.layer)
    return PruningChoice(
        heads=heads,
        protected=protected,
        rule=_rule(label, highest_first, level, total, wanted, len(taken), len(kept), unit, min_heads_per_layer),
        reasons=reasons,
        score=scores.score_grid(),
        rank=np.where(protected, -1, scores.rank_grid()),
        threshold=threshold,
    )


def choose_listed_heads(
    listed: Sequence[HeadId],
    active: BoolGrid,
    policy: str,
    *,
    min_heads_per_layer: int = MIN_HEADS_PER_LAYER,
    unit: PruneUnit = "head",
    kv_groups: GroupGrid | None = None,
    spared: BoolGrid | None = None,
) -> PruningChoice:
    """The heads that a user's own ``policy`` named, less those that a protection keeps; an empty list prunes nothing.

    Where a layer cannot spare all that were named, those named first go.

    Raises:
        HeadError: a listed head is not active, or only part of a key/value group is listed when groups go whole.
        InputError: heads were listed and every one of them is protected.
    """
    for head in listed:
        if not active[head]:
            raise HeadError(f"--pruning_strategy {policy}: {head} is not active, so it cannot be pruned again.")
    chosen = set(listed)
    place_of = {head: place for place, head in enumerate(listed)}
    groups = [group for group in _groups(active, unit, kv_groups) if chosen.intersection(group)]
    groups.sort(key=lambda group: min(place_of.get(head, len(listed)) for head in group))
    for group in groups:
        missing = [head for head in group if head not in chosen]
        if missing:
            raise HeadError(
                f"--pruning_strategy {policy}: with --prune_unit kv_group whole groups go, and {missing[0]} reads the "
                f"same key/value head as {next(h for h in group if h in chosen)}; list both or neither."
            )
    taken, kept = _take(groups, len(groups), _on(active, spared), min_heads_per_layer)
    if groups and not taken:
        raise InputError(_nothing_left(_on(active, spared), min_heads_per_layer, unit))
    heads = tuple(sorted(head for place in taken for head in groups[place]))
    stay = tuple(sorted(head for place in kept for head in groups[place]))
    reasons = {_key(head): f"chosen by {policy}" for head in heads}
    for head in stay:
        reasons[_key(head)] = (
            f"chosen by {policy}; kept: layer {head.layer} would fall under {min_heads_per_layer} active head(s)"
        )
    rule = f"{policy} named {len(chosen)} of {int(active.sum())} active heads"
    if stay:
        rule += f"; {len(stay)} protected (at least {min_heads_per_layer} active head(s) per layer)"
    return PruningChoice(heads=heads, protected=grid_of(stay, _shape(active)), rule=rule, reasons=reasons)


def check_level(level: float) -> None:
    """ConfigError unless ``level`` lies inside (0, 1)."""
    if not 0.0 < level < 1.0:
        raise ConfigError(f"--pruning_level {level:g}: expected a fraction between 0 and 1, for example 0.2.")


def check_plan(
    levels: Sequence[float],
    active: BoolGrid,
    *,
    min_heads_per_layer: int = MIN_HEADS_PER_LAYER,
    unit: PruneUnit = "head",
    kv_groups: GroupGrid | None = None,
    spared: BoolGrid | None = None,
) -> tuple[int, ...]:
    """How many heads (groups) each cycle will prune; refuses a plan of which a cycle could find nothing to prune.

    Where groups differ in size, it is the scores that say how many can go; the plan holds whatever they say, and its
    last cycle may then prune more than is told here.

    Args:
        levels: one per cycle.
        active: (layers, heads), True where a head is active before the first cycle.
        min_heads_per_layer, unit, kv_groups, spared: as for ``choose_heads_to_prune``.

    Raises:
        ConfigError: names --cycles, --pruning_level or --min_heads_per_layer, whichever cannot be.
    """
    if min_heads_per_layer < 0:
        raise ConfigError(f"--min_heads_per_layer {min_heads_per_layer}: expected 0 or more.")
    for level in levels:
        check_level(level)
    groups = _groups(active, unit, kv_groups)
    plan: list[int] = []
    left = len(_groups(_on(active, spared), unit, kv_groups))
    capacity = _least_capacity(groups, _on(active, spared), min_heads_per_layer)
    for cycle, level in enumerate(levels):
        count = min(prune_count(left, level), capacity)
        if count < 1:
            thing = "heads" if unit == "head" else "key/value groups"
            if not cycle and min_heads_per_layer:
                raise ConfigError(
                    f"--min_heads_per_layer {min_heads_per_layer}: nothing could be pruned, since no layer can lose "
                    f"one of its {thing} and keep as many heads (the largest has "
                    f"{int(_on(active, spared).sum(axis=1).max())}); give a lower number."
                )
            most = _capacity(groups, _on(active, spared), min_heads_per_layer)
            would = "would" if sum(plan) == most else "could"
            raise ConfigError(
                f"--cycles {len(levels)}: cycle {cycle + 1} {would} find nothing to prune: of {left + sum(plan)} "
                f"{thing} {left} would be left, and at least {min_heads_per_layer} head(s) per layer stay; give fewer "
                f"cycles or a lower --pruning_level{' or --min_heads_per_layer' if min_heads_per_layer else ''}."
            )
        plan.append(count)
        left, capacity = left - count, capacity - count
    return tuple(plan)


def possible_cycles(
    levels: Sequence[float],
    active: BoolGrid,
    *,
    min_heads_per_layer: int = MIN_HEADS_PER_LAYER,
    unit: PruneUnit = "head",
    kv_groups: GroupGrid | None = None,
) -> int:
    """How many of the cycles with these ``levels`` find something to prune; arguments as for ``check_plan``."""
    groups = _groups(active, unit, kv_groups)
    left, capacity = len(groups), _capacity(groups, active, min_heads_per_layer)
    for cycle, level in enumerate(levels):
        count = min(prune_count(left, level), capacity)
        if count < 1:
            return cycle
        left, capacity = left - count, capacity - count
    return len(levels)


@dataclass(frozen=True)
class _Ordered:
    """Groups with their scores in the order in which they would go; ``order[place]`` indexes ``groups``."""

    groups: Sequence[Group]
    values: Sequence[float]
    order: Sequence[int]
    active: BoolGrid
    label: str
    highest_first: bool
    unit: PruneUnit

    def score_grid(self) -> FloatGrid:
        grid = np.full(self.active.shape, np.nan)
        for group, value in zip(self.groups, self.values, strict=True):
            for head in group:
                grid[head] = value
        return grid

    def rank_grid(self) -> RankGrid:
        grid = np.full(self.active.shape, -1, dtype=np.int64)
        for place, index in enumerate(self.order):
            for head in self.groups[index]:
                grid[head] = place
        return grid

    def reason(self, place: int, threshold: float) -> str:
        """``entropy 0.971, rank 1 of 39 (highest first), threshold 0.930``."""
        sign = -1.0 if self.highest_first else 1.0
        first = "highest" if self.highest_first else "lowest"
        value = self.values[self.order[place]]
        of_group = "" if self.unit == "head" else " (mean of its key/value group)"
        groups = "" if self.unit == "head" else " groups"
        return (
            f"{self.label} {_figure(sign * value)}{of_group}, rank {place + 1} of {len(self.groups)}{groups} "
            f"({first} first), threshold {_figure(sign * threshold)}"
        )


def _groups(active: BoolGrid, unit: PruneUnit, kv_groups: GroupGrid | None) -> list[Group]:
    """The active heads as they would go: one by one, or all that read the same key/value head."""
    if unit == "head":
        return [(head,) for head in heads_of(active)]
    if kv_groups is None or kv_groups.shape != active.shape:
        got = "none" if kv_groups is None else f"shape {kv_groups.shape}"
        raise HeadError(f"--prune_unit kv_group: expected key/value groups {active.shape}, got {got}.")
    groups: dict[tuple[int, int], list[HeadId]] = {}
    for head in heads_of(active):
        groups.setdefault((head.layer, int(kv_groups[head])), []).append(head)
    return sorted(tuple(group) for group in groups.values())


def _on(active: BoolGrid, spared: BoolGrid | None) -> BoolGrid:
    """Every head that is on, those that are not up for pruning included."""
    return active if spared is None else active | spared


def _take(ordered: Sequence[Group], wanted: int, on: BoolGrid, min_heads_per_layer: int) -> tuple[list[int], list[int]]:
    """Places in ``ordered`` that are pruned, and those that were met on the way and protected."""
    left = on.sum(axis=1)
    taken: list[int] = []
    kept: list[int] = []
    for place, group in enumerate(ordered):
        if len(taken) == wanted:
            break
        layer = group[0].layer
        if left[layer] - len(group) < min_heads_per_layer:
            kept.append(place)
        else:
            left[layer] -= len(group)
            taken.append(place)
    return taken, kept


def _capacity(groups: Sequence[Group], on: BoolGrid, min_heads_per_layer: int) -> int:
    """The largest number of groups that protections allow to go, smallest groups first."""
    taken, _ = _take(sorted(groups, key=len), len(groups), on, min_heads_per_layer)
    return len(taken)


def _least_capacity(groups: Sequence[Group], on: BoolGrid, min_heads_per_layer: int) -> int:
    """The number of groups that can go in whatever order they do: after fewer, there is one that may still go."""
    sizes: dict[int, list[int]] = {}
    for group in groups:
        sizes.setdefault(group[0].layer, []).append(len(group))
    return sum(_fewest(each, int(on[layer].sum()) - min_heads_per_layer) for layer, each in sizes.items())


def _fewest(sizes: Sequence[int], room: int) -> int:
    """The least number of groups after which no other fits: ``room`` heads may go."""
    if room < 1:
        return 0
    sizes = sorted(sizes)
    below = [0, *itertools.accumulate(sizes)]
    fewest = float(len(sizes)) if below[-1] <= room else math.inf
    larger = np.full(room + 1, math.inf)  # the fewest of the larger groups that have so many heads together
    larger[0] = 0
    for place in reversed(range(len(sizes))):
        left = room - below[place]  # where this one is the smallest that stays, and does not fit any more
        if left >= 0:
            fewest = min(fewest, place + larger[max(0, left - sizes[place] + 1) : left + 1].min())
        larger[sizes[place] :] = np.minimum(larger[sizes[place] :], larger[: -sizes[place]] + 1)
    return int(fewest)


def _check_scores(importance_lh: FloatGrid, active: BoolGrid, label: str) -> None:
    if importance_lh.shape != active.shape:
        raise HeadError(f"{label}: expected scores (layers, heads) = {active.shape}, got {importance_lh.shape}.")
    unknown = heads_of(active & np.isnan(importance_lh))
    if unknown:
        raise HeadError(f"{label}: the score of {len(unknown)} active heads is NaN (first: {unknown[0]}).")


def _nothing_left(active: BoolGrid, min_heads_per_layer: int, unit: PruneUnit) -> str:
    thing = "head" if unit == "head" else "key/value group"
    return (
        f"nothing can be pruned: {int(active.sum())} heads are active in {len(active)} layers, and every {thing} that "
        f"could go would leave its layer under --min_heads_per_layer {min_heads_per_layer}; prune less or lower it."
    )


def _rule(
    label: str,
    highest_first: bool,
    level: float,
    total: int,
    wanted: int,
    taken: int,
    kept: int,
    unit: PruneUnit,
    min_heads_per_layer: int,
) -> str:
    """One line: what was asked for, what protections changed, and what was possible."""
    thing = "active heads" if unit == "head" else "active key/value groups"
    rule = f"{'highest' if highest_first else 'lowest'} {label} first, {level:g} of {total} {thing} = {wanted}"
    if kept:
        rule += f"; {kept} protected (at least {min_heads_per_layer} active head(s) per layer)"
    if taken < wanted:
        rule += f"; only {taken} could go"
    elif kept:
        rule += ", the next in rank went instead"
    return rule


def _figure(value: float) -> str:
    return f"{value:.3f}" if 0.01 <= abs(value) < 1000 or value == 0 else f"{value:.3g}"


def _key(head: HeadId) -> str:
    return f"{head.layer}.{head.head}"


def _shape(grid: BoolGrid) -> tuple[int, int]:
    return grid.shape[0], grid.shape[1]
