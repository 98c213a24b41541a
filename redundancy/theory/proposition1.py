"""Proposition 1: mostly close means close on average, and the converse."""

from __future__ import annotations

import math

from estimators import InputError
from redundancy.theory._result import Given, InputKind, Number, TheoryResult

__all__ = [
    "proposition1",
    "proposition1_converse",
    "proposition1_threshold",
    "proposition1_unbounded",
]


def proposition1(
    *, p_gt: Number, t: Number, bound: Number = 2.0, inputs: InputKind = "exact"
) -> TheoryResult:
    r"""Bound a mean distance by the probability of being far (proximal implies geometric).

    .. math:: E\rho \le t + (M - t)\, P[\rho > t] \qquad (0 \le \rho \le M,\ 0 \le t \le M)

    The paper has M = 1, which is wrong for the cosine distance: it reaches 2. With X' = ±X and
    P(-) = 0.3, P[rho > 0] = 0.3 and E rho = 0.6, not at most 0.3. The bound is attained by a
    distance that is t or M, so nothing sharper follows from these numbers. It is vacuous where
    everything is far (P = 1).

    Parameters
    ----------
    p_gt : float in [0, 1]
        P[rho > t], the paper's P_t: one minus the share of pairs at distance at most t.
    t : float
        Threshold, in [0, `bound`].
    bound : float
        M, the largest possible distance; 2 for the cosine distance.
    inputs : {"exact", "certified", "estimate"}
        How well the inputs are known.

    Returns
    -------
    TheoryResult
        ``forms["paper"]`` is t + (1 - t) P, a bound only where M <= 1.

    Raises
    ------
    InputError
        If a number leaves its range.

    Examples
    --------
    >>> proposition1(p_gt=0.3, t=0.0).value
    0.6

    References
    ----------
    Proposition 1 of the paper, equations (12) to (16).
    """
    given = Given(inputs)
    p = given.probability(p_gt, "p_gt")
    m = given.positive(bound, "bound")
    threshold = _threshold(given, t, m)
    value = threshold + (m - threshold) * p
    assumptions = (f"0 <= rho <= {m:g}" + (" (holds for the cosine distance)" if m >= 2 else ""),)
    notes: tuple[str, ...] = ()
    if m > 1.0:
        notes = ("the paper's form takes rho <= 1 for granted and is no bound here",)
    return TheoryResult(
        value=value,
        kind=given.kind(assumptions),
        unit="distance",
        statement="E rho <= value",
        assumptions=assumptions,
        vacuous=value >= m,
        forms={
            "paper": threshold + (1.0 - threshold) * p,
            "corrected": value,
            "sharpest": value,
        },
        notes=notes,
    )


def proposition1_threshold(
    *, eps: Number, t: Number, bound: Number = 2.0, inputs: InputKind = "exact"
) -> TheoryResult:
    r"""Largest probability of being far that still proves a mean distance below eps.

    .. math:: P[\rho > t] < \frac{\varepsilon - t}{M - t} \implies E\rho < \varepsilon

    Vacuous, that is never met, unless eps > t.

    Parameters
    ----------
    eps : float
        The mean distance to be proved, above 0.
    t : float
        Threshold, in [0, `bound`).
    bound : float
        M, the largest possible distance; 2 for the cosine distance.
    inputs : {"exact", "certified", "estimate"}
        How well the inputs are known.

    Returns
    -------
    TheoryResult
        `value` is the right-hand side, cut to [0, 1]; ``forms["paper"]`` has M = 1.

    Raises
    ------
    InputError
        If a number leaves its range.

    Examples
    --------
    >>> round(proposition1_threshold(eps=0.1, t=0.05).value, 6)
    0.025641
    """
    given = Given(inputs)
    target = given.positive(eps, "eps")
    m = given.positive(bound, "bound")
    threshold = _threshold(given, t, m)
    if threshold == m:
        raise InputError(f"t is {threshold:g}, the largest distance there is; give t below bound")
    value = min(max((target - threshold) / (m - threshold), 0.0), 1.0)
    assumptions = (f"0 <= rho <= {m:g}",)
    paper = (target - threshold) / (1.0 - threshold) if threshold != 1.0 else math.inf
    return TheoryResult(
        value=value,
        kind=given.kind(assumptions),
        unit="probability",
        statement="P[rho > t] < value implies E rho < eps",
        assumptions=assumptions,
        vacuous=target <= threshold,
        forms={"paper": paper, "corrected": value, "sharpest": value},
    )


