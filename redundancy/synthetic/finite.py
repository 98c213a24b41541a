"""Laws on finitely many values: every quantity by enumeration."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from estimators import InputError
from redundancy.synthetic._samples import Array, Samples
from redundancy.theory._discrete import (
    conditional_information,
    entropy,
    information,
    table,
)

__all__ = ["FiniteLaw", "binary_chain", "random_chain"]


class FiniteLaw:
    r"""A joint law of two layers and a target on finitely many points.

    Parameters
    ----------
    p_zxy : array_like, shape (k, m, n)
        Probabilities ``p[z, x, y]``: target, upper layer, lower layer.
    x_upper : array_like, shape (m, d)
        Points of the upper layer.
    x_lower : array_like, shape (n, d)
        Points of the lower layer.
    z : array_like, shape (k, q)
        Values of the target; one-hot vectors if not given.

    Examples
    --------
    >>> law = binary_chain(p=0.1, r=0.0)
    >>> round(law.functional, 6), round(law.cmi, 6), round(law.geometric, 6)
    (0.36, 0.325083, 0.2)
    """

    def __init__(
        self,
        p_zxy: ArrayLike,
        x_upper: ArrayLike,
        x_lower: ArrayLike,
        z: ArrayLike | None = None,
    ) -> None:
        self.p = table(p_zxy, "p_zxy", "zxy")
        k, m, n = self.p.shape
        self.x_upper = _points(x_upper, "x_upper", m)
        self.x_lower = _points(x_lower, "x_lower", n)
        self.z = np.eye(k) if z is None else _points(z, "z", k)

    def sample(self, n: int, *, seed: int = 0) -> Samples:
        """Draw n independent samples; the target is the class, and `symbols` holds all codes."""
        rng = np.random.default_rng(seed)
        # A finite law is sampled by its cumulative sums, in float64 like everything else here.
        flat = np.searchsorted(np.cumsum(self.p.reshape(-1)), rng.random(n), side="right")
        flat = np.minimum(flat, self.p.size - 1)
        z, x, y = (a.astype(np.int64) for a in np.unravel_index(flat, self.p.shape))
        return Samples(
            x_lower=self.x_lower[y], x_upper=self.x_upper[x], target=z, symbols=(y, x, z)
        )

    @property
    def p_xy(self) -> Array:
        """Joint law of upper (rows) and lower (columns) layer."""
        return np.asarray(self.p.sum(0))

    @property
    def markov(self) -> bool:
        """True if X' - X - Z is a Markov chain."""
        return self.cmi_reverse < 1e-12

    @property
    def rho(self) -> Array:
        """Cosine distance of each pair of points; NaN where a point is zero."""
        norms = np.linalg.norm(self.x_upper, axis=1)[:, None] * np.linalg.norm(self.x_lower, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            cos = np.where(norms > 0, (self.x_upper @ self.x_lower.T) / norms, np.nan)
        return np.clip(1.0 - cos, 0.0, 2.0)

    @property
    def geometric(self) -> float:
        """E rho; NaN if a zero vector has positive probability."""
        p = self.p_xy
        return float((p * np.where(p > 0, self.rho, 0.0)).sum())

    def p_close(self, t: float) -> float:
        """P[rho <= t]."""
        return min(float(self.p_xy[self.rho <= t].sum()), 1.0)

    def p_lt(self, t: float) -> float:
        """P[rho < t], the proximal reading."""
        return min(float(self.p_xy[self.rho < t].sum()), 1.0)

    def p_centre(self, t: float) -> Array:
        """P[X' in B(t, x)] for each point x of the upper layer (Theorem 4)."""
        return np.asarray((self.rho <= t) @ self.p_xy.sum(0))

    def q(self, t: float) -> float:
        """P[rho <= t] for independent layers."""
        return float(self.p_xy.sum(1) @ self.p_centre(t))

    @property
    def sq_dist(self) -> float:
        """``E|X - X'|^2``: the squared error of a skip with tail phi(x) = x."""
        gaps = self.x_upper[:, None] - self.x_lower[None]
        return float((self.p_xy * (gaps**2).sum(-1)).sum())

    @property
    def functional(self) -> float:
        """F = E|E[Z|X] - E[Z|X']|^2."""
        p = self.p_xy
        upper, lower = p.sum(1), p.sum(0)
        mean_x = np.einsum("zxy,zq->xq", self.p, self.z)[upper > 0] / upper[upper > 0, None]
        mean_y = np.einsum("zxy,zq->yq", self.p, self.z)[lower > 0] / lower[lower > 0, None]
        gaps = ((mean_x[:, None] - mean_y[None]) ** 2).sum(-1)
        return float((p[np.ix_(upper > 0, lower > 0)] * gaps).sum())

    @property
    def tr_cov_z(self) -> float:
        """Trace of the target's covariance."""
        p_z = self.p.sum((1, 2))
        return float(p_z @ ((self.z - p_z @ self.z) ** 2).sum(1))

    @property
    def diam(self) -> float:
        """Diameter of the target's values of positive probability."""
        z = self.z[self.p.sum((1, 2)) > 0]
        return float(max(np.linalg.norm(z - row, axis=1).max() for row in z))

    @property
    def radius(self) -> float:
        """Largest norm of the target's values of positive probability."""
        return float(np.linalg.norm(self.z[self.p.sum((1, 2)) > 0], axis=1).max())

    @property
    def h_l(self) -> float:
        """H(X) in nats."""
        return entropy(self.p_xy.sum(1))

    @property
    def h_cond(self) -> float:
        """H(X | X') in nats, the informational redundancy."""
        return max(entropy(self.p_xy) - entropy(self.p_xy.sum(0)), 0.0)

    @property
    def mutual_information(self) -> float:
        """I(X; X') in nats."""
        return information(self.p_xy)

    @property
    def cmi(self) -> float:
        """I(Z; X | X') in nats."""
        return conditional_information(self.p)

    @property
    def cmi_reverse(self) -> float:
        """I(Z; X' | X) in nats; 0 for a Markov chain."""
        return conditional_information(self.p.transpose(0, 2, 1))

    @property
    def i_z_l(self) -> float:
        """I(Z; X) in nats."""
        return information(self.p.sum(2))

    @property
    def i_z_lm1(self) -> float:
        """I(Z; X') in nats."""
        return information(self.p.sum(1))

    @property
    def truth(self) -> Mapping[str, float]:
        """Every known quantity by name; for a Markov chain the four atoms of its PID as well."""
        names = (
            "geometric",
            "sq_dist",
            "functional",
            "h_l",
            "h_cond",
            "mutual_information",
            "cmi",
            "cmi_reverse",
            "i_z_l",
            "i_z_lm1",
            "tr_cov_z",
        )
        known = {name: float(getattr(self, name)) for name in names}
        if self.markov:
            known |= {
                "redundant": self.i_z_lm1,
                "unique_x": self.cmi,
                "unique_y": 0.0,
                "synergistic": 0.0,
            }
        return MappingProxyType(known)


def binary_chain(*, p: float, r: float) -> FiniteLaw:
    r"""Build the chain X' - X - Z of fair signs: X flips X' with probability p, Z flips X with r.

    :math:`F = (1-2r)^2\, 4p(1-p)`, :math:`I(Z; X | X') = h_2(p * r) - h_2(r)` with
    :math:`p * r = p(1-r) + r(1-p)`, and :math:`H(X | X') = h_2(p)`.

    Examples
    --------
    >>> round(binary_chain(p=0.01, r=0.05).functional, 9)
    0.032076
    """
    if not (0.0 <= p <= 1.0 and 0.0 <= r <= 1.0):
        raise InputError(f"p is {p} and r {r}; flip probabilities lie in [0, 1]")
    flip_x = np.array([[1 - p, p], [p, 1 - p]])
    flip_z = np.array([[1 - r, r], [r, 1 - r]])
    signs = np.array([[1.0], [-1.0]])
    return FiniteLaw(0.5 * np.einsum("yx,xz->zxy", flip_x, flip_z), signs, signs, signs)


def random_chain(
    *,
    states: tuple[int, int, int] = (3, 4, 4),
    markov: bool = True,
    concentration: float = 0.5,
    d: int = 3,
    seed: int = 0,
) -> FiniteLaw:
    """Draw a law of k classes, m upper and n lower points on the unit sphere, at random.

    Parameters
    ----------
    states : tuple of int
        k, m, n.
    markov : bool
        True for X' - X - Z, False for a law without any chain.
    concentration : float
        Of the Dirichlet laws; small values give peaked conditionals.
    d : int
        Dimension of the points.
    seed : int

    Examples
    --------
    >>> random_chain(seed=1).markov, random_chain(seed=1, markov=False).markov
    (True, False)
    """
    rng = np.random.default_rng(seed)
    k, m, n = states
    p_y = rng.dirichlet(np.ones(n))
    x_given = rng.dirichlet(np.full(m, concentration), size=n)
    if markov:
        z_given = np.repeat(rng.dirichlet(np.full(k, concentration), size=m)[:, None], n, axis=1)
    else:
        z_given = rng.dirichlet(np.full(k, concentration), size=(m, n))
    points = rng.normal(size=(m + n, d))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    p = np.einsum("y,yx,xyz->zxy", p_y, x_given, z_given)
    return FiniteLaw(p / p.sum(), points[:m], points[m:])


def _points(a: ArrayLike, name: str, count: int) -> Array:
    out = np.asarray(a, dtype=np.float64)
    if out.ndim == 1:
        out = out[:, None]
    if out.ndim != 2 or len(out) != count or not bool(np.isfinite(out).all()):
        raise InputError(f"{name} has shape {out.shape}; give {count} finite points, one per row")
    return out
