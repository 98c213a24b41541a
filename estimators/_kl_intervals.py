"""Bounds on means in [0, 1] by inverting the binary relative entropy, and that entropy itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from estimators._interval_checks import check_delta, check_level, check_mean, check_n, probabilities
from estimators._types import Interval

__all__ = ["binary_entropy", "binary_kl", "kl_interval", "kl_lower", "kl_upper"]


def binary_kl(a: ArrayLike, q: ArrayLike) -> Any:
    r"""Binary relative entropy d(a || q), in nats.

    .. math:: d(a \| q) = a \log \frac aq + (1 - a) \log \frac{1-a}{1-q}

    with 0 log 0 = 0 and d = inf where a > 0 = q or a < 1 = q. Exact; accurate also for a close to
    q, where the two terms nearly cancel.

    Parameters
    ----------
    a, q : array_like of float in [0, 1]
        Broadcast against each other.

    Returns
    -------
    float or ndarray of float64
        A float if both are scalars.

    Raises
    ------
    InputError
        If a value is not a probability.

    Examples
    --------
    >>> round(binary_kl(0.5, 0.25), 6)
    0.143841
    >>> binary_kl(0.0, 0.0), binary_kl(0.1, 0.0)
    (0.0, inf)
    """
    a, q = np.broadcast_arrays(probabilities(a, "a"), probabilities(q, "q"))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # log1p of the relative difference, so that a = q (1 + tiny) does not lose its digits.
        one = np.where(a > 0, a * np.log1p((a - q) / q), 0.0)
        two = np.where(a < 1, (1 - a) * np.log1p((q - a) / (1 - q)), 0.0)
        value = np.maximum(one + two, 0.0)
    return float(value) if value.ndim == 0 else value


def binary_entropy(p: ArrayLike) -> Any:
    r"""Entropy of a coin, :math:`H_2(p) = -p \log p - (1-p) \log(1-p)`, in nats.

    Parameters
    ----------
    p : array_like of float in [0, 1]

    Returns
    -------
    float or ndarray of float64

    Raises
    ------
    InputError
        If a value is not a probability.

    Examples
    --------
    >>> round(binary_entropy(0.5), 6), binary_entropy(0.0)
    (0.693147, 0.0)
    """
    from scipy.special import entr, xlog1py

    p = probabilities(p, "p")
    value = entr(p) - xlog1py(1 - p, -p)
    return float(value) if np.ndim(value) == 0 else value


def kl_upper(mean: float, n: float, delta: float) -> float:
    r"""One-sided upper confidence bound of a mean in [0, 1], by Chernoff's inequality.

    .. math:: \max\{q \ge \bar x : n\, d(\bar x \| q) \le \log(1/\delta)\}

    Valid for independent values in [0, 1] with a common mean, binary or not, at every n; for a
    two-sided interval give delta/2 to each side. For ``mean = 0`` it is
    :math:`1 - \delta^{1/n}`, as Clopper-Pearson's.

    Parameters
    ----------
    mean : float in [0, 1]
        Mean of the observations.
    n : float
        Number of independent observations (for a U-statistic of order two, ``n // 2``).
    delta : float in (0, 1)
        Probability with which the bound may fail.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If an argument leaves its range.

    Examples
    --------
    >>> round(kl_upper(0.0, 500, 0.025), 6)
    0.007351
    """
    check_n(n)
    check_delta(delta)
    mean = float(probabilities(mean, "mean"))
    target = -math.log(delta) / n
    if mean == 0.0:
        return -math.expm1(-target)
    # The largest number below 1 stands for 1, where the divergence is infinite.
    top = math.nextafter(1.0, 0.0)
    if mean >= top or float(binary_kl(mean, top)) <= target:
        return 1.0
    from scipy.optimize import brentq

    def gap(q: float) -> float:
        return float(binary_kl(mean, q)) - target

    return float(brentq(gap, mean, top, xtol=1e-300, rtol=8.9e-16, maxiter=1000))


def kl_lower(mean: float, n: float, delta: float) -> float:
    r"""One-sided lower confidence bound of a mean in [0, 1], by Chernoff's inequality.

    .. math:: \min\{q \le \bar x : n\, d(\bar x \| q) \le \log(1/\delta)\}

    The mirror image of :func:`kl_upper`, with the same conditions.

    Parameters
    ----------
    mean : float in [0, 1]
    n : float
        Number of independent observations.
    delta : float in (0, 1)
        Probability with which the bound may fail.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If an argument leaves its range.

    Examples
    --------
    >>> round(kl_lower(0.97, 1000, 0.025), 6)
    0.952982
    """
    check_n(n)
    check_delta(delta)
    mean = float(probabilities(mean, "mean"))
    if mean == 0.0:
        return 0.0
    if mean == 1.0:
        return math.exp(math.log(delta) / n)
    from scipy.optimize import brentq

    target = -math.log(delta) / n

    # In log q, because the bound may be far smaller than the mean.
    def gap(log_q: float) -> float:
        return float(binary_kl(mean, math.exp(log_q))) - target

    high = math.log(mean)
    low = high - 1.0
    while gap(low) < 0:
        if low < -700:
            return 0.0
        low -= 2.0 * (high - low)
    root = brentq(gap, low, high, xtol=1e-15, rtol=8.9e-16, maxiter=300)
    return min(math.exp(root), mean)


def kl_interval(
    mean: float, n: int, *, lower: float = 0.0, upper: float = 1.0, level: float = 0.95
) -> Interval:
    r"""Certified interval of a bounded mean: :math:`\{q : n\, d(\bar x \| q) \le \log(2/\delta)\}`.

    Parameters
    ----------
    mean : float
        Mean of n independent values in [lower, upper] (of group means, where samples are grouped).
    n : int
    lower, upper : float
        Range of the values.
    level : float
        Coverage, guaranteed at every n.

    Returns
    -------
    Interval

    Raises
    ------
    InputError
        If an argument leaves its range.

    Examples
    --------
    >>> interval = kl_interval(0.05, 100, upper=2.0)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.0047, 0.1841)
    """
    check_level(level)
    share = check_mean(mean, lower, upper)
    delta = (1.0 - level) / 2
    width = upper - lower
    return Interval(
        low=min(lower + width * kl_lower(share, n, delta), mean),
        high=max(lower + width * kl_upper(share, n, delta), mean),
        level=level,
        method=f"KL-Chernoff over {n} independent values in [{lower:g}, {upper:g}]",
    )
