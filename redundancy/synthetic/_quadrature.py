"""Integrals over an angle of densities with one narrow peak."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from redundancy.synthetic._samples import Array

__all__ = ["gauss_legendre", "window"]

_DEPTH = 60.0  # what is below e^-60 of the peak is left out
_NODES = 256


def window(exponent: Callable[[Array], Array], peak: float) -> tuple[float, float, float]:
    """Return where in [0, pi] exp(exponent) is above e^-60 of its peak, and the exponent there."""
    top = float(exponent(np.array(peak)))

    def edge(outside: float) -> float:
        inside = peak
        if float(exponent(np.array(outside))) > top - _DEPTH:
            return outside
        for _ in range(100):
            middle = 0.5 * (inside + outside)
            if float(exponent(np.array(middle))) > top - _DEPTH:
                inside = middle
            else:
                outside = middle
        return outside

    return edge(0.0), edge(math.pi), top


@lru_cache(maxsize=1)
def _rule() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights


def gauss_legendre(low: float, high: float) -> tuple[Array, Array]:
    """Nodes and weights on [low, high]."""
    nodes, weights = _rule()
    half = 0.5 * (high - low)
    return low + half * (nodes + 1), half * weights
