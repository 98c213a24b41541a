"""Theorem 3: mutual information of close layers, if the upper one were uniform on the sphere."""

from __future__ import annotations

import math

from estimators import InputError
from estimators.intervals import binary_entropy
from redundancy.theory._divergence import log_binary_kl
from redundancy.theory._result import Given, InputKind, Number, TheoryResult
from redundancy.theory.sphere_check import SphereCheck
from redundancy.theory.spherical_cap import log_spherical_cap

__all__ = ["theorem3"]

REFERENCE = "reference value under a uniform sphere"


def theorem3(
    *,
    d: int,
    t: Number,
    p_gt: Number | None = None,
    p_ge: Number | None = None,
    sphere_check: SphereCheck | None = None,
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Bound I(X_l; X_{l-1}) from below for a *uniform* X_l (proximal implies informational).

    With :math:`P = P[\rho > t]` and :math:`q = \mathrm{cap}(d, t)`, the share of the sphere within
    t of a point (:func:`log_spherical_cap`),

    .. math::
        I(X; X') \ge d(1 - P \,\|\, q) \ge (1 - P) \log\tfrac1q - H_2(P)
                 \ge (1 - P) \log\tfrac1q - \log 2 .

    The last form is the paper's. All follow from data processing: the event "within t" has
    probability 1 - P under the joint law and q under independence, *whatever* X' is, if X is
    uniform. That is essential and false for language models, whose states crowd into a narrow
    cone. At d = 4096, t = 0.05 the factor log(1/q) is 4771 nats, all of it from the assumption: no
    distribution-free lower bound from n samples can exceed the order of log n. So on data this is a
    reference value under a uniform sphere, never a bound; :func:`certified_mi_lower_bound` is one.

    Parameters
    ----------
    d : int
        Dimension of the states.
    t : float
        Threshold, a cosine distance in [0, 2].
    p_gt : float in [0, 1], optional
        P[rho > t]; the event of the ball measure is its complement, "at most t".
    p_ge : float in [0, 1], optional
        P[rho >= t], the paper's definition. With it alone only the log 2 form follows.
    sphere_check : SphereCheck, optional
        Result of :func:`check_uniform_sphere` on the states; if it contradicts uniformity, the
        result is of kind ``"estimate"`` and says so.
    inputs : {"exact", "certified", "estimate"}
        How well the probabilities are known.

    Returns
    -------
    TheoryResult
        `value` in nats, at least 0. ``forms``: ``"paper"`` (= ``"bound_T3_paper"``),
        ``"corrected"`` (= ``"bound_T3_H2"``), ``"sharpest"`` (= ``"bound_binaryKL"``) and
        ``"log_cap"``.

    Raises
    ------
    InputError
        If neither probability is given, or a number leaves its range.

    Examples
    --------
    >>> result = theorem3(d=3, t=0.1, p_gt=0.6065127954211831)
    >>> round(result.forms["paper"], 6), round(result.value, 6)
    (0.485635, 0.53961)

    References
    ----------
    Theorem 3 of the paper; Duchi, Wainwright (2013); McAllester, Stratos (2020) for the limit.
    """
    given = Given(inputs)
    threshold = given.cosine_distance(t, "t")
    if p_gt is None and p_ge is None:
        raise InputError("give p_gt = P[rho > t], or p_ge = P[rho >= t] for the paper's form alone")
    log_q = float(log_spherical_cap(d, threshold))
    forms: dict[str, float] = {"log_cap": log_q}
    if p_ge is not None:
        far_or_at = given.probability(p_ge, "p_ge")
        forms["paper"] = _log2_form(far_or_at, log_q)
    if p_gt is not None:
        far = given.probability(p_gt, "p_gt")
        if p_ge is not None and far > far_or_at:
            raise InputError(f"p_gt = {far:g} exceeds p_ge = {far_or_at:g}, which contains it")
        forms.setdefault("paper", _log2_form(far, log_q))
        forms["corrected"] = forms["bound_T3_H2"] = _times(1 - far, -log_q) - float(
            binary_entropy(far)
        )
        value = log_binary_kl(1.0 - far, log_q)
        forms["sharpest"] = forms["bound_binaryKL"] = value
    else:
        value = max(forms["paper"], 0.0)
        forms["sharpest"] = value
    forms["bound_T3_paper"] = forms["paper"]
    assumptions = ("X_l is uniform on the unit sphere (false for states of language models)",)
    notes: tuple[str, ...] = (REFERENCE,)
    kind = given.kind(assumptions)
    if sphere_check is not None:
        notes += (sphere_check.message,)
        if not sphere_check.plausible:
            kind = "estimate"
    else:
        notes += ("uniformity was not checked: pass sphere_check=check_uniform_sphere(x, t=t)",)
    return TheoryResult(
        value=value,
        kind=kind,
        unit="nats",
        statement="I(X_l; X_{l-1}) >= value, for X_l uniform on the sphere",
        assumptions=assumptions,
        vacuous=value <= 0.0,
        forms=forms,
        notes=notes,
    )


def _times(p: float, x: float) -> float:
    """p * x with 0 * inf = 0."""
    return p * x if p > 0.0 else 0.0


def _log2_form(far: float, log_q: float) -> float:
    return _times(1.0 - far, -log_q) - math.log(2.0)
