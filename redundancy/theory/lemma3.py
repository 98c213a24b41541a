"""Lemma 3: the squared norm of a sum of three vectors."""

from __future__ import annotations

from redundancy.theory._result import Given, InputKind, Number, TheoryResult

__all__ = ["lemma3"]


def lemma3(*, a: Number, b: Number, c: Number, inputs: InputKind = "exact") -> TheoryResult:
    r"""Bound the squared norm of a sum of three vectors by their norms.

    .. math:: |a + b + c|^2 \le (|a| + |b| + |c|)^2 \le 3 (|a|^2 + |b|^2 + |c|^2)

    Holds in every inner product space. The paper uses the second form, which costs a factor of up
    to 3 and is attained where the three norms agree. Root-mean-square norms of random vectors may
    be given in place of norms (Minkowski's inequality), which is how Theorem 2 uses it.

    Parameters
    ----------
    a, b, c : float
        The three norms, at least 0.
    inputs : {"exact", "certified", "estimate"}
        How well the inputs are known.

    Returns
    -------
    TheoryResult
        `value` is the first form, ``forms["paper"]`` the second.

    Raises
    ------
    InputError
        If a norm is negative or NaN.

    Examples
    --------
    >>> result = lemma3(a=1.0, b=2.0, c=3.0)
    >>> result.value, result.forms["paper"]
    (36.0, 42.0)

    References
    ----------
    Lemma 3 of the paper; an inner product space suffices.
    """
    given = Given(inputs)
    norms = [given.nonnegative(value, name) for value, name in ((a, "a"), (b, "b"), (c, "c"))]
    assumptions = ("the norm comes from an inner product",)
    sharp = sum(norms) ** 2
    return TheoryResult(
        value=sharp,
        kind=given.kind(assumptions),
        unit="squared norm",
        statement="|a + b + c|^2 <= value",
        assumptions=assumptions,
        forms={"paper": 3 * sum(n * n for n in norms), "corrected": sharp, "sharpest": sharp},
    )
