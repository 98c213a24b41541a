"""Entropy of a discrete law from counts: one function per bias correction, all in nats.

Each takes positive counts and returns a float; `CORRECTIONS` names them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, gammaln, hyperu, polygamma

from estimators._errors import InputError

__all__ = ["CORRECTIONS", "chao1", "coverage", "entropy_from_counts"]

Counts = npt.NDArray[np.int64]


def plugin(counts: Counts) -> float:
    """- sum p log p at the observed frequencies; biased down by about (K - 1) / 2n."""
    n = float(counts.sum())
    # Written as a sum of non-negative terms: a law with one state gives exactly 0.
    return float((counts / n * np.log(n / counts)).sum())


def miller_madow(counts: Counts) -> float:
    """Plug-in plus (K - 1) / 2n with K the number of observed states (Miller 1955)."""
    return plugin(counts) + (len(counts) - 1) / (2.0 * float(counts.sum()))


def grassberger(counts: Counts) -> float:
    """Grassberger (2003), eq. 30-35: log n - sum n_i G(n_i) / n."""
    n = float(counts.sum())
    sign = np.where(counts % 2 == 0, 1.0, -1.0)
    g = digamma(counts) + 0.5 * sign * (digamma((counts + 1) / 2) - digamma(counts / 2))
    return math.log(n) - float((counts * g).sum()) / n


def coverage(counts: Counts) -> float:
    """Good's estimate of the probability of the states seen so far, 1 - f_1 / n."""
    return 1.0 - float((counts == 1).sum()) / float(counts.sum())


def chao1(counts: Counts) -> int:
    """Chao's (1984) lower estimate of the number of states, seen and unseen."""
    f1, f2 = float((counts == 1).sum()), float((counts == 2).sum())
    return len(counts) + math.ceil(f1 * (f1 - 1) / (2 * (f2 + 1)))


def chao_shen(counts: Counts) -> float:
    """Chao and Shen (2003): coverage-adjusted frequencies, Horvitz-Thompson weights."""
    n = float(counts.sum())
    singletons = float((counts == 1).sum())
    if singletons == n:  # else the coverage would be estimated as 0
        singletons = n - 1
    p = (1.0 - singletons / n) * counts / n
    seen = -np.expm1(n * np.log1p(-np.minimum(p, 1 - 1e-16))) if n > 1 else np.ones_like(p)
    terms = np.divide(-p * np.log(p), seen, out=np.zeros_like(p), where=(p > 0) & (p < 1))
    return float(terms.sum())


def chao_wang_jost(counts: Counts) -> float:
    """Chao, Wang and Jost (2013), eq. 7: the slope of the species-accumulation curve."""
    n = int(counts.sum())
    below = counts[counts < n]
    first = float((below / n * (digamma(n) - digamma(below))).sum())
    f1, f2 = float((counts == 1).sum()), float((counts == 2).sum())
    if f1 == 0 or n < 2:
        return first
    a = 2 * f2 / ((n - 1) * f1 + 2 * f2) if f2 > 0 else 2 / ((n - 1) * (f1 - 1) + 2)
    if a >= 1:
        return first
    # (1-a)^(1-n) * (-log a - sum_{r<n} (1-a)^r / r) is the tail of the series of -log a, which
    # `_log_tail` sums without cancellation or overflow.
    return first + f1 / n * _log_tail(a, n)


def _log_tail(a: float, n: int) -> float:
    """Sum of (1-a)^(r-n+1) / r over r >= n, to about 1e-13.

    Since a is about 2 f2 / (n f1), plain summation can take millions of terms; below 1e-3 the sum
    from 64 on is Euler and Maclaurin's, whose integral is e^x E_1(x).
    """
    decay = -math.log1p(-a)
    stop = n + math.ceil(40.0 / a) if a > 1e-3 else max(n, 64)
    r = np.arange(n, stop, dtype=np.float64)
    head = float((np.exp(-decay * (r - n + 1)) / r).sum())
    if a > 1e-3:
        return head
    # Derivatives of f(r) = e^(-decay (r - stop)) / r at `stop`, in units of f.
    inverse = 1.0 / stop
    first = -(decay + inverse)
    third = -(decay**3 + 3 * decay**2 * inverse + 6 * decay * inverse**2 + 6 * inverse**3)
    integral = float(hyperu(1.0, 1.0, decay * stop))
    rest = integral + inverse * (0.5 - first / 12 + third / 720)
    return head + math.exp(-decay * (stop - n + 1)) * rest


