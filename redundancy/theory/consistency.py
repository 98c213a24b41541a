"""Can a reported mean distance and a reported share of close pairs both be right?"""

from __future__ import annotations

from dataclasses import dataclass

from estimators import InputError
from estimators._types import Kind
from redundancy.theory._result import Given, Number

__all__ = ["PairCheck", "check_pair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCheck:
    """What `check_pair` found; true in a condition where the two numbers can both be right.

    Parameters
    ----------
    consistent : bool
    mean, p, t, bound : float
        The numbers checked.
    low, high : float
        Range that the mean must lie in, given the others.
    value : float
        By how much the mean misses that range; 0 where it is consistent.
    kind : "exact"
        The check is arithmetic.
    assumptions : tuple of str
        What the range takes for granted.
    vacuous : bool
        True if the range is all of [0, bound], so that no mean could fail.
    message : str
        The finding in one sentence.
    """

    consistent: bool
    mean: float
    p: float
    t: float
    bound: float
    low: float
    high: float
    value: float
    kind: Kind
    assumptions: tuple[str, ...]
    vacuous: bool
    message: str

    def __bool__(self) -> bool:
        return self.consistent

    def __str__(self) -> str:
        return self.message


def check_pair(
    mean: Number, p: Number, t: Number, bound: Number = 2.0, *, rounding: float = 0.0
) -> PairCheck:
    r"""Check a mean distance against the share of pairs closer than t.

    .. math:: t (1 - p) \le E\rho \le t p + M (1 - p), \qquad p = P[\rho < t]

    Both numbers of one table cell come from the same sample, so the inequality holds for them
    without sampling error: a violation is a misprint, another unit, or another sample.

    Parameters
    ----------
    mean : float
        Mean distance.
    p : float in [0, 1]
        Share of pairs at distance below t: P[rho < t], not the paper's P_t.
    t : float
        Threshold, in [0, `bound`].
    bound : float
        M, the largest possible distance; 2 for the cosine distance, 1 if rho <= 1 is claimed.
    rounding : float
        Half a unit of the last printed digit: mean and p may each be off by this much.

    Returns
    -------
    PairCheck

    Raises
    ------
    InputError
        If p or t leaves its range, or a number is NaN.

    Examples
    --------
    A row of the paper's Table 1 (Qwen2.5-VL, text and documents, layer 4):

    >>> check = check_pair(0.506, 0.6515, 0.05, 1.0)
    >>> check.consistent, round(check.high, 6)
    (False, 0.381075)
    >>> bool(check_pair(0.0506, 0.6515, 0.05, 1.0))
    True
    """
    given = Given()
    average = given.number(mean, "mean")
    share = given.probability(p, "p")
    m = given.positive(bound, "bound")
    threshold = given.nonnegative(t, "t")
    if threshold > m:
        raise InputError(f"t is {threshold:g}, beyond the largest distance bound = {m:g}")
    slack = given.nonnegative(rounding, "rounding")
    most, least = min(share + slack, 1.0), max(share - slack, 0.0)
    low = max(threshold * (1.0 - most) - slack, 0.0)
    high = min(threshold * least + m * (1.0 - least) + slack, m)
    # The last bits of a sum in another order are no contradiction.
    leeway = 4e-16 * max(m, abs(average))
    value = max(low - average, average - high, 0.0)
    consistent = value <= leeway
    if consistent:
        value = 0.0
        message = (
            f"consistent: with P[rho < {threshold:g}] = {share:g} and rho <= {m:g}, a mean of "
            f"{average:g} lies in [{low:.4g}, {high:.4g}]"
        )
    else:
        message = (
            f"impossible: with P[rho < {threshold:g}] = {share:g} and rho <= {m:g} the mean lies "
            f"in [{low:.4g}, {high:.4g}], and {average:g} does not; look for a misprint or a "
            "different sample behind one of the two"
        )
    return PairCheck(
        consistent=consistent,
        mean=average,
        p=share,
        t=threshold,
        bound=m,
        low=low,
        high=high,
        value=value,
        kind="exact",
        assumptions=(f"0 <= rho <= {m:g}", "mean and p are of the same sample"),
        vacuous=low <= 0.0 and high >= m,
        message=message,
    )
