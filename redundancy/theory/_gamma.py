"""A ratio of gamma functions without the cancellation of their logarithms."""

from __future__ import annotations

import math

__all__ = ["gamma_ratio"]


def gamma_ratio(a: float) -> float:
    """Gamma(a + 1/2) / Gamma(a + 1), without the cancellation of two large log-gammas."""
    if a < 100.0:
        return math.gamma(a + 0.5) / math.gamma(a + 1.0)
    # Gamma(a + 1/2) / Gamma(a) by its asymptotic series; the first term left out is below 1e-16.
    r = 1.0 / a
    series = 1.0 + r * (
        -1 / 8 + r * (1 / 128 + r * (5 / 1024 + r * (-21 / 32768 - r * 399 / 262144)))
    )
    return math.sqrt(a) * series / a
