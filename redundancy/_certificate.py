"""A certificate of risk, and the tests of one plan that it rests on."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import InputError
from estimators.intervals import betting_p_value, binary_kl
from redundancy._losses import check_probability

__all__ = [
    "Method",
    "RiskCertificate",
    "binomial_p_value",
    "choose_method",
    "enough",
    "hoeffding_bentkus_p_value",
    "least_groups",
    "p_value",
    "sentence",
]

Method = Literal["auto", "binomial", "hoeffding-bentkus", "betting"]


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
    least = enough(0.0, alpha, delta, "binomial", 0.0)
    if least is None:
        raise InputError(
            f"no number of images certifies a risk of at most {alpha:g} at delta {delta:g}; allow "
            "more risk"
        )
    return least


def choose_method(
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


def p_value(row: NDArray[np.float64], alpha: float, test: str, lower: float) -> float:
    if test == "binomial":
        return binomial_p_value(float(row.sum()), row.size, alpha)
    if test == "hoeffding-bentkus":
        return hoeffding_bentkus_p_value(float(row.mean()), row.size, alpha)
    return betting_p_value(row, alpha, lower=lower, upper=1.0)


def enough(risk: float, alpha: float, budget: float, test: str, lower: float) -> int | None:
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


def sentence(
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
