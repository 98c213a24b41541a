r"""Multinomial logistic regressions on unions of folds, preconditioned by the ridge's factors.

The Hessian of the multinomial log loss is at most
:math:`\tfrac12 (I - 11^T/K) \otimes X^T X` (Boehning 1992), half the matrix that a ridge
regression factors anyway. In the coordinates of that factor L-BFGS takes some ten steps where it
would take hundreds on raw states, which are strongly correlated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from estimators._arrays import FloatArray
from probes._ridge import FoldedRidge, held_out_folds, walk

__all__ = ["FoldedLogistic", "LogisticFit", "log_softmax"]

_ROUGH = 5e-5  # tolerance, in nats, of fits that only choose a penalty


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """Coefficients (d, k) and intercept (k,) in standardised coordinates."""

    coef: FloatArray
    intercept: FloatArray
    penalty: float
    n_iter: int
    converged: bool

    def log_proba(self, x: FloatArray) -> FloatArray:
        """Log probabilities, shape (n, k)."""
        scores = x @ self.coef.astype(x.dtype)
        return log_softmax(np.asarray(scores, dtype=np.float64) + self.intercept)


def log_softmax(scores: FloatArray) -> FloatArray:
    """Log of the softmax of each row."""
    out = scores - scores.max(1, keepdims=True)
    return np.asarray(out - np.log(np.exp(out).sum(1, keepdims=True)))


class FoldedLogistic:
    """Logistic fits of one target from one layer, on unions of folds.

    Parameters
    ----------
    ridge : FoldedRidge
        In primal form; its cross-products serve as preconditioner.
    z : ndarray, shape (n, k)
        One-hot classes or distributions over them.
    max_iter : int
    tol : float
        Relative decrease of the mean log loss at which a fit stops.
    """

    def __init__(
        self, ridge: FoldedRidge, z: FloatArray, *, max_iter: int = 200, tol: float = 1e-7
    ) -> None:
        if ridge.dual:
            raise InputError("logistic probes need the primal form; compact the states first")
        self.ridge, self.z, self.max_iter, self.tol = ridge, z, max_iter, tol
        self._held: dict[tuple[tuple[int, ...], int], NDArray[np.float64]] = {}
        self._fits: dict[tuple[int, ...], LogisticFit] = {}

    def fit(self, folds: Sequence[int], penalty: float, *, tol: float | None = None) -> LogisticFit:
        r"""Fit on a union of folds.

        Minimises :math:`\sum_i -\log p(z_i|x_i) + \tfrac{n \lambda}{4} \sum_j \sigma_j^2 |w_j|^2`,
        and one further sample at the mean whose class is uniform, so that a class that is absent
        keeps a probability above 0. Starts from the last fit on the same folds or some of them.
        """
        from scipy.linalg import solve_triangular
        from scipy.optimize import minimize

        folds = tuple(folds)
        factor, ridge, mean = self.ridge.preconditioner(folds, penalty)
        rows = self.ridge.rows(folds)
        x, z = self.ridge.x[rows], self.z[rows]
        n, k = z.shape
        d = x.shape[1]
        step = np.sqrt(2.0 / n)  # scale of the intercept in the preconditioned coordinates
        mean = mean.astype(np.float64)

        def unpack(v: FloatArray) -> tuple[FloatArray, FloatArray]:
            raw = v[:-k].reshape(d, k).astype(factor.dtype)
            w = solve_triangular(factor, raw, lower=True, trans="T", check_finite=False)
            return np.sqrt(2.0) * w.astype(np.float64), step * v[-k:]

        def objective(v: FloatArray) -> tuple[float, FloatArray]:
            w, b = unpack(v)
            scores = np.asarray(x @ w.astype(x.dtype), dtype=np.float64) + (b - mean @ w)
            log_p = log_softmax(scores)
            prior = log_softmax(b[None])[0]
            loss = -np.einsum("ij,ij->", z, log_p) - prior.mean()
            loss += 0.25 * float(np.einsum("i,ij,ij->", ridge, w, w))
            excess = np.exp(log_p) - z
            total = excess.sum(0)
            pull = np.asarray(x.T @ excess.astype(x.dtype), dtype=np.float64)
            gradient = pull - np.outer(mean, total) + 0.5 * ridge[:, None] * w
            solved = solve_triangular(
                factor, gradient.astype(factor.dtype), lower=True, check_finite=False
            )
            of_v = np.sqrt(2.0) * solved.astype(np.float64)
            of_b = step * (total + np.exp(prior) - 1.0 / k)
            return loss / n, np.concatenate([of_v.ravel(), of_b]) / n

        start = np.zeros(d * k + k)
        known = self._start(folds)
        if known is not None:
            start[:-k] = (factor.T @ known.coef / np.sqrt(2.0)).ravel()
            start[-k:] = (known.intercept + mean @ known.coef) / step
        else:
            share = (z.sum(0) + 1.0 / k) / (n + 1.0)
            start[-k:] = np.log(share) / step
        found = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            options={
                "maxiter": self.max_iter,
                "ftol": self.tol if tol is None else tol,
                "gtol": 1e-7,
                "maxcor": 10,
            },
        )
        w, b = unpack(np.asarray(found.x))
        fit = LogisticFit(
            w, b - mean @ w, float(penalty), int(found.nit), bool(found.nit < self.max_iter)
        )
        self._fits[folds] = fit
        return fit

    def _start(self, folds: tuple[int, ...]) -> LogisticFit | None:
        """The last fit on these folds, or on some of them: never one that saw other samples."""
        if folds in self._fits:
            return self._fits[folds]
        within = [f for f in self._fits if set(f) < set(folds)]
        return self._fits[max(within, key=len)] if within else None

    def choose(self, folds: Sequence[int], *, rotate: bool = False) -> float:
        """Choose the penalty by the log loss on left-out folds, as `FoldedRidge.choose`."""
        held = held_out_folds(folds, self.ridge.n_folds, rotate=rotate)

        def error(step: int) -> float:
            return sum(
                float(self._held_out(tuple(f for f in folds if f != v), step)[v]) for v in held
            )

        return 10.0 ** walk(error, start=-1)

    def _held_out(self, folds: tuple[int, ...], step: int) -> NDArray[np.float64]:
        key = (folds, step)
        if key not in self._held:
            fit = self.fit(folds, 10.0**step, tol=_ROUGH)
            loss = np.full(self.ridge.n_folds, np.nan)
            for f, rows in enumerate(self.ridge.members):
                if f not in folds:
                    log_p = fit.log_proba(self.ridge.x[rows])
                    loss[f] = -float(np.einsum("ij,ij->", self.z[rows], log_p))
            self._held[key] = loss
        return self._held[key]
