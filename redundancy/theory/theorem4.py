"""Theorem 4: mutual information of close layers, from the measure of their neighbourhoods."""

from __future__ import annotations

import math
from dataclasses import replace

from estimators import InputError
from estimators.intervals import binary_entropy, binary_kl
from redundancy.theory._divergence import log_binary_kl
from redundancy.theory._result import Given, InputKind, Number, TheoryResult
from redundancy.theory.sphere_check import SphereCheck
from redundancy.theory.theorem3 import theorem3

__all__ = ["theorem4"]

# Probabilities that were summed may miss 1 by this much without contradicting each other.
_ROUNDING = 1e-12


def theorem4(
    *,
    p_gt: Number,
    p_max: Number | None = None,
    p_min: Number = 0.0,
    q: Number | None = None,
    log_p_max: Number | None = None,
    log_q: Number | None = None,
    d: int | None = None,
    t: Number | None = None,
    sphere_check: SphereCheck | None = None,
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Bound I(X_l; X_{l-1}) from below by how unlikely closeness is for independent layers.

    With :math:`P = P[\rho > t]`, :math:`p_x = P[X' \in B(t, x)]`, its infimum and supremum
    p_min, p_max over the support of X, and its mean :math:`q = (P_X \times P_{X'})[\rho \le t]`,

    .. math::
        I(X; X') \ge d(1 - P \,\|\, q)
                 \ge (1 - P) \log\frac1{p_{\max}} - P \log(1 - p_{\min}) - H_2(P) .

    The second form is the paper's, whose condition p_min + p_max < 1 is not needed; the first is
    never smaller, never negative, and needs no infimum or supremum. Where q is not given, the least
    of d(1 - P || q) over [p_min, p_max] serves.

    When it lies: p_min and p_max over *sampled* centres bound nothing (unseen centres, noise of
    each p_x), so give ``inputs="estimate"``; from data use :func:`certified_mi_lower_bound`, which
    is a bound with stated probability. p_max = 0 in a sample would give infinity and is refused.

    Parameters
    ----------
    p_gt : float in [0, 1]
        P[rho > t].
    p_max : float in (0, 1], optional
        Supremum of p_x, or an upper bound of it.
    p_min : float in [0, 1)
        Infimum of p_x, or a lower bound of it.
    q : float in [0, 1], optional
        Probability of being within t for independent X, X'.
    log_p_max, log_q : float, optional
        Their logarithms, where the probabilities underflow (thousands of dimensions).
    d, t : int and float, optional
        Instead of all those: dimension and threshold, for a reference value under a uniform
        sphere, where p_min = p_max = q = cap(d, t), as in Theorem 3.
    sphere_check : SphereCheck, optional
        Result of :func:`check_uniform_sphere`, for the reference value; if it contradicts
        uniformity, the result is an estimate and says so.
    inputs : {"exact", "certified", "estimate"}
        How well the probabilities are known.

    Returns
    -------
    TheoryResult
        `value` in nats, at least 0. ``forms``: ``"paper"`` (= ``"bound_T4"``), ``"sharpest"``, and
        where q is given ``"corrected"`` (= ``"bound_binaryKL"``).

    Raises
    ------
    InputError
        If the probabilities contradict each other, or leave nothing to compare with.

    Examples
    --------
    >>> result = theorem4(p_gt=0.2232, p_min=0.292, p_max=0.3948, q=0.3260528)
    >>> round(result.forms["paper"], 6), round(result.value, 6)
    (0.268084, 0.427704)

    References
    ----------
    Theorem 4 of the paper; Braun, Pokutta (2015), Proposition 2.2; re-derived here from data
    processing. The paper's "P[(X_{l-1}, x) in B(t, x)]" means P[X_{l-1} in B(t, x)].
    """
    given = Given(inputs)
    far = given.probability(p_gt, "p_gt")
    if d is not None or t is not None:
        if d is None or t is None or any(v is not None for v in (p_max, q, log_p_max, log_q)):
            raise InputError("give d and t (a uniform sphere), or p_max or q, not both")
        return _reference(far, d, t, sphere_check, inputs)
    least = given.probability(p_min, "p_min")
    log_most = _log_probability(given, p_max, log_p_max, "p_max")
    log_mean = _log_probability(given, q, log_q, "q")
    if log_most is None and log_mean is None:
        raise InputError("give p_max (and p_min), or q, or both")
    near = 1.0 - far
    forms: dict[str, float] = {}
    assumptions: list[str] = []
    candidates = [0.0]
    if log_mean is not None:
        if math.isinf(log_mean) and near > 0.0:
            raise InputError(
                "q is 0, so independent layers would never be close, yet P[rho <= t] = "
                f"{near:g}; a q of 0 counted in a sample needs an upper confidence bound: use "
                "certified_mi_lower_bound"
            )
        if log_mean == 0.0 and far > _ROUNDING:
            raise InputError(
                f"q is 1, so that independent layers are always close, yet P[rho > t] = {far:g}; "
                "the two are not of one law"
            )
        divergence = log_binary_kl(near, log_mean) if log_mean < 0.0 else 0.0
        forms["corrected"] = forms["bound_binaryKL"] = divergence
        candidates.append(forms["corrected"])
    if log_most is not None:
        _check_extremes(far, near, least, log_most, log_mean)
        forms["paper"] = forms["bound_T4"] = (
            (-near * log_most if near > 0.0 else 0.0)
            - (far * math.log1p(-least) if far > 0.0 and least < 1.0 else 0.0)
            - float(binary_entropy(far))
        )
        candidates.append(_least_divergence(near, least, log_most))
        assumptions.append("p_min <= P[X_{l-1} in B(t, x)] <= p_max for every x in the support")
    value = max(candidates)
    forms["sharpest"] = value
    return TheoryResult(
        value=value,
        kind=given.kind(tuple(assumptions)),
        unit="nats",
        statement="I(X_l; X_{l-1}) >= value",
        assumptions=tuple(assumptions),
        vacuous=value <= 0.0,
        forms=forms,
        notes=("from sampled centres this is an estimate, no bound",) if assumptions else (),
    )


def _reference(
    far: float, d: int, t: Number, check: SphereCheck | None, inputs: InputKind
) -> TheoryResult:
    """Theorem 4 under a uniform sphere, where it is Theorem 3 without the log 2."""
    three = theorem3(d=d, t=t, p_gt=far, sphere_check=check, inputs=inputs)
    log_cap = three.forms["log_cap"]
    paper = (
        (-(1.0 - far) * log_cap if far < 1.0 else 0.0)
        - (far * math.log1p(-math.exp(log_cap)) if far > 0.0 and log_cap < 0.0 else 0.0)
        - float(binary_entropy(far))
    )
    forms = {"paper": paper, "bound_T4": paper, "log_cap": log_cap}
    forms |= dict.fromkeys(("corrected", "bound_binaryKL", "sharpest"), three.value)
    return replace(three, forms=forms)


def _log_probability(
    given: Given, p: Number | None, log_p: Number | None, name: str
) -> float | None:
    if p is not None and log_p is not None:
        raise InputError(f"give {name} or log_{name}, not both")
    if p is not None:
        value = given.probability(p, name)
        return math.log(value) if value > 0.0 else -math.inf
    if log_p is None:
        return None
    number = given.number(log_p, f"log_{name}")
    if number > 0.0:
        raise InputError(f"log_{name} is {number:g}; the logarithm of a probability is at most 0")
    return number


def _check_extremes(
    far: float, near: float, least: float, log_most: float, log_mean: float | None
) -> None:
    if math.isinf(log_most) and near > 0.0:
        raise InputError(
            f"p_max is 0, yet P[rho <= t] = {near:g}: no centre has a neighbour in the sample, "
            "which proves nothing; use certified_mi_lower_bound"
        )
    if least == 1.0 and far > _ROUNDING:
        raise InputError(f"p_min is 1, so that everything is close, yet P[rho > t] = {far:g}")
    most = math.exp(log_most)
    if least > most * (1.0 + 1e-12):
        raise InputError(f"p_min = {least:g} exceeds p_max = {most:g}; swap them?")
    if log_mean is not None:
        leeway = 1e-9
        mean = math.exp(log_mean)
        if log_mean > log_most + leeway or mean < least * (1.0 - leeway):
            raise InputError(f"q = {mean:g} lies outside [p_min, p_max] = [{least:g}, {most:g}]")


def _least_divergence(near: float, least: float, log_most: float) -> float:
    """Smallest d(near || q) over q in [p_min, p_max]: at the end nearest to `near`."""
    if near > 0.0 and math.log(near) > log_most:
        return log_binary_kl(near, log_most)
    return float(binary_kl(near, least)) if near < least < 1.0 else 0.0
