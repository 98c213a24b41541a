"""Isotropic Gaussian layers, of which the law of the cosine is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from estimators import InputError
from redundancy.synthetic._quadrature import gauss_legendre, window
from redundancy.synthetic._samples import Array, Samples
from redundancy.theory._gamma import gamma_ratio

__all__ = ["GaussianCosine"]


@dataclass(frozen=True)
class GaussianCosine:
    r"""Isotropic Gaussian layers, whose cosine distance is known.

    .. math:: X' \sim N(0, I_d), \qquad X = a X' + \sqrt{1 - a^2}\, W

    Parameters
    ----------
    d : int
        Dimension, at least 2.
    a : float in (-1, 1)
        Correlation of each coordinate.

    Examples
    --------
    >>> pair = GaussianCosine(d=3, a=0.9)
    >>> round(pair.geometric, 9), round(pair.p_close(0.05), 9)
    (0.146019371, 0.435577287)
    """

    d: int
    a: float

    def __post_init__(self) -> None:
        if self.d < 2 or not -1.0 < self.a < 1.0:
            raise InputError(f"d is {self.d} and a {self.a}; give d >= 2 and -1 < a < 1")

    def sample(self, n: int, *, seed: int = 0) -> Samples:
        """Draw n independent samples; the target is the first coordinate of the upper layer."""
        rng = np.random.default_rng(seed)
        lower = rng.normal(size=(n, self.d))
        upper = self.a * lower + math.sqrt(1 - self.a**2) * rng.normal(size=(n, self.d))
        return Samples(x_lower=lower, x_upper=upper, target=upper[:, :1])

    @property
    def mean_cos(self) -> float:
        """E cos of the two states."""
        ratio = _half_step(0.5 * self.d)
        return 2 * self.a / self.d * ratio**2 * float(_series(np.array(self.a**2), self.d / 2 + 1))

    @property
    def geometric(self) -> float:
        """E rho."""
        return 1.0 - self.mean_cos

    def p_close(self, t: float) -> float:
        """P[rho <= t], by quadrature of the density of a correlation coefficient."""
        if t <= 0.0:
            return 0.0
        if t >= 2.0:
            return 1.0
        end = 2 * math.asin(math.sqrt(t / 2))
        if self.d <= 20:  # wide, with corners: adaptive
            from scipy.integrate import quad

            points = [min(self._peak(), end)]
            value: float = quad(
                lambda angle: float(self._density(np.array(angle))),
                0.0,
                end,
                points=points,
                epsabs=1e-13,
                epsrel=1e-11,
                limit=400,
            )[0]
        else:  # narrow: fixed, around the peak
            low, high, _ = window(self._exponent, self._peak())
            angle, weights = gauss_legendre(low, max(min(high, end), low))
            value = float(weights @ self._density(angle))
        return min(value, 1.0)

    def _exponent(self, angle: Array) -> Array:
        """Logarithm of the angle's density but for its constant and its series."""
        # Over the angle rather than the cosine, whose density is infinite at the ends for d = 2.
        log_sine = np.log(np.maximum(np.sin(angle), 1e-300)) if self.d > 2 else 0.0
        # 1 - a cos without cancellation
        gap = (1 - self.a) + 2 * self.a * np.sin(angle / 2) ** 2
        return np.asarray((self.d - 2) * log_sine - (self.d - 0.5) * np.log(gap))

    def _density(self, angle: Array) -> Array:
        d, a = self.d, self.a
        log_c = math.log((d - 1.0) / (math.sqrt(2 * math.pi) * _half_step(float(d))))
        log_c += 0.5 * d * (math.log1p(-a) + math.log1p(a))
        series = _series(0.5 * (1 + a * np.cos(angle)), d + 0.5)
        return np.asarray(np.exp(log_c + self._exponent(angle)) * series)

    def _peak(self) -> float:
        """Angle of the largest density, but for the series, which hardly changes."""

        def slope(angle: float) -> float:
            gap = (1 - self.a) + 2 * self.a * math.sin(angle / 2) ** 2
            pull = (self.d - 0.5) * self.a * math.sin(angle) ** 2 / gap
            return (self.d - 2) * math.cos(angle) - pull

        low, high = 0.0, math.pi
        for _ in range(80):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if slope(middle) > 0 else (low, middle)
        return 0.5 * (low + high)

    @property
    def mutual_information(self) -> float:
        """I(X; X') of the states before normalisation, in nats."""
        return -0.5 * self.d * math.log1p(-self.a * self.a)

    @property
    def sq_dist(self) -> float:
        """``E|X - X'|^2`` before normalisation."""
        return 2.0 * self.d * (1.0 - self.a)

    @property
    def truth(self) -> Mapping[str, float]:
        """Every known quantity by name."""
        names = ("mean_cos", "geometric", "mutual_information", "sq_dist")
        return MappingProxyType({name: float(getattr(self, name)) for name in names})


def _half_step(x: float) -> float:
    """Gamma(x + 1/2) / Gamma(x) for x >= 1."""
    return (x - 0.5) * gamma_ratio(x - 1.0)


def _series(z: Array, c: float) -> Array:
    """Gauss's 2F1(1/2, 1/2; c; z) for z in [0, 1)."""
    from scipy.special import hyp2f1

    if c < 20.0:
        return np.asarray(hyp2f1(0.5, 0.5, c, z))
    # scipy's returns NaN for the c of wide layers, where the plain series needs few terms.
    term = np.ones_like(z)
    total = np.ones_like(z)
    for n in range(2000):
        term = term * ((n + 0.5) ** 2 / ((c + n) * (n + 1.0))) * z
        total = total + term
        if float(np.max(term)) < 1e-17:
            break
    return total
