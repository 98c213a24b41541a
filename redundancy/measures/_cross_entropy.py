"""An upper bound on a conditional entropy that no bias can spoil: held-out cross-entropy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import InputError
from estimators.intervals import empirical_bernstein_halfwidth

__all__ = ["CrossEntropyBound", "additive_model", "cross_entropy_bound", "fit_conditional"]

_FLOOR = 0.01
_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEntropyBound:
    """Held-out cross-entropy and the certified bound on H(S | G) that follows from it, in nats.

    `upper` is the smaller of `upper_unclipped` and log K, `largest_loss` the M of the bound.
    """

    cross_entropy: float
    largest_loss: float
    upper_unclipped: float
    upper: float


def additive_model(counts: ArrayLike, smoothing: float) -> NDArray[np.float64]:
    r"""Conditional law :math:`r(s|g) = (n_{gs} + a) / (n_g + aK)` from counts [given, symbol].

    Examples
    --------
    >>> additive_model([[3, 1]], 0.5).tolist()
    [[0.7, 0.3]]
    """
    table = np.asarray(counts, dtype=np.float64) + smoothing
    law: NDArray[np.float64] = table / table.sum(axis=1, keepdims=True)
    return law


def fit_conditional(
    given: NDArray[np.int64], symbols: NDArray[np.int64], n_states: int
) -> NDArray[np.float64]:
    r"""Fit a conditional law of one layer's state given the other's, for a shared alphabet.

    .. math:: r(s|g) = \frac{n_{gs} + \kappa\, m(s|g)}{n_g + \kappa}, \qquad
              m(s|g) = \lambda 1\{s = g\} + (1 - \lambda) \hat p(s)

    where :math:`\lambda` is the share of tokens that keep their state and :math:`\kappa` is
    chosen by leave-one-out likelihood; a hundredth of the uniform law is mixed in. Any law gives
    a valid bound on other data; this one is close to the truth for near-copies and for unrelated
    layers alike.

    Parameters
    ----------
    given, symbols : ndarray of int64, shape (n,)
        States 0..K - 1 of the lower and the upper layer.
    n_states : int
        K.

    Returns
    -------
    ndarray of float64, shape (K, K)
        Rows are laws of the upper state; every entry is positive.
    """
    n = len(symbols)
    counts = np.zeros((n_states, n_states))
    np.add.at(counts, (given, symbols), 1.0)
    base = (counts.sum(axis=0) + 0.5) / (n + 0.5 * n_states)
    kept = (np.trace(counts) + 0.5) / (n + 1.0)
    prior = (1.0 - kept) * np.tile(base, (n_states, 1)) + kept * np.eye(n_states)
    total = counts.sum(axis=1, keepdims=True)
    rows, columns = np.nonzero(counts)
    seen, row_total, guess = counts[rows, columns], total[rows, 0], prior[rows, columns]

    def left_out(strength: float) -> float:
        # The probability of each token had it not been counted.
        law = (seen - 1.0 + strength * guess) / (row_total - 1.0 + strength)
        return float(np.sum(seen * np.log(law)))

    best = max(_STRENGTHS, key=left_out)
    law: NDArray[np.float64] = (counts + best * prior) / (total + best)
    # A floor under every probability bounds the largest loss, and with it how many groups a
    # guarantee takes, at a cost of at most 0.01 nats.
    return (1.0 - _FLOOR) * law + _FLOOR / n_states


def cross_entropy_bound(
    model: ArrayLike, counts: ArrayLike, *, delta: float = 0.05
) -> CrossEntropyBound:
    r"""Certified upper bound on a conditional entropy from counts of independent held-out tokens.

    .. math:: H(S|G) \le E[-\log r(S|G)] \le \overline{-\log r} + \text{empirical Bernstein}

    for any law r fitted on other data, whose largest loss is :math:`M = -\log \min r`.

    When it lies: never, for independent tokens (with probability 1 - delta). Where tokens are
    clustered, use means per group in place of single losses, as the informational measure does.

    Parameters
    ----------
    model : array_like of float, shape (J, K)
        r(s|g), rows the given states; positive.
    counts : array_like of int, shape (J, K)
        Held-out tokens in each cell.
    delta : float
        Probability with which the bound may fail.

    Returns
    -------
    CrossEntropyBound

    Raises
    ------
    InputError
        If shapes differ, the law has a zero, or fewer than two tokens were held out.

    Examples
    --------
    >>> bound = cross_entropy_bound([[0.9, 0.1], [0.1, 0.9]], [[900, 100], [100, 900]])
    >>> round(bound.cross_entropy, 3), round(bound.upper, 3)
    (0.325, 0.375)
    """
    law, table = np.asarray(model, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if law.shape != table.shape or law.ndim != 2:
        raise InputError(f"the law has shape {law.shape} and the counts {table.shape}")
    if not np.all(law > 0):
        raise InputError("the law has a probability of zero; smooth it, or the bound is infinite")
    n = int(table.sum())
    if n < 2:
        raise InputError(f"{n} tokens were held out; the bound needs at least two")
    losses = -np.log(law)
    mean = float((table * losses).sum()) / n
    variance = float((table * (losses - mean) ** 2).sum()) / (n - 1)
    largest = float(losses.max())
    reach = mean + empirical_bernstein_halfwidth(variance, n, delta, width=largest)
    return CrossEntropyBound(
        cross_entropy=mean,
        largest_loss=largest,
        upper_unclipped=reach,
        upper=min(reach, math.log(law.shape[1])),
    )
