"""Von Mises-Fisher pairs: the one law under which Theorem 3's assumption is true."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from estimators import InputError
from redundancy.synthetic._quadrature import gauss_legendre, window
from redundancy.synthetic._samples import Array, Samples

__all__ = ["VonMisesFisher"]


@dataclass(frozen=True)
class VonMisesFisher:
    r"""Uniform directions, each perturbed by von Mises-Fisher noise.

    .. math:: X' \text{ uniform on } S^{d-1}, \qquad
              p(x | x') \propto e^{\kappa \langle x, x' \rangle}

    Both layers are uniform, and Z = <m, X> for a fixed unit vector m makes X' - X - Z a Markov
    chain. All quantities are integrals over the angle, taken by Gauss-Legendre quadrature around
    the density's peak (relative error below 1e-12 for d up to 8192).

    Parameters
    ----------
    d : int
        Dimension, at least 2.
    kappa : float
        Concentration, above 0.

    Examples
    --------
    >>> pair = VonMisesFisher(d=3, kappa=5.0)
    >>> round(pair.geometric, 9), round(pair.mutual_information, 9)
    (0.199909196, 1.303084514)
    """

    d: int
    kappa: float

    def __post_init__(self) -> None:
        if self.d < 2 or not 0.0 < self.kappa < math.inf:
            raise InputError(f"d is {self.d} and kappa {self.kappa}; give d >= 2 and kappa > 0")

    def sample(self, n: int, *, seed: int = 0) -> Samples:
        """Draw n independent samples; the target is the first coordinate of the upper layer."""
        rng = np.random.default_rng(seed)
        lower = rng.normal(size=(n, self.d))
        lower /= np.linalg.norm(lower, axis=1, keepdims=True)
        cos = self._sample_cosine(n, rng)
        side = rng.normal(size=(n, self.d))
        side -= (side * lower).sum(1, keepdims=True) * lower
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        upper = cos[:, None] * lower + np.sqrt(np.maximum(1 - cos**2, 0.0))[:, None] * side
        return Samples(x_lower=lower, x_upper=upper, target=upper[:, :1])

    def _sample_cosine(self, n: int, rng: np.random.Generator) -> Array:
        """Wood's (1994) rejection sampler of the cosine."""
        m = self.d - 1.0
        b = m / (2 * self.kappa + math.hypot(2 * self.kappa, m))
        x0 = (1 - b) / (1 + b)
        c = self.kappa * x0 + m * math.log1p(-x0 * x0)
        out = np.empty(n)
        done = 0
        while done < n:
            size = 2 * (n - done) + 16
            z = rng.beta(m / 2, m / 2, size)
            w = (1 - (1 + b) * z) / (1 - (1 - b) * z)
            keep = self.kappa * w + m * np.log1p(-x0 * w) - c >= np.log(rng.random(size))
            accepted = w[keep][: n - done]
            out[done : done + len(accepted)] = accepted
            done += len(accepted)
        return out

    def _exponent(self, angle: Array) -> Array:
        """Log density of the angle, up to a constant; written for accuracy near 0."""
        log_sine = np.log(np.maximum(np.sin(angle), 1e-300)) if self.d > 2 else 0.0
        return np.asarray(-2 * self.kappa * np.sin(angle / 2) ** 2 + (self.d - 2) * log_sine)

    def _window(self) -> tuple[float, float, float]:
        """Where the density is above e^-60 of its peak, and the exponent at the peak."""
        m = self.d - 2.0
        # Peak: kappa sin^2 = m cos.
        cos = 2 * self.kappa / (m + math.hypot(m, 2 * self.kappa)) if m > 0 else 1.0
        peak = math.acos(min(cos, 1.0))
        if m > 0:  # 1 - cos without cancellation
            gap = (m + math.hypot(m, 2 * self.kappa) - 2 * self.kappa) / (
                m + math.hypot(m, 2 * self.kappa)
            )
            peak = 2 * math.asin(math.sqrt(min(gap / 2, 1.0)))
        return window(self._exponent, peak)

    def _integral(self, kind: Literal["mass", "rho"], end: float = math.pi) -> float:
        """Integral of the scaled density, or of rho times it, over angles up to `end`."""
        low, high, top = self._window()
        high = min(high, end)
        if high <= low:
            return 0.0
        angle, weights = gauss_legendre(low, high)
        density = np.exp(self._exponent(angle) - top)
        if kind == "rho":
            density = density * 2 * np.sin(angle / 2) ** 2
        return float(weights @ density)

    @property
    def geometric(self) -> float:
        """E rho."""
        return self._integral("rho") / self._integral("mass")

    @property
    def mean_cos(self) -> float:
        """E cos, the ratio I_{d/2}(kappa) / I_{d/2-1}(kappa) of Bessel functions."""
        return 1.0 - self.geometric

    def p_close(self, t: float) -> float:
        """P[rho <= t]."""
        if t <= 0.0:
            return 0.0
        if t >= 2.0:
            return 1.0
        angle = 2 * math.asin(math.sqrt(t / 2))
        return min(self._integral("mass", angle) / self._integral("mass"), 1.0)

    @property
    def mutual_information(self) -> float:
        """I(X; X') in nats."""
        from scipy.special import betaln

        # I = kappa E cos - log of the mean of e^{kappa cos} under the uniform law, whose angle has
        # density sin^{d-2} / B(1/2, (d-1)/2).
        if self.kappa <= math.sqrt(self.d):
            return self._weak_information()
        _, _, top = self._window()
        log_mean = top + math.log(self._integral("mass")) - float(betaln(0.5, (self.d - 1) / 2))
        return -self.kappa * self.geometric - log_mean

    def _weak_information(self) -> float:
        """The same where it may be tiny: by symmetry of cos, as sums of terms of one sign."""
        uniform = VonMisesFisher(self.d, 1e-300)
        low, high, top = uniform._window()
        angle, weights = gauss_legendre(low, high)
        weights = weights * np.exp(uniform._exponent(angle) - top)
        weights /= weights.sum()
        cos = np.cos(angle)
        growth = float(weights @ (2 * np.sinh(self.kappa * cos / 2) ** 2))
        mean_cos = float(weights @ (cos * np.sinh(self.kappa * cos))) / (1 + growth)
        return self.kappa * mean_cos - math.log1p(growth)

    @property
    def functional(self) -> float:
        """F for Z = <m, X>: (1 - A^2) / d with A = E cos."""
        return self.w / self.d

    @property
    def w(self) -> float:
        """E tr Cov(X | X') = 1 - A^2, the W of Theorem 1; W' is the same."""
        return self.geometric * (2.0 - self.geometric)

    @property
    def tr_cov_z(self) -> float:
        """Variance of Z = <m, X>."""
        return 1.0 / self.d

    @property
    def truth(self) -> Mapping[str, float]:
        """Every known quantity by name."""
        names = ("mean_cos", "geometric", "mutual_information", "functional", "w", "tr_cov_z")
        return MappingProxyType({name: float(getattr(self, name)) for name in names})
