"""Lemma 2: cosine distance is half the squared distance of unit vectors."""

from __future__ import annotations

from redundancy.theory._result import Given, InputKind, Number, TheoryResult

__all__ = ["lemma2"]


def lemma2(*, mean_rho: Number, inputs: InputKind = "exact") -> TheoryResult:
    r"""Turn a mean cosine distance of unit vectors into a mean squared distance.

    .. math:: E|X - X'|^2 = 2\, E\rho(X, X') \qquad (|X| = |X'| = 1)

    The paper states the implication "E rho < eps/2 gives ``E|X - X'|^2`` < eps"; it is an equality.
    For vectors of other norms :math:`|x - y|^2 = (|x| - |y|)^2 + 2|x||y|\rho`, and the mean
    squared distance has to be measured, not derived.

    Parameters
    ----------
    mean_rho : float in [0, 2]
        Mean cosine distance.
    inputs : {"exact", "certified", "estimate"}
        How well the inputs are known.

    Returns
    -------
    TheoryResult
        `value` = ``E|X - X'|^2`` of the normalised vectors.

    Raises
    ------
    InputError
        If the mean leaves [0, 2].

    Examples
    --------
    >>> lemma2(mean_rho=0.025).value
    0.05

    References
    ----------
    Lemma 2 of the paper, equations (4) to (6).
    """
    given = Given(inputs)
    rho = given.cosine_distance(mean_rho, "mean_rho")
    assumptions = ("X and X' have norm 1",)
    value = 2.0 * rho
    return TheoryResult(
        value=value,
        kind=given.kind(assumptions),
        unit="squared distance",
        statement="E|X - X'|^2 = value",
        assumptions=assumptions,
        forms={"paper": value, "corrected": value, "sharpest": value},
    )
