"""Linear-Gaussian layers and target: every information and error in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from estimators import InputError
from redundancy.synthetic._samples import Array, Samples

__all__ = ["GaussianChain"]


def _matrix(a: ArrayLike, name: str, shape: tuple[int | None, int | None]) -> Array:
    out = np.atleast_2d(np.asarray(a, dtype=np.float64))
    if out.ndim != 2 or any(
        s is not None and s != t for s, t in zip(shape, out.shape, strict=True)
    ):
        wanted = tuple("any" if s is None else s for s in shape)
        raise InputError(f"{name} has shape {out.shape}; give a matrix of shape {wanted}")
    if not bool(np.isfinite(out).all()):
        raise InputError(f"{name} holds values that are not finite")
    return out


def _covariance(a: ArrayLike, name: str, d: int | None = None) -> Array:
    out = _matrix(a, name, (d, d))
    if out.shape[0] != out.shape[1] or not np.allclose(out, out.T, rtol=1e-10, atol=1e-12):
        raise InputError(f"{name} is not a symmetric matrix")
    try:
        np.linalg.cholesky(out)
    except np.linalg.LinAlgError as error:
        raise InputError(f"{name} is not positive definite; every direction needs noise") from error
    return out


def _logdet(a: Array) -> float:
    return float(np.linalg.slogdet(a)[1])


class GaussianChain:
    r"""Two Gaussian layers and a linear target, with every redundancy in closed form.

    .. math:: X' \sim N(0, S), \quad X = A X' + W,\ W \sim N(0, N), \quad
              Z = C X + G X' + V,\ V \sim N(0, R)

    X is the upper layer, X' the lower. G = 0 (the default) makes X' - X - Z a Markov chain.

    Parameters
    ----------
    sigma : array_like, shape (d', d')
        S, covariance of the lower layer.
    a : array_like, shape (d, d')
    n : array_like, shape (d, d)
        N, covariance of what the layer adds.
    c : array_like, shape (k, d)
    r : array_like, shape (k, k)
        R, covariance of the target's noise.
    g : array_like, shape (k, d'), optional
        G; zero if not given.

    Examples
    --------
    >>> chain = GaussianChain.random(d=3, k=2, seed=0)
    >>> chain.markov, round(chain.cmi_reverse, 12)
    (True, 0.0)
    >>> chain.sample(100, seed=1).x_upper.shape
    (100, 3)
    """

    def __init__(
        self,
        sigma: ArrayLike,
        a: ArrayLike,
        n: ArrayLike,
        c: ArrayLike,
        r: ArrayLike,
        g: ArrayLike | None = None,
    ) -> None:
        self.sigma = _covariance(sigma, "sigma")
        lower = len(self.sigma)
        self.a = _matrix(a, "a", (None, lower))
        upper = len(self.a)
        self.n = _covariance(n, "n", upper)
        self.c = _matrix(c, "c", (None, upper))
        k = len(self.c)
        self.r = _covariance(r, "r", k)
        self.g = np.zeros((k, lower)) if g is None else _matrix(g, "g", (k, lower))

    @classmethod
    def random(
        cls,
        *,
        d: int = 4,
        k: int = 2,
        markov: bool = True,
        noise: float = 0.3,
        seed: int = 0,
    ) -> GaussianChain:
        """Draw a chain whose layers resemble each other (A is near the identity)."""
        rng = np.random.default_rng(seed)

        def covariance(size: int, scale: float) -> Array:
            root = rng.normal(size=(size, size)) / math.sqrt(size)
            return np.asarray(scale * (root @ root.T + 0.2 * np.eye(size)))

        return cls(
            sigma=covariance(d, 1.0),
            a=np.eye(d) + 0.3 * rng.normal(size=(d, d)) / math.sqrt(d),
            n=covariance(d, noise),
            c=rng.normal(size=(k, d)) / math.sqrt(d),
            r=covariance(k, 0.3),
            g=None if markov else 0.5 * rng.normal(size=(k, d)) / math.sqrt(d),
        )

    def sample(self, n: int, *, seed: int = 0) -> Samples:
        """Draw n independent samples; the target is real-valued, shape (n, k)."""
        rng = np.random.default_rng(seed)

        def noise(covariance: Array) -> Array:
            size = len(covariance)
            return np.asarray(rng.normal(size=(n, size)) @ np.linalg.cholesky(covariance).T)

        lower = noise(self.sigma)
        upper = lower @ self.a.T + noise(self.n)
        target = upper @ self.c.T + lower @ self.g.T + noise(self.r)
        return Samples(x_lower=lower, x_upper=upper, target=target)

    @property
    def markov(self) -> bool:
        """True if G = 0, so that X' - X - Z is a Markov chain."""
        return not bool(self.g.any())

    @cached_property
    def sigma_l(self) -> Array:
        """Covariance of the upper layer."""
        return np.asarray(self.a @ self.sigma @ self.a.T + self.n)

    @cached_property
    def cross(self) -> Array:
        """Covariance of upper (rows) and lower (columns) layer."""
        return np.asarray(self.a @ self.sigma)

    @cached_property
    def coef_l(self) -> Array:
        """E[Z | X] = coef_l X."""
        lower_from_upper = np.linalg.solve(self.sigma_l, self.cross).T
        return np.asarray(self.c + self.g @ lower_from_upper)

    @cached_property
    def coef_lm1(self) -> Array:
        """E[Z | X'] = coef_lm1 X'."""
        return np.asarray(self.c @ self.a + self.g)

    @cached_property
    def sigma_z(self) -> Array:
        """Covariance of the target."""
        b = self.coef_lm1
        return np.asarray(b @ self.sigma @ b.T + self.c @ self.n @ self.c.T + self.r)

    @cached_property
    def conditional_l(self) -> Array:
        """Cov(X' | X)."""
        return np.asarray(self.sigma - self.cross.T @ np.linalg.solve(self.sigma_l, self.cross))

    @property
    def alpha(self) -> float:
        """Lipschitz constant of E[Z | X, X'] in X."""
        return float(np.linalg.norm(self.c, 2))

    @property
    def beta(self) -> float:
        """Lipschitz constant of E[Z | X, X'] in X'."""
        return float(np.linalg.norm(self.g, 2))

    @cached_property
    def functional(self) -> float:
        """F = E|E[Z|X] - E[Z|X']|^2."""
        # E[Z|X] - E[Z|X'] = (coef_l A - coef_lm1) X' + coef_l W
        gap = self.coef_l @ self.a - self.coef_lm1
        value = np.trace(gap @ self.sigma @ gap.T) + np.trace(self.coef_l @ self.n @ self.coef_l.T)
        return float(value)

    @property
    def sq_dist(self) -> float:
        """``E|X - X'|^2``."""
        if self.a.shape[0] != self.a.shape[1]:
            raise InputError("layers of different width have no distance")
        gap = self.a - np.eye(len(self.a))
        return float(np.trace(gap @ self.sigma @ gap.T) + np.trace(self.n))

    @property
    def w(self) -> float:
        """E tr Cov(X | X'), the W of Theorem 1."""
        return float(np.trace(self.n))

    @property
    def w_prime(self) -> float:
        """E tr Cov(X' | X), the W' of Theorem 1."""
        return float(np.trace(self.conditional_l))

    @property
    def tr_cov_z(self) -> float:
        """Trace of the target's covariance."""
        return float(np.trace(self.sigma_z))

    @cached_property
    def _residual_l(self) -> Array:
        return np.asarray(self.g @ self.conditional_l @ self.g.T + self.r)

    @cached_property
    def _residual_lm1(self) -> Array:
        return np.asarray(self.c @ self.n @ self.c.T + self.r)

    @property
    def mmse_l(self) -> float:
        """Minimum mean squared error of Z from X."""
        return float(np.trace(self._residual_l))

    @property
    def mmse_lm1(self) -> float:
        """Minimum mean squared error of Z from X'."""
        return float(np.trace(self._residual_lm1))

    @property
    def mmse_joint(self) -> float:
        """Minimum mean squared error of Z from both layers."""
        return float(np.trace(self.r))

    @property
    def mutual_information(self) -> float:
        """I(X; X') in nats."""
        return 0.5 * (_logdet(self.sigma_l) - _logdet(self.n))

    @property
    def conditional_entropy(self) -> float:
        """Differential entropy h(X | X') in nats; changes with the unit of X."""
        return 0.5 * (len(self.n) * math.log(2 * math.pi * math.e) + _logdet(self.n))

    @property
    def i_z_l(self) -> float:
        """I(Z; X) in nats."""
        return 0.5 * (_logdet(self.sigma_z) - _logdet(self._residual_l))

    @property
    def i_z_lm1(self) -> float:
        """I(Z; X') in nats."""
        return 0.5 * (_logdet(self.sigma_z) - _logdet(self._residual_lm1))

    @property
    def cmi(self) -> float:
        """I(Z; X | X') in nats."""
        return 0.5 * (_logdet(self._residual_lm1) - _logdet(self.r))

    @property
    def cmi_reverse(self) -> float:
        """I(Z; X' | X) in nats; 0 for a Markov chain."""
        return 0.5 * (_logdet(self._residual_l) - _logdet(self.r))

    @property
    def cka(self) -> float:
        """Linear centred kernel alignment of the two layers, in the population."""
        scale = np.linalg.norm(self.sigma_l) * np.linalg.norm(self.sigma)
        return float(np.linalg.norm(self.cross) ** 2 / scale)

    @property
    def truth(self) -> Mapping[str, float]:
        """Every known quantity by name."""
        names = (
            "functional",
            "mutual_information",
            "conditional_entropy",
            "cmi",
            "cmi_reverse",
            "i_z_l",
            "i_z_lm1",
            "mmse_l",
            "mmse_lm1",
            "mmse_joint",
            "cka",
            "alpha",
            "beta",
            "w",
            "w_prime",
            "tr_cov_z",
        )
        return MappingProxyType({name: float(getattr(self, name)) for name in names})
