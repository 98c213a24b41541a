"""Means over clusters: the group (image, prompt) is what was sampled, not the token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._errors import InputError
from estimators._types import Interval

__all__ = ["ClusterMean", "cluster_mean", "group_totals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterMean:
    """A mean over clusters with its standard error.

    Parameters
    ----------
    value : float
        The mean, in the unit of the values.
    se : float or None
        Standard error over groups; None with fewer than two groups, where none exists.
    skewness : float
        Sample skewness of the groups' deviations; 0 without a standard error.
    n_groups, n_samples : int
        Groups that carried a value, and samples in them.
    interval : Interval or None
        Skewness-corrected cluster-t interval; None without a standard error or where no level
        was asked for.
    totals, weights : ndarray of float64, shape (n_groups,)
        Numerator and denominator of each group; `value` is the ratio of their sums.
    """

    value: float
    se: float | None
    skewness: float
    n_groups: int
    n_samples: int
    interval: Interval | None
    totals: NDArray[np.float64]
    weights: NDArray[np.float64]

    def p_below(self, bound: float) -> float:
        """p-value of "the mean is at least `bound`": small speaks for *below*.

        The test that the interval inverts, asymptotic in the number of groups. Without a standard
        error, or with one of zero, there is no t statistic and the answer is 1: a sample without
        spread proves nothing by its spread. With much skewness the correction saturates, so that
        a p-value never gets very small; a bound that knows the range may say more.
        """
        return _p_value(self, bound, side=1.0)

    def p_above(self, bound: float) -> float:
        """p-value of "the mean is at most `bound`": small speaks for *above*."""
        return _p_value(self, bound, side=-1.0)


def _p_value(mean: ClusterMean, bound: float, side: float) -> float:
    if not mean.se:
        return 1.0
    from scipy.special import stdtr

    n, skew = mean.n_groups, mean.skewness
    # Far out the cube would overflow; the answer there is 0 or 1 long before.
    distance = min(max((mean.value - bound) / (mean.se * math.sqrt(n)), -1e60), 1e60)
    corrected = distance * (1 + skew * distance / 3 + (skew * distance) ** 2 / 27) + skew / (6 * n)
    return float(stdtr(n - 1, side * math.sqrt(n) * corrected))


def _standardised_ends(n: int, skew: float, level: float) -> tuple[float, float]:
    """By how many standard deviations the ends of the interval lie below and above the mean."""
    from scipy.special import stdtrit

    reach = float(stdtrit(n - 1, 0.5 + level / 2)) / math.sqrt(n)

    def inverse(z: float) -> float:
        if abs(skew) < 1e-8:
            return z
        return 3.0 / skew * (float(np.cbrt(1.0 + skew * (z - skew / (6 * n)))) - 1.0)

    return inverse(reach), -inverse(-reach)


def group_totals(
    groups: ArrayLike | None, *columns: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Sum each column within groups, in order of each group's first appearance.

    Parameters
    ----------
    groups : array_like, shape (s,), or None
        Group of each sample; None if every sample is its own group.
    *columns : ndarray, shape (s,) or (s, m)

    Returns
    -------
    tuple of ndarray, shape (n_groups,) or (n_groups, m)

    Examples
    --------
    >>> group_totals(["b", "a", "b"], np.array([1.0, 2.0, 3.0]))
    (array([4., 2.]),)
    """
    if groups is None:
        return columns
    labels = np.asarray(groups)
    for column in columns:
        if labels.shape != column.shape[:1]:
            raise InputError(
                f"groups has shape {labels.shape} for {len(column)} samples; "
                "give one group per sample"
            )
    _, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    # First appearance, not sorted labels: tests that bet in sequence need an order that does not
    # depend on what the groups happen to be called.
    rank = np.empty(first.size, dtype=np.intp)
    rank[np.argsort(first, kind="stable")] = np.arange(first.size)
    where = rank[codes.reshape(-1)]
    summed = []
    for column in columns:
        total = np.zeros((first.size, *column.shape[1:]))
        np.add.at(total, where, column)
        summed.append(total)
    return tuple(summed)


