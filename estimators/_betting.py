"""Tests and intervals by betting: valid for bounded values, sharp where their variance is small.

A gambler who starts with 1 and cannot expect to gain while the hypothesis holds exceeds 1/delta
with probability at most delta, however long he plays (Ville 1939). His largest wealth so far is
therefore evidence against the hypothesis, valid at every sample size.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._errors import InputError
from estimators._types import Interval

__all__ = ["betting_interval", "betting_p_value", "bounded_values"]


def bounded_values(
    values: ArrayLike, lower: float, upper: float, name: str = "values"
) -> NDArray[np.float64]:
    """Return `values` as a vector, refusing what is not finite or leaves [lower, upper]."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise InputError(f"{name} has shape {x.shape}; give a vector with at least one value")
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        raise InputError(f"the range [{lower}, {upper}] is empty; give lower < upper, both finite")
    slack = 1e-12 * (upper - lower)
    outside = ~((x >= lower - slack) & (x <= upper + slack))
    if outside.any():
        where = int(np.argmax(outside))
        raise InputError(
            f"{int(outside.sum())} of {x.size} {name} are not numbers in [{lower:g}, {upper:g}] "
            f"(first at {where}: {x[where]:g}); give their true range or rescale them"
        )
    clipped: NDArray[np.float64] = np.clip(x, lower, upper)
    return clipped


def betting_p_value(
    values: ArrayLike, bound: float, *, lower: float = -1.0, upper: float = 1.0
) -> float:
    r"""p-value of "the mean is at least `bound`" for independent values in [lower, upper].

    .. math::
        p = \Big(\max_t \prod_{i \le t} \big(1 + \lambda_i (\text{bound} - D_i)\big)\Big)^{-1},
        \qquad
        \lambda_i = \Big[\frac{\text{bound} - m_i}{v_i + (\text{bound} - m_i)^2}
        \Big]_0^{1/(2(\text{upper} - \text{bound}))}

    with the running mean m and variance v of the values before the i-th, started at the middle
    of the range and a sixteenth of its square. Small p speaks for a mean *below* the bound.

    When it lies: never, for independent values with a common mean, in an order chosen without
    looking at them. Another order gives another (equally valid) p-value.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        In sampling order; where samples are clustered, one mean per cluster.
    bound : float
        Hypothetical mean, in (lower, upper].
    lower, upper : float
        Range of the values; by default that of a signed drop in accuracy.

    Returns
    -------
    float
        In (0, 1].

    Raises
    ------
    InputError
        If a value leaves the range, or the bound is not inside it.

    Examples
    --------
    >>> betting_p_value([0.0] * 100, 0.1) < 0.05
    True
    >>> betting_p_value([0.0] * 100, 0.0)
    1.0

    References
    ----------
    Waudby-Smith, Ramdas (2024), Estimating means of bounded random variables by betting.
    """
    x = bounded_values(values, lower, upper)
    if not lower < bound <= upper:
        raise InputError(
            f"the bound {bound!r} does not lie in ({lower:g}, {upper:g}], the range of the values"
        )
    middle = (upper + lower) / 2
    count = np.arange(1, x.size + 1)
    mean_after = (middle + np.cumsum(x)) / (count + 1)
    squares = np.cumsum((x - mean_after) ** 2)
    # Each stake may know only the values before it.
    mean = np.concatenate(([middle], mean_after[:-1]))
    start = (upper - lower) ** 2 / 16
    variance = (start + np.concatenate(([0.0], squares[:-1]))) / count
    edge = bound - mean
    stake = np.maximum(edge / (variance + edge**2), 0.0)
    if bound < upper:
        stake = np.minimum(stake, 0.5 / (upper - bound))
    log_wealth = np.cumsum(np.log1p(stake * (bound - x)))
    return float(math.exp(-max(float(log_wealth.max()), 0.0)))


def betting_interval(
    values: ArrayLike, *, lower: float = 0.0, upper: float = 1.0, level: float = 0.95
) -> Interval:
    r"""Interval for the mean of independent values in [lower, upper], by two bets.

    The end points are where the bets on a larger and on a smaller mean,

    .. math::
        \prod_{i \le t} \big(1 \pm \min(\lambda_i, c^{\pm}(m)) (D_i - m)\big), \qquad
        \lambda_i = \sqrt{2 \log(2/\delta) / (n v_i)},

    first reach :math:`2/\delta` at some t; the stake :math:`\lambda_i` does not depend on m, so the
    wealth is monotone in m and the set of means not refuted is an interval.

    When it lies: never, for independent values with a common mean, in an order chosen without
    looking at them. Far shorter than Hoeffding's where the values vary little.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        In sampling order; one mean per cluster where samples are clustered.
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
        If a value leaves the range or the level is not in (0, 1).

    Examples
    --------
    >>> interval = betting_interval([0.2, 0.3] * 100)
    >>> 0.25 in interval, interval.width < 0.1
    (True, True)

    References
    ----------
    Waudby-Smith, Ramdas (2024), Theorem 3 and eq. (26).
    """
    if not 0.0 < level < 1.0:
        raise InputError(f"level is {level!r}; it lies strictly between 0 and 1, e.g. 0.95")
    width = upper - lower
    x = (bounded_values(values, lower, upper) - lower) / width
    target = math.log(2.0 / (1.0 - level))
    n = x.size
    count = np.arange(1, n + 1)
    mean = (0.5 + np.cumsum(x)) / (count + 1)
    squares = np.cumsum((x - mean) ** 2)
    variance = (0.25 + np.concatenate(([0.0], squares[:-1]))) / count
    stake = np.sqrt(2.0 * target / (n * variance))

    def refuted_from_above(x: NDArray[np.float64], m: float) -> bool:
        # 0.75 keeps one bad draw from costing more than three quarters of the wealth.
        bet = np.minimum(stake, 0.75 / m) if m > 0 else stake
        return bool(np.cumsum(np.log1p(bet * (x - m))).max() >= target)

    def low_end(x: NDArray[np.float64]) -> float:
        low, high = 0.0, 1.0
        if not refuted_from_above(x, 0.0):
            return 0.0
        for _ in range(60):
            middle = (low + high) / 2
            if refuted_from_above(x, middle):
                low = middle
            else:
                high = middle
        return low

    low, high = low_end(x), 1.0 - low_end(1.0 - x)
    if low > high:
        # Both bets won: impossible unless the values have no common mean or a rare event
        # (probability below 1 - level) happened; the mean itself is the honest point left.
        low = high = float(x.mean())
    return Interval(
        low=lower + width * low,
        high=lower + width * high,
        level=level,
        method=f"betting on {n} values in [{lower:g}, {upper:g}]",
    )
