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

from estimators._betting import betting_interval, betting_p_value
from estimators._cluster import ClusterMean, cluster_mean, group_totals
from estimators._errors import InputError
from estimators._interval_checks import (
    check_delta,
    check_level,
    check_mean,
    check_n,
    check_successes,
)
from estimators._kl_intervals import binary_entropy, binary_kl, kl_interval, kl_lower, kl_upper
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
    check_n(n)
    check_delta(delta)
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
    check_level(level)
    check_mean(mean, lower, upper)
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
    check_delta(delta)
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
    check_level(level)
    check_mean(mean, lower, upper)
    half = empirical_bernstein_halfwidth(variance, n, (1.0 - level) / 2, upper - lower)
    return Interval(
        low=max(mean - half, lower),
        high=min(mean + half, upper),
        level=level,
        method=f"empirical Bernstein over {n} independent values in [{lower:g}, {upper:g}]",
    )


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
    check_level(level)
    check_successes(successes, n)
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
    check_level(level)
    check_successes(successes, n)
    from scipy.special import betaincinv

    delta = (1.0 - level) / 2
    k = successes
    return Interval(
        low=0.0 if k == 0 else float(betaincinv(k, n - k + 1, delta)),
        high=1.0 if k == n else float(betaincinv(k + 1, n - k, 1.0 - delta)),
        level=level,
        method=f"Clopper-Pearson over {n} independent trials",
    )
