"""Ridge regressions on many unions of folds of the same data, from shared cross-products.

Every fit of a cross-validation, of a nested choice of the penalty and of the split-probe
estimator is on a union of folds. Cross-products add up over folds, so the data are gone through
once, and a fit costs one Cholesky factorisation: of the d x d covariance where there are more
samples than coordinates, of the n x n kernel otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from estimators._arrays import FloatArray, IntArray

__all__ = [
    "AMPLE",
    "FoldedRidge",
    "RidgeFit",
    "compact",
    "held_out_folds",
    "leading",
    "standardised",
    "walk",
]

AMPLE = 1.25
"""Least squares needs no penalty with this many samples per coordinate."""

_BLOCK = 2**22
_WIDE = 1024  # beyond it products are made in float32, which halves time and memory
_LEAST_FREE = 0.05
_STEPS = tuple(range(-6, 7))


@dataclass(slots=True)
class RidgeFit:
    """One affine map fitted on a union of folds.

    Parameters
    ----------
    coef : ndarray, shape (d, k)
        In the standardised coordinates of the family.
    intercept : ndarray, shape (k,)
    rows : ndarray of int64
        Samples it was fitted on.
    penalty : float
        Per sample and in units of each coordinate's variance.
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
    _dual: bool = field(repr=False)
    _centre: FloatArray = field(repr=False)

    def predict(self, x: FloatArray | None = None, *, columns: slice = slice(None)) -> FloatArray:
        """Predictions for standardised states, by default for all samples of the family."""
        x = self._x if x is None else x
        linear = x @ self.coef[:, columns].astype(x.dtype)
        return np.asarray(linear + self.intercept[columns], dtype=np.float64)

    def smooth(self, targets: FloatArray, outside: IntArray) -> FloatArray:
        """Predictions elsewhere of the same fit to other targets, shape (len(outside), m)."""
        from scipy.linalg import cho_solve

        inside = self._x[self.rows]
        mean = targets.mean(0)
        if self._dual:
            alpha = cho_solve(self._factor, targets - mean)
            coef = np.asarray(inside.T @ alpha.astype(inside.dtype), dtype=np.float64)
        else:
            moment = inside.T @ (targets - mean).astype(inside.dtype)
            solved = cho_solve(self._factor, moment.astype(self._factor[0].dtype))
            coef = np.asarray(solved, dtype=np.float64)
        linear = self._x[outside] @ coef.astype(self._x.dtype)
        return np.asarray(linear + (mean - self._centre @ coef), dtype=np.float64)

    def released(self, residual: FloatArray, groups: IntArray | None) -> FloatArray:
        r"""Undo how much a fit draws its own residuals towards 0, in the mean.

        With groups, :math:`(I - S_{gg})^{-1/2} r_g` for each group (Bell and McCaffrey 2002):
        where rows of a group resemble each other, a few groups determine the fit. Otherwise, and
        in the dual form, all residuals are scaled alike.
        """
        from scipy.linalg import solve_triangular

        n = len(self.rows)
        if groups is None or self._dual:
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
        if self._dual:
            spread = inside @ moment - self._centre @ moment
            out = cho_solve(self._factor, np.asarray(spread, dtype=np.float64))
        else:
            solved = cho_solve(self._factor, moment.astype(self._factor[0].dtype))
            out = inside @ solved.astype(inside.dtype) - self._centre @ solved
        return np.asarray(out + total / len(self.rows), dtype=np.float64)


