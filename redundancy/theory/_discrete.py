"""Entropies and conditional informations of probability tables, exact up to rounding."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import InputError

__all__ = ["conditional_information", "entropy", "information", "relative_entropy", "table"]

Table = NDArray[np.float64]


def table(p: ArrayLike, name: str, axes: str) -> Table:
    """Read a probability table with one axis per letter of `axes`, normalised exactly."""
    out = np.asarray(p, dtype=np.float64)
    if out.ndim != len(axes) or out.size == 0:
        raise InputError(
            f"{name} has shape {out.shape}; give a table of probabilities with axes "
            f"[{', '.join(axes)}]"
        )
    bad = ~(out >= 0.0) | np.isinf(out)
    if bad.any():
        raise InputError(
            f"{name} holds {int(bad.sum())} entries that are negative, NaN or infinite, the first "
            f"at {tuple(int(i) for i in np.argwhere(bad)[0])}; give probabilities"
        )
    total = float(out.sum())
    if not abs(total - 1.0) < 1e-6:
        raise InputError(f"{name} sums to {total:.6g}; probabilities sum to 1 (divide by the sum)")
    return out / total


def entropy(p: Table) -> float:
    """Entropy of a table, in nats."""
    from scipy.special import entr

    return float(entr(p).sum())


def relative_entropy(p: Table, q: Table) -> float:
    """KL divergence of one table from another of the same shape, in nats; infinite if need be."""
    from scipy.special import rel_entr

    return max(float(rel_entr(p, q).sum()), 0.0)


def information(p: Table) -> float:
    """Mutual information of the two axes of a table, in nats."""
    return relative_entropy(p, p.sum(1, keepdims=True) * p.sum(0, keepdims=True))


def conditional_information(p: Table) -> float:
    """I(first axis; second axis | third axis) of a table, in nats."""
    third = p.sum((0, 1), keepdims=True)
    product = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.where(third > 0.0, product / third, 0.0)
    return relative_entropy(p, expected)
