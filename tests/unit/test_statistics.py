"""Bootstrap intervals against normal theory and a plain reference; pairing; perplexity; rank correlation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from neural_plasticity.errors import InputError
from neural_plasticity.policies.statistics import (
    bootstrap_mean_interval,
    median_paired_ratio,
    paired_bootstrap_difference,
    perplexity,
    perplexity_ratio,
    spearman,
    through_exp,
)


def test_interval_of_normal_data_is_the_t_interval():
    data = np.random.default_rng(0).normal(3.0, 0.5, 300)
    interval = bootstrap_mean_interval(data, seed=1, resamples=5000)
    low, high = stats.t.interval(0.95, 299, data.mean(), stats.sem(data))
    assert interval.estimate == pytest.approx(data.mean())
    assert interval.low == pytest.approx(low, abs=0.05 * (high - low))
    assert interval.high == pytest.approx(high, abs=0.05 * (high - low))


def test_interval_of_skewed_data_leans_to_the_tail_as_a_loop_does():
    data = np.random.default_rng(1).exponential(size=60)
    rng = np.random.default_rng(2)
    means = [rng.choice(data, len(data)).mean() for _ in range(4000)]  # percentile bootstrap, spelt out
    low, high = np.quantile(means, [0.025, 0.975])
    interval = bootstrap_mean_interval(data, seed=3)
    assert interval.low == pytest.approx(low, abs=0.2 * (high - low))
    assert interval.high == pytest.approx(high, abs=0.2 * (high - low))
    assert interval.high - interval.estimate > interval.estimate - interval.low


def test_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(4)
    hits = 0
    for seed in range(200):
        interval = bootstrap_mean_interval(rng.normal(1.0, 1.0, 64), seed, resamples=500)
        hits += interval.low <= 1.0 <= interval.high
    assert 0.89 <= hits / 200 <= 0.99  # 95 % nominal, binomial spread 1.5 %


def test_same_seed_same_interval_and_confidence_widens_it():
    data = np.random.default_rng(5).normal(size=50)
    assert bootstrap_mean_interval(data, 1) == bootstrap_mean_interval(data, 1)
    assert bootstrap_mean_interval(data, 1) != bootstrap_mean_interval(data, 2)
    wide, narrow = bootstrap_mean_interval(data, 1, 0.99), bootstrap_mean_interval(data, 1, 0.8)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_degenerate_data():
    assert bootstrap_mean_interval([2.0, 2.0, 2.0], 0) == (2.0, 2.0, 2.0)
    one = bootstrap_mean_interval([2.0], 0)
    assert one.estimate == 2.0
    assert math.isnan(one.low)
    broken = bootstrap_mean_interval([1.0, math.inf], 0)
    assert broken.estimate == math.inf
    assert math.isnan(broken.high)
    with pytest.raises(InputError, match="at least one value"):
        bootstrap_mean_interval([], 0)


def test_pairing_finds_a_small_difference_that_unpaired_intervals_hide():
    rng = np.random.default_rng(6)
    hardness = rng.normal(3.0, 0.8, 100)
    a, b = hardness + 0.05 + rng.normal(0, 0.02, 100), hardness
    paired = paired_bootstrap_difference(a, b, 0)
    assert paired.low > 0
    assert paired.estimate == pytest.approx((a - b).mean())
    apart = bootstrap_mean_interval(a, 0), bootstrap_mean_interval(b, 0)
    assert apart[0].low < apart[1].high
    with pytest.raises(InputError, match="same sequences on both sides, got 100 and 99"):
        paired_bootstrap_difference(a, b[1:], 0)


def test_perplexity_is_exp_of_the_mean_and_its_interval_goes_through_exp():
    losses = np.random.default_rng(7).normal(3.0, 0.5, 80)
    loss, figure = bootstrap_mean_interval(losses, 0), perplexity(losses, 0)
    assert figure == pytest.approx([math.exp(bound) for bound in loss])
    assert perplexity_ratio(losses + math.log(1.1), losses, 0) == pytest.approx((1.1, 1.1, 1.1))
    assert through_exp(bootstrap_mean_interval([800.0, 900.0], 0)).estimate == math.inf


def test_rank_correlation_is_scipys_without_the_unmeasured():
    rng = np.random.default_rng(8)
    a = rng.normal(size=(6, 8))
    b = a + rng.normal(size=(6, 8))
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a.ravel(), b.ravel()).statistic)
    assert spearman(a, np.exp(a)) == pytest.approx(1.0)
    assert spearman(a, -(a**3)) == pytest.approx(-1.0)
    hole = a.copy()
    hole[2, 3] = np.nan
    keep = ~np.isnan(hole.ravel())
    assert spearman(hole, b) == pytest.approx(stats.spearmanr(a.ravel()[keep], b.ravel()[keep]).statistic)
    assert math.isnan(spearman(a, np.ones_like(a)))
    assert math.isnan(spearman([1, 2], [1, 2]))


def test_a_paired_ratio_shrugs_off_what_disturbs_both_and_a_torn_pair() -> None:
    rng = np.random.default_rng(0)
    disturbance = rng.lognormal(0.0, 0.8, size=25)
    before, after = 3.0 * disturbance, 2.0 * disturbance
    before[3] *= 50
    ratio = median_paired_ratio(before, after, seed=0)
    assert ratio.estimate == pytest.approx(1.5)
    assert ratio.low == pytest.approx(1.5)
    assert ratio.high == pytest.approx(1.5)


def test_a_paired_ratio_of_equal_things_is_1_inside_its_interval() -> None:
    inside = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        before, after = rng.lognormal(0.0, 0.1, size=(2, 15))
        ratio = median_paired_ratio(before, after, seed=seed)
        inside += ratio.low <= 1 <= ratio.high
    assert inside >= 52  # 95 % nominal; a percentile interval of a median of 15 covers a little less


def test_a_paired_ratio_needs_pairs_and_says_when_there_is_no_interval() -> None:
    with pytest.raises(InputError, match="pairs"):
        median_paired_ratio([1.0, 2.0], [1.0], seed=0)
    alone = median_paired_ratio([3.0], [2.0], seed=0)
    assert alone.estimate == 1.5
    assert np.isnan([alone.low, alone.high]).all()
    assert np.isnan(median_paired_ratio([1.0, float("nan")], [1.0, 1.0], seed=0).estimate)
