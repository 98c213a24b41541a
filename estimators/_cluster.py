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
    n_groups, n_samples : int
        Groups that carried a value, and samples in them.
    interval : Interval or None
        Cluster-t interval; None without a standard error or where no level was asked for.
    totals, weights : ndarray of float64, shape (n_groups,)
        Numerator and denominator of each group; `value` is the ratio of their sums.
    """

    value: float
    se: float | None
    n_groups: int
    n_samples: int
    interval: Interval | None
    totals: NDArray[np.float64]
    weights: NDArray[np.float64]

    def p_below(self, bound: float) -> float:
        """p-value of "the mean is at least `bound`" by cluster t: small speaks for *below*.

        Asymptotic in the number of groups. Without a standard error, or with one of zero, there
        is no t statistic and the answer is 1: a sample without spread proves nothing by its
        spread.
        """
        return _p_value(self, bound, side=1.0)

    def p_above(self, bound: float) -> float:
        """p-value of "the mean is at most `bound`" by cluster t: small speaks for *above*."""
        return _p_value(self, bound, side=-1.0)


def _p_value(mean: ClusterMean, bound: float, side: float) -> float:
    if not mean.se:
        return 1.0
    from scipy.special import stdtr

    return float(stdtr(mean.n_groups - 1, side * (mean.value - bound) / mean.se))


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
    :math:`\sqrt{\tfrac{G}{G-1} \sum_g (a_g - r b_g)^2} / \sum_g b_g`, and a t interval with
    G - 1 degrees of freedom. With one sample per group the sample-weighted one is the textbook t
    interval of the sample means.

    When it lies: the interval is asymptotic in the number of *groups*; below about 20 groups, or
    with a rare large value that the sample missed, it is too short (for a guarantee use
    :func:`~estimators.intervals.kl_interval` on group means). Tokens of one image are not
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
    Cochran (1977), Sampling Techniques, 3rd ed., eq. (6.13) (ratio estimator).
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
    se = None
    if n_groups > 1:
        spread = float(np.sum((a - value * b) ** 2))
        # The rounding error of equal group means is not a spread.
        floor = n_groups * (8 * np.finfo(float).eps * float(np.max(np.abs(a)))) ** 2
        spread = 0.0 if spread <= floor else spread
        se = math.sqrt(n_groups / (n_groups - 1) * spread) / float(b.sum())
    interval = None
    if se is not None and level is not None:
        if not 0.0 < level < 1.0:
            raise InputError(f"level is {level!r}; it lies strictly between 0 and 1, e.g. 0.95")
        from scipy.special import stdtrit

        half = float(stdtrit(n_groups - 1, 0.5 + level / 2)) * se
        low, high = support
        interval = Interval(
            low=min(max(value - half, low), value),
            high=max(min(value + half, high), value),
            level=level,
            method=f"cluster t over {n_groups} groups",
        )
    return ClusterMean(
        value=value,
        se=se,
        n_groups=n_groups,
        n_samples=total.size,
        interval=interval,
        totals=a,
        weights=b,
    )
