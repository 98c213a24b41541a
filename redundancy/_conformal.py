"""Conformal risk control: the weaker promise, about the average calibration."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from estimators import InputError
from redundancy._losses import check_order, group_means, loss_table

__all__ = ["ExpectedRiskChoice", "conformal_risk_control"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedRiskChoice:
    """What conformal risk control chooses: a bound on the *expected* risk, no more.

    Parameters
    ----------
    chosen : hashable or None
        The plan farthest along the order whose corrected risk is at most alpha.
    corrected : mapping
        By plan: (n R + B) / (n + 1), R the mean of the running maximum of losses.
    alpha : float
    n_groups : int
    kind : str
        Always ``"expectation only"``: over many calibrations the risk averages at most alpha; in a
        given one it may be above it.
    """

    chosen: Hashable | None
    corrected: Mapping[Hashable, float]
    alpha: float
    n_groups: int
    kind: str = "expectation only"


def conformal_risk_control(
    losses: Mapping[Any, ArrayLike],
    *,
    alpha: float,
    order: Sequence[Hashable],
    groups: ArrayLike | None = None,
    upper: float = 1.0,
) -> ExpectedRiskChoice:
    r"""Choose a plan whose risk is at most alpha *in expectation*: weaker than a certificate.

    .. math:: \frac{n \bar R_j + B}{n + 1} \le \alpha, \qquad
              \bar R_j = \frac1n \sum_i \max_{k \le j} L_{ik}

    Accuracy is not monotone in depth, which the method needs; the running maximum over the plans
    so far makes it so, at the price of some power.

    When it lies: in a given calibration the chosen plan's risk may exceed alpha; only the average
    over calibrations does not. For a statement about *this* calibration use
    :func:`redundancy.risk.certify_plans`.

    Parameters
    ----------
    losses : mapping of plan to array_like of float in [0, upper], shape (n,)
    alpha : float in (0, upper)
    order : sequence of plans
        From least to most skipped.
    groups : array_like, shape (n,), optional
        The image of each unit; losses are averaged within images.
    upper : float
        B, the largest possible loss.

    Returns
    -------
    ExpectedRiskChoice

    Raises
    ------
    InputError
        If a loss leaves its range or the order and the losses name different plans.

    Examples
    --------
    >>> losses = {"a": [0] * 9, "b": [0, 1, 0, 0, 0, 0, 0, 1, 0]}
    >>> conformal_risk_control(losses, alpha=0.25, order=["a", "b"]).chosen
    'a'

    References
    ----------
    Angelopoulos et al. (2024), Conformal risk control.
    """
    if not 0.0 < alpha < upper:
        raise InputError(f"alpha is {alpha!r}; the risk allowed lies in (0, {upper:g})")
    plans = check_order(losses, order)
    table = loss_table(losses, plans, 0.0, upper)
    by_group = group_means(table, groups)
    n = by_group.shape[1]
    means = np.maximum.accumulate(by_group, axis=0).mean(axis=1)
    corrected = (n * means + upper) / (n + 1)
    within = np.flatnonzero(corrected <= alpha)
    return ExpectedRiskChoice(
        chosen=plans[int(within[-1])] if within.size else None,
        corrected={plan: float(v) for plan, v in zip(plans, corrected, strict=True)},
        alpha=alpha,
        n_groups=n,
    )
