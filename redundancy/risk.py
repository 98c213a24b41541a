"""Guarantees for skip plans from their losses on held-out images (Learn then Test).

Thresholds on a redundancy measure guarantee nothing about behaviour. What does: the losses of a
fixed list of candidate plans on images that took no part in making the list.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from estimators import InputError
from redundancy._certificate import (
    Method,
    RiskCertificate,
    binomial_p_value,
    choose_method,
    enough,
    hoeffding_bentkus_p_value,
    least_groups,
    p_value,
    sentence,
)
from redundancy._conformal import ExpectedRiskChoice, conformal_risk_control
from redundancy._losses import (
    check_order,
    check_probability,
    check_used,
    group_means,
    loss_table,
)
from redundancy._sequences import certify_sequences

__all__ = [
    "ExpectedRiskChoice",
    "RiskCertificate",
    "binomial_p_value",
    "certify_plans",
    "certify_sequences",
    "conformal_risk_control",
    "hoeffding_bentkus_p_value",
    "least_groups",
]

Testing = Literal["fixed-sequence", "bonferroni"]


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
    test = choose_method(method, table, groups, n)
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
    floor = enough(lower, alpha, budget, test, lower)
    if floor is not None and n_groups < floor:
        what = "units" if groups is None else "images"
        raise InputError(
            f"{n_groups} {what} cannot certify any plan at alpha {alpha:g} and delta {delta:g}, "
            f"not even the best possible one; at least {floor} are needed"
        )
    if test == "betting":
        by_group = by_group[:, np.random.default_rng(seed).permutation(n_groups)]
    p = [p_value(row, alpha, test, lower) for row in by_group]
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
        needed = enough(max(risks[plans[0]], lower), alpha, budget, test, lower)
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
        message=sentence(certified, chosen, plans, risks, alpha, delta, n_groups, needed),
    )


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
