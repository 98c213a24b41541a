"""Attention rows whose expected mass on vision tokens is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from estimators import InputError
from redundancy.synthetic._samples import Array

__all__ = ["AttentionRows"]


@dataclass(frozen=True)
class AttentionRows:
    r"""Attention weights drawn from a Dirichlet law, with a known mean mass on vision keys.

    For keys 0 to n_vision - 1 being vision tokens, each head's weights over the keys follow a
    Dirichlet law of total weight `concentration`, of which the share `mass` falls on vision keys:
    :math:`E\,\mathrm{VAR_{sum}} = H \cdot \mathrm{mass}`.

    Parameters
    ----------
    heads, n_vision, n_text : int
    mass : float in (0, 1)
        Expected attention mass on vision keys, in every head.
    concentration : float
        Large values make rows alike.

    Examples
    --------
    >>> rows = AttentionRows(heads=8, n_vision=16, n_text=4, mass=0.3)
    >>> rows.var_sum, rows.sample(5, seed=0).shape
    (2.4, (5, 8, 20))
    """

    heads: int = 8
    n_vision: int = 16
    n_text: int = 4
    mass: float = 0.3
    concentration: float = 20.0

    def __post_init__(self) -> None:
        if min(self.heads, self.n_vision, self.n_text) < 1:
            raise InputError("heads, n_vision and n_text are at least 1")
        if not 0.0 < self.mass < 1.0 or not self.concentration > 0.0:
            raise InputError("mass lies strictly between 0 and 1, and concentration is positive")

    @property
    def vision_index(self) -> list[int]:
        """Which keys are vision tokens."""
        return list(range(self.n_vision))

    @property
    def var_sum(self) -> float:
        """Expected attention mass on vision keys, summed over heads, in [0, H]."""
        return self.heads * self.mass

    @property
    def var_mean(self) -> float:
        """Expected attention mass on vision keys, averaged over heads."""
        return self.mass

    def sample(self, n: int, *, seed: int = 0) -> Array:
        """Draw n rows per head, shape (n, heads, n_vision + n_text)."""
        rng = np.random.default_rng(seed)
        weights = np.concatenate(
            [
                np.full(self.n_vision, self.concentration * self.mass / self.n_vision),
                np.full(self.n_text, self.concentration * (1 - self.mass) / self.n_text),
            ]
        )
        return np.asarray(rng.dirichlet(weights, size=(n, self.heads)))
