"""Lemma 5: informational redundancy is a unique information."""

from __future__ import annotations

from numpy.typing import ArrayLike

from estimators import InputError
from redundancy.theory._discrete import (
    conditional_information,
    entropy,
    information,
    table,
)
from redundancy.theory._result import Given, InputKind, Number, TheoryResult

__all__ = ["lemma5", "pid_under_markov", "unique_information_bound"]


def lemma5(*, p_xy: ArrayLike, inputs: InputKind = "exact") -> TheoryResult:
    r"""Compute the unique information of X about itself: the conditional entropy.

    .. math:: \mathrm{Uni}(X : X \setminus Y) = H(X | Y), \qquad \mathrm{Syn}(X : X, Y) = 0

    for discrete X, Y and *every* decomposition with non-negative atoms, BROJA included: the target
    is one of its own sources, so I(X; Y | X) = 0 leaves nothing to the other three atoms' sum.

    Parameters
    ----------
    p_xy : array_like, shape (m, n)
        Joint probabilities ``p[x, y]``; X is the upper layer, Y the lower.
    inputs : {"exact", "certified", "estimate"}
        How well the table is known.

    Returns
    -------
    TheoryResult
        `value` = H(X | Y) in nats; ``forms`` holds the four atoms: ``"unique_x"``, ``"unique_y"``,
        ``"redundant"`` = I(X; Y), ``"synergistic"``.

    Raises
    ------
    InputError
        If `p_xy` is not a table of probabilities.

    Examples
    --------
    >>> round(lemma5(p_xy=[[0.45, 0.05], [0.05, 0.45]]).value, 6)
    0.325083

    References
    ----------
    Lemma 5 of the paper; Bertschinger et al. (2014).
    """
    given = Given(inputs)
    p = table(p_xy, "p_xy", "xy")
    value = max(entropy(p) - entropy(p.sum(0)), 0.0)
    assumptions = ("the decomposition has non-negative atoms",)
    return TheoryResult(
        value=value,
        kind=given.kind(assumptions),
        unit="nats",
        statement="Uni(X_l : X_l \\ X_{l-1}) = H(X_l | X_{l-1}) = value",
        assumptions=assumptions,
        forms={
            "paper": value,
            "corrected": value,
            "sharpest": value,
            "unique_x": value,
            "unique_y": 0.0,
            "redundant": information(p),
            "synergistic": 0.0,
        },
    )


def unique_information_bound(
    *, i_z_l: Number, cmi: Number, inputs: InputKind = "exact"
) -> TheoryResult:
    r"""Bound what only the upper layer knows of the target.

    .. math:: \mathrm{Uni}(Z : X_l \setminus X_{l-1}) \le \min\{I(Z; X_l),\, I(Z; X_l | X_{l-1})\}

    Parameters
    ----------
    i_z_l : float
        I(Z; X_l) in nats.
    cmi : float
        I(Z; X_l | X_{l-1}) in nats.
    inputs : {"exact", "certified", "estimate"}
        How well the numbers are known.

    Returns
    -------
    TheoryResult

    Raises
    ------
    InputError
        If a number is negative or NaN.

    Examples
    --------
    >>> unique_information_bound(i_z_l=0.3, cmi=0.1).value
    0.1

    References
    ----------
    Bertschinger et al. (2014), section 3.
    """
    given = Given(inputs)
    marginal, conditional = given.nonnegative(i_z_l, "i_z_l"), given.nonnegative(cmi, "cmi")
    value = min(marginal, conditional)
    assumptions = ("the decomposition has non-negative atoms",)
    return TheoryResult(
        value=value,
        kind=given.kind(assumptions),
        unit="nats",
        statement="Uni(Z : X_l \\ X_{l-1}) <= value",
        assumptions=assumptions,
        vacuous=value >= marginal,
        forms={"sharpest": value, "corrected": value},
    )


def pid_under_markov(
    *, p_zxy: ArrayLike, tolerance: float = 1e-9, inputs: InputKind = "exact"
) -> TheoryResult:
    r"""Decompose I(Z; X, Y) in closed form under the Markov chain Y - X - Z.

    .. math::
        \mathrm{Syn} = \mathrm{Uni}(Z : Y \setminus X) = 0, \quad \mathrm{Red} = I(Z; Y), \quad
        \mathrm{Uni}(Z : X \setminus Y) = I(Z; X | Y) = I(Z; X) - I(Z; Y)

    for every decomposition with non-negative atoms, so no optimisation is needed.

    Parameters
    ----------
    p_zxy : array_like, shape (k, m, n)
        Joint probabilities ``p[z, x, y]``.
    tolerance : float
        Largest I(Z; Y | X), in nats, that passes for the chain.
    inputs : {"exact", "certified", "estimate"}
        How well the table is known.

    Returns
    -------
    TheoryResult
        `value` = Uni(Z : X \\ Y) in nats; ``forms`` holds the four atoms.

    Raises
    ------
    InputError
        If Y - X - Z is not a Markov chain in this table.

    Examples
    --------
    >>> p = [[[0.405, 0.045], [0.005, 0.045]], [[0.045, 0.005], [0.045, 0.405]]]
    >>> round(pid_under_markov(p_zxy=p).value, 6)
    0.146311
    """
    given = Given(inputs)
    p = table(p_zxy, "p_zxy", "zxy")
    gap = conditional_information(p.transpose(0, 2, 1))
    if gap > tolerance:
        raise InputError(
            f"Y - X - Z is no Markov chain here (I(Z; Y | X) = {gap:.4g} nats); use broja_pid, "
            "which needs no chain"
        )
    value = conditional_information(p)
    assumptions = ("the decomposition has non-negative atoms", "Y - X - Z is a Markov chain")
    return TheoryResult(
        value=value,
        kind=given.kind(assumptions),
        unit="nats",
        statement="Uni(Z : X \\ Y) = I(Z; X | Y) = value",
        assumptions=assumptions,
        forms={
            "sharpest": value,
            "unique_x": value,
            "unique_y": 0.0,
            "redundant": information(p.sum(1)),
            "synergistic": 0.0,
        },
    )
