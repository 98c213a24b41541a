"""What a BROJA answer is worth, computed from the answer alone.

Nothing here knows how the coupling and the dual were found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

__all__ = ["certificate", "round_to_marginals"]

FloatArray = NDArray[np.float64]


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Return part / whole, and 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def round_to_marginals(q: FloatArray, p_zx: FloatArray, p_zy: FloatArray) -> FloatArray:
    """Round a coupling q[z, x, y] to the marginals P(z,x), P(z,y), slice by slice in z.

    Rows and columns that hold too much are scaled down; what is then missing is put back as a
    product (Altschuler, Weed, Rigollet 2017, Algorithm 2).
    """
    q = q * np.minimum(1.0, _ratio(p_zx, q.sum(axis=2)))[:, :, None]
    q = q * np.minimum(1.0, _ratio(p_zy, q.sum(axis=1)))[:, None, :]
    missing_x = np.maximum(p_zx - q.sum(axis=2), 0.0)
    missing_y = np.maximum(p_zy - q.sum(axis=1), 0.0)
    share_x = _ratio(missing_x, np.broadcast_to(missing_x.sum(axis=1)[:, None], p_zx.shape))
    return np.asarray(q + share_x[:, :, None] * missing_y[:, None, :])


def _largest_constraint(lam: FloatArray, mu: FloatArray) -> FloatArray:
    """Return max over y of logsumexp_z(lam[z, x] + mu[z, y]), for every x."""
    worst = np.full(lam.shape[1], -np.inf)
    for x in range(lam.shape[1]):
        present = lam[:, x] > -np.inf
        if present.any():
            u = lam[present, x, None] + mu[present]
            top = u.max(axis=0)
            top[top == -np.inf] = 0.0
            with np.errstate(divide="ignore"):
                worst[x] = np.max(top + np.log(np.exp(u - top).sum(axis=0)))
    return worst


def certificate(
    coupling: FloatArray, lam: FloatArray, mu: FloatArray, p_zx: FloatArray, p_zy: FloatArray
) -> tuple[float, float]:
    """Bound ``f* = min_Q -H_Q(Z|XY)`` from below by (lam, mu) and from above by the coupling.

    Both are repaired first: the coupling is rounded to the marginals; lam is shifted, x by x, by
    the largest of its constraints, after which all of them hold. What is not a number bounds
    nothing, and comes back as -inf or inf.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        q = round_to_marginals(coupling, p_zx, p_zy)
        upper = float(rel_entr(q, np.broadcast_to(q.sum(axis=0), q.shape)).sum())
        has_x, has_y = p_zx > 0, p_zy > 0
        shifted = lam - np.where(has_x.any(axis=0), _largest_constraint(lam, mu), 0.0)
        lower = float(p_zx[has_x] @ shifted[has_x] + p_zy[has_y] @ mu[has_y])
    return (lower if np.isfinite(lower) else -np.inf, upper if np.isfinite(upper) else np.inf)
