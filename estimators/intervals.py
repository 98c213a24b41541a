r"""Confidence intervals for proportions and bounded means, and what the theory needs of them.

Two families, and it matters which one is used:

- *certified*, for independent values in a known range, at every sample size:
  :func:`clopper_pearson`, :func:`kl_interval`, :func:`hoeffding`, :func:`empirical_bernstein`,
  :func:`betting_interval`;
- *asymptotic*, for reporting: :func:`wilson`, :func:`cluster_mean`.

The unit of every interval is the independent one. Tokens of one image are not independent: give
the mean of each image, never the pooled tokens.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._betting import betting_interval, betting_p_value
from estimators._cluster import ClusterMean, cluster_mean, group_totals
from estimators._errors import InputError
from estimators._types import Interval

__all__ = [
    "ClusterMean",
    "betting_interval",
    "betting_p_value",
    "binary_entropy",
    "binary_kl",
    "clopper_pearson",
    "cluster_mean",
    "empirical_bernstein",
    "empirical_bernstein_halfwidth",
    "group_totals",
    "hoeffding",
    "hoeffding_halfwidth",
    "kl_interval",
    "kl_lower",
    "kl_upper",
    "wilson",
]


def _probabilities(value: ArrayLike, name: str) -> NDArray[np.float64]:
    p = np.asarray(value, dtype=np.float64)
    bad = ~((p >= 0.0) & (p <= 1.0))
    if bad.any():
        raise InputError(
            f"{name} must be a probability in [0, 1]; {int(bad.sum())} of {p.size} are not, "
            f"the first is {float(p[bad].flat[0])!r}"
        )
    return p


def _check_n(n: float) -> None:
    if not n >= 1:
        raise InputError(f"n is {n!r}; an interval needs at least one observation")


def _check_delta(delta: float) -> None:
    if not 0.0 < delta < 1.0:
        raise InputError(f"delta is {delta!r}; an error probability lies strictly between 0 and 1")


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise InputError(f"level is {level!r}; it lies strictly between 0 and 1, e.g. 0.95")


def _check_mean(mean: float, lower: float, upper: float) -> float:
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        raise InputError(f"the range [{lower}, {upper}] is empty; give lower < upper, both finite")
    if not lower <= mean <= upper:
        raise InputError(f"the mean {mean!r} does not lie in its range [{lower:g}, {upper:g}]")
    return (mean - lower) / (upper - lower)


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
    a, q = np.broadcast_arrays(_probabilities(a, "a"), _probabilities(q, "q"))
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

    p = _probabilities(p, "p")
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
    _check_n(n)
    _check_delta(delta)
    mean = float(_probabilities(mean, "mean"))
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
    _check_n(n)
    _check_delta(delta)
    mean = float(_probabilities(mean, "mean"))
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
    _check_level(level)
    share = _check_mean(mean, lower, upper)
    delta = (1.0 - level) / 2
    width = upper - lower
    return Interval(
        low=min(lower + width * kl_lower(share, n, delta), mean),
        high=max(lower + width * kl_upper(share, n, delta), mean),
        level=level,
        method=f"KL-Chernoff over {n} independent values in [{lower:g}, {upper:g}]",
    )


def hoeffding_halfwidth(n: int, delta: float, width: float = 1.0) -> float:
    r"""One-sided half-width :math:`M \sqrt{\log(1/\delta) / (2n)}` for a range of width M.

    Parameters
    ----------
    n : int
    delta : float in (0, 1)
        One-sided error; delta/2 for a two-sided interval.
    width : float
        M.

    Examples
    --------
    >>> round(hoeffding_halfwidth(100, 0.025, width=2.0), 4)
    0.2716
    """
    _check_n(n)
    _check_delta(delta)
    return width * math.sqrt(-math.log(delta) / (2 * n))


def hoeffding(
    mean: float, n: int, *, lower: float = 0.0, upper: float = 1.0, level: float = 0.95
) -> Interval:
    """Hoeffding's interval of a bounded mean: certified, the widest of the certified ones.

    Parameters
    ----------
    mean, n, lower, upper, level
        As in :func:`kl_interval`, which is never wider.

    Returns
    -------
    Interval
        Cut to [lower, upper].

    Raises
    ------
    InputError
        If an argument leaves its range.

    Examples
    --------
    >>> round(hoeffding(0.04, 50).high, 4)
    0.2321
    """
    _check_level(level)
    _check_mean(mean, lower, upper)
    half = hoeffding_halfwidth(n, (1.0 - level) / 2, upper - lower)
    return Interval(
        low=max(mean - half, lower),
        high=min(mean + half, upper),
        level=level,
        method=f"Hoeffding over {n} independent values in [{lower:g}, {upper:g}]",
    )


def empirical_bernstein_halfwidth(
    variance: float, n: int, delta: float, width: float = 1.0
) -> float:
    r"""One-sided half-width :math:`\sqrt{2V \log(2/\delta)/n} + 7M \log(2/\delta) / (3(n-1))`.

    Parameters
    ----------
    variance : float
        V, the sample variance with divisor n - 1.
    n : int
        At least 2.
    delta : float in (0, 1)
        One-sided error; delta/2 for a two-sided interval.
    width : float
        M, the width of the values' range.

    Examples
    --------
    >>> round(empirical_bernstein_halfwidth(0.002, 100, 0.05, width=2.0), 4)
    0.186

    References
    ----------
    Maurer, Pontil (2009), Theorem 4.
    """
    _check_delta(delta)
    if not n >= 2:
        raise InputError(f"n is {n!r}; a sample variance needs at least two observations")
    if not variance >= 0.0:
        raise InputError(f"variance is {variance!r}; give a sample variance, at least 0")
    log_term = math.log(2.0 / delta)
    return math.sqrt(2.0 * variance * log_term / n) + 7.0 * width * log_term / (3.0 * (n - 1))


def empirical_bernstein(
    mean: float,
    variance: float,
    n: int,
    *,
    lower: float = 0.0,
    upper: float = 1.0,
    level: float = 0.95,
) -> Interval:
    """Maurer and Pontil's interval of a bounded mean: certified, short where the variance is small.

    Parameters
    ----------
    mean, variance : float
        Of n independent values in [lower, upper]; the variance with divisor n - 1.
    n : int
        At least 2.
    lower, upper, level : float
        As in :func:`kl_interval`.

    Returns
    -------
    Interval
        Cut to [lower, upper].

    Raises
    ------
    InputError
        If an argument leaves its range.

    Examples
    --------
    >>> round(empirical_bernstein(0.05, 0.002, 100, upper=2.0).high, 4)
    0.2698
    """
    _check_level(level)
    _check_mean(mean, lower, upper)
    half = empirical_bernstein_halfwidth(variance, n, (1.0 - level) / 2, upper - lower)
    return Interval(
        low=max(mean - half, lower),
        high=min(mean + half, upper),
        level=level,
        method=f"empirical Bernstein over {n} independent values in [{lower:g}, {upper:g}]",
    )


def _check_successes(successes: int, n: int) -> None:
    _check_n(n)
    if not 0 <= successes <= n:
        raise InputError(f"{successes!r} successes of {n} trials; give a count between 0 and n")


def wilson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion: for reports on independent trials, asymptotic.

    Parameters
    ----------
    successes, n : int
        Count among n independent trials (never pooled tokens).
    level : float
        Nominal coverage.

    Returns
    -------
    Interval

    Raises
    ------
    InputError
        If the counts are impossible.

    Examples
    --------
    >>> interval = wilson(2, 50)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.011, 0.1346)

    References
    ----------
    Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    _check_level(level)
    _check_successes(successes, n)
    from scipy.special import ndtri

    z = float(ndtri(0.5 + level / 2))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At the ends the formula is exactly 0 or 1; rounding must not say otherwise.
    return Interval(
        low=0.0 if successes == 0 else max(centre - half, 0.0),
        high=1.0 if successes == n else min(centre + half, 1.0),
        level=level,
        method=f"Wilson over {n} independent trials",
    )


def clopper_pearson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Clopper and Pearson's interval of a proportion: certified for independent trials.

    Parameters
    ----------
    successes, n : int
        Count among n *independent* trials. On pooled tokens of 60 images its nominal 95% were
        21% in simulation: give one trial per image, or use :func:`kl_interval` on image means.
    level : float
        Coverage, guaranteed at every n.

    Returns
    -------
    Interval

    Raises
    ------
    InputError
        If the counts are impossible.

    Examples
    --------
    >>> round(clopper_pearson(0, 200).high, 4)
    0.0183

    References
    ----------
    Clopper, Pearson (1934), The use of confidence or fiducial limits.
    """
    _check_level(level)
    _check_successes(successes, n)
    from scipy.special import betaincinv

    delta = (1.0 - level) / 2
    k = successes
    return Interval(
        low=0.0 if k == 0 else float(betaincinv(k, n - k + 1, delta)),
        high=1.0 if k == n else float(betaincinv(k + 1, n - k, 1.0 - delta)),
        level=level,
        method=f"Clopper-Pearson over {n} independent trials",
    )
