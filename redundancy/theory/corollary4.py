"""Corollary 4: conditional entropy of close layers, from above."""

from __future__ import annotations

import math

from redundancy.theory._result import Given, InputKind, Number, TheoryResult
from redundancy.theory.theorem4 import theorem4

__all__ = ["corollary4"]


def corollary4(
    *,
    h_l: Number,
    p_gt: Number,
    p_max: Number | None = None,
    p_min: Number = 0.0,
    q: Number | None = None,
    log_p_max: Number | None = None,
    log_q: Number | None = None,
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Bound H(X_l | X_{l-1}) from above: the entropy less the information of Theorem 4.

    .. math::
        H(X|X') \le H(X) - d(1 - P \,\|\, q)
                \le H(X) + \log p_{\max} + H_2(P) + P \log\frac{1 - p_{\min}}{p_{\max}}

    The second form is the paper's ("H(P_t)" there is the binary entropy). Needs a discrete X of
    finite entropy: for a continuous one the differential entropy changes with the scale, and
    comparing it with a threshold means nothing.

    It bounds H(X|X') relative to H(X) only. Layers can be arbitrarily close and H(X|X')
    arbitrarily large: X' uniform on many points of a circle, X on the m points nearest to X', has
    P = 0 for any t and H(X|X') = log m. Proximal redundancy does not give H < eps.

    Parameters
    ----------
    h_l : float
        H(X_l) in nats, of a discrete (quantised) state.
    p_gt, p_max, p_min, q, log_p_max, log_q
        As in :func:`theorem4`.
    inputs : {"exact", "certified", "estimate"}
        How well the numbers are known.

    Returns
    -------
    TheoryResult
        `value` in nats, at least 0; vacuous unless below H(X_l). ``forms["paper"]``
        (= ``"cor4_upper"``) is the paper's form.

    Raises
    ------
    InputError
        As :func:`theorem4`, and if `h_l` is negative.

    Examples
    --------
    >>> result = corollary4(
    ...     h_l=1.0812324510698668, p_gt=0.2232, p_min=0.292, p_max=0.3948, q=0.3260528
    ... )
    >>> round(result.forms["paper"], 6), round(result.value, 6)
    (0.813148, 0.653529)

    References
    ----------
    Corollary 4 of the paper; Braun, Pokutta (2015), Corollary 2.3.
    """
    given = Given(inputs)
    entropy = given.nonnegative(h_l, "h_l")
    given.probability(p_gt, "p_gt")
    for value, name in ((p_max, "p_max"), (p_min, "p_min"), (q, "q")):
        if value is not None:
            given.number(value, name)
    information = theorem4(
        p_gt=p_gt, p_max=p_max, p_min=p_min, q=q, log_p_max=log_p_max, log_q=log_q, inputs=inputs
    )
    value = max(entropy - information.value, 0.0)
    forms = {"sharpest": value, "H_l": entropy}
    if "paper" in information.forms:
        forms["paper"] = forms["cor4_upper"] = entropy - information.forms["paper"]
    if "corrected" in information.forms:
        forms["corrected"] = entropy - information.forms["corrected"]
    assumptions = ("X_l is discrete with finite entropy", *information.assumptions)
    return TheoryResult(
        value=value,
        kind=given.kind(assumptions),
        unit="nats",
        statement="H(X_l | X_{l-1}) <= value",
        assumptions=assumptions,
        vacuous=value >= entropy or math.isinf(entropy),
        forms=forms,
        notes=information.notes,
    )
