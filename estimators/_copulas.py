"""Information under a Gaussian and under Student's copula, from ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, ndtri, stdtrit

from estimators._linear import whitened, wishart_bias

__all__ = ["gaussian_copula", "t_copula"]

Float = npt.NDArray[np.float64]
DEGREES: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 15.0, 30.0, math.inf)
_ROUNDS = 6


def gaussian_copula(a: Float, b: Float) -> Float:
    """Local Gaussian information of normal scores, bias-corrected; the mean is the estimate.

    Empty where the scores leave no degrees of freedom or share a direction.
    """
    x, y = whitened(a), whitened(b)
    n = len(x)
    if x.shape[1] + y.shape[1] > n - 2:
        return np.empty(0)
    # In canonical coordinates each pair adds -log(1 - r^2)/2 and a form with mean 0.
    left, r, right = np.linalg.svd(x.T @ y)
    m = len(r)
    if m and float(r[0]) ** 2 > 1.0 - 1e-12:
        return np.empty(0)
    u, v = x @ left[:, :m] * math.sqrt(n), y @ right.T[:, :m] * math.sqrt(n)
    rest = 1.0 - r * r
    form = (u * u + v * v) / 2 - (u * u - 2 * r * u * v + v * v) / (2 * rest)
    local = (-0.5 * np.log(rest) + form).sum(axis=1)
    return np.asarray(local - wishart_bias(x.shape[1], y.shape[1], n))


def t_copula(a: Float, b: Float) -> Float:
    """Local information under Student copulas: the joint's log density less those of both sides.

    Each of the three has its own degrees of freedom and scatter. A shared number of degrees of
    freedom would make independent Student sides look dependent, since their joint is not Student.
    The mean, bias-corrected, is the estimate.
    """
    n = len(a)
    if a.shape[1] + b.shape[1] > n // 4:
        return np.empty(0)
    ranks = [_ranks(v) for v in (a, b)]
    tables = {nu: _quantiles(n, nu) for nu in DEGREES}
    try:
        joint = _best(np.concatenate(ranks, axis=1), tables)
        local = joint - _best(ranks[0], tables) - _best(ranks[1], tables)
    except np.linalg.LinAlgError:  # a shared direction: the information is infinite
        return np.empty(0)
    return np.asarray(local - wishart_bias(a.shape[1], b.shape[1], n))


def _ranks(a: Float) -> npt.NDArray[np.int64]:
    """Ranks 0..n-1 of each column; ties in order of appearance."""
    order = np.argsort(a, axis=0, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(a))[:, None], axis=0)
    return ranks


def _quantiles(n: int, nu: float) -> tuple[Float, Float]:
    """Quantiles at ranks / (n + 1), the same for every column, and their log densities."""
    u = np.arange(1, n + 1) / (n + 1.0)
    q: Float = np.asarray(ndtri(u) if math.isinf(nu) else stdtrit(nu, u), dtype=np.float64)
    if math.isinf(nu):
        return q, -0.5 * q * q - 0.5 * math.log(2 * math.pi)
    constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * math.log(nu * math.pi)
    return q, constant - (nu + 1) / 2 * np.log1p(q * q / nu)


def _best(ranks: npt.NDArray[np.int64], tables: dict[float, tuple[Float, Float]]) -> Float:
    """Log copula density at each sample, for the most likely degrees of freedom."""
    n, d = ranks.shape
    if d == 1:
        return np.zeros(n)
    best, top = np.zeros(n), -math.inf
    for nu in _walk(list(tables)):
        q, log_marginal = tables[nu]
        local = _log_density(q[ranks], nu) - log_marginal[ranks].sum(axis=1)
        total = float(local.mean())
        if total > top:
            best, top = local, total
        elif total < top - 2.0 / n:
            break  # past the peak: the likelihood has one in the degrees of freedom
    return best


def _walk(degrees: Sequence[float]) -> list[float]:
    """From the Gaussian down: most data end the walk after two steps."""
    return sorted(degrees, reverse=True)


def _log_density(z: Float, nu: float) -> Float:
    n, d = z.shape
    scatter: Float = np.eye(d)
    if nu > 2:
        scatter = np.asarray(np.corrcoef(z, rowvar=False), dtype=np.float64)
    rounds = 0 if math.isinf(nu) else _ROUNDS
    for _ in range(rounds):
        _, form = _cholesky_form(z, scatter)
        weight = (nu + d) / (nu + form)
        scatter = (z * weight[:, None]).T @ z / n
        root = np.sqrt(np.diag(scatter))
        scatter = scatter / np.outer(root, root)
    log_det, form = _cholesky_form(z, scatter)
    if math.isinf(nu):
        return np.asarray(-0.5 * (form + log_det + d * math.log(2 * math.pi)))
    constant = gammaln((nu + d) / 2) - gammaln(nu / 2) - d / 2 * math.log(nu * math.pi)
    return np.asarray(constant - 0.5 * log_det - (nu + d) / 2 * np.log1p(form / nu))


def _cholesky_form(z: Float, scatter: Float) -> tuple[float, Float]:
    """Log determinant of the scatter and the quadratic form of each sample."""
    from scipy.linalg import solve_triangular

    factor = np.linalg.cholesky(scatter)
    solved = solve_triangular(factor, z.T, lower=True)
    return 2.0 * float(np.log(np.diag(factor)).sum()), np.asarray((solved * solved).sum(axis=0))
