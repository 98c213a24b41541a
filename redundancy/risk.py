"""Guarantees for skip plans from their losses on held-out images (Learn then Test).

Thresholds on a redundancy measure guarantee nothing about behaviour. What does: the losses of a
fixed list of candidate plans on images that took no part in making the list.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import InputError
from estimators.intervals import betting_p_value, binary_kl
from redundancy._conformal import ExpectedRiskChoice, conformal_risk_control
from redundancy._losses import (
    check_order,
    check_probability,
    check_used,
    group_means,
    loss_table,
)

__all__ = [
    "ExpectedRiskChoice",
    "RiskCertificate",
    "binomial_p_value",
    "certify_plans",
    "conformal_risk_control",
    "hoeffding_bentkus_p_value",
    "least_groups",
]

Method = Literal["auto", "binomial", "hoeffding-bentkus", "betting"]
Testing = Literal["fixed-sequence", "bonferroni"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskCertificate:
    """Which plans keep their risk, with what probability, and on which evidence.

    Parameters
    ----------
    certified : tuple
        Plans whose risk is at most `alpha`, all of them together with probability 1 - `delta`.
    chosen : hashable or None
        The certified plan that saves most; None means: skip nothing.
    alpha, delta : float
        Risk allowed, and probability with which the statement may be false.
    method, testing : str
        The test of each plan, and how many plans were paid for.
    order : tuple
        Plans in the order tested, safest first.
    p_values, risks : mapping
        By plan: p-value of "risk above alpha", and mean loss on the calibration images.
    n, n_groups : int
        Losses per plan, and independent groups among them.
    needed_groups : int or None
        Where nothing was certified: groups at which the first plan would be, if its observed risk
        stayed what it is; None if that risk is not below alpha.
    message : str
        The result in one sentence.
    """

    certified: tuple[Hashable, ...]
    chosen: Hashable | None
    alpha: float
    delta: float
    method: str
    testing: str
    order: tuple[Hashable, ...]
    p_values: Mapping[Hashable, float] = field(default_factory=dict)
    risks: Mapping[Hashable, float] = field(default_factory=dict)
    n: int
    n_groups: int
    needed_groups: int | None = None
    message: str = ""
    kind: str = "certified"

    def __post_init__(self) -> None:
        for name in ("p_values", "risks"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a plan file; plans are named by their ``str``."""
        plain = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("certified", "chosen", "order", "p_values", "risks")
        }
        return {
            **plain,
            "certified": [str(plan) for plan in self.certified],
            "chosen": None if self.chosen is None else str(self.chosen),
            "order": [str(plan) for plan in self.order],
            "p_values": {str(plan): p for plan, p in self.p_values.items()},
            "risks": {str(plan): risk for plan, risk in self.risks.items()},
        }


def binomial_p_value(losses: float, n: int, alpha: float) -> float:
    r"""p-value of "the error rate is above alpha" from a count of errors, exact.

    .. math:: p = P[\text{Bin}(n, \alpha) \le \text{losses}]

    Parameters
    ----------
    losses : float
        Number of errors among n independent binary losses.
    n : int
    alpha : float in (0, 1)

    Examples
    --------
    >>> round(binomial_p_value(0, 100, 0.05), 6)
    0.005921
    """
    from scipy.special import bdtr

    return float(bdtr(math.floor(losses + 1e-9), n, alpha))


def hoeffding_bentkus_p_value(risk: float, n: int, alpha: float) -> float:
    r"""p-value of "the mean loss is above alpha" for independent losses in [0, 1].

    .. math:: p = \min\big(e^{-n\, d(\min(\hat R, \alpha) \| \alpha)},\;
              e\, P[\text{Bin}(n, \alpha) \le \lceil n \hat R \rceil]\big)

    Parameters
    ----------
    risk : float in [0, 1]
        Mean loss.
    n : int
    alpha : float in (0, 1)

    Examples
    --------
    >>> round(hoeffding_bentkus_p_value(0.02, 500, 0.05), 6)
    0.00125

    References
    ----------
    Bates et al. (2021), Distribution-free, risk-controlling prediction sets; Bentkus (2004).
    """
    from scipy.special import bdtr

    hoeffding = math.exp(-n * float(binary_kl(min(risk, alpha), alpha)))
    bentkus = math.e * float(bdtr(math.ceil(n * risk - 1e-9), n, alpha))
    return min(hoeffding, bentkus, 1.0)


def least_groups(alpha: float, delta: float) -> int:
    """Independent images with which a plan that loses nothing at all can be certified.

    Parameters
    ----------
    alpha, delta : float in (0, 1)
        As for `certify_plans`; delta is that of one sequence of plans.

    Returns
    -------
    int
        For losses in [0, 1], 0 or 1 or means over an image's questions: without any loss both
        tests have the p-value (1 - alpha)^n.

    Raises
    ------
    InputError
        If alpha or delta leaves (0, 1).

    Examples
    --------
    >>> least_groups(0.05, 0.1), least_groups(0.02, 0.1)
    (45, 114)
    """
    check_probability(alpha, "alpha", "the risk allowed, e.g. 0.02")
    check_probability(delta, "delta", "the probability that the certificate is wrong, e.g. 0.1")
    least = _enough(0.0, alpha, delta, "binomial", 0.0)
    if least is None:
        raise InputError(
            f"no number of images certifies a risk of at most {alpha:g} at delta {delta:g}; allow "
            "more risk"
        )
    return least


