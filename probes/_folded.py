"""Ridge regressions of several targets on unions of folds, in principal coordinates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from estimators._arrays import FloatArray
from probes._choice import Key
from probes._principal import Principal

__all__ = ["RidgeSolver"]

_SMALL = 768  # up to here a decomposition per union is cheaper than iterations
_MAX_STEPS = 300


class RidgeSolver:
    """Ridge fits of one layer to one or more targets.

    Parameters
    ----------
    layer : Principal
    z : ndarray of float64, shape (n, m, k)
        The m targets, rows in the layer's order.
    """

    def __init__(self, layer: Principal, z: FloatArray) -> None:
        self.layer, self.z = layer, z
        flat = z.reshape(len(z), -1)
        x = layer.x
        self._cross = [
            np.asarray(x[rows].T @ flat[rows].astype(x.dtype), dtype=np.float64)
            for rows in layer.folds
        ]
        self._sum_x = [x[rows].sum(0, dtype=np.float64) for rows in layer.folds]
        self._sum_z = [flat[rows].sum(0) for rows in layer.folds]

    def fit(
        self, folds: Sequence[int], penalties: Sequence[float]
    ) -> tuple[FloatArray, FloatArray]:
        r"""Minimise :math:`\sum_i |z_i - W x_i - b|^2 + n \lambda |W|^2` on a union of folds.

        Returns
        -------
        coef : ndarray, shape (p, r, m, k)
            For each of the p penalties.
        intercept : ndarray, shape (p, m, k)
        """
        n = self.layer.size(folds)
        mean_x = np.sum([self._sum_x[f] for f in folds], axis=0) / n
        mean_z = np.sum([self._sum_z[f] for f in folds], axis=0) / n
        cross = np.sum([self._cross[f] for f in folds], axis=0) - n * np.outer(mean_x, mean_z)
        floor = 1e-10 if self.layer.x.dtype == np.float64 else 1e-6
        amounts = n * np.maximum(np.asarray(penalties, dtype=np.float64), floor)
        shape = self.z.shape[1:]
        if n == self.layer.n:
            # Columns are orthogonal over all samples: the fit is known.
            coef = cross / (self.layer.values[:, None] + amounts[:, None, None])
            return coef.reshape(len(amounts), -1, *shape), np.broadcast_to(
                mean_z, (len(amounts), len(mean_z))
            ).reshape(len(amounts), *shape)
        grams = self.layer.grams()
        h = grams[folds[0]].copy()
        for f in folds[1:]:
            h += grams[f]
        h -= np.outer((n * mean_x).astype(h.dtype), mean_x.astype(h.dtype))
        if self.layer.rank <= _SMALL:
            coef = _by_eigenvalues(h, cross, amounts)
        else:
            coef = _by_iteration(h, cross, amounts, n / self.layer.n * self.layer.values)
        intercept = mean_z - np.einsum("r,prq->pq", mean_x, coef)
        return coef.reshape(len(amounts), -1, *shape), intercept.reshape(len(amounts), *shape)

    def predict(self, fold: int, coef: FloatArray, intercept: FloatArray) -> FloatArray:
        """Predict for a fold from coefficients (r, ...) and intercepts (...)."""
        x = self.layer.x[self.layer.folds[fold]]
        linear = x @ coef.reshape(len(coef), -1).astype(x.dtype)
        out = np.asarray(linear, dtype=np.float64) + intercept.reshape(-1)
        return out.reshape(len(x), *intercept.shape)

    def errors(self, keys: Sequence[Key]) -> dict[Key, Mapping[int, float]]:
        """Squared errors of fits on every fold that they did not see."""
        by_folds: dict[tuple[int, ...], list[Key]] = defaultdict(list)
        for key in keys:
            by_folds[key[0]].append(key)
        out: dict[Key, Mapping[int, float]] = {}
        for folds, wanted in by_folds.items():
            steps = sorted({step for _, _, step in wanted})
            coef, intercept = self.fit(folds, [10.0**s for s in steps])
            unseen = [f for f in range(len(self.layer.folds)) if f not in folds]
            found = {}
            for f in unseen:
                z = self.z[self.layer.folds[f]]
                guess = self.predict(f, np.moveaxis(coef, 0, 1), intercept)
                found[f] = ((z[:, None] - guess) ** 2).sum((0, 3))
            for key in wanted:
                at = steps.index(key[2])
                out[key] = {f: float(found[f][at, key[1]]) for f in unseen}
        return out


def _by_eigenvalues(h: FloatArray, cross: FloatArray, amounts: FloatArray) -> FloatArray:
    from scipy.linalg import eigh

    values, vectors = eigh(h.astype(np.float64), overwrite_a=True, check_finite=False)
    inner = vectors.T @ cross
    shrunk = inner / (np.maximum(values, 0.0)[None, :, None] + amounts[:, None, None])
    return np.asarray(vectors @ shrunk)


def _by_iteration(
    h: FloatArray, cross: FloatArray, amounts: FloatArray, near: FloatArray
) -> FloatArray:
    """Conjugate gradients for all penalties and columns at once, preconditioned by `near`."""
    r, q = cross.shape
    p, dtype = len(amounts), h.dtype
    ridge = np.repeat(amounts, q).astype(dtype)
    inverse = (1.0 / (near[:, None] + np.repeat(amounts, q)[None])).astype(dtype)
    rest = np.tile(cross, (1, p)).astype(dtype)
    w = np.zeros((r, p * q), dtype=dtype)
    goal = (1e-9 if dtype == np.float64 else 3e-5) * _norms(rest)
    scaled = inverse * rest
    direction, rho = scaled.copy(), np.einsum("ij,ij->j", rest, scaled)
    active = np.arange(p * q)
    for _ in range(_MAX_STEPS):
        busy = _norms(rest) > goal[active]
        if not bool(busy.any()):
            break
        if not bool(busy.all()):
            active, rho, inverse = active[busy], rho[busy], np.ascontiguousarray(inverse[:, busy])
            rest, direction = rest[:, busy], np.ascontiguousarray(direction[:, busy])
        moved = h @ direction
        moved += ridge[active] * direction
        step = rho / np.maximum(np.einsum("ij,ij->j", direction, moved), 1e-30)
        w[:, active] += step * direction
        rest = rest - step * moved
        scaled = inverse * rest
        last, rho = rho, np.einsum("ij,ij->j", rest, scaled)
        direction = scaled + (rho / np.maximum(last, 1e-30)) * direction
    return np.ascontiguousarray(np.moveaxis(w.reshape(r, p, q), 1, 0), dtype=np.float64)


def _norms(a: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(np.einsum("ij,ij->j", a, a)))
