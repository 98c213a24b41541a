"""Differential entropy by the Kozachenko-Leonenko estimator: flat space and the unit sphere."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, digamma, gammaln

from estimators._arrays import FloatArray
from estimators._errors import InputError
from estimators._knn import assemble, duplicates, interval_for, prepare
from estimators._neighbours import nearest
from estimators._types import Diagnostic, Estimate

__all__ = ["kl_entropy", "log_cap", "log_sphere_surface"]

Metric = Literal["euclidean", "chebyshev", "sphere"]
Float = npt.NDArray[np.float64]


def log_ball(d: int, metric: str) -> float:
    """Log volume of the unit ball of R^d."""
    if metric == "chebyshev":
        return d * math.log(2.0)
    return d / 2 * math.log(math.pi) - float(gammaln(d / 2 + 1))


def log_sphere_surface(d: int) -> float:
    """Log of the surface measure of the unit sphere in R^d, the largest entropy on it."""
    return math.log(2.0) + d / 2 * math.log(math.pi) - float(gammaln(d / 2))


def log_cap(d: int, angle: Float) -> Float:
    """Log share of the unit sphere in R^d within `angle` of a point (not above pi / 2 exactly).

    The regularised incomplete beta function underflows for small caps in high dimension; there a
    series with positive terms gives its logarithm.
    """
    a = (d - 1) / 2.0
    sine2 = np.sin(angle) ** 2
    share = betainc(a, 0.5, sine2)
    with np.errstate(divide="ignore"):
        out = np.log(share) - math.log(2.0)
    wide = angle > math.pi / 2
    out = np.where(wide, np.log1p(-0.5 * share), out)
    small = (share < 1e-280) & ~wide & (sine2 > 0)
    if small.any():
        z = sine2[small]
        term = np.ones_like(z)
        total = np.ones_like(z)
        for m in range(2000):
            term = term * z * (a + 0.5 + m) / (a + 1 + m)
            total += term
            if float((term / total).max()) < 1e-17:
                break
        log_beta = gammaln(a) + gammaln(0.5) - gammaln(a + 0.5)
        out[small] = (
            a * np.log(z)
            + 0.5 * np.log(np.cos(angle[small]) ** 2)
            - math.log(a)
            - log_beta
            + np.log(total)
            - math.log(2.0)
        )
    return np.asarray(out)


def kl_entropy(
    x: Any,
    *,
    k: int = 3,
    metric: Metric = "euclidean",
    jitter: float = 0.0,
    groups: Any = None,
    ci: float | None = 0.95,
    seed: int = 0,
    device: str | None = None,
) -> Estimate:
    r"""Differential entropy by nearest neighbours (Kozachenko and Leonenko), in nats.

    .. math:: \hat h = \psi(n) - \psi(k) + \frac1n \sum_i \log V(\epsilon_i)

    with V the volume of the ball, or, for ``metric="sphere"``, the exact surface of the cap that
    reaches the k-th neighbour: unit vectors have no density in flat space. The error grows with
    the dimension (about 0.03, 0.14, 0.23 and 0.29 nats *per dimension* at 16, 64, 256 and 1024),
    the entropy depends on the unit of the data, and exact copies make it undefined.

    Parameters
    ----------
    x : float array, shape (n, d)
    k : int
        Neighbour; larger is smoother and more biased.
    metric : {"euclidean", "chebyshev", "sphere"}
        Shape of the neighbourhood; ``"sphere"`` takes unit vectors and their surface measure.
    jitter : float
        Seeded Gaussian noise to break ties, as a share of each coordinate's standard deviation.
    groups : array, shape (n,), optional
        Cluster of each sample; the interval resamples clusters.
    ci : float or None
        Level of the interval; None skips it.
    seed : int
        Seed of resampling and jitter.
    device : str, optional
        Torch device for the neighbour search, e.g. ``"cuda"``.

    Returns
    -------
    Estimate
        In nats (base measure: volume in the unit of x, or surface); None where copies or a linear
        dependence leave no density.

    Raises
    ------
    InputError
        On integers, NaN, fewer than k + 1 samples, constant data, vectors that are not of unit
        length with ``metric="sphere"``.

    Examples
    --------
    >>> x = np.random.default_rng(0).uniform(size=(2000, 2))
    >>> abs(kl_entropy(x, ci=None).value) < 0.1
    True

    References
    ----------
    Kozachenko and Leonenko 1987; Kraskov et al. 2004, eq. 20; Li, Mnatsakanov and Andrew 2011
    (sphere).
    """
    if metric not in ("euclidean", "chebyshev", "sphere"):
        raise InputError(f"metric is {metric!r}; use 'euclidean', 'chebyshev' or 'sphere'")
    p = prepare({"x": x}, k=k, groups=groups, ci=ci, jitter=jitter, seed=seed)
    a = np.asarray(p.arrays["x"], dtype=np.float64)
    n, d = int(a.shape[0]), int(a.shape[1])
    shift: float = p.exponent * d * math.log(2.0)
    if metric == "sphere":
        a = _on_sphere(a)  # of length near 1: never rescaled, or refused here
    flat: Literal["chebyshev", "euclidean"] = "chebyshev" if metric == "chebyshev" else "euclidean"
    distances, _ = nearest(a, p.k, metric=flat, device=device)
    found: list[Diagnostic] = list(
        duplicates(
            distances,
            n,
            "remove the copies, use discrete_entropy if the values are symbols, or break ties "
            "openly with jitter=1e-8",
        )
    )
    intrinsic = d - 1 if metric == "sphere" else d
    rank = _rank(a)
    if rank < d:
        found.append(
            Diagnostic(
                code="rank-deficient",
                severity="error",
                message=f"the {d} coordinates lie on a linear subspace of {rank}, where no "
                f"density in {d} dimensions exists; project on {rank} principal components first",
            )
        )
    if intrinsic > 8:
        found.append(
            Diagnostic(
                code="high-dimension",
                severity="error" if intrinsic > 32 else "warning",
                message=f"in {intrinsic} dimensions a nearest-neighbour entropy is off by "
                "0.03 to 0.3 nats per dimension; compare entropies only between samples of equal "
                "size and shape, or use quantised symbols with discrete_entropy",
            )
        )
    value = None
    if rank == d and bool((distances[:, -1] > 0).all()):
        value = _entropy(distances[:, -1], p.k, d, metric) + shift

    def statistic(rows: Any) -> float:
        radius = nearest(a[rows], p.k, metric=flat, device=device)[0][:, -1]
        return _entropy(radius, p.k, d, metric) + shift

    return assemble(
        p,
        value,
        f"Kozachenko-Leonenko, k = {p.k}, {metric}",
        interval=interval_for(p, statistic, value),
        params={"metric": metric, "dimension": d, "jitter": jitter},
        found=found,
    )


def _entropy(radius: Float, k: int, d: int, metric: str) -> float:
    scale: float = float(digamma(len(radius))) - float(digamma(k))
    if metric == "sphere":
        angle = 2.0 * np.arcsin(np.minimum(radius / 2.0, 1.0))
        return scale + float(log_cap(d, angle).mean()) + log_sphere_surface(d)
    volume: float = log_ball(d, metric) + d * float(np.log(radius).mean())
    return scale + volume


def _on_sphere(a: Float) -> Float:
    norms = np.sqrt((a * a).sum(axis=1))
    off = np.flatnonzero(np.abs(norms - 1.0) > 1e-3)
    if a.shape[1] < 2:
        raise InputError(f"x has shape {a.shape}; a sphere needs at least 2 coordinates")
    if len(off):
        raise InputError(
            f"{len(off)} rows of x are not unit vectors (row {int(off[0])} has length "
            f"{norms[off[0]]:.6g}); divide each row by its length"
        )
    return np.asarray(a / norms[:, None])


def _rank(a: FloatArray) -> int:
    from estimators._linear import principal, standardised

    n, d = int(a.shape[0]), int(a.shape[1])
    z = standardised(a)
    if z.shape[1] == d < n:
        # A Cholesky factor with a stout diagonal settles it at a fraction of the eigenvalues' cost.
        try:
            factor = np.linalg.cholesky(z.T @ z / n)
        except np.linalg.LinAlgError:
            pass
        else:
            if float(np.diag(factor).min()) > 1e-4:
                return d
    _, values = principal(z)
    return int(values.shape[0])