def proposition1_converse(
    *, mean: Number, t: Number, bound: Number = 2.0, inputs: InputKind = "exact"
) -> TheoryResult:
    r"""Bound the probability of being far by the mean distance (geometric implies proximal).

    .. math:: P[\rho \ge t] \le E\rho / t

    Markov's inequality, missing from the paper: geometric eps-redundancy gives (t, eps/t)-proximal
    redundancy for every t > 0, without any assumption but rho >= 0. Vacuous unless E rho < t.

    Parameters
    ----------
    mean : float
        E rho, in [0, `bound`].
    t : float
        Threshold, above 0.
    bound : float
        M, the largest possible distance; beyond it the probability is 0.
    inputs : {"exact", "certified", "estimate"}
        How well the inputs are known.

    Returns
    -------
    TheoryResult
        `value` is cut to 1.

    Raises
    ------
    InputError
        If a number leaves its range.

    Examples
    --------
    >>> proposition1_converse(mean=0.03125, t=0.125).value
    0.25
    """
    given = Given(inputs)
    m = given.positive(bound, "bound")
    average = given.nonnegative(mean, "mean")
    if average > m:
        raise InputError(f"mean is {average:g}, above the largest distance bound = {m:g}")
    threshold = given.positive(t, "t")
    value = 0.0 if threshold > m else min(average / threshold, 1.0)
    assumptions = ("rho >= 0",) if threshold <= m else (f"0 <= rho <= {m:g}",)
    return TheoryResult(
        value=value,
        kind=given.kind(assumptions),
        unit="probability",
        statement="P[rho >= t] <= value",
        assumptions=assumptions,
        vacuous=value >= 1.0,
        forms={"corrected": value, "sharpest": value},
        notes=("not in the paper, which omits this direction",),
    )


def proposition1_unbounded(
    *, p_gt: Number, t: Number, second_moment: Number, inputs: InputKind = "exact"
) -> TheoryResult:
    r"""Bound the mean of a distance without an upper limit, from its second moment.

    .. math:: E\rho \le t (1 - P) + \sqrt{E\rho^2\, P} \le t + \sqrt{E\rho^2\, P},
              \qquad P = P[\rho > t]

    For Euclidean distances and the like, where Proposition 1 has no M. The first term counts only
    the pairs that are near, the second is the Cauchy-Schwarz inequality on the far ones. Vacuous
    where it exceeds :math:`\sqrt{E\rho^2}`, which bounds the mean by itself.

    Parameters
    ----------
    p_gt : float in [0, 1]
        P[rho > t].
    t : float
        Threshold, at least 0.
    second_moment : float
        E rho^2.
    inputs : {"exact", "certified", "estimate"}
        How well the inputs are known.

    Returns
    -------
    TheoryResult

    Raises
    ------
    InputError
        If a number leaves its range.

    Examples
    --------
    >>> round(proposition1_unbounded(p_gt=0.01, t=0.1, second_moment=4.0).value, 6)
    0.299
    """
    given = Given(inputs)
    p = given.probability(p_gt, "p_gt")
    threshold = given.nonnegative(t, "t")
    moment = given.nonnegative(second_moment, "second_moment")
    far = math.sqrt(moment * p) if p > 0.0 else 0.0
    value = threshold * (1.0 - p) + far
    assumptions = ("rho >= 0 has the stated second moment",)
    return TheoryResult(
        value=value,
        kind=given.kind(assumptions),
        unit="distance",
        statement="E rho <= value",
        assumptions=assumptions,
        vacuous=value >= math.sqrt(moment),
        forms={"corrected": threshold + far, "sharpest": value},
        notes=("not in the paper, which has bounded distances alone",),
    )


def _threshold(given: Given, t: Number, m: float) -> float:
    threshold = given.nonnegative(t, "t")
    if threshold > m:
        raise InputError(f"t is {threshold:g}, beyond the largest distance bound = {m:g}")
    return threshold
