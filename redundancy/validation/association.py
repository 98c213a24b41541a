"""Rank association between a reading per layer and a loss per layer, over one or several models.

Arrays only: the last axis is the layer, NaN is a layer without a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from estimators import InputError

__all__ = [
    "Correlation",
    "area_under_curve",
    "correlate",
    "partial_correlation",
    "permutation_p_value",
    "resampled_means",
]

Correlation = Literal["spearman", "kendall"]
Floats = NDArray[np.float64]


def correlate(x: Floats, y: Floats, kind: Correlation = "spearman") -> Any:
    """Rank correlation along the last axis; NaN where fewer than two layers or no spread remain.

    Parameters
    ----------
    x, y : ndarray of float64, shape (..., L)
        Broadcast against each other. Layers where either is NaN are left out.
    kind : {"spearman", "kendall"}
        Spearman: the correlation of average ranks. Kendall: tau-b, which counts pairs.

    Returns
    -------
    ndarray of float64, shape (...)

    Examples
    --------
    >>> x = np.array([0.1, 0.2, 0.4, 0.3])
    >>> round(float(correlate(x, np.array([1.0, 2.0, 3.0, 4.0]))), 3)
    0.8
    >>> round(float(correlate(x, np.array([1.0, 2.0, 3.0, 4.0]), "kendall")), 3)
    0.667
    """
    if kind not in ("spearman", "kendall"):
        raise InputError(f"there is no rank correlation {kind!r}; use 'spearman' or 'kendall'")
    x, y = _complete(x, y)
    if kind == "kendall":
        return _tau_b(x, y)
    return _pearson(_ranks(x), _ranks(y))


def partial_correlation(x: Floats, y: Floats, given: Floats) -> Any:
    """Spearman correlation of x and y along the last axis with the ranks of `given` held fixed.

    Examples
    --------
    >>> depth = np.arange(6.0)
    >>> x, y = np.array([0.0, 2, 1, 3, 5, 4]), np.array([0.0, 2, 1, 3, 5, 4])
    >>> round(float(partial_correlation(x, y, depth)), 3)
    1.0
    """
    x, y = _complete(x, y)
    given = np.broadcast_to(given, x.shape).astype(float)
    a, b, c = _ranks(x), _ranks(y), _ranks(np.where(np.isnan(x), np.nan, given))
    ab, ac, bc = _pearson(a, b), _pearson(a, c), _pearson(b, c)
    rest = (1 - ac**2) * (1 - bc**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        # At least four layers, or the partial correlation is +-1 whatever the data.
        enough = (~np.isnan(x)).sum(axis=-1) >= 4
        # Nothing is left of a reading that is depth itself.
        return np.where((rest > 1e-9) & enough, (ab - ac * bc) / np.sqrt(rest), np.nan)


def area_under_curve(score: Floats, harmful: NDArray[np.bool_]) -> float:
    """Probability that a harmful layer has the higher score than a harmless one, ties half.

    Parameters
    ----------
    score : ndarray of float64, shape (L,)
        Higher: expected to harm more. Layers with NaN are left out.
    harmful : ndarray of bool, shape (L,)

    Returns
    -------
    float
        NaN unless there are layers of both kinds.

    Examples
    --------
    >>> area_under_curve(np.array([0.1, 0.4, 0.3]), np.array([False, True, False]))
    1.0
    """
    known = ~np.isnan(score)
    bad, good = score[known & harmful], score[known & ~harmful]
    if not bad.size or not good.size:
        return float("nan")
    difference = bad[:, None] - good[None, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def permutation_p_value(
    pairs: Sequence[tuple[Floats, Floats]],
    *,
    draws: int = 2000,
    seed: int = 0,
    kind: Correlation = "spearman",
) -> float:
    """One-sided p-value of the mean correlation over models, layers shuffled within each model.

    Parameters
    ----------
    pairs : sequence of (ndarray, ndarray), each of shape (L,)
        Reading and loss of each model.
    draws : int
    seed : int
    kind : {"spearman", "kendall"}

    Returns
    -------
    float
        NaN if no model has a correlation. Neighbouring layers resemble each other, which shuffling
        destroys: a small p says "not unrelated", not "better than any smooth curve".

    Examples
    --------
    >>> x = np.arange(8.0)
    >>> permutation_p_value([(x, x)], draws=999) < 0.01
    True
    """
    rng = np.random.default_rng(seed)
    observed, shuffled = [], []
    for x, y in pairs:
        known = ~(np.isnan(x) | np.isnan(y))
        x, y = x[known], y[known]
        rho = float(correlate(x, y, kind)) if x.size > 1 else np.nan
        if np.isnan(rho):
            continue
        observed.append(rho)
        mixed = rng.permuted(np.broadcast_to(x, (draws, x.size)), axis=1)
        shuffled.append(correlate(mixed, y, kind))
    if not observed:
        return float("nan")
    null = np.mean(shuffled, axis=0)
    return float((1 + np.sum(null >= np.mean(observed) - 1e-12)) / (draws + 1))


def resampled_means(values: Floats, draws: int, seed: int) -> Floats:
    """Means over images, resampled with replacement: shape (draws, L) from (images, L).

    The same seed and number of images draw the same images, whatever the values: models tried on
    the same images are resampled together.

    Examples
    --------
    >>> resampled_means(np.ones((5, 2)), 3, 0).tolist()
    [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    means: Floats = _weights(len(values), draws, seed) @ values
    return means


@lru_cache(maxsize=2)
def _weights(n: int, draws: int, seed: int) -> Floats:
    """Share of each image in each resample; drawing them takes longer than all that uses them."""
    rng = np.random.default_rng([seed, n])
    counts: Floats = rng.multinomial(n, np.full(n, 1 / n), size=draws) / n
    return counts


def _complete(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    missing = np.isnan(x) | np.isnan(y)
    if not missing.any():
        return x, y
    return np.where(missing, np.nan, x), np.where(missing, np.nan, y)


def _ranks(x: Floats) -> Floats:
    from scipy.stats import rankdata

    # Leaving NaN out goes row by row; thousands of resamples without any need not.
    policy: Any = "omit" if np.isnan(x).any() else "propagate"
    return np.asarray(rankdata(x, axis=-1, nan_policy=policy), dtype=float)


def _pearson(a: Floats, b: Floats) -> Any:
    known = np.maximum((~np.isnan(a)).sum(axis=-1, keepdims=True), 1)
    a = a - np.nansum(a, axis=-1, keepdims=True) / known
    b = b - np.nansum(b, axis=-1, keepdims=True) / known
    spread = np.sqrt(np.nansum(a * a, axis=-1) * np.nansum(b * b, axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 1e-12, np.nansum(a * b, axis=-1) / spread, np.nan)


def _tau_b(x: Floats, y: Floats) -> Any:
    i, j = np.triu_indices(x.shape[-1], k=1)
    a, b = np.sign(x[..., i] - x[..., j]), np.sign(y[..., i] - y[..., j])
    spread = np.sqrt(np.nansum(a * a, axis=-1) * np.nansum(b * b, axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, np.nansum(a * b, axis=-1) / spread, np.nan)
