"""What the errors of the optimal predictors say about the distance between them."""

from __future__ import annotations

import math

from estimators import InputError
from redundancy.theory._result import Given, InputKind, Number, TheoryResult
from redundancy.theory.theorem1 import vacuity

__all__ = ["mmse_gap"]


def mmse_gap(
    *,
    mmse_l: Number,
    mmse_lm1: Number,
    mmse_joint: Number | None = None,
    markov: bool = False,
    tr_cov_z: Number | None = None,
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Bound F by the minimum mean squared errors of the two layers.

    With :math:`M_j = \mathrm{MMSE}(Z|X, X')`,

    .. math::
        (\sqrt{M_l - M_j} - \sqrt{M_{l-1} - M_j})^2 \le F
            \le (\sqrt{M_l - M_j} + \sqrt{M_{l-1} - M_j})^2,

    and F is exactly the gap :math:`M_{l-1} - M_l` under X' - X - Z, and :math:`M_l - M_{l-1}`
    under Z - X' - X.

    A warning that no number shows: the states of whole sequences are functions of the layer below,
    so Z - X' - X always holds for them, and if Z is the model's own output, F is 0 at every layer.
    F says something only of restricted states (one token, a mean) or restricted probes.

    Parameters
    ----------
    mmse_l, mmse_lm1 : float
        Minimum mean squared errors of predicting Z from X_l and from X_{l-1}.
    mmse_joint : float, optional
        That of predicting it from both; 0, which is always valid, if not given. The chain
        Z - X' - X is stated by ``mmse_joint = mmse_lm1``, which makes both bounds equal to F.
    markov : bool
        True to state the chain X' - X - Z, under which ``mmse_joint = mmse_l``.
    tr_cov_z : float, optional
        Trace of the target's covariance.
    inputs : {"exact", "certified", "estimate"}
        How well the numbers are known.

    Returns
    -------
    TheoryResult
        `value` is the upper bound of F; ``forms["lower"]`` the lower one.

    Raises
    ------
    InputError
        If the joint error exceeds one of the others, or `markov` contradicts the errors.

    Examples
    --------
    >>> mmse_gap(mmse_l=0.25, mmse_lm1=0.5, markov=True).value
    0.25
    """
    given = Given(inputs)
    upper_layer = given.nonnegative(mmse_l, "mmse_l")
    lower_layer = given.nonnegative(mmse_lm1, "mmse_lm1")
    assumptions: tuple[str, ...] = ()
    joint = 0.0 if mmse_joint is None else given.nonnegative(mmse_joint, "mmse_joint")
    leeway = 1e-12 * max(upper_layer, lower_layer)
    if markov:
        if upper_layer > lower_layer + leeway:
            raise InputError(
                f"markov is stated, but layer l predicts worse (mmse_l = {upper_layer:g}) than "
                f"layer l-1 ({lower_layer:g}), which the chain X' - X - Z excludes"
            )
        assumptions = ("X' - X - Z is a Markov chain",)
        joint = upper_layer
    if joint > min(upper_layer, lower_layer) + leeway:
        raise InputError(
            f"mmse_joint = {joint:g} exceeds the error of one layer alone "
            f"({min(upper_layer, lower_layer):g}); both layers together predict at least as well"
        )
    one = math.sqrt(max(upper_layer - joint, 0.0))
    two = math.sqrt(max(lower_layer - joint, 0.0))
    forms = {"lower": (one - two) ** 2, "upper": (one + two) ** 2}
    forms["corrected"] = forms["sharpest"] = forms["upper"]
    vacuous, notes = vacuity(forms["upper"], tr_cov_z, given, forms)
    return TheoryResult(
        value=forms["upper"],
        kind=given.kind(assumptions),
        unit="squared units of Z",
        statement="forms['lower'] <= F = E|E[Z|X] - E[Z|X']|^2 <= value",
        assumptions=assumptions,
        vacuous=vacuous,
        forms=forms,
        notes=notes,
    )