def cluster_mean(
    sums: ArrayLike,
    counts: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    weighting: Literal["sample", "token"] = "sample",
    level: float | None = 0.95,
    support: tuple[float, float] = (-math.inf, math.inf),
) -> ClusterMean:
    r"""Mean of token values with a standard error over groups.

    With the sum :math:`s_i` of the values of the :math:`n_i` tokens of sample i,

    .. math::
        \text{token-weighted: } \frac{\sum_i s_i}{\sum_i n_i}, \qquad
        \text{sample-weighted: } \frac1s \sum_i \frac{s_i}{n_i}.

    Both are ratios :math:`r = \sum_g a_g / \sum_g b_g` over the G groups (b counts tokens or
    samples), with the linearised standard error
    :math:`\sqrt{\tfrac{G}{G-1} \sum_g (a_g - r b_g)^2} / \sum_g b_g`. The interval is that of t
    with G - 1 degrees of freedom after Hall's cubic transformation, which takes the skewness A of
    the groups' deviations out of :math:`T = (r - \mu) / s`,

    .. math:: g(T) = T + \frac{A T^2}{3} + \frac{A^2 T^3}{27} + \frac{A}{6 G}.

    Distances are skewed to the right, and plain t misses on one side then: of exponential group
    means it lies below the truth in 7.2% of cases at 20 groups and above it in 0.7%, corrected
    3.8% and 1.5% (nominal 2.5% each); of log-normal ones (log-sd 1) 9.9% and 0.4% at 60 groups,
    corrected 5.0% and 1.9%. Without skewness and with one sample per group it is the textbook t
    interval of the sample means.

    When it lies: the interval is asymptotic in the number of *groups*; below about 20 groups, or
    with a rare large value that the sample missed, it is too short: where 3% of images have a
    distance of 0.5 and the others 0.01, it covers 45% at 20 groups and 83% at 60 (for a guarantee
    use :func:`~estimators.intervals.kl_interval` on group means). Tokens of one image are not
    independent, so an interval over pooled tokens would be several times too short. The two
    weightings answer different questions wherever samples differ in length.

    Parameters
    ----------
    sums : array_like of float, shape (s,)
        Sum of the values per sample; the values themselves if `counts` is None.
    counts : array_like of int, shape (s,), optional
        Number of values in each sum. Samples with a count of 0 are left out.
    groups : array_like, shape (s,), optional
        Group of each sample; by default every sample is its own.
    weighting : {"sample", "token"}
        Whether every sample or every token counts alike.
    level : float or None
        Nominal coverage of the interval; None for no interval.
    support : tuple of float
        Range that the mean cannot leave; the interval is cut to it.

    Returns
    -------
    ClusterMean
        With ``se`` and ``interval`` None if there are fewer than two groups.

    Raises
    ------
    InputError
        If shapes disagree, a value is not finite, or no sample has a value.

    Examples
    --------
    >>> mean = cluster_mean([0.6, 0.1, 2.0], [3, 2, 4], weighting="token")
    >>> round(mean.value, 4), round(mean.se, 4)
    (0.3, 0.1347)
    >>> cluster_mean([0.5]).interval is None
    True

    References
    ----------
    Cochran (1977), Sampling Techniques, 3rd ed., eq. (6.13) (ratio estimator); Hall (1992), On the
    removal of skewness by transformation.
    """
    total = np.asarray(sums, dtype=np.float64)
    count = np.ones_like(total) if counts is None else np.asarray(counts, dtype=np.float64)
    if total.ndim != 1 or count.shape != total.shape:
        raise InputError(
            f"sums has shape {total.shape} and counts {count.shape}; give one of each per sample"
        )
    if weighting not in ("sample", "token"):
        raise InputError(f"weighting is {weighting!r}; use 'sample' or 'token'")
    bad = ~np.isfinite(total) | ~(count >= 0)
    if bad.any():
        raise InputError(
            f"{int(bad.sum())} of {total.size} sums are not finite or have a negative count "
            f"(first at {int(np.argmax(bad))}); leave those samples out"
        )
    kept = count > 0
    if not kept.any():
        raise InputError("no sample has a value to average; every count is 0")
    labels: NDArray[Any] | None = None if groups is None else np.asarray(groups)
    if labels is not None:
        if labels.shape != total.shape:
            raise InputError(
                f"groups has shape {labels.shape} for {total.size} samples; "
                "give one group per sample"
            )
        labels = labels[kept]
    total, count = total[kept], count[kept]
    if weighting == "sample":
        total, count = total / count, np.ones_like(count)
    a, b = group_totals(labels, total, count)
    value = float(a.sum() / b.sum())
    n_groups = a.size
    se, skew = None, 0.0
    if n_groups > 1:
        deviation = a - value * b
        spread = float(np.sum(deviation**2))
        # The rounding error of equal group means is not a spread.
        floor = n_groups * (8 * np.finfo(float).eps * float(np.max(np.abs(a)))) ** 2
        spread = 0.0 if spread <= floor else spread
        se = math.sqrt(n_groups / (n_groups - 1) * spread) / float(b.sum())
        if spread:
            scale = math.sqrt(spread / n_groups)
            skew = float(np.mean((deviation / scale) ** 3))
    interval = None
    if se is not None and level is not None:
        if not 0.0 < level < 1.0:
            raise InputError(f"level is {level!r}; it lies strictly between 0 and 1, e.g. 0.95")
        low, high = support
        below, above = _standardised_ends(n_groups, skew, level)
        spread_of_one = se * math.sqrt(n_groups)
        interval = Interval(
            low=min(max(value - below * spread_of_one, low), value),
            high=max(min(value + above * spread_of_one, high), value),
            level=level,
            method=f"cluster t over {n_groups} groups, corrected for skewness",
        )
    return ClusterMean(
        value=value,
        se=se,
        skewness=skew,
        n_groups=n_groups,
        n_samples=total.size,
        interval=interval,
        totals=a,
        weights=b,
    )
