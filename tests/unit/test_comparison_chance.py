"""Overlap of pruned heads against chance, and means over seeds, beside slow and obvious references."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neural_plasticity.heads import HeadState, StateGrid
from neural_plasticity.views.comparison_groups import interval
from neural_plasticity.views.comparison_overlap import common, overlap_of

SHAPE = (3, 4)


def grid(pruned: set[int], shape: tuple[int, int] = SHAPE) -> StateGrid:
    found = np.full(shape[0] * shape[1], HeadState.ACTIVE, np.int8)
    found[list(pruned)] = HeadState.PRUNED
    return found.reshape(shape)


PRUNED = st.sets(st.integers(0, 11))


@given(PRUNED, PRUNED)
@settings(max_examples=60, deadline=None)
def test_chance_anywhere_is_hypergeometric(one: set[int], other: set[int]) -> None:
    found = common(grid(one), grid(other))
    law = stats.hypergeom(12, len(one), len(other))
    assert (found.first, found.second, found.both) == (len(one), len(other), len(one & other))
    assert found.anywhere.expected == pytest.approx(len(one) * len(other) / 12, abs=1e-9)
    assert found.anywhere.p == pytest.approx(law.sf(len(one & other) - 1), abs=1e-9)
    assert law.cdf(found.anywhere.high) >= 0.975 - 1e-9
    assert law.cdf(found.anywhere.low - 1) <= 0.025 + 1e-9


@pytest.mark.parametrize(("one", "other"), [({0, 1, 5}, {1, 2, 5, 8}), ({0, 4, 8}, {0, 4, 9, 10}), ({3}, {7})])
def test_chance_within_layers_is_every_way_of_drawing_as_many_in_each_layer(one: set[int], other: set[int]) -> None:
    def ways(pruned: set[int]) -> list[set[int]]:
        layers = [[head for head in pruned if head // 4 == layer] for layer in range(3)]
        drawn = (itertools.combinations(range(4 * layer, 4 * layer + 4), len(own)) for layer, own in enumerate(layers))
        return [set(itertools.chain(*each)) for each in itertools.product(*drawn)]

    counts = [len(a & b) for a in ways(one) for b in ways(other)]
    found = common(grid(one), grid(other)).within
    assert found.expected == pytest.approx(np.mean(counts))
    assert found.p == pytest.approx(np.mean([count >= len(one & other) for count in counts]))
    assert found.high <= max(counts)


def test_agreeing_on_layers_alone_is_no_evidence() -> None:
    """Both took half of layer 0, and of it what chance would: anywhere that looks like agreement, within not."""
    shape = (12, 12)
    found = common(grid(set(range(6)), shape), grid({0, 1, 2, 6, 7, 8}, shape))
    assert found.anywhere.p < 0.01
    assert found.within.p > 0.5


def test_pairs_of_all_runs() -> None:
    grids = [grid({0, 1}), grid({1, 2}), None, grid({5}, (2, 4))]
    apart = [
        ["" if {a, b} != {0, 3} and {a, b} != {1, 3} else "their grids differ" for b in range(4)] for a in range(4)
    ]
    found = overlap_of(grids, apart)
    assert found.both.tolist() == [[2, 1, -1, -1], [1, 2, -1, -1], [-1, -1, -1, -1], [-1, -1, -1, 1]]
    assert found.jaccard[0, 1] == pytest.approx(1 / 3)
    assert found.reasons[found.why[0, 3]] == "their grids differ"
    assert "no heads on record" in found.reasons[found.why[0, 2]]
    np.testing.assert_array_equal(found.anywhere.p, found.anywhere.p.T)
    assert overlap_of([grid(set()), grid(set())], [["", ""], ["", ""]]).empty


def test_heads_that_one_of_them_has_not_are_left_out() -> None:
    wide = grid({0, 3}, (1, 4))
    narrow = np.array([[HeadState.PRUNED, HeadState.ACTIVE, HeadState.ACTIVE, HeadState.ABSENT]], np.int8)
    found = common(wide, narrow)
    assert (found.heads, found.first, found.second, found.both) == (3, 1, 1, 1)


def test_interval_over_seeds_is_students() -> None:
    values = [1.9, 2.05, 2.2, 1.97, 2.1]
    found = interval(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert interval([]) is None
    alone = interval([2.0])
    assert alone is not None
    assert (alone.value, alone.low) == (2.0, None)
    assert math.isclose(interval([3.0, 3.0]).high or 0, 3.0)  # type: ignore[union-attr]
