"""Ridge regressions on unions of folds that can say how they depend on every sample.

The split-probe estimator needs more of a fit than its predictions: the derivative by each target,
the same fit to other targets, the leverage of groups. Cross-products add up over folds, so the
states are gone through once, and a fit costs one Cholesky factorisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from estimators._arrays import FloatArray, IntArray
from probes._choice import downhill
from probes._principal import Principal

__all__ = ["AMPLE", "FoldedRidge", "RidgeFit"]

AMPLE = 1.25
"""Least squares needs no penalty with this many samples per coordinate."""

_LEAST_FREE = 0.05


@dataclass(slots=True)
class RidgeFit:
    """One affine map fitted on a union of folds.

    Parameters
    ----------
    coef : ndarray, shape (d, k)
        In principal coordinates.
    intercept : ndarray, shape (k,)
    rows : ndarray of int64
        Samples it was fitted on.
    penalty : float
        Per sample.
    df : float
        Effective number of parameters, trace of the smoother.
    """

    coef: FloatArray
    intercept: FloatArray
    rows: IntArray
    penalty: float
    df: float
    _factor: Any = field(repr=False)
    _x: FloatArray = field(repr=False)
    _centre: FloatArray = field(repr=False)

    def predict(self, x: FloatArray | None = None, *, columns: slice = slice(None)) -> FloatArray:
        """Predictions for principal coordinates, by default for all samples of the family."""
        x = self._x if x is None else x
        linear = x @ self.coef[:, columns].astype(x.dtype)
        return np.asarray(linear + self.intercept[columns], dtype=np.float64)

    def smooth(self, targets: FloatArray, outside: IntArray) -> FloatArray:
        """Predictions elsewhere of the same fit to other targets, shape (len(outside), m)."""
        from scipy.linalg import cho_solve

        inside = self._x[self.rows]
        mean = targets.mean(0)
        moment = inside.T @ (targets - mean).astype(inside.dtype)
        solved = cho_solve(self._factor, moment.astype(self._factor[0].dtype))
        coef = np.asarray(solved, dtype=np.float64)
        linear = self._x[outside] @ coef.astype(self._x.dtype)
        return np.asarray(linear + (mean - self._centre @ coef), dtype=np.float64)

    def released(self, residual: FloatArray, groups: IntArray | None) -> FloatArray:
        r"""Undo how much a fit draws its own residuals towards 0, in the mean.

        With groups, :math:`(I - S_{gg})^{-1/2} r_g` for each group (Bell and McCaffrey 2002):
        where rows of a group resemble each other, a few groups determine the fit. Otherwise all
        residuals are scaled alike.
        """
        from scipy.linalg import solve_triangular

        n = len(self.rows)
        if groups is None:
            return np.asarray(residual / np.sqrt(max(1.0 - self.df / n, _LEAST_FREE)))
        centred = self._x[self.rows] - self._centre.astype(self._x.dtype)
        half = solve_triangular(self._factor[0], centred.T, lower=True, check_finite=False).T
        out = np.empty_like(residual)
        codes = groups[self.rows]
        order = np.argsort(codes, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
            own = np.asarray(half[rows] @ half[rows].T, dtype=np.float64) + 1.0 / n
            values, vectors = np.linalg.eigh(np.eye(len(rows)) - own)
            free = np.maximum(values, _LEAST_FREE) ** -0.5
            out[rows] = vectors @ (free[:, None] * (vectors.T @ residual[rows]))
        return out

    def adjoint(self, outside: IntArray, weights: FloatArray) -> FloatArray:
        r"""Apply the transposed smoother: how predictions elsewhere depend on the fitted targets.

        With predictions :math:`\hat z_j = \sum_i S_{ji} z_i`, returns
        :math:`\sum_j S_{ji} v_j` for every training row i, shape (len(rows), k).
        """
        from scipy.linalg import cho_solve

        inside = self._x[self.rows]
        total = weights.sum(0)
        moment = self._x[outside].T @ weights.astype(self._x.dtype) - np.outer(self._centre, total)
        solved = cho_solve(self._factor, moment.astype(self._factor[0].dtype))
        out = inside @ solved.astype(inside.dtype) - self._centre @ solved
        return np.asarray(out + total / len(self.rows), dtype=np.float64)


class FoldedRidge:
    """Ridge fits of one target from one layer, on unions of folds.

    Parameters
    ----------
    layer : Principal
    z : ndarray of float64, shape (n, k)
        Rows in the layer's order.
    """

    def __init__(self, layer: Principal, z: FloatArray) -> None:
        self.layer, self.x, self.z = layer, layer.x, z
        self.n, self.d = layer.x.shape
        self.n_folds = len(layer.folds)
        self.members = [np.arange(rows.start, rows.stop) for rows in layer.folds]
        self._errors: dict[tuple[tuple[int, ...], int], NDArray[np.float64]] = {}
        self._gram = layer.grams()
        self._cross, self._sum_x, self._sum_z = [], [], []
        for rows in layer.folds:
            x = self.x[rows]
            self._cross.append(np.asarray(x.T @ z[rows].astype(x.dtype), dtype=np.float64))
            self._sum_x.append(x.sum(0, dtype=np.float64))
            self._sum_z.append(z[rows].sum(0))

    def rows(self, folds: Sequence[int]) -> IntArray:
        """Samples of a union of folds, in ascending order."""
        return np.sort(np.concatenate([self.members[f] for f in folds]))

    def ample(self, folds: Sequence[int]) -> bool:
        """Whether least squares without a penalty is well posed on these folds."""
        n = sum(len(self.members[f]) for f in folds)
        return bool(n >= AMPLE * self.d + 10)

    def fit(self, folds: Sequence[int], penalty: float = 0.0, *, df: bool = True) -> RidgeFit:
        """Fit on a union of folds; `penalty` 0 is least squares.

        Parameters
        ----------
        folds : sequence of int
        penalty : float
            Added to the covariance of standardised states; a trace of it (1e-10, or 1e-6 in
            float32) stays at 0.
        df : bool
            Whether to compute the effective number of parameters.
        """
        from scipy.linalg import cho_factor, cho_solve

        folds = tuple(folds)
        amount = max(float(penalty), 1e-10 if self.x.dtype == np.float64 else 1e-6)
        rows = self.rows(folds)
        # A penalty bounds the condition number, so that single precision is enough to predict.
        h, mean, n = self._covariance(folds, rough=amount >= 1e-4)
        mean_z = np.sum([self._sum_z[f] for f in folds], axis=0) / n
        cross = np.sum([self._cross[f] for f in folds], axis=0) - n * np.outer(mean, mean_z)
        h[np.diag_indices(self.d)] += h.dtype.type(n * amount)
        factor = cho_factor(h, lower=True, overwrite_a=True)
        coef = np.asarray(cho_solve(factor, cross.astype(h.dtype)), dtype=np.float64)
        used = float(self.d) + 1.0
        if df and amount > 1e-5:
            used -= n * amount * float(np.sum(_inverse_diagonal(factor[0])))
        return RidgeFit(coef, mean_z - mean @ coef, rows, amount, used, factor, self.x, mean)

    def _covariance(
        self, folds: tuple[int, ...], *, rough: bool
    ) -> tuple[FloatArray, FloatArray, int]:
        """Centred cross-products of the states on a union of folds, their mean, and the size."""
        n = sum(len(self.members[f]) for f in folds)
        mean = np.sum([self._sum_x[f] for f in folds], axis=0) / n
        dtype = self.x.dtype if rough else np.dtype(np.float64)
        h = np.zeros((self.d, self.d), dtype=dtype)
        for f in folds:
            h += self._gram[f]
        h -= np.outer((n * mean).astype(dtype), mean.astype(dtype))
        return h, mean, n

    def choose(self, folds: Sequence[int]) -> float:
        """Choose the penalty by leaving out each fold of `folds` in turn, over powers of 10."""
        if len(folds) < 2:
            raise InputError("a penalty is chosen over at least two folds")
        known: dict[int, float] = {}
        while True:
            best, missing = downhill(known, -1)
            if not missing:
                return 10.0**best
            for step in missing:
                known[step] = sum(
                    float(self._held_out(tuple(f for f in folds if f != v), step)[v]) for v in folds
                )

    def _held_out(self, folds: tuple[int, ...], step: int) -> NDArray[np.float64]:
        """Squared error on every fold that the fit did not see."""
        key = (folds, step)
        if key not in self._errors:
            fit = self.fit(folds, 10.0**step, df=False)
            error = np.full(self.n_folds, np.nan)
            for f, rows in enumerate(self.members):
                if f not in folds:
                    error[f] = float(((self.z[rows] - fit.predict(self.x[rows])) ** 2).sum())
            self._errors[key] = error
        return self._errors[key]


def _inverse_diagonal(lower: FloatArray) -> FloatArray:
    """Diagonal of the inverse of a matrix, from its lower Cholesky factor."""
    from scipy.linalg.lapack import dtrtri, strtri

    invert = strtri if lower.dtype == np.float32 else dtrtri
    inverse = np.tril(invert(lower, lower=1)[0])
    return np.asarray(np.einsum("ij,ij->j", inverse, inverse), dtype=np.float64)
