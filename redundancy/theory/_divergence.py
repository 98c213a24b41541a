"""Binary relative entropy where the second probability is too small for a double."""

from __future__ import annotations

import math

from estimators.intervals import binary_entropy, binary_kl

__all__ = ["log_binary_kl"]


def log_binary_kl(a: float, log_q: float) -> float:
    """Return d(a || exp(log_q)) in nats; `log_q` may lie far below the smallest double's."""
    if log_q > -600.0:
        return float(binary_kl(a, min(math.exp(log_q), 1.0)))
    if a == 0.0:
        return 0.0  # -log(1 - q), smaller than any double
    if math.isinf(log_q):
        return math.inf
    return -a * log_q - float(binary_entropy(a))
