"""Stable means flat within a tolerance: how often that is said of falling and of flat noisy curves, by simulation."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
from scipy import stats

from neural_plasticity.events import Stabilised
from neural_plasticity.policies.stabilisation import Stability, slope_interval, stabilisation

STEPS = np.arange(400)


def noisy(level, spread, memory, rng):
    """``level`` (steps,) with relative noise of standard deviation ``spread`` and lag-1 autocorrelation ``memory``."""
    noise = np.empty(len(level))
    noise[0] = rng.normal()
    for i in range(1, len(level)):
        noise[i] = memory * noise[i - 1] + rng.normal() * math.sqrt(1 - memory**2)
    return level * (1 + spread * noise)


def first_stable_step(losses, every=2):
    for step in range(40, len(losses) + 1, every):
        if stabilisation(losses[:step]) is not None:
            return step
    return None


def rate(level, spread, memory, runs=40, seed=0):
    """Share of runs in which the curve is called stable at any step, and the median step of the verdict."""
    rng = np.random.default_rng(seed)
    found = [first_stable_step(noisy(level, spread, memory, rng)) for _ in range(runs)]
    steps = [step for step in found if step is not None]
    return len(steps) / runs, float(np.median(steps)) if steps else math.inf


# Falling twice as fast as the tolerance over the smallest window (5 % in 40 steps), and a power law that never ends.
FALLING = {"exponential": 2.5 * np.exp(-2 * 0.05 / 40 * STEPS), "power law": 5 * (STEPS + 3.0) ** -0.2}


@pytest.mark.parametrize("curve", FALLING)
@pytest.mark.parametrize(("spread", "memory"), [(0.02, 0.0), (0.05, 0.0), (0.05, 0.5)])
def test_noisy_falling_curve_is_called_stable_in_at_most_one_run_of_twenty(curve, spread, memory):
    share, _ = rate(FALLING[curve], spread, memory)
    assert share <= 0.05


@pytest.mark.parametrize(("spread", "memory", "share"), [(0.02, 0.0, 1.0), (0.05, 0.0, 0.97), (0.03, 0.5, 0.95)])
def test_noisy_flat_curve_is_called_stable_within_400_steps(spread, memory, share):
    found, _ = rate(np.full(400, 2.5), spread, memory)
    assert found >= share


def test_more_noise_delays_the_verdict():
    flat = np.full(400, 2.5)
    assert rate(flat, 0.02, 0.0, 15)[1] < rate(flat, 0.05, 0.0, 15)[1]


def test_an_interval_that_contains_zero_is_not_enough():
    """The rule that is often used instead, on the curves above: it fires at once."""
    rng = np.random.default_rng(0)
    fired = 0
    for _ in range(20):
        losses = noisy(FALLING["exponential"], 0.05, 0.0, rng)
        lows_and_highs = [slope_interval(losses[step - 40 : step])[1:] for step in range(40, 400, 4)]
        fired += any(low <= 0 <= high for low, high in lows_and_highs)
    assert fired == 20


def test_interval_covers_the_true_slope_of_autocorrelated_noise():
    rng = np.random.default_rng(1)
    level = 3.0 - 0.002 * np.arange(120)
    for memory in (0.0, 0.5):
        hits = 0
        for _ in range(400):
            losses = level + noisy(np.ones(120), 0.1, memory, rng) - 1
            _, low, high = slope_interval(losses)
            hits += low <= -0.002 <= high
        # 95 % nominal; binomial spread 1.1 %. Positive autocorrelation is underestimated in short series.
        assert hits / 400 >= 0.91
        assert hits / 400 <= 0.995


def test_without_autocorrelation_it_is_ordinary_regression():
    # Residuals that alternate in sign have negative autocorrelation, which is taken as none.
    t = np.arange(60)
    y = 2.0 - 0.01 * t + 0.05 * (-1.0) ** t
    slope, low, high = slope_interval(y)
    fit = stats.linregress(t, y)
    half = stats.t.ppf(0.975, 58) * fit.stderr
    assert slope == pytest.approx(fit.slope)
    assert (low, high) == pytest.approx((fit.slope - half, fit.slope + half))


def test_stability_has_the_fields_of_its_event_and_a_reason_in_words():
    rng = np.random.default_rng(0)
    stable = stabilisation(noisy(np.full(200, 2.5), 0.01, 0.0, rng))
    assert stable is not None
    coordinates = {"step", "phase", "cycle", "phase_step"}
    assert {f.name for f in fields(Stability)} == {f.name for f in fields(Stabilised)} - coordinates
    assert stable.window == 100
    assert stable.tolerance == pytest.approx(0.05 * stable.loss / 100)
    assert -stable.tolerance <= stable.slope_low <= stable.slope <= stable.slope_high <= stable.tolerance
    assert stable.reason.startswith("over the last 100 steps the loss 2.")
    assert "inside ± 5 %" in stable.reason


def test_constant_curve_is_stable_and_straight_slope_is_not():
    assert stabilisation([2.0] * 40) is not None
    assert stabilisation(list(np.linspace(3, 2, 40))) is None
    assert stabilisation(list(np.linspace(2, 3, 40))) is None  # rising is no stability either


@pytest.mark.parametrize("hole", [math.nan, math.inf])
def test_holes_in_the_window_give_no_verdict_and_older_ones_do_not_matter(hole):
    losses = [2.0] * 100
    losses[70] = hole
    assert stabilisation(losses) is None
    assert stabilisation(losses, window=20) is not None


@pytest.mark.parametrize("length", [0, 1, 39])
def test_short_curve_gives_no_verdict(length):
    assert stabilisation([2.0] * length) is None


def test_window_too_small_for_a_slope_is_refused():
    with pytest.raises(ValueError, match="at least 4"):
        stabilisation([2.0] * 10, window=3)
