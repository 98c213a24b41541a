"""Theorem 2: what fitted probes can say about the optimal ones."""

from __future__ import annotations

import math

from estimators import InputError
from redundancy.theory._result import Given, InputKind, Number, TheoryResult
from redundancy.theory.theorem1 import vacuity

__all__ = ["probe_error_bound", "theorem2", "theorem2_reverse"]


def theorem2(
    *,
    eta_l: Number,
    eta_lm1: Number,
    functional_bound: Number,
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Bound the mean squared difference of two fitted probes by their errors and F.

    With :math:`\eta_j = E|\hat f_j - E[Z|X_j]|^2` and
    :math:`\hat E = E|\hat f_l - \hat f_{l-1}|^2`,

    .. math:: \hat E \le (\sqrt{\eta_l} + \sqrt{\eta_{l-1}} + \sqrt F)^2
                     \le 3 (\eta_l + \eta_{l-1} + F).

    The second form is the paper's (its L_1, L_2 are alpha, beta); the first is Minkowski's
    inequality and up to three times smaller. The probes are fixed, or independent of the data
    that the mean is over. A large `value` proves nothing: see :func:`theorem2_reverse` for the
    direction that certifies F from fitted probes.

    Parameters
    ----------
    eta_l, eta_lm1 : float
        Mean squared distance of each probe from the optimal one; they contain the approximation
        error of the probe family, which data do not show.
    functional_bound : float or TheoryResult
        Upper bound of F. A result of :func:`theorem1` also supplies the paper's bound of F to the
        paper's form, and the corrected one to the corrected form.
    inputs : {"exact", "certified", "estimate"}
        How well the numbers are known.

    Returns
    -------
    TheoryResult
        `value` is Minkowski's form with the sharpest bound of F; ``forms["corrected"]``
        (= ``"bound_minkowski"``) with the corrected bound of F, ``forms["paper"]``
        (= ``"bound_paper"``) the paper's form with the paper's bound.

    Raises
    ------
    InputError
        If a number is negative or NaN.

    Examples
    --------
    >>> round(theorem2(eta_l=0.01, eta_lm1=0.01, functional_bound=0.04).value, 6)
    0.16

    References
    ----------
    Theorem 2 of the paper.
    """
    given = Given(inputs)
    upper, lower = given.nonnegative(eta_l, "eta_l"), given.nonnegative(eta_lm1, "eta_lm1")
    f = given.nonnegative(functional_bound, "functional_bound")
    f_paper = f_corrected = f
    assumptions: tuple[str, ...] = (
        "the probes are independent of the points they are compared at",
    )
    if isinstance(functional_bound, TheoryResult):
        f_paper = functional_bound.forms.get("paper", f)
        f_corrected = functional_bound.forms.get("corrected", f)
        assumptions += functional_bound.assumptions
    root = math.sqrt(upper) + math.sqrt(lower)
    value = (root + math.sqrt(f)) ** 2
    corrected = (root + math.sqrt(f_corrected)) ** 2
    paper = 3.0 * (upper + lower + f_paper)
    return TheoryResult(
        value=value,
        kind=given.kind(assumptions),
        unit="squared units of Z",
        statement="E|f^_l - f^_{l-1}|^2 <= value",
        assumptions=assumptions,
        vacuous=math.isinf(value),
        forms={
            "paper": paper,
            "bound_paper": paper,
            "corrected": corrected,
            "bound_minkowski": corrected,
            "sharpest": value,
        },
    )


def theorem2_reverse(
    *,
    plugin: Number,
    eta_l: Number,
    eta_lm1: Number,
    tr_cov_z: Number | None = None,
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Bound F from both sides by the mean squared difference of fitted probes.

    .. math:: \max(0, \sqrt{\hat E} - \sqrt{\eta_l} - \sqrt{\eta_{l-1}})^2 \le F
              \le (\sqrt{\hat E} + \sqrt{\eta_l} + \sqrt{\eta_{l-1}})^2

    The direction the paper lacks, and the one that certifies functional redundancy. Valid upper
    bounds of the etas come from :func:`probe_error_bound`; disagreement of two probes fitted on
    two folds shows the variance part of eta only, and a bound made of it is an estimate.

    Parameters
    ----------
    plugin : float
        E|f^_l - f^_{l-1}|^2 of the fitted probes, on data they were not fitted on.
    eta_l, eta_lm1 : float
        Upper bounds of E|f^_j - E[Z|X_j]|^2.
    tr_cov_z : float, optional
        Trace of the target's covariance, which F never exceeds.
    inputs : {"exact", "certified", "estimate"}
        How well the numbers are known.

    Returns
    -------
    TheoryResult
        `value` is the upper bound; ``forms["lower"]`` and ``forms["upper"]`` are both.

    Raises
    ------
    InputError
        If a number is negative or NaN.

    Examples
    --------
    >>> result = theorem2_reverse(plugin=0.25, eta_l=0.01, eta_lm1=0.01)
    >>> round(result.forms["lower"], 6), round(result.value, 6)
    (0.09, 0.49)
    """
    given = Given(inputs)
    root = math.sqrt(given.nonnegative(plugin, "plugin"))
    errors = math.sqrt(given.nonnegative(eta_l, "eta_l"))
    errors += math.sqrt(given.nonnegative(eta_lm1, "eta_lm1"))
    upper = (root + errors) ** 2
    forms = {"corrected": upper, "sharpest": upper, "upper": upper}
    forms["lower"] = max(0.0, root - errors) ** 2
    vacuous, notes = vacuity(upper, tr_cov_z, given, forms)
    assumptions = ("the probes are independent of the points they are compared at",)
    return TheoryResult(
        value=upper,
        kind=given.kind(assumptions),
        unit="squared units of Z",
        statement="forms['lower'] <= F = E|E[Z|X] - E[Z|X']|^2 <= value",
        assumptions=assumptions,
        vacuous=vacuous,
        forms=forms,
        notes=(*notes, "not in the paper, which bounds the probes by F and not F by the probes"),
    )


def probe_error_bound(
    *, mse: Number, mmse_lower: Number = 0.0, inputs: InputKind = "exact"
) -> TheoryResult:
    r"""Bound a probe's distance from the optimal one by its excess error.

    .. math:: \eta = E|\hat f - E[Z|X]|^2 = \mathrm{MSE} - \mathrm{MMSE} \le \mathrm{MSE} - m

    for any lower bound m of the minimum mean squared error; m = 0 always serves, replicated labels
    or (for classes, asymptotically) the nearest-neighbour bound of Cover and Hart give a larger m.

    Parameters
    ----------
    mse : float
        Mean squared error of the probe on data it was not fitted on.
    mmse_lower : float
        m, at most `mse`.
    inputs : {"exact", "certified", "estimate"}
        How well the numbers are known.

    Returns
    -------
    TheoryResult

    Raises
    ------
    InputError
        If `mmse_lower` exceeds `mse`, or a number is negative or NaN.

    Examples
    --------
    >>> probe_error_bound(mse=0.5, mmse_lower=0.375).value
    0.125
    """
    given = Given(inputs)
    error, m = given.nonnegative(mse, "mse"), given.nonnegative(mmse_lower, "mmse_lower")
    if m > error:
        raise InputError(
            f"mmse_lower = {m:g} exceeds mse = {error:g}; no probe does better than the "
            "minimum, so one of the two is wrong"
        )
    assumptions = ("mmse_lower does not exceed the minimum mean squared error",) if m > 0 else ()
    return TheoryResult(
        value=error - m,
        kind=given.kind(assumptions),
        unit="squared units of Z",
        statement="eta = E|f^ - E[Z|X]|^2 <= value",
        assumptions=assumptions,
        vacuous=False,
        forms={"corrected": error, "sharpest": error - m},
    )