def jackknife(counts: Counts) -> float:
    """Zahl's (1977) delete-one jackknife of the plug-in, exactly from counts."""
    n = int(counts.sum())
    if n < 2:
        return 0.0

    def xlogx(v: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.where(v > 0, v * np.log(np.maximum(v, 1)), 0.0)

    full = counts.astype(np.float64)
    total = float(xlogx(full).sum())
    left_out = math.log(n - 1) - (total - xlogx(full) + xlogx(full - 1)) / (n - 1)
    return n * plugin(counts) - (n - 1) / n * float((counts * left_out).sum())


def nsb(counts: Counts, n_states: int | None = None) -> float:
    """Nemenman, Shafee and Bialek (2002): Dirichlet mixture with a nearly flat prior on entropy.

    `n_states` is the size of the alphabet; where unknown, Chao's estimate of it stands in.
    """
    n = float(counts.sum())
    size = max(chao1(counts) if n_states is None else n_states, len(counts))
    if size == 1:
        return 0.0
    values, times = np.unique(counts, return_counts=True)
    unseen = size - len(counts)

    def log_weight(u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        beta = np.exp(u)
        kappa = size * beta
        evidence = gammaln(kappa) - gammaln(n + kappa)
        for value, repeats in zip(values, times, strict=True):
            # Gamma(value + beta) / Gamma(beta) = beta * Gamma(value + beta) / Gamma(1 + beta)
            evidence = evidence + repeats * (u + gammaln(value + beta) - gammaln(1 + beta))
        prior = size * polygamma(1, kappa + 1) - polygamma(1, beta + 1)
        return np.asarray(evidence + np.log(np.maximum(prior, 1e-300)) + u)

    # The weight is smooth in log beta: find its peak on a coarse grid, then integrate finely where
    # it is within e^-40 of that. Beyond beta = 1e6 the prior has no mass left and the differences
    # of log-gammas lose their digits.
    coarse = np.linspace(-60.0, math.log(1e6), 1501)
    weight = log_weight(coarse)
    alive = np.flatnonzero(weight > weight.max() - 40)
    u = np.linspace(coarse[max(alive[0] - 1, 0)], coarse[min(alive[-1] + 1, len(coarse) - 1)], 2001)
    weight = log_weight(u)
    w = np.exp(weight - weight.max())
    beta = np.exp(u)
    total = n + size * beta
    inner = unseen * beta * digamma(beta + 1)
    for value, repeats in zip(values, times, strict=True):
        inner = inner + repeats * (value + beta) * digamma(value + beta + 1)
    mean = digamma(total + 1) - inner / total
    return float((w * mean).sum() / w.sum())


CORRECTIONS: dict[str, Callable[[Counts], float]] = {
    "plug-in": plugin,
    "miller-madow": miller_madow,
    "grassberger": grassberger,
    "chao-shen": chao_shen,
    "chao-wang-jost": chao_wang_jost,
    "nsb": nsb,
    "jackknife": jackknife,
}


def entropy_from_counts(counts: Counts, correction: str, n_states: int | None = None) -> float:
    """Apply the named correction to counts, of which zeros are dropped."""
    if correction not in CORRECTIONS:
        raise InputError(
            f"correction is {correction!r}; use one of {', '.join(map(repr, CORRECTIONS))}"
        )
    positive = counts[counts > 0]
    if correction == "nsb":
        return nsb(positive, n_states)
    return CORRECTIONS[correction](positive)