def certify_plans(
    losses: Mapping[Any, ArrayLike],
    *,
    alpha: float,
    delta: float,
    order: Sequence[Hashable],
    groups: ArrayLike | None = None,
    method: Method = "auto",
    testing: Testing = "fixed-sequence",
    starts: int = 1,
    savings: Mapping[Any, float] | None = None,
    used_groups: Iterable[Any] | None = None,
    seed: int = 0,
) -> RiskCertificate:
    r"""Certify skip plans by Learn then Test.

    .. math:: P\big[\exists \text{ certified plan with } E L > \alpha\big] \le \delta

    Every plan has a p-value for "its risk is above alpha". The fixed sequence tests them in the
    given order and stops at the first p above delta, which costs nothing for the number of plans;
    Bonferroni tests each at delta / N, in any order.

    When it lies: never, if (1) plans and order were fixed without these images, (2) images are
    independent draws, and (3) deployment draws from the same source. Another dataset needs its own
    certificate. With `groups`, the risk is that of an average image: first a mean over the
    questions of an image, then over images.

    What it takes, in independent images with binary losses and delta 0.1, for a plan that loses
    nothing / a quarter of alpha / half of alpha: 230 / 531 / 1,051 at alpha 0.01, 114 / 265 / 525
    at 0.02, 45 / 105 / 158 at 0.05, 22 / 52 / 78 at 0.1.

    Parameters
    ----------
    losses : mapping of plan to array_like of float, shape (n,)
        Loss of each plan on the same n units, in [0, 1] (1 where the answer differs from the full
        model's) or signed in [-1, 1] (drop in accuracy).
    alpha : float in (0, 1)
        Risk allowed.
    delta : float in (0, 1)
        Probability with which the certificate may be wrong.
    order : sequence of plans
        Safest first. A measure may decide the order; these losses may not.
    groups : array_like, shape (n,), optional
        The image of each unit; units of one image are not independent.
    method : {"auto", "binomial", "hoeffding-bentkus", "betting"}
        ``"auto"``: betting if any loss is negative, the exact binomial for losses that are 0 or 1
        with one unit per image, else Hoeffding-Bentkus.
    testing : {"fixed-sequence", "bonferroni"}
    starts : int
        Fixed sequences begun at this many equally spaced plans, each with delta / starts: guards
        against an order whose first plan happens to fail.
    savings : mapping of plan to float, optional
        What each plan saves; the certified plan that saves most is chosen. By default the last in
        the order.
    used_groups : iterable, optional
        Images that ordered the plans; meeting one of them here is an error.
    seed : int
        Of the shuffle that precedes betting, so that sorted data do no harm.

    Returns
    -------
    RiskCertificate

    Raises
    ------
    InputError
        If alpha or delta leaves (0, 1), losses leave their range or differ in length, the order
        and the losses name different plans, an image was already used to order the plans, or
        there are too few images for any certificate (the message says how many are needed).

    Examples
    --------
    >>> losses = {"late 2": [0] * 99 + [1], "late 4": [0] * 90 + [1] * 10}
    >>> result = certify_plans(losses, alpha=0.05, delta=0.1, order=["late 2", "late 4"])
    >>> result.certified, round(result.p_values["late 2"], 3)
    (('late 2',), 0.037)

    References
    ----------
    Angelopoulos et al. (2021), Learn then Test.
    """
    check_probability(alpha, "alpha", "the risk allowed, e.g. 0.02")
    check_probability(delta, "delta", "the probability that the certificate is wrong, e.g. 0.1")
    plans = check_order(losses, order)
    table = loss_table(losses, plans, -1.0, 1.0)
    n = table.shape[1]
    check_used(groups, used_groups, n)
    signed = bool((table < 0).any())
    test = _choose_method(method, table, groups, n)
    if signed and test != "betting":
        raise InputError(
            f"method {test!r} needs losses in [0, 1], and some are negative; use 'betting'"
        )
    by_group = group_means(table, groups)
    n_groups = by_group.shape[1]
    lower = -1.0 if signed else 0.0
    if testing not in ("fixed-sequence", "bonferroni"):
        raise InputError(f"testing is {testing!r}; use 'fixed-sequence' or 'bonferroni'")
    if not 1 <= starts <= len(plans):
        raise InputError(f"starts is {starts!r}; begin 1 to {len(plans)} fixed sequences")
    budget = delta / (len(plans) if testing == "bonferroni" else starts)
    floor = _enough(lower, alpha, budget, test, lower)
    if floor is not None and n_groups < floor:
        what = "units" if groups is None else "images"
        raise InputError(
            f"{n_groups} {what} cannot certify any plan at alpha {alpha:g} and delta {delta:g}, "
            f"not even the best possible one; at least {floor} are needed"
        )
    if test == "betting":
        by_group = by_group[:, np.random.default_rng(seed).permutation(n_groups)]
    p = [_p_value(row, alpha, test, lower) for row in by_group]
    passed = _passed(p, budget, testing, starts)
    certified = tuple(plan for plan, ok in zip(plans, passed, strict=True) if ok)
    if savings is not None:
        missing = [plan for plan in plans if plan not in savings]
        if missing:
            raise InputError(f"savings has no entry for {missing[0]!r}; give one per plan")
    chosen: Hashable | None = None
    if certified:
        chosen = certified[-1] if savings is None else max(certified, key=lambda q: savings[q])
    risks = {plan: float(row.mean()) for plan, row in zip(plans, by_group, strict=True)}
    needed = None
    if not certified:
        needed = _enough(max(risks[plans[0]], lower), alpha, budget, test, lower)
    return RiskCertificate(
        certified=certified,
        chosen=chosen,
        alpha=alpha,
        delta=delta,
        method=test,
        testing=testing if starts == 1 else f"{testing}, {starts} starts",
        order=plans,
        p_values=dict(zip(plans, p, strict=True)),
        risks=risks,
        n=n,
        n_groups=n_groups,
        needed_groups=needed,
        message=_sentence(certified, chosen, plans, risks, alpha, delta, n_groups, needed),
    )


