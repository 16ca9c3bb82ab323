"""How alike spaces are: each measure against a slow reference, what it must not notice, and what chance gives."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial import procrustes

from neural_plasticity.views import similarity
from neural_plasticity.views.similarity import (
    linear_cka,
    narrowed,
    neighbour_overlap,
    principal_plane,
    procrustes_residual,
)

Points = npt.NDArray[np.float64]
MEASURES: tuple[tuple[Callable[[Points, Points], float], float], ...] = (  # and what the same points give
    (linear_cka, 1.0),
    (procrustes_residual, 0.0),
    (neighbour_overlap, 1.0),
)


def points(seed: int, count: int = 24, dimensions: int = 5) -> Points:
    return np.random.default_rng(seed).normal(size=(count, dimensions)) * np.geomspace(1, 4, dimensions)


def near(seed: int, count: int = 24, dimensions: int = 5) -> Points:
    return points(seed, count, dimensions) + 0.6 * points(seed + 100, count, dimensions)


def hsic(x: Points, y: Points) -> float:
    """The unbiased estimate by its definition: a mean over all quadruples of different points."""
    k, m = x @ x.T, y @ y.T
    each = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in itertools.permutations(range(len(x)), 4)]
    return float(np.mean(each))


def test_cka_is_made_of_means_over_quadruples() -> None:
    x, y = points(0, 8), near(0, 8)
    expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert linear_cka(x, y) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("dimensions", [2, 5, 60])
def test_procrustes_is_the_disparity(dimensions: int) -> None:
    x, y = points(1, 24, dimensions), near(1, 24, dimensions)
    assert procrustes_residual(x, y) == pytest.approx(procrustes(x, y)[2], abs=1e-12)


def test_procrustes_in_the_plane_is_the_best_angle() -> None:
    x, y = ((one - one.mean(0)) / np.linalg.norm(one - one.mean(0)) for one in (points(2, 12, 2), near(2, 12, 2)))

    def left(angle: float, flip: float) -> float:
        turned = y @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * [1.0, flip]
        scale = (x * turned).sum()
        return float(((x - scale * turned) ** 2).sum())

    best = min(left(angle, flip) for angle in np.linspace(0, 2 * np.pi, 20_001) for flip in (1.0, -1.0))
    assert procrustes_residual(points(2, 12, 2), near(2, 12, 2)) == pytest.approx(best, abs=1e-6)


def test_neighbours_are_counted_one_by_one() -> None:
    x, y = points(3), near(3)

    def nearest(of: Points, at: int) -> set[int]:
        others = [other for other in range(len(of)) if other != at]
        return set(sorted(others, key=lambda other: float(np.linalg.norm(of[at] - of[other])))[:4])

    expected = np.mean([len(nearest(x, at) & nearest(y, at)) / 4 for at in range(len(x))])
    assert 0.2 < expected < 0.9
    assert neighbour_overlap(x, y, 4) == pytest.approx(expected)


@pytest.mark.parametrize(("measure", "same"), MEASURES)
@pytest.mark.parametrize("dimensions", [3, 60])
def test_rotation_scale_and_origin_mean_nothing(
    measure: Callable[[Points, Points], float], same: float, dimensions: int
) -> None:
    x, y = points(4, dimensions=dimensions), near(4, dimensions=dimensions)
    turn, _ = np.linalg.qr(points(5, dimensions, dimensions))
    assert measure(x, 7.0 * x @ turn + 3.0) == pytest.approx(same, abs=1e-9)
    assert measure(x, 0.01 * y @ turn - 9.0) == pytest.approx(measure(x, y), abs=1e-9)
    assert measure(narrowed(x), narrowed(y)) == pytest.approx(measure(x, y), abs=1e-9)
    assert measure(y, x) == pytest.approx(measure(x, y), abs=1e-9)


def test_unrelated_points_have_no_cka_however_many_dimensions_there_are() -> None:
    pairs = [(points(seed, 40, 400), points(seed + 50, 40, 400)) for seed in range(20)]
    debiased = [linear_cka(x, y) for x, y in pairs]
    assert abs(np.mean(debiased)) < 0.02

    def plain(x: Points, y: Points) -> float:
        x, y = x - x.mean(0), y - y.mean(0)
        return float(((y.T @ x) ** 2).sum() / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))

    assert np.mean([plain(x, y) for x, y in pairs]) > 0.6  # why the estimator has to be unbiased


@pytest.mark.parametrize("measure", [measure for measure, _ in MEASURES])
def test_what_cannot_be_measured_is_not_a_number(measure: Callable[[Points, Points], float]) -> None:
    x = points(6)
    broken = x.copy()
    broken[3, 1] = np.nan
    for odd in (broken, np.ones_like(x), np.full_like(x, np.inf)):
        assert np.isnan(measure(x, odd))
        assert np.isnan(measure(odd, x))
    assert np.isnan(measure(x[:1], x[:1]))


def test_the_plane_is_that_of_largest_variance_and_serves_other_points() -> None:
    x = points(7)
    plane = principal_plane(x)
    values, axes = np.linalg.eigh(np.cov(x.T))
    np.testing.assert_allclose(plane.explained, values[::-1][:2] / values.sum())
    np.testing.assert_allclose(np.abs((plane.axes * axes[:, ::-1][:, :2]).sum(0)), 1)
    assert (plane.axes[np.abs(plane.axes).argmax(0), [0, 1]] > 0).all()
    moved = plane.coordinates(x + plane.axes[:, 0]) - plane.coordinates(x)
    np.testing.assert_allclose(moved, np.tile([1.0, 0.0], (len(x), 1)), atol=1e-5)
    np.testing.assert_array_equal(principal_plane(np.ones((3, 2))).explained, [0, 0])


@pytest.mark.parametrize("far", [0.0, 1e4])
def test_many_more_dimensions_than_points_take_a_detour_to_the_same_figures(
    far: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(7)
    before = random.normal(size=(24, 600)) * random.gamma(1, 1, 600) + far  # far from the origin, as states are
    after = before + random.normal(size=before.shape, scale=0.3)
    measures = (procrustes_residual, linear_cka, partial(neighbour_overlap, neighbours=5))
    quick = [measure(narrowed(before), narrowed(after)) for measure in measures]
    same = procrustes_residual(narrowed(before), narrowed(before))
    plane, flat = principal_plane(before), principal_plane(np.outer(np.arange(5.0), np.ones(600)))
    monkeypatch.setattr(similarity, "_WIDE", np.inf)
    assert quick == pytest.approx([measure(before, after) for measure in measures], abs=1e-9)
    assert same == pytest.approx(0, abs=1e-9)
    slow = principal_plane(before)
    assert plane.coordinates(after) == pytest.approx(slow.coordinates(after), rel=1e-6, abs=1e-6 * (1 + far))
    assert plane.explained == pytest.approx(slow.explained)
    assert flat.explained == pytest.approx((1, 0))
    assert not flat.axes[:, 1].any()
