"""Linear algebra shared by the Gaussian estimators: numerical rank, whitening, normal scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, ndtri

from estimators._arrays import FloatArray

__all__ = [
    "canonical_correlations",
    "gaussian_information",
    "normal_scores",
    "whitened",
    "wishart_bias",
]

Float = npt.NDArray[np.float64]
RANK_TOLERANCE = 1e-10  # of the top eigenvalue, after standardising


def standardised(x: FloatArray) -> Float:
    """Drop constant coordinates and bring the others to mean 0 and standard deviation 1."""
    moved = x - x.mean(axis=0, dtype=np.float64)
    spread = np.sqrt((moved * moved).mean(axis=0))
    # Rounding leaves a "constant" of size 1 with a spread near 1e-17.
    keep = spread > 1e-14 * np.maximum(np.abs(x).max(axis=0), np.finfo(float).tiny)
    return np.asarray(moved[:, keep] / spread[keep], dtype=np.float64)


def principal(x: Float) -> tuple[Float, Float]:
    """Return the left singular vectors (n, r) and singular values (r,) of centred x, r its rank."""
    n, d = x.shape
    moved = x - x.mean(axis=0)
    if d <= n:
        values, vectors = np.linalg.eigh(moved.T @ moved)
        values, vectors = values[::-1], vectors[:, ::-1]
        keep = values > max(RANK_TOLERANCE * values[0], np.finfo(float).tiny)
        # One more pass through a QR makes the basis orthonormal to rounding.
        scores = moved @ vectors[:, keep]
        return scores / np.sqrt(values[keep]), np.sqrt(values[keep])
    values, vectors = np.linalg.eigh(moved @ moved.T)
    values, vectors = values[::-1], vectors[:, ::-1]
    keep = values > max(RANK_TOLERANCE * values[0], np.finfo(float).tiny)
    keep[n - 1 :] = False  # centring takes one dimension
    return np.ascontiguousarray(vectors[:, keep]), np.sqrt(values[keep])


def whitened(x: FloatArray) -> Float:
    """Return orthonormal scores (n, r) of x on its numerical rank."""
    scores, _ = principal(standardised(x))
    basis, _ = np.linalg.qr(scores)
    return np.asarray(basis - 0.0, dtype=np.float64)


def normal_scores(x: FloatArray) -> Float:
    """Replace each coordinate by the normal quantiles of its ranks; ties share their mean rank."""
    from scipy.stats import rankdata

    ranks = rankdata(x, axis=0)
    return np.asarray(ndtri(ranks / (len(x) + 1)), dtype=np.float64)


def canonical_correlations(a: Float, b: Float) -> Float:
    """Canonical correlations of two orthonormal bases, descending."""
    return np.asarray(np.linalg.svd(a.T @ b, compute_uv=False), dtype=np.float64)


def wishart_bias(rank_x: int, rank_y: int, n: int) -> float:
    """Expected excess of the plug-in Gaussian information, exactly, for normal data.

    From E log|S| = sum_i psi((n - i) / 2) + d log(2 / (n - 1)) + log|Sigma|; the scale terms cancel
    between the marginals and the joint.
    """

    def term(d: int) -> float:
        return 0.5 * float(digamma((n - np.arange(1, d + 1)) / 2.0).sum())

    return term(rank_x) + term(rank_y) - term(rank_x + rank_y)


def gaussian_information(a: Float, b: Float, *, corrected: bool = True) -> float:
    """Gaussian information of two orthonormal bases; infinite if they share a direction."""
    r2 = np.minimum(canonical_correlations(a, b) ** 2, 1.0)
    if r2.size and float(r2[0]) > 1.0 - 1e-12:
        return float("inf")
    value = -0.5 * float(np.log1p(-r2).sum())
    if corrected:
        value -= wishart_bias(a.shape[1], b.shape[1], len(a))
    return value