def standardised(x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return centred, scaled copies of states, and the centre and scale.

    The scale of a constant coordinate is 1. Wide arrays are float32.
    """
    n, d = x.shape
    mean, square = np.zeros(d), np.zeros(d)
    step = max(1, _BLOCK // d)
    for i in range(0, n, step):
        mean += np.asarray(x[i : i + step], dtype=np.float64).sum(0)
    mean /= n
    for i in range(0, n, step):
        square += ((np.asarray(x[i : i + step], dtype=np.float64) - mean) ** 2).sum(0)
    scale = np.sqrt(square / n)
    # Rounding of a constant is not a spread.
    scale[scale <= 1e-7 * np.abs(mean)] = 1.0
    scale[scale == 0.0] = 1.0
    out = np.empty((n, d), dtype=np.float32 if d > _WIDE else np.float64)
    for i in range(0, n, step):
        out[i : i + step] = (np.asarray(x[i : i + step], dtype=np.float64) - mean) / scale
    return out, mean, scale


def compact(x: FloatArray) -> FloatArray:
    """Coordinates of n samples in at most n dimensions with the same inner products.

    What a penalised linear probe predicts depends on the inner products alone.
    """
    from scipy.linalg import cholesky

    n = len(x)
    kernel = np.asarray(x @ x.T, dtype=np.float64)
    jitter = (1e-10 if x.dtype == np.float64 else 1e-6) * float(np.trace(kernel)) / n
    kernel[np.diag_indices(n)] += jitter
    return np.asarray(cholesky(kernel, lower=True, overwrite_a=True), dtype=x.dtype)


def leading(x: FloatArray, m: int, *, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Scores on the m leading principal components of standardised states, and the components.

    Parameters
    ----------
    x : ndarray, shape (n, d)
    m : int
    seed : int
        Of the randomised range finder.

    Returns
    -------
    scores : ndarray, shape (n, m)
    components : ndarray, shape (d, m)
    """
    from sklearn.utils.extmath import randomized_svd

    _, _, rows = randomized_svd(x, m, n_iter=4, random_state=seed)
    components = np.asarray(rows.T, dtype=x.dtype)
    return np.asarray(x @ components), components


class FoldedRidge:
    """Ridge fits of one target from one layer, on unions of folds.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Standardised states (`standardised`).
    z : ndarray of float64, shape (n, k)
    fold_of : ndarray of int64, shape (n,)
    n_folds : int
    dual : bool, optional
        Whether to factor the kernel instead of the covariance; by default where d exceeds n. In
        the primal form each fit standardises on its own samples; in the dual form all share the
        scale of the whole, which needs no target.
    isotropic : bool
        Penalise all coordinates alike instead of by their variance: for `compact` coordinates.
    """

    def __init__(
        self,
        x: FloatArray,
        z: FloatArray,
        fold_of: IntArray,
        n_folds: int,
        *,
        dual: bool | None = None,
        isotropic: bool = False,
    ) -> None:
        self.x, self.z, self.fold_of, self.n_folds = x, z, fold_of, n_folds
        self.n, self.d = x.shape
        self.isotropic = isotropic
        self.dual = self.d > self.n if dual is None else dual
        self.members = [np.flatnonzero(fold_of == f) for f in range(n_folds)]
        if any(len(rows) == 0 for rows in self.members):
            raise InputError("a fold is empty; use fewer folds")
        self._errors: dict[tuple[tuple[int, ...], float], NDArray[np.float64]] = {}
        self._gram: list[FloatArray] = []
        self._held: tuple[tuple[int, ...], float, FloatArray, FloatArray, FloatArray] | None = None
        if not self.dual:
            self._prepare()

    def _prepare(self) -> None:
        self._sum_x, self._sum_z, self._cross = [], [], []
        for rows in self.members:
            x = self.x[rows]
            self._gram.append(np.asarray(x.T @ x))
            self._cross.append(self._product(rows, self.z))
            self._sum_x.append(x.sum(0, dtype=np.float64))
            self._sum_z.append(self.z[rows].sum(0))

    def retarget(self, z: FloatArray) -> FoldedRidge:
        """The same states with another target; products of the states are shared."""
        other = copy(self)
        other.z = z
        other._errors = {}
        if not self.dual:
            other._cross = [self._product(rows, z) for rows in self.members]
            other._sum_z = [z[rows].sum(0) for rows in self.members]
        return other

    def _product(self, rows: IntArray, z: FloatArray) -> FloatArray:
        x = self.x[rows]
        return np.asarray(x.T @ z[rows].astype(x.dtype), dtype=np.float64)

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
            Added to the covariance of standardised coordinates; a trace of it (1e-10, or 1e-6 in
            float32) stays at 0, so that copies of a coordinate do no harm.
        df : bool
            Whether to compute the effective number of parameters.
        """
        floor = 1e-10 if self.x.dtype == np.float64 else 1e-6
        amount = max(float(penalty), floor)
        return (self._fit_dual if self.dual else self._fit_primal)(tuple(folds), amount, df)

    def covariance(
        self, folds: Sequence[int], *, rough: bool = False
    ) -> tuple[FloatArray, FloatArray, int]:
        """Centred cross-products of the states on a union of folds, their mean, and the size.

        In float64; if `rough`, in the precision of the states.
        """
        n = sum(len(self.members[f]) for f in folds)
        mean = np.sum([self._sum_x[f] for f in folds], axis=0) / n
        dtype = self.x.dtype if rough else np.dtype(np.float64)
        h = np.zeros((self.d, self.d), dtype=dtype)
        for f in folds:
            h += self._gram[f]
        h -= np.outer((n * mean).astype(dtype), mean.astype(dtype))
        return h, mean, n

    def _weights(self, h: FloatArray, n: int, penalty: float) -> FloatArray:
        """How much each coordinate is penalised."""
        variance = np.diagonal(h) / n
        unit = np.ones_like(variance) if self.isotropic else variance
        # A coordinate that is constant on these folds must not be fitted to rounding errors.
        return np.where(variance > 1e-9, unit, 1.0 / penalty)

    def preconditioner(
        self, folds: Sequence[int], penalty: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Lower Cholesky factor near a fit's normal equations, its penalty weights, and the mean.

        The factor of a neighbouring penalty serves as well and is kept from call to call.
        """
        from scipy.linalg import cholesky

        key = tuple(folds)
        held = self._held
        if held is None or held[0] != key or not 0.05 < penalty / held[1] < 20.0:
            h, mean, n = self.covariance(folds, rough=True)
            unit = n * self._weights(h, n, penalty)
            h[np.diag_indices(self.d)] += (penalty * unit).astype(h.dtype)
            factor = np.asarray(cholesky(h, lower=True, overwrite_a=True))
            held = self._held = (key, penalty, factor, unit, mean)
        return held[2], penalty * held[3], held[4]

    def _fit_primal(self, folds: tuple[int, ...], penalty: float, df: bool) -> RidgeFit:
        from scipy.linalg import cho_factor, cho_solve

        rows = self.rows(folds)
        # A penalty bounds the condition number, so that single precision is enough to predict.
        h, mean, n = self.covariance(folds, rough=penalty >= 1e-4)
        mean_z = np.sum([self._sum_z[f] for f in folds], axis=0) / n
        cross = np.sum([self._cross[f] for f in folds], axis=0) - n * np.outer(mean, mean_z)
        ridge = n * penalty * self._weights(h, n, penalty)
        h[np.diag_indices(self.d)] += ridge.astype(h.dtype)
        factor = cho_factor(h, lower=True, overwrite_a=True)
        coef = np.asarray(cho_solve(factor, cross.astype(h.dtype)), dtype=np.float64)
        used = float(self.d) + 1.0
        if df and penalty > 1e-5:
            used -= float(np.sum(ridge * _inverse_diagonal(factor[0])))
        return RidgeFit(
            coef, mean_z - mean @ coef, rows, penalty, used, factor, self.x, False, mean
        )

    def _fit_dual(self, folds: tuple[int, ...], penalty: float, df: bool) -> RidgeFit:
        from scipy.linalg import cho_factor, cho_solve

        rows = self.rows(folds)
        n = len(rows)
        mean = self.x[rows].mean(0, dtype=np.float64)
        x = self.x[rows] - mean.astype(self.x.dtype)
        mean_z = self.z[rows].mean(0)
        kernel = np.asarray(x @ x.T, dtype=np.float64)
        kernel[np.diag_indices(n)] += n * penalty
        factor = cho_factor(kernel, lower=True, overwrite_a=True)
        alpha = cho_solve(factor, self.z[rows] - mean_z)
        coef = np.asarray(x.T @ alpha.astype(x.dtype), dtype=np.float64)
        used = 1.0
        if df:
            used += n - n * penalty * float(_inverse_diagonal(factor[0]).sum())
        return RidgeFit(coef, mean_z - mean @ coef, rows, penalty, used, factor, self.x, True, mean)

    def choose(self, folds: Sequence[int], *, rotate: bool = False) -> float:
        """Choose the penalty by leaving out each fold of `folds` in turn.

        Goes downhill from 0.1 over powers of 10; fits are shared between unions of folds.

        Parameters
        ----------
        folds : sequence of int
            At least two.
        rotate : bool
            Leave out only the fold that follows the missing one: a fifth of the work.
        """
        held = held_out_folds(folds, self.n_folds, rotate=rotate)

        def error(step: int) -> float:
            return sum(
                float(self._held_out(tuple(f for f in folds if f != v), 10.0**step)[v])
                for v in held
            )

        return 10.0 ** walk(error, start=-1)

    def _held_out(self, folds: tuple[int, ...], penalty: float) -> NDArray[np.float64]:
        """Squared error on every fold that the fit did not see."""
        key = (folds, penalty)
        if key not in self._errors:
            fit = self.fit(folds, penalty, df=False)
            error = np.full(self.n_folds, np.nan)
            for f, rows in enumerate(self.members):
                if f not in folds:
                    error[f] = float(((self.z[rows] - fit.predict(self.x[rows])) ** 2).sum())
            self._errors[key] = error
        return self._errors[key]


def held_out_folds(folds: Sequence[int], n_folds: int, *, rotate: bool) -> tuple[int, ...]:
    """Folds of a training set that are left out in turn to choose a penalty."""
    if len(folds) < 2:
        raise InputError("a penalty is chosen over at least two folds")
    if not rotate:
        return tuple(folds)
    missing = [f for f in range(n_folds) if f not in folds]
    after = (missing[0] + 1) % n_folds if missing else folds[0]
    return (after if after in folds else folds[0],)


def walk(error: Callable[[int], float], *, start: int) -> int:
    """Step downhill from `start` among whole numbers, in both directions."""
    best, value = start, error(start)
    for direction in (1, -1):
        step = start + direction
        while step in _STEPS:
            new = error(step)
            if not new < value:
                break
            best, value = step, new
            step += direction
        if best != start:
            break
    return best


def _inverse_diagonal(lower: FloatArray) -> FloatArray:
    """Diagonal of the inverse of a matrix, from its lower Cholesky factor."""
    from scipy.linalg.lapack import dtrtri, strtri

    invert = strtri if lower.dtype == np.float32 else dtrtri
    inverse = np.tril(invert(lower, lower=1)[0])
    return np.asarray(np.einsum("ij,ij->j", inverse, inverse), dtype=np.float64)
