"""Intervals and rank correlations: bootstrap over sequences, paired where two models saw the same text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from neural_plasticity.errors import InputError

Values = Sequence[float] | npt.NDArray[np.floating]


class Interval(NamedTuple):
    """An estimate and its confidence interval; the bounds are NaN where the data allow none."""

    estimate: float
    low: float
    high: float


def bootstrap_mean_interval(values: Values, seed: int, confidence: float = 0.95, resamples: int = 2000) -> Interval:
    """Mean of ``values`` with its bias-corrected accelerated bootstrap interval (Efron 1987, JASA 82, 171–185).

    One value, or a value that is not finite, gives NaN bounds: there is no interval. Equal values give their own.

    Raises:
        InputError: ``values`` is empty.
    """
    data = np.asarray(values, dtype=np.float64).ravel()
    if data.size == 0:
        raise InputError("an interval needs at least one value, got none.")
    mean = float(data.mean())
    if data.size == 1 or not np.isfinite(data).all():
        return Interval(mean, float("nan"), float("nan"))
    if np.ptp(data) <= 1e-12 * max(1.0, float(np.abs(data).max())):  # equal up to rounding
        return Interval(mean, mean, mean)
    result = stats.bootstrap(
        (data,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, 4_000_000 // data.size),  # at most 32 MB of resampled values at a time
        confidence_level=confidence,
        method="BCa",
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    low, high = (float(bound) for bound in result.confidence_interval)
    return Interval(mean, low, high)


def paired_bootstrap_difference(
    a: Values, b: Values, seed: int, confidence: float = 0.95, resamples: int = 2000
) -> Interval:
    """Mean of ``a`` − ``b`` with its interval, resampling pairs: both were measured on the same sequences.

    Pairing removes how hard the sequences are from the comparison, which is most of the variance.

    Raises:
        InputError: the two differ in length, or are empty.
    """
    first, second = np.asarray(a, dtype=np.float64).ravel(), np.asarray(b, dtype=np.float64).ravel()
    if first.size != second.size:
        raise InputError(
            f"a paired comparison needs the same sequences on both sides, got {first.size} and {second.size}."
        )
    return bootstrap_mean_interval(first - second, seed, confidence, resamples)


def clustered_difference(
    a: Values,
    b: Values,
    clusters: Sequence[int] | npt.NDArray[np.integer],
    seed: int,
    confidence: float = 0.95,
    resamples: int = 4000,
) -> Interval:
    """As `paired_bootstrap_difference`, for pairs that come in clusters: whole clusters are resampled.

    Pairs of one cluster (sequences of one document) are no independent evidence. The interval is the expanded
    percentile interval (Hesterberg 2015, The American Statistician 69, 371–386): with few clusters the percentile
    interval is too narrow, by √((k − 1)/k) and for not knowing the spread; both are made good through Student's t.
    One cluster gives NaN bounds: there is no interval.

    Raises:
        InputError: the lengths differ, or are zero.
    """
    first, second = np.asarray(a, dtype=np.float64).ravel(), np.asarray(b, dtype=np.float64).ravel()
    if not first.size == second.size == len(clusters):
        raise InputError(
            "a paired comparison needs the same sequences on both sides, each in a cluster; "
            f"got {first.size}, {second.size} and {len(clusters)}."
        )
    if not first.size:
        raise InputError("an interval needs at least one value, got none.")
    difference = first - second
    mean = float(difference.mean())
    _, owner = np.unique(np.asarray(clusters), return_inverse=True)
    sums, sizes = np.bincount(owner, difference), np.bincount(owner)
    k = len(sizes)
    if k == 1 or not np.isfinite(difference).all():
        return Interval(mean, float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples, batch := max(1, 4_000_000 // k)):
        drawn = rng.integers(k, size=(min(batch, resamples - start), k))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    tail = stats.norm.cdf(np.sqrt(k / (k - 1)) * stats.t.ppf((1 - confidence) / 2, k - 1))
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(mean, float(low), float(high))


def median_paired_ratio(
    before: Values, after: Values, seed: int, confidence: float = 0.95, resamples: int = 2000
) -> Interval:
    """Median of ``before`` / ``after`` within pairs, with its percentile bootstrap interval: for timings.

    What disturbs a machine disturbs both members of a pair, and the median does not mind the pair it tore apart.

    Raises:
        InputError: the two differ in length, or are empty.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.size != second.size or not first.size:
        raise InputError(f"a paired ratio needs pairs, got {first.size} and {second.size} values.")
    ratios = first / second
    median = float(np.median(ratios))
    if ratios.size == 1 or not np.isfinite(ratios).all():
        return Interval(median, float("nan"), float("nan"))
    chosen = np.random.default_rng(seed).integers(ratios.size, size=(resamples, ratios.size))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.median(ratios[chosen], axis=1), [tail, 100 - tail])
    return Interval(median, float(low), float(high))


def through_exp(interval: Interval) -> Interval:
    """The interval of exp: from mean loss (nats) to perplexity, or from a loss difference to a perplexity ratio.

    exp is monotonic, so the bounds map as they are; beyond floating point they are infinite.
    """
    with np.errstate(over="ignore"):
        return Interval(*(float(np.exp(bound)) for bound in interval))


def perplexity(losses: Values, seed: int, confidence: float = 0.95, resamples: int = 2000) -> Interval:
    """exp of the mean loss with its interval; ``losses``: mean token loss (nats) per sequence of equal length."""
    return through_exp(bootstrap_mean_interval(losses, seed, confidence, resamples))


def perplexity_ratio(a: Values, b: Values, seed: int, confidence: float = 0.95, resamples: int = 2000) -> Interval:
    """Perplexity of ``a`` over perplexity of ``b`` on the same sequences, with its paired interval."""
    return through_exp(paired_bootstrap_difference(a, b, seed, confidence, resamples))


def spearman(a: Values, b: Values) -> float:
    """Rank correlation over the places where both are numbers; NaN with fewer than three, or when one is constant."""
    first, second = np.asarray(a, dtype=np.float64).ravel(), np.asarray(b, dtype=np.float64).ravel()
    if first.size != second.size:
        raise InputError(f"a rank correlation needs pairs, got {first.size} and {second.size} values.")
    known = ~(np.isnan(first) | np.isnan(second))
    first, second = first[known], second[known]
    if first.size < 3 or (first == first[0]).all() or (second == second[0]).all():
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)
