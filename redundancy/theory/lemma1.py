"""Lemma 1: the squared triangle inequality."""

from __future__ import annotations

from redundancy.theory._result import Given, InputKind, Number, TheoryResult

__all__ = ["lemma1"]


def lemma1(*, d_xz: Number, d_zy: Number, inputs: InputKind = "exact") -> TheoryResult:
    r"""Bound a squared distance by two squared distances through a third point.

    .. math:: d(x, y)^2 \le (d(x, z) + d(z, y))^2 \le 2 d(x, z)^2 + 2 d(z, y)^2

    Holds in every metric space. The paper uses the second form, which costs a factor of up to 2
    and is attained where the two distances agree; the first is the triangle inequality itself.

    Parameters
    ----------
    d_xz, d_zy : float
        The two distances, at least 0.
    inputs : {"exact", "certified", "estimate"}
        How well the inputs are known.

    Returns
    -------
    TheoryResult
        `value` is the first form, ``forms["paper"]`` the second.

    Raises
    ------
    InputError
        If a distance is negative or NaN.

    Examples
    --------
    >>> result = lemma1(d_xz=1.0, d_zy=3.0)
    >>> result.value, result.forms["paper"]
    (16.0, 20.0)

    References
    ----------
    Lemma 1 of the paper; a metric space suffices.
    """
    given = Given(inputs)
    a, b = given.nonnegative(d_xz, "d_xz"), given.nonnegative(d_zy, "d_zy")
    assumptions = ("d is a metric",)
    sharp = (a + b) ** 2
    return TheoryResult(
        value=sharp,
        kind=given.kind(assumptions),
        unit="squared distance",
        statement="d(x, y)^2 <= value",
        assumptions=assumptions,
        forms={"paper": 2 * a * a + 2 * b * b, "corrected": sharp, "sharpest": sharp},
    )
