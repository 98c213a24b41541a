"""Lemma 4: a mean divergence of two posteriors is a conditional mutual information."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from redundancy.theory._discrete import Table, conditional_information, table
from redundancy.theory._result import Given, InputKind, TheoryResult

__all__ = ["lemma4"]


def lemma4(*, p_zxy: ArrayLike, inputs: InputKind = "exact") -> TheoryResult:
    r"""Compute I(Z; X | Y) of a probability table, and the mean divergence the paper equates it to.

    .. math:: E\, D(p_{Z|XY} \| p_{Z|Y}) = I(Z; X | Y) \quad\text{always}, \qquad
              E\, D(p_{Z|X} \| p_{Z|Y}) = I(Z; X | Y) \quad\text{if } Y - X - Z

    The second equality, the paper's, needs the Markov chain Y - X - Z, that is I(Z; Y | X) = 0;
    without it the left side may be smaller, larger or infinite.

    Parameters
    ----------
    p_zxy : array_like, shape (k, m, n)
        Joint probabilities ``p[z, x, y]``.
    inputs : {"exact", "certified", "estimate"}
        How well the table is known; counts of a sample make it an ``"estimate"``.

    Returns
    -------
    TheoryResult
        `value` is I(Z; X | Y) in nats. ``forms["paper"]`` is E D(p_{Z|X} || p_{Z|Y});
        ``forms["markov_gap"]`` is I(Z; Y | X), which is 0 exactly under the chain.

    Raises
    ------
    InputError
        If `p_zxy` is not a table of probabilities.

    Examples
    --------
    Z = Y a fair coin and X constant: the chain Y - X - Z fails.

    >>> result = lemma4(p_zxy=[[[0.5, 0.0]], [[0.0, 0.5]]])
    >>> result.value, round(result.forms["paper"], 6), round(result.forms["markov_gap"], 6)
    (0.0, inf, 0.693147)

    References
    ----------
    Lemma 4 of the paper, equations (7) to (11).
    """
    given = Given(inputs)
    p = table(p_zxy, "p_zxy", "zxy")
    value = conditional_information(p)
    gap = conditional_information(p.transpose(0, 2, 1))
    paper = _posterior_divergence(p)
    markov = gap <= 1e-12
    return TheoryResult(
        value=value,
        kind=given.kind(()),
        unit="nats",
        statement="E D(p_{Z|XY} || p_{Z|Y}) = I(Z; X | Y) = value",
        forms={"paper": paper, "corrected": value, "sharpest": value, "markov_gap": gap},
        notes=()
        if markov
        else (
            f"Y - X - Z is no Markov chain here (I(Z; Y | X) = {gap:.4g} nats), so the paper's "
            "form is a different number",
        ),
    )


def _posterior_divergence(p: Table) -> float:
    """E over (X, Y) of D(p_{Z|X} || p_{Z|Y})."""
    from scipy.special import rel_entr

    p_xy = p.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z_given_x = np.nan_to_num(p.sum(2) / p_xy.sum(1))
        z_given_y = np.nan_to_num(p.sum(1) / p_xy.sum(0))
    divergence = rel_entr(z_given_x[:, :, None], z_given_y[:, None, :]).sum(0)
    return float((p_xy * np.where(p_xy > 0.0, divergence, 0.0)).sum())
