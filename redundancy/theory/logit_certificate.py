"""What a small change of the logits cannot change: the answer, and by how much the distribution."""

from __future__ import annotations

import math
from typing import Literal

from estimators import InputError
from redundancy.theory._result import Given, InputKind, Number, TheoryResult

__all__ = ["argmax_certificate", "softmax_kl_bound"]


def argmax_certificate(
    *,
    change: Number,
    margin: Number,
    norm: Literal["l2", "inf"] = "l2",
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Decide whether a bounded change of the logits can change the largest.

    .. math:: |\Delta|_2 < m / \sqrt2 \quad\text{or}\quad |\Delta|_\infty < m / 2
              \implies \arg\max \text{ unchanged}

    with m the margin between the two largest logits. Both are the best possible: the cheapest way
    to exchange two logits moves each by half the margin.

    Parameters
    ----------
    change : float
        Norm of the change, or an upper bound of it (a result of Theorem 6 keeps its kind).
    margin : float
        Largest logit less the second largest, at least 0.
    norm : {"l2", "inf"}
        Which norm `change` is.
    inputs : {"exact", "certified", "estimate"}
        How well the numbers are known.

    Returns
    -------
    TheoryResult
        `value` = allowed change less the change: positive where the answer is certain to stay.
        Vacuous otherwise (nothing follows). ``forms["allowed"]`` is m / sqrt 2 or m / 2.

    Raises
    ------
    InputError
        If a number is negative.

    Examples
    --------
    >>> argmax_certificate(change=1.0, margin=1.5).vacuous
    False
    >>> argmax_certificate(change=1.1, margin=1.5).vacuous
    True
    """
    given = Given(inputs)
    size, gap = given.nonnegative(change, "change"), given.nonnegative(margin, "margin")
    if norm not in ("l2", "inf"):
        raise InputError(f"norm is {norm!r}; use 'l2' or 'inf'")
    allowed = gap / math.sqrt(2.0) if norm == "l2" else gap / 2.0
    value = allowed - size
    return TheoryResult(
        value=value,
        kind=given.kind(()),
        unit="logits",
        statement="value > 0 implies that the argmax is unchanged",
        vacuous=not value > 0.0,
        forms={"sharpest": value, "corrected": value, "allowed": allowed},
        notes=() if value > 0.0 else ("the change may reach the margin: nothing follows",),
    )


def softmax_kl_bound(
    *,
    change: Number,
    norm: Literal["l2", "inf", "range"] = "l2",
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Bound the divergence of two softmax distributions by the change of the logits.

    .. math:: D(\mathrm{softmax}(y) \| \mathrm{softmax}(y + \Delta))
              \le \tfrac14 |\Delta|_2^2, \quad \tfrac12 |\Delta|_\infty^2, \quad
              \tfrac18 (\max\Delta - \min\Delta)^2

    The divergence is half a variance of Delta's entries under some softmax distribution in between;
    each form bounds that variance. The last is never larger than the others, and blind, as softmax
    is, to a shift of all logits.

    Parameters
    ----------
    change : float
        The norm (or range, max less min) of the change, or an upper bound of it.
    norm : {"l2", "inf", "range"}
        Which of the three `change` is.
    inputs : {"exact", "certified", "estimate"}
        How well it is known.

    Returns
    -------
    TheoryResult
        In nats.

    Raises
    ------
    InputError
        If `change` is negative.

    Examples
    --------
    >>> softmax_kl_bound(change=0.2).value
    0.010000000000000002
    """
    given = Given(inputs)
    size = given.nonnegative(change, "change")
    factors = {"l2": 0.25, "inf": 0.5, "range": 0.125}
    if norm not in factors:
        raise InputError(f"norm is {norm!r}; use 'l2', 'inf' or 'range'")
    value = factors[norm] * size * size
    return TheoryResult(
        value=value,
        kind=given.kind(()),
        unit="nats",
        statement="KL(softmax(y) || softmax(y + change)) <= value",
        vacuous=math.isinf(value),
        forms={"sharpest": value, "corrected": value},
    )
