"""Which heads a cycle prunes: the count law, protections, groups, order, and the plan that is checked beforehand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_plasticity.errors import ConfigError, HeadError, InputError
from neural_plasticity.heads import HeadId, grid_of
from neural_plasticity.policies.selection import (
    check_plan,
    choose_heads_to_prune,
    choose_listed_heads,
    prune_count,
)

law = settings(max_examples=150, deadline=None)


@st.composite
def situations(draw: st.DrawFn):
    """Random grids with some heads gone, few distinct scores (so that ties are common), a level and a minimum."""
    layers, heads = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    cells = layers * heads
    importance = np.array(draw(st.lists(st.integers(0, 6), min_size=cells, max_size=cells)), dtype=float)
    active = np.array(draw(st.lists(st.booleans(), min_size=cells, max_size=cells)), dtype=bool)
    importance[~active] = np.nan
    level = draw(st.floats(0.01, 0.99))
    minimum = draw(st.integers(0, 3))
    group_size = draw(st.integers(1, heads))
    kv_groups = np.tile(np.arange(heads) // group_size, (layers, 1))
    shape = (layers, heads)
    return importance.reshape(shape), active.reshape(shape), level, minimum, kv_groups


def slow_reference(importance, active, level, minimum, groups, spared=False):
    """The rule as one would explain it: again and again, take the least important group whose layer can spare it."""
    members = {}
    for layer, head in np.argwhere(active).tolist():
        members.setdefault((layer, groups[layer][head]), []).append((layer, head))
    remaining = sorted(members.values(), key=lambda g: (sum(importance[h] for h in g) / len(g), g[0]))
    mask, gone = active | spared, []
    on = {(layer, groups[layer][head]) for layer, head in np.argwhere(mask).tolist()}
    wanted = max(1, math.floor(level * len(on) + 0.5))
    while len(gone) < wanted:
        spare = [g for g in remaining if mask[g[0][0]].sum() - len(g) >= minimum]
        if not spare:
            break
        for head in spare[0]:
            mask[head] = False
        gone.append(spare[0])
        remaining.remove(spare[0])
    return sorted(head for group in gone for head in group)


@law
@given(situations(), st.sampled_from(["head", "kv_group"]))
def test_choice_is_what_the_slow_reference_takes_and_keeps_every_law(situation, unit):
    importance, active, level, minimum, kv_groups = situation
    single = np.tile(np.arange(active.shape[1]), (len(active), 1))
    groups = single if unit == "head" else kv_groups
    expected = slow_reference(importance, active, level, minimum, groups)
    if not expected:
        with pytest.raises(InputError, match="nothing can be pruned"):
            choose_heads_to_prune(
                importance, active, level, min_heads_per_layer=minimum, unit=unit, kv_groups=kv_groups
            )
        return
    choice = choose_heads_to_prune(
        importance, active, level, min_heads_per_layer=minimum, unit=unit, kv_groups=kv_groups
    )
    assert list(choice.heads) == expected
    pruned = grid_of(choice.heads, active.shape)
    assert not (pruned & ~active).any()
    before, after = active.sum(1), (active & ~pruned).sum(1)
    assert (after >= np.minimum(before, minimum)).all()
    for layer, head in choice.heads:  # whole groups only
        assert pruned[layer][active[layer] & (groups[layer] == groups[layer][head])].all()
    # The order explains the choice: whatever was not pruned, although it ranks before something pruned, is protected.
    last = choice.rank[pruned].max()
    earlier = active & ~pruned & (choice.score < choice.threshold)
    assert (choice.protected[earlier]).all()
    assert (choice.rank[active & ~pruned & ~choice.protected] > last).all()
    assert (choice.rank[~active | choice.protected] == -1).all()
    assert (choice.score[pruned] <= choice.threshold).all()
    ranked = active & ~choice.protected
    assert (np.argsort(choice.score[ranked], kind="stable") == np.argsort(choice.rank[ranked], kind="stable")).all()
    assert set(choice.reasons) == {f"{h}.{k}" for h, k in np.argwhere(pruned | choice.protected)}
    assert all("\n" not in line for line in (*choice.reasons.values(), choice.rule))


@law
@given(situations(), st.integers(0, 2**32 - 1))
def test_heads_that_are_spared_never_go_and_count_for_their_layer(situation, seed):
    importance, on, level, minimum, groups = situation
    spared = on & (np.random.default_rng(seed).random(on.shape) < 0.3)
    single = np.tile(np.arange(on.shape[1]), (len(on), 1))
    rest = on & ~spared
    expected = slow_reference(importance, rest, level, minimum, single, spared)
    possible = check_possible(rest, level, minimum, groups, spared)
    assert possible == bool(expected)
    if not expected:
        with pytest.raises(InputError, match="nothing can be pruned"):
            choose_heads_to_prune(importance, rest, level, min_heads_per_layer=minimum, spared=spared)
        return
    choice = choose_heads_to_prune(importance, rest, level, min_heads_per_layer=minimum, spared=spared)
    assert list(choice.heads) == expected
    assert not (grid_of(choice.heads, on.shape) & spared).any()


def check_possible(rest, level, minimum, groups, spared):
    try:
        check_plan((level,), rest, min_heads_per_layer=minimum, kv_groups=groups, spared=spared)
    except ConfigError:
        return False
    return True


def test_a_layer_may_lose_the_others_when_one_is_spared():
    on, spared = np.array([[True, False], [True, True]]), np.array([[False, True], [False, False]])
    importance = np.array([[0.1, np.nan], [0.3, 0.4]])
    choice = choose_heads_to_prune(importance, on, 0.5, spared=spared)
    assert choice.heads == (HeadId(0, 0), HeadId(1, 0))
    assert "0.5 of 4 active heads = 2" in choice.rule
    assert choose_heads_to_prune(importance, on, 0.5).heads == (HeadId(1, 0),)


@law
@given(st.integers(1, 400), st.floats(0.001, 0.999))
def test_count_is_level_times_active_rounded_and_at_least_one(active, level):
    count = prune_count(active, level)
    assert count >= 1
    assert count == 1 or abs(count - level * active) <= 0.5 + 1e-6


@pytest.mark.parametrize(("active", "level", "count"), [(48, 0.2, 10), (10, 0.25, 3), (10, 0.35, 4), (3, 0.1, 1)])
def test_halves_round_up(active, level, count):
    assert prune_count(active, level) == count


def test_reason_names_measured_value_rank_and_threshold():
    entropy = np.array([[0.9711, 0.5, 0.93], [0.2, 0.3, 0.4]])
    choice = choose_heads_to_prune(-entropy, np.ones((2, 3), bool), 0.34, label="entropy", highest_first=True)
    assert choice.reasons == {
        "0.0": "entropy 0.971, rank 1 of 6 (highest first), threshold 0.930",
        "0.2": "entropy 0.930, rank 2 of 6 (highest first), threshold 0.930",
    }
    assert choice.rule == "highest entropy first, 0.34 of 6 active heads = 2"
    assert choice.threshold == -0.93


def test_protected_head_is_recorded_and_the_next_in_rank_goes():
    importance = np.array([[0.1, 0.2], [0.3, 0.4]])
    choice = choose_heads_to_prune(importance, np.ones((2, 2), bool), 0.5)
    assert choice.heads == (HeadId(0, 0), HeadId(1, 0))
    assert choice.protected.tolist() == [[False, True], [False, False]]
    assert "kept: layer 0 would fall under 1 active head" in choice.reasons["0.1"]
    assert "rank 2 of 4" in choice.reasons["0.1"]
    assert "1 protected" in choice.rule
    assert "next in rank went instead" in choice.rule


def test_what_is_possible_is_pruned_and_said():
    choice = choose_heads_to_prune(np.arange(6.0).reshape(2, 3), np.ones((2, 3), bool), 0.9, min_heads_per_layer=2)
    assert len(choice.heads) == 2
    assert "= 5" in choice.rule
    assert "only 2 could go" in choice.rule


def test_group_goes_by_the_mean_of_its_active_heads():
    importance = np.array([[0.0, 1.0, 0.3, 0.4]])
    active = np.array([[True, True, True, True]])
    kv = np.array([[0, 0, 1, 1]])
    choice = choose_heads_to_prune(importance, active, 0.5, unit="kv_group", kv_groups=kv)
    assert choice.heads == (HeadId(0, 2), HeadId(0, 3))
    assert "mean of its key/value group" in choice.reasons["0.2"]
    active[0, 1] = False  # the expensive head of the first group is gone already: now that group is the cheaper
    importance[0, 1] = np.nan
    choice = choose_heads_to_prune(importance, active, 0.5, unit="kv_group", kv_groups=kv)
    assert choice.heads == (HeadId(0, 0),)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_level_outside_the_open_interval_is_refused(level):
    with pytest.raises(ConfigError, match=r"^--pruning_level"):
        choose_heads_to_prune(np.zeros((1, 2)), np.ones((1, 2), bool), level)


def test_unusable_scores_are_refused():
    active = np.ones((2, 2), bool)
    with pytest.raises(HeadError, match=r"gradient: the score of 1 active heads is NaN \(first: L0H1\)"):
        choose_heads_to_prune(np.array([[0, math.nan], [1, 1]]), active, 0.5, label="gradient")
    with pytest.raises(HeadError, match=r"expected scores \(layers, heads\) = \(2, 2\), got \(2, 3\)"):
        choose_heads_to_prune(np.zeros((2, 3)), active, 0.5)
    with pytest.raises(HeadError, match=r"^--prune_unit kv_group"):
        choose_heads_to_prune(np.zeros((2, 2)), active, 0.5, unit="kv_group")


def test_listed_heads_are_taken_as_given_except_the_protected():
    active = np.ones((2, 2), bool)
    choice = choose_listed_heads([HeadId(0, 1), HeadId(0, 0), HeadId(1, 1)], active, "mine:all")
    assert choice.heads == (HeadId(0, 1), HeadId(1, 1))
    assert choice.protected[0, 0]
    assert choice.reasons["1.1"] == "chosen by mine:all"
    assert choice.rule.startswith("mine:all named 3 of 4 active heads; 1 protected")
    assert choose_listed_heads([], active, "mine:none").heads == ()
    active[1, 1] = False
    with pytest.raises(HeadError, match="L1H1 is not active"):
        choose_listed_heads([HeadId(1, 1)], active, "mine:again")
    with pytest.raises(HeadError, match="list both or neither"):
        choose_listed_heads([HeadId(0, 0)], active, "mine:half", unit="kv_group", kv_groups=np.zeros((2, 2), int))
    with pytest.raises(InputError, match="nothing can be pruned"):
        choose_listed_heads([HeadId(1, 0)], active, "mine:last")


@law
@given(situations(), st.lists(st.floats(0.05, 0.95), min_size=1, max_size=6), st.sampled_from(["head", "kv_group"]))
def test_plan_counts_what_the_cycles_then_prune(situation, levels, unit):
    importance, active, _, minimum, kv_groups = situation
    kwargs = {"min_heads_per_layer": minimum, "unit": unit, "kv_groups": kv_groups}
    try:
        plan = check_plan(levels, active, **kwargs)
    except ConfigError:
        plan = None
    pruned = []
    for level in levels:
        try:
            choice = choose_heads_to_prune(importance, active, level, **kwargs)
        except InputError:
            break
        groups = {(layer, kv_groups[layer, head] if unit == "kv_group" else head) for layer, head in choice.heads}
        pruned.append(len(groups))
        active = active & ~grid_of(choice.heads, active.shape)
    if plan is not None:  # of unequal groups (heads pruned one by one before) the last cycle may find more
        assert pruned[:-1] == list(plan[:-1])
        assert pruned[-1] >= plan[-1]
        assert len(pruned) == len(levels)
    if unit == "head":
        assert plan == (tuple(pruned) if len(pruned) == len(levels) else None)


def test_a_plan_holds_whichever_of_unequal_groups_go_first():
    active, groups = np.ones((1, 5), bool), np.array([[0, 1, 2, 2, 2]])
    kwargs = {"min_heads_per_layer": 2, "unit": "kv_group", "kv_groups": groups}
    importance = np.array([[1.0, 1.0, 0.0, 0.0, 0.0]])
    left = active & ~grid_of(choose_heads_to_prune(importance, active, 0.3, **kwargs).heads, active.shape)
    with pytest.raises(InputError, match="nothing can be pruned"):  # the large one was first: what is left has to stay
        choose_heads_to_prune(importance, left, 0.3, **kwargs)
    with pytest.raises(ConfigError, match=r"^--cycles 2: cycle 2 could find nothing to prune"):
        check_plan([0.3, 0.3], active, **kwargs)
    assert check_plan([0.3, 0.3], active, **{**kwargs, "min_heads_per_layer": 1}) == (1, 1)


@law
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 4))
def test_the_least_that_unequal_groups_allow_is_found(sizes, minimum):
    """Against every order in which the groups of one layer could go."""
    groups = np.repeat(np.arange(len(sizes)), sizes)[None]
    active, least = np.ones(groups.shape, bool), len(sizes)
    for order in itertools.permutations(sizes):
        left, gone = sum(sizes), 0
        for size in order:
            if left - size >= minimum:
                left, gone = left - size, gone + 1
        least = min(least, gone)
    kwargs = {"min_heads_per_layer": minimum, "unit": "kv_group", "kv_groups": groups}
    for cycles in range(1, len(sizes) + 2):
        if cycles <= least:
            assert check_plan([0.01] * cycles, active, **kwargs) == (1,) * cycles
        else:
            with pytest.raises(ConfigError, match=f"cycle {least + 1} " if least else "nothing"):
                check_plan([0.01] * cycles, active, **kwargs)


def test_plan_with_more_cycles_than_heads_allow_is_refused_by_name():
    active = np.ones((6, 8), bool)
    assert check_plan([0.5] * 3, active) == (24, 12, 6)
    with pytest.raises(ConfigError, match=r"^--cycles 4: cycle 4 would find nothing to prune: of 48 heads 6 would"):
        check_plan([0.5] * 4, active)
    with pytest.raises(ConfigError, match=r"a lower --pruning_level or --min_heads_per_layer\.$"):
        check_plan([0.5] * 4, active)
    with pytest.raises(ConfigError, match=r"^--min_heads_per_layer 8: nothing could be .* \(the largest has 8\)"):
        check_plan([0.5], active, min_heads_per_layer=8)
    with pytest.raises(ConfigError, match=r"^--min_heads_per_layer -1"):
        check_plan([0.5], active, min_heads_per_layer=-1)
    with pytest.raises(ConfigError, match=r"^--pruning_level 1"):
        check_plan([0.5, 1.0], active)
