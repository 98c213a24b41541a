"""A layer's states in the directions of their own variance, from which all linear probes start.

A probe with an isotropic penalty does not care about a rotation of the states. In the directions of
their principal components one decomposition per layer serves everything: products are nearly
diagonal on every union of folds and for every penalty, so fits converge in a few steps without a
factorisation of their own; n samples of more than n coordinates take n columns; directions without
variance drop out; and the leading columns are the leading components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from estimators import InputError
from estimators._arrays import FloatArray, IntArray

__all__ = ["Principal", "joined", "principal", "standardised"]

_BLOCK = 2**22
_WIDE = 1024  # beyond it products are made in float32, which halves time and memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Scores of n samples on r principal components, in the order of their folds.

    Parameters
    ----------
    x : ndarray, shape (n, r)
        Row i belongs to sample ``order[i]``; leading components first.
    order : ndarray of int64, shape (n,)
    folds : tuple of slice
        Rows of each fold.
    values : ndarray of float64, shape (r,)
        Sums of squares of the columns.
    basis : ndarray, shape (d, r)
        Standardised states times this are `x`.
    mean, scale : ndarray, shape (d,)
        What standardised the states: of all samples, for the target has no say in it.
    """

    x: FloatArray
    order: IntArray
    folds: tuple[slice, ...]
    values: FloatArray
    basis: FloatArray
    mean: FloatArray
    scale: FloatArray
    _grams: list[FloatArray] = field(default_factory=list, repr=False)

    @property
    def n(self) -> int:
        """Samples."""
        return len(self.x)

    @property
    def rank(self) -> int:
        """Components."""
        return int(self.x.shape[1])

    def samples(self, fold: int) -> IntArray:
        """Samples of a fold, in the order of its rows."""
        return np.asarray(self.order[self.folds[fold]])

    def size(self, folds: Sequence[int]) -> int:
        """Samples of a union of folds."""
        return sum(self.folds[f].stop - self.folds[f].start for f in folds)

    def grams(self) -> list[FloatArray]:
        """Products x'x of each fold, made once."""
        if not self._grams:
            for rows in self.folds:
                part = self.x[rows]
                self._grams.append(np.asarray(part.T @ part))
        return self._grams

    def leading(self, m: int) -> Principal:
        """Keep the m leading components."""
        if m >= self.rank:
            return self
        return Principal(
            x=np.ascontiguousarray(self.x[:, :m]),
            order=self.order,
            folds=self.folds,
            values=self.values[:m],
            basis=self.basis[:, :m],
            mean=self.mean,
            scale=self.scale,
            _grams=[np.ascontiguousarray(g[:m, :m]) for g in self._grams],
        )

    def to_states(self, coef: FloatArray) -> FloatArray:
        """Turn a map of `x`, shape (r, k), into one of centred raw states, shape (d, k)."""
        linear = self.basis @ coef.astype(self.basis.dtype)
        return np.asarray(linear, dtype=np.float64) / self.scale[:, None]


def principal(x: FloatArray, fold_of: IntArray, n_folds: int) -> Principal:
    """Standardise states and rotate them to their principal components.

    Parameters
    ----------
    x : ndarray, shape (n, d)
    fold_of : ndarray of int64, shape (n,)
    n_folds : int

    Raises
    ------
    InputError
        If a fold is empty.
    """
    from scipy.linalg import eigh

    order = np.argsort(fold_of, kind="stable")
    folds = fold_slices(fold_of, n_folds)
    ready, mean, scale = standardised(x[order])
    n, d = ready.shape
    wide = d > n
    product = ready @ ready.T if wide else ready.T @ ready
    values, vectors = eigh(product, driver="evd", overwrite_a=True, check_finite=False)
    values, vectors = values[::-1], vectors[:, ::-1]
    least = (1e-12 if ready.dtype == np.float64 else 2e-7) * max(float(values[0]), 1e-300)
    kept = int(np.searchsorted(-values, -least))
    values, vectors = values[: max(kept, 1)], np.ascontiguousarray(vectors[:, : max(kept, 1)])
    if wide:
        root = np.sqrt(np.maximum(values, least))
        scores, basis = vectors * root, np.asarray(ready.T @ (vectors / root))
    else:
        scores, basis = ready @ vectors, vectors
    return Principal(
        x=np.ascontiguousarray(scores),
        order=order,
        folds=folds,
        values=np.einsum("ij,ij->j", scores, scores).astype(np.float64),
        basis=basis,
        mean=mean,
        scale=scale,
    )


def standardised(x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return centred, scaled copies of states, and the centre and scale.

    The scale of a constant coordinate is 1. Wide arrays are float32.

    Raises
    ------
    InputError
        If squares overflow.
    """
    n, d = x.shape
    mean, square = np.zeros(d), np.zeros(d)
    step = max(1, _BLOCK // d)
    for i in range(0, n, step):
        mean += np.asarray(x[i : i + step], dtype=np.float64).sum(0)
    mean /= n
    for i in range(0, n, step):
        with np.errstate(over="ignore"):  # said below
            square += ((np.asarray(x[i : i + step], dtype=np.float64) - mean) ** 2).sum(0)
    if not bool(np.isfinite(square).all()):
        raise InputError(
            "states are so large that their squares are not finite; divide them by a constant"
        )
    scale = np.sqrt(square / n)
    # Rounding of a constant is not a spread.
    scale[scale <= 1e-7 * np.abs(mean)] = 1.0
    scale[scale == 0.0] = 1.0
    out = np.empty((n, d), dtype=np.float32 if d > _WIDE else np.float64)
    for i in range(0, n, step):
        out[i : i + step] = (np.asarray(x[i : i + step], dtype=np.float64) - mean) / scale
    return out, mean, scale


def joined(lower: Principal, upper: Principal) -> Principal:
    """Both layers side by side: the states a probe of the pair is fitted to.

    The columns are not rotated again; those of one layer stay nearly orthogonal to each other, and
    a fit that takes them for orthogonal needs more steps, not another answer.
    """
    return Principal(
        x=np.concatenate([lower.x, upper.x], axis=1),
        order=lower.order,
        folds=lower.folds,
        values=np.concatenate([lower.values, upper.values]),
        basis=np.zeros((0, lower.rank + upper.rank), dtype=lower.x.dtype),
        mean=np.zeros(0),
        scale=np.ones(0),
    )


def fold_slices(fold_of: IntArray, n_folds: int) -> tuple[slice, ...]:
    """Rows of each fold where rows are sorted by fold."""
    counts = np.bincount(fold_of, minlength=n_folds)
    if not bool(np.all(counts > 0)):
        raise InputError("a fold is empty; use fewer folds")
    ends = np.cumsum(counts)
    return tuple(slice(int(e - c), int(e)) for e, c in zip(ends, counts, strict=True))
