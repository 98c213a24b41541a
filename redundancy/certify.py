"""Verdicts: intervals held against a threshold, corrected for how many pairs were looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import Estimate, InputError

__all__ = ["Evidence", "Judgement", "Verdict", "adjust", "verdicts"]

Verdict = Literal["redundant", "undecided", "needed", "no estimate"]
Correction = Literal["holm", "bonferroni", "bh", "by", "none"]


class Evidence(Protocol):
    """What a verdict needs to know of one pair: a `Reading` and a `PairResult` both have it."""

    @property
    def estimate(self) -> Estimate: ...
    @property
    def p_redundant(self) -> float | None: ...
    @property
    def p_needed(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one pair, and the adjusted p-value it rests on.

    Parameters
    ----------
    verdict : {"redundant", "undecided", "needed", "no estimate"} or None
        None where no threshold was given, so that nothing was tested.
    p_adjusted : float or None
        Two-sided p-value after correction over the pairs; None where nothing was tested.
    """

    verdict: Verdict | None
    p_adjusted: float | None = None


def adjust(p_values: ArrayLike, correction: Correction = "holm") -> NDArray[np.float64]:
    r"""Adjust p-values for the number of hypotheses tested.

    Holm: with :math:`p_{(1)} \le \dots \le p_{(m)}`, the adjusted value of the i-th is
    :math:`\max_{j \le i} \min(1, (m - j + 1) p_{(j)})`. It bounds the probability of *any* false
    verdict under every dependence between pairs, as does Bonferroni with less power.
    Benjamini-Hochberg (``"bh"``) bounds the expected *share* of false verdicts, if the p-values
    are independent or positively dependent (not proved for layers); Benjamini-Yekutieli (``"by"``)
    always.

    Parameters
    ----------
    p_values : array_like of float in [0, 1], shape (m,)
    correction : {"holm", "bonferroni", "bh", "by", "none"}

    Returns
    -------
    ndarray of float64, shape (m,)

    Raises
    ------
    InputError
        If a value is not a probability or the correction is unknown.

    Examples
    --------
    >>> adjust([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]

    References
    ----------
    Holm (1979); Benjamini, Hochberg (1995); Benjamini, Yekutieli (2001).
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise InputError("p-values are a vector of numbers in [0, 1]")
    m = p.size
    if m == 0 or correction == "none":
        return p.copy()
    if correction == "bonferroni":
        return np.minimum(p * m, 1.0)
    order = np.argsort(p, kind="stable")
    rank = np.arange(1, m + 1)
    if correction == "holm":
        stepped = np.maximum.accumulate((m - rank + 1) * p[order])
    elif correction in ("bh", "by"):
        penalty = float(np.sum(1.0 / rank)) if correction == "by" else 1.0
        scaled = penalty * m / rank * p[order]
        stepped = np.minimum.accumulate(scaled[::-1])[::-1]
    else:
        raise InputError(
            f"correction is {correction!r}; use 'holm', 'bonferroni', 'bh', 'by' or 'none'"
        )
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def verdicts(
    pairs: Sequence[Evidence], *, level: float | None = 0.95, correction: Correction = "holm"
) -> list[Judgement]:
    r"""Decide for each pair whether it is redundant, needed, or neither can be said.

    Each pair has two one-sided p-values, one against "not redundant" and one against "redundant".
    Twice the smaller, :math:`p = \min(1, 2 \min(p_{red}, p_{need}))`, is the two-sided p-value of
    "exactly at the threshold"; after correction over all pairs given here, a pair with
    :math:`p \le 1 - \text{level}` gets the verdict of its smaller side. For a single pair this is
    the same as holding its two-sided interval against the threshold.

    When it lies: the probability of *any* wrong verdict in the table is at most 1 - level as far
    as the measure's p-values are valid (by cluster t: asymptotically in groups). A pair that is
    redundant by a measure may still be needed by the model.

    Parameters
    ----------
    pairs : sequence of Reading or PairResult
        One measure and one modality: the family over which errors are controlled.
    level : float or None
        One minus the probability of any wrong verdict; None gives no verdicts.
    correction : {"holm", "bonferroni", "bh", "by", "none"}

    Returns
    -------
    list of Judgement
        In the order of `pairs`. ``"no estimate"`` where the estimate is missing or carries a
        diagnostic of severity ``"error"``; such pairs do not count in the correction.

    Raises
    ------
    InputError
        If the level is not in (0, 1) or the correction is unknown.

    Examples
    --------
    >>> from redundancy.measures._spec import Reading
    >>> e = Estimate(value=0.1, unit="nats", kind="estimate", n=9, method="m")
    >>> clear = Reading(estimate=e, p_redundant=1e-4, p_needed=1.0)
    >>> vague = Reading(estimate=e, p_redundant=0.02, p_needed=0.98)
    >>> [j.verdict for j in verdicts([clear, vague, vague])]
    ['redundant', 'undecided', 'undecided']
    """
    if level is None:
        return [Judgement(None) for _ in pairs]
    if not 0.0 < level < 1.0:
        raise InputError(f"level is {level!r}; it lies strictly between 0 and 1, e.g. 0.95")
    out: list[Judgement] = []
    tested: list[int] = []
    p_two: list[float] = []
    for index, pair in enumerate(pairs):
        red, need = pair.p_redundant, pair.p_needed
        if not pair.estimate.trustworthy:
            out.append(Judgement("no estimate"))
        elif red is None or need is None:
            out.append(Judgement(None))
        else:
            tested.append(index)
            p_two.append(min(1.0, 2.0 * min(red, need)))
            out.append(Judgement("undecided"))
    for index, p in zip(tested, adjust(p_two, correction).tolist(), strict=True):
        pair = pairs[index]
        verdict: Verdict = "undecided"
        if p <= 1.0 - level + 1e-15:
            red_p, need_p = pair.p_redundant or 0.0, pair.p_needed or 0.0
            verdict = "redundant" if red_p < need_p else "needed"
        out[index] = Judgement(verdict, p)
    return out
