"""How alike two sets of vectors of the same points are, and where to draw them: pure functions on (points, dimensions).

All three measures ignore where the origin lies, rotations and overall scale, which mean nothing to the layers that
read the vectors. They need pairs: row i of both arrays is the same point.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.floating[Any]]  # (points, dimensions)
NEIGHBOURS = 10
_WIDE = 8  # times as many dimensions as points
_PRECISE = 1e-7
_CKA_POINTS = 4  # the unbiased estimator divides by points − 3


class Plane(NamedTuple):
    """The plane of largest variance of some points: a map that can be used again on others."""

    centre: npt.NDArray[np.float64]  # (dimensions,)
    axes: npt.NDArray[np.float64]  # (dimensions, 2), orthonormal; a zero column where the points have no second one
    explained: npt.NDArray[np.float64]  # (2,) share of the variance along each

    def coordinates(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """(points, 2) of points of the same space."""
        return ((vectors.astype(np.float64) - self.centre) @ self.axes).astype(np.float32)


def principal_plane(vectors: Vectors) -> Plane:
    """The first two principal components (Pearson 1901) of the centred points.

    The sign of an axis, which is arbitrary, is such that its largest loading is positive: the same points always give
    the same picture.
    """
    exact = vectors.astype(np.float64)
    centre = exact.mean(0)
    values, rows = _components(exact - centre)
    axes = np.zeros((exact.shape[1], 2))
    explained = np.zeros(2)
    total = float((values**2).sum())
    for place in range(min(2, len(rows))):
        if values[place] > 1e-12 * max(values[0], 1e-300):
            sign = np.sign(rows[place, np.argmax(np.abs(rows[place]))])
            axes[:, place] = sign * rows[place]
            explained[place] = values[place] ** 2 / total
    return Plane(centre, axes, explained)


def procrustes_residual(before: Vectors, after: Vectors) -> float:
    """What the best rotation and scaling of ``after`` onto ``before`` leaves, as a share of the variance: 0 to 1.

    1 − ‖XᵀY‖²₊ with X, Y centred and of Frobenius norm 1, ‖·‖₊ the sum of singular values (Schönemann 1966; Gower
    1975; scipy.spatial.procrustes calls it the disparity). Many dimensions and few points fit each other by chance:
    compare with the residual of shuffled points.
    """
    x, y = _unit(before), _unit(after)
    if x is None or y is None:
        return float("nan")
    x, y = narrowed(x), narrowed(y)
    overlap = float(np.linalg.svd(x.T @ y, compute_uv=False).sum())
    return max(1 - overlap**2, 0.0)


def linear_cka(before: Vectors, after: Vectors) -> float:
    """Linear centred kernel alignment with the unbiased estimator: 1 for the same, about 0 for unrelated points.

    HSIC₁(K, L) / √(HSIC₁(K, K) · HSIC₁(L, L)), K = XXᵀ and L = YYᵀ with zero diagonals, and
    HSIC₁(K, L) = [tr(KL) + 1ᵀK1 · 1ᵀL1 / ((n−1)(n−2)) − 2 · 1ᵀKL1 / (n−2)] / (n(n−3)) (Song et al. 2012; as used by
    Nguyen, Raghu and Kornblith, arXiv 2010.15327). The plain estimator (Kornblith et al., arXiv 1905.00414) is near 1
    whatever the points are, once they have more dimensions than there are points (Davari et al., arXiv 2210.16156).
    A little below 0 or above 1 is possible: an unbiased estimate has noise on both sides.
    """
    x, y = _unit(before), _unit(after)
    if x is None or y is None or len(x) < _CKA_POINTS:
        return float("nan")
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    own = _hsic(k, k) * _hsic(m, m)
    return float(_hsic(k, m) / np.sqrt(own)) if own > 0 else float("nan")


def _hsic(k: npt.NDArray[np.float64], m: npt.NDArray[np.float64]) -> float:
    """Unbiased estimate of the Hilbert-Schmidt independence criterion, times n(n−3); zero diagonals."""
    n = len(k)
    rows, columns = k.sum(0), m.sum(0)
    sums = rows.sum() * columns.sum() / ((n - 1) * (n - 2))
    return float((k * m).sum() + sums - 2 * (rows @ columns) / (n - 2))


def neighbour_overlap(before: Vectors, after: Vectors, neighbours: int = NEIGHBOURS) -> float:
    """Share of each point's ``neighbours`` nearest points (Euclidean) that are the same ones in both, mean over points.

    By chance it is neighbours / (points − 1).
    """
    if _unit(before) is None or _unit(after) is None or not 0 < neighbours < len(before):
        return float("nan")
    first, second = _nearest(before, neighbours), _nearest(after, neighbours)
    return float((first[:, :, None] == second[:, None, :]).any(2).mean())


def _nearest(vectors: Vectors, neighbours: int) -> npt.NDArray[np.int64]:
    """(points, neighbours) indices of each point's nearest others."""
    x = vectors.astype(np.float64)
    x = x - x.mean(0)
    squares = (x * x).sum(1)
    distances = squares[:, None] + squares[None] - 2 * (x @ x.T)
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, :neighbours]


def _unit(vectors: Vectors) -> npt.NDArray[np.float64] | None:
    """Centred and of norm 1; None where that cannot be: not finite, no points, or all in one place."""
    x = vectors.astype(np.float64)
    if not x.size or not np.isfinite(x).all():
        return None
    largest = float(np.abs(x).max())
    x = x - x.mean(0)
    norm = float(np.linalg.norm(x))
    return x / norm if norm > 1e-12 * largest * len(x) else None


def _components(x: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Singular values of ``x`` (points, dimensions), and its right singular vectors as rows; two of them are enough."""
    if not _wide(x) or not np.isfinite(x).all():
        _, values, rows = np.linalg.svd(x, full_matrices=False)
        return values, rows
    squares, points = np.linalg.eigh(x @ x.T)
    values = np.sqrt(np.maximum(squares[::-1], 0))
    there = values[:2] > _PRECISE * values[0]  # by way of squares half of the digits are lost
    rows = (points[:, ::-1][:, :2].T @ x)[there]
    return np.where(values > _PRECISE * values[0], values, 0.0), rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _wide(x: npt.NDArray[np.float64]) -> bool:
    """So many more dimensions than points that a detour by the points' products is many times faster."""
    return x.shape[1] > _WIDE * x.shape[0] > 0


def narrowed(vectors: Vectors) -> npt.NDArray[np.float64]:
    """The points in as few dimensions as there are points: the measures, which ignore the origin and rotations, are the
    same, and cost less."""
    x = vectors.astype(np.float64)
    if x.shape[1] <= x.shape[0] or not np.isfinite(x).all():
        return x
    if _wide(x):
        x = x - x.mean(0)
        squares, points = np.linalg.eigh(x @ x.T)
        return np.asarray(points * np.sqrt(np.maximum(squares, 0)))
    return np.asarray(np.linalg.qr(x.T, mode="r")).T
