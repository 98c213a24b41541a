"""Theorem 5: little information about the target is lost, so the predictions agree."""

from __future__ import annotations

import math

from estimators import InputError
from redundancy.theory._result import Given, InputKind, Number, TheoryResult
from redundancy.theory.markov import MarkovAudit

__all__ = ["theorem5"]


def theorem5(
    *,
    cmi: Number | None = None,
    cmi_reverse: Number | None = None,
    h_cond: Number | None = None,
    c: Number = 0.0,
    b: Number | None = None,
    diam: Number | None = None,
    tr_cov_z: Number | None = None,
    markov: bool | MarkovAudit | None = None,
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Bound the functional redundancy value F by a conditional information (informational implies
    functional).

    For Z in a set of diameter D (at most 2B if :math:`|Z| \le B`; :math:`\sqrt2` for one-hot Z):

    .. math::
        X' - X - Z: &\quad F \le \tfrac{D^2}2 I(Z; X | X') \le 2 B^2 I(Z; X | X')
                    \le 2 B^2 (H(X | X') + C) \\
        Z - X' - X: &\quad F \le \tfrac{D^2}2 I(Z; X' | X) \\
        \text{always}: &\quad F \le \tfrac{D^2}2
            \Bigl(\sqrt{I(Z; X | X')} + \sqrt{I(Z; X' | X)}\Bigr)^2

    The paper has the 2B^2 forms; the diameter form is never larger, does not change when Z is
    shifted, and is half of it for one-hot Z. C = 0 for discrete X, C = log M for a conditional
    density of X at most M (which may make C negative; for unit vectors the density is with respect
    to surface measure).

    When it lies: the paper holds that a residual connection gives the chain X' - X - Z. It does
    not. States of whole sequences are functions of the layer below, Z - X' - X, and single tokens
    satisfy neither chain. Counterexample to the paper's form: Z = X' = ±1, X constant, where
    I(Z; X | X') = 0 and F = 1. So give `cmi_reverse`, or an audit (:func:`markov_audit`); with
    `cmi` alone the chain is an assumption of the result. The entropy form is nearly always vacuous:
    F <= tr Cov(Z) holds anyway, and H(X|X') above 1 - 1/k nats exceeds it for one-hot Z.

    Parameters
    ----------
    cmi : float, optional
        I(Z; X_l | X_{l-1}) in nats.
    cmi_reverse : float, optional
        I(Z; X_{l-1} | X_l) in nats; 0 under X' - X - Z.
    h_cond : float, optional
        H(X_l | X_{l-1}) in nats, used in place of `cmi` (the entropy form) if that is not given.
    c : float
        C of the entropy form.
    b : float, optional
        B, the largest norm of Z.
    diam : float, optional
        D; 2B if not given.
    tr_cov_z : float, optional
        Trace of the target's covariance.
    markov : bool or MarkovAudit, optional
        True states X' - X - Z. False demands the general form. An audit that rejects the chain
        switches to the general form, with the reverse information it estimated unless
        `cmi_reverse` is given; an audit with `forward` supplies `cmi` where that is not given. By
        default the chain is assumed only if `cmi_reverse` is missing.
    inputs : {"exact", "certified", "estimate"}
        How well the numbers are known.

    Returns
    -------
    TheoryResult
        `value` in squared units of Z. ``forms``: ``"paper"`` (= ``"bound_2B2_cmi"``),
        ``"corrected"`` (= ``"bound_diam"``), ``"entropy"`` and ``"bound_entropy"`` (with D and with
        B), ``"general"``, ``"trivial"``. The first four are bounds under the chain only.

    Raises
    ------
    InputError
        If neither `b` nor `diam`, or no information, is given, or the general form is asked for
        without the reverse information.

    Examples
    --------
    A binary symmetric channel with flip probability 0.1 and Z = X = ±1:

    >>> result = theorem5(cmi=0.3250829733914482, b=1.0, markov=True, tr_cov_z=1.0)
    >>> round(result.value, 6), result.kind, result.vacuous
    (0.650166, 'bound_under_assumption', False)

    Z = X', X constant, where only the general form holds (F = 1):

    >>> round(theorem5(cmi=0.0, cmi_reverse=0.6931471805599453, b=1.0).value, 6)
    1.386294

    References
    ----------
    Theorem 5 of the paper, equations (27) to (32); the last line of its appendix proof drops a
    factor 2B^2 before C, the main text is right.
    """
    given = Given(inputs)
    if cmi is None and h_cond is None and isinstance(markov, MarkovAudit):
        cmi = markov.forward_estimate()
    diameter, radius = _size(given, b, diam)
    half_square = 0.5 * diameter * diameter
    forward, forms = _information(given, cmi, h_cond, c, half_square, radius)
    general, reverse, notes = _general(given, cmi_reverse, markov)
    assumptions: tuple[str, ...] = (f"Z lies in a set of diameter {diameter:.6g}",)
    if cmi is None:
        assumptions += (f"H(X_l | Z, X_{{l-1}}) >= {-given.number(c, 'c'):g}",)
    if general:
        value = half_square * (math.sqrt(forward) + math.sqrt(reverse)) ** 2
        forms["general"] = value
    else:
        value = half_square * forward
        assumptions += ("X_{l-1} - X_l - Z is a Markov chain",)
    forms["sharpest"] = value
    trivial = half_square if tr_cov_z is None else given.nonnegative(tr_cov_z, "tr_cov_z")
    forms["trivial"] = trivial
    vacuous = value >= trivial
    if vacuous:
        notes += (f"F <= {trivial:.4g} holds anyway: this bound says nothing more",)
    return TheoryResult(
        value=value,
        kind=given.kind(assumptions),
        unit="squared units of Z",
        statement="F = E|E[Z|X] - E[Z|X']|^2 <= value",
        assumptions=assumptions,
        vacuous=vacuous,
        forms=forms,
        notes=notes,
    )


def _size(given: Given, b: Number | None, diam: Number | None) -> tuple[float, float | None]:
    radius = None if b is None else given.nonnegative(b, "b")
    if diam is not None:
        diameter = given.nonnegative(diam, "diam")
        if radius is not None and diameter > 2.0 * radius * (1.0 + 1e-12):
            raise InputError(
                f"diam = {diameter:g} exceeds 2 b = {2 * radius:g}; a set of radius b "
                "has no points further apart"
            )
        return diameter, radius
    if radius is None:
        raise InputError("give diam, the diameter of the set Z lies in, or b, its largest norm")
    return 2.0 * radius, radius


def _information(
    given: Given,
    cmi: Number | None,
    h_cond: Number | None,
    c: Number,
    half_square: float,
    radius: float | None,
) -> tuple[float, dict[str, float]]:
    forms: dict[str, float] = {}
    if h_cond is not None:
        entropy = given.number(h_cond, "h_cond") + given.number(c, "c")
        if entropy < 0.0:
            raise InputError(
                f"h_cond + c is {entropy:g}; it bounds an information and cannot be negative, so "
                "the two refer to different measures (use surface measure for unit vectors)"
            )
        forms["entropy"] = half_square * entropy
        if radius is not None:
            forms["bound_entropy"] = 2.0 * radius * radius * entropy
    if cmi is not None:
        information = given.nonnegative(cmi, "cmi")
    elif h_cond is not None:
        information = entropy
    else:
        raise InputError("give cmi = I(Z; X_l | X_{l-1}), or h_cond = H(X_l | X_{l-1})")
    forms["corrected"] = forms["bound_diam"] = half_square * information
    if radius is not None:
        forms["paper"] = forms["bound_2B2_cmi"] = 2.0 * radius * radius * information
    return information, forms


def _general(
    given: Given, cmi_reverse: Number | None, markov: bool | MarkovAudit | None
) -> tuple[bool, float, tuple[str, ...]]:
    """Decide for the general form, and return the reverse information and what to say about it."""
    reverse = None if cmi_reverse is None else given.nonnegative(cmi_reverse, "cmi_reverse")
    if isinstance(markov, MarkovAudit):
        notes: tuple[str, ...] = (markov.message,)
        if not markov.rejected:
            return False, 0.0, notes
        if reverse is None:
            reverse = given.nonnegative(markov.reverse_estimate(), "the audit's reverse")
        return True, reverse, (*notes, "the general form is used")
    if markov is True:
        if reverse is not None and reverse > 1e-9:
            raise InputError(
                f"markov is stated, but cmi_reverse = I(Z; X_{{l-1}} | X_l) = {reverse:g} is not "
                "0, which contradicts it; leave markov out"
            )
        return False, 0.0, ()
    if reverse is None:
        if markov is False:
            raise InputError(
                "the general form needs cmi_reverse = I(Z; X_{l-1} | X_l); give it, or state "
                "markov=True"
            )
        return False, 0.0, ("the chain was not audited: pass markov=markov_audit(...)",)
    return True, reverse, ()
