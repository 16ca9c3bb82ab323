"""Thinning: whatever is left out of a curve, no extreme, no break and neither end is; checked against a slow twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_plasticity.views.thinning import LEAST, kept_points
from neural_plasticity.views.timeline import thin

numbers = st.floats(-1e6, 1e6) | st.sampled_from([0.0, math.nan, math.inf, -math.inf])
curves = st.lists(numbers, max_size=400) | st.lists(st.sampled_from([1.0, 2.0, math.nan]), max_size=400)


def slowly(values: list[float], most: int) -> list[int]:
    """As ``kept_points``, point by point."""
    most = max(most, LEAST)
    if len(values) <= most:
        return list(range(len(values)))
    odd = [place for place, value in enumerate(values) if not math.isfinite(value)]
    all_odd = len(odd) <= most // 4
    stretches = max((most - len(odd)) // 4 if all_odd else most // LEAST, 1)
    width = math.ceil(len(values) / stretches)
    kept: set[int] = set(odd) if all_odd else set()
    for start in range(0, len(values), width):
        stretch = range(start, min(start + width, len(values)))
        kept |= {stretch[0], stretch[-1]}
        finite = [place for place in stretch if math.isfinite(values[place])]
        if finite:
            kept |= {min(finite, key=lambda place: values[place]), max(finite, key=lambda place: values[place])}
        breaks = [place for place in stretch if not math.isfinite(values[place])]
        kept |= {breaks[0], breaks[-1]} if breaks else set()
    rest = [place for place in range(len(values)) if place not in kept]
    room = most - len(kept)
    return sorted(kept | ({rest[int(at)] for at in np.linspace(0, len(rest) - 1, room)} if room > 0 else set()))


@given(curves, st.integers(1, 80))
def test_the_fast_way_keeps_what_the_slow_one_does(measured: list[float], most: int) -> None:
    assert kept_points(np.array(measured), most).tolist() == slowly(measured, most)


@given(curves, st.integers(LEAST, 60))
def test_ends_extremes_and_breaks_are_kept_and_all_room_is_used(measured: list[float], most: int) -> None:
    full = np.array(measured)
    view = thin("loss", np.arange(len(full)) * 3, full, most)
    assert view.total == len(full)
    assert len(view.steps) == min(most, len(full))
    assert np.all(np.diff(view.steps) > 0)
    np.testing.assert_array_equal(view.values, full[view.steps // 3])
    finite = full[np.isfinite(full)]
    if len(full):
        assert (view.steps[0], view.steps[-1]) == (0, 3 * (len(full) - 1))
        assert np.isfinite(full).all() == np.isfinite(view.values).all()
    if finite.size:
        kept = view.values[np.isfinite(view.values)]
        assert (kept.min(), kept.max()) == (finite.min(), finite.max())


@given(st.integers(0, 999_999), st.sampled_from([50.0, -50.0, math.nan, math.inf, -math.inf]))
def test_one_spike_among_a_million_points_survives(place: int, spike: float) -> None:
    values = MILLION.copy()
    values[place] = spike
    for most in (LEAST, 400, 20_000):
        kept = kept_points(values, most)
        assert len(kept) == most
        assert place in kept


MILLION = np.random.default_rng(0).normal(size=1_000_000)


@pytest.mark.parametrize("values", [np.full(100_000, math.nan), np.zeros(100_000), np.tile([math.nan, 1.0], 50_000)])
def test_flat_and_broken_curves_fill_their_room_too(values: np.ndarray) -> None:
    kept = kept_points(values, 20_000)
    assert len(kept) == 20_000
    assert (kept[0], kept[-1]) == (0, 99_999)


def test_every_break_is_kept_while_there_is_room() -> None:
    values = MILLION.copy()
    breaks = np.random.default_rng(1).choice(len(values), 4_000, replace=False)
    values[breaks] = math.nan
    assert np.isin(breaks, kept_points(values, 20_000)).all()