def _choose_method(
    method: Method, table: NDArray[np.float64], groups: ArrayLike | None, n: int
) -> Literal["binomial", "hoeffding-bentkus", "betting"]:
    binary = bool(np.isin(table, (0.0, 1.0)).all())
    alone = groups is None or np.unique(np.asarray(groups)).size == n
    if method == "auto":
        if (table < 0).any():
            return "betting"
        return "binomial" if binary and alone else "hoeffding-bentkus"
    if method not in ("binomial", "hoeffding-bentkus", "betting"):
        raise InputError(
            f"method is {method!r}; use 'auto', 'binomial', 'hoeffding-bentkus' or 'betting'"
        )
    if method == "binomial" and not (binary and alone):
        raise InputError(
            "the binomial test needs losses that are 0 or 1, one per image; use "
            "'hoeffding-bentkus' for anything else in [0, 1]"
        )
    return method


def _p_value(row: NDArray[np.float64], alpha: float, test: str, lower: float) -> float:
    if test == "binomial":
        return binomial_p_value(float(row.sum()), row.size, alpha)
    if test == "hoeffding-bentkus":
        return hoeffding_bentkus_p_value(float(row.mean()), row.size, alpha)
    return betting_p_value(row, alpha, lower=lower, upper=1.0)


def _passed(p: Sequence[float], budget: float, testing: str, starts: int) -> list[bool]:
    if testing == "bonferroni":
        return [value <= budget for value in p]
    passed = [False] * len(p)
    for start in {round(j * len(p) / starts) for j in range(starts)}:
        for index in range(start, len(p)):
            if p[index] > budget:
                break
            passed[index] = True
    return passed


def _enough(risk: float, alpha: float, budget: float, test: str, lower: float) -> int | None:
    """Smallest number of groups at which a plan with this observed risk passes, if any."""
    if risk >= alpha:
        return None

    def passes(n: int) -> bool:
        if test == "binomial":
            return binomial_p_value(math.ceil(risk * n - 1e-9), n, alpha) <= budget
        if test == "hoeffding-bentkus":
            return hoeffding_bentkus_p_value(risk, n, alpha) <= budget
        # Constant losses are the gambler's best case.
        return betting_p_value(np.full(n, risk), alpha, lower=lower) <= budget

    high = 1
    while not passes(high):
        high *= 2
        if high > 2**22:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _sentence(
    certified: tuple[Hashable, ...],
    chosen: Hashable | None,
    plans: tuple[Hashable, ...],
    risks: Mapping[Hashable, float],
    alpha: float,
    delta: float,
    n_groups: int,
    needed: int | None,
) -> str:
    if certified:
        return (
            f"{chosen}: risk at most {alpha:g} with probability {1 - delta:g}, on {n_groups} "
            f"independent units ({len(certified)} of {len(plans)} plans certified)"
        )
    first = risks[plans[0]]
    if needed is None:
        return (
            f"no plan is certified: the safest, {plans[0]}, loses {first:.3g} on average, not less "
            f"than alpha {alpha:g}; skip nothing, allow more risk, or propose milder plans"
        )
    return (
        f"no plan is certified: the safest, {plans[0]}, loses {first:.3g} on average; about "
        f"{needed} independent units would certify it if that holds (there are {n_groups})"
    )
