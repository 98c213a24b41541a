"""Neighbour numbers of mixtures of atoms and densities, with or without tied distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from estimators._arrays import FloatArray
from estimators._neighbours import count_within, search
from estimators._types import Diagnostic

__all__ = ["Mixture", "count_mixture", "crowded"]

Float = npt.NDArray[np.float64]
Norm = Literal["chebyshev", "euclidean"]


@dataclass(frozen=True, slots=True)
class Mixture:
    """Neighbour numbers and counts of a mixture, one entry per sample.

    Parameters
    ----------
    order : array, shape (n,)
        k where the joint has a density; the samples as near as the k-th neighbour where several
        are, the point itself included on atoms.
    counts : list of arrays, shape (n,)
        In each subset of spaces, what `order` is compared with.
    atom : bool array, shape (n,)
        The k-th neighbour is a copy.
    tied : bool
        Some sample is as near as another one's k-th neighbour, in the joint or one of the subsets.
    """

    order: Float
    counts: list[Float]
    atom: npt.NDArray[np.bool_]
    tied: bool


def count_mixture(
    spaces: Sequence[FloatArray],
    subsets: Sequence[tuple[int, ...]],
    k: int,
    norm: Norm,
    *,
    tied: bool = True,
) -> Mixture:
    """Count a mixture; without `tied`, data known to have no ties are spared the second count.

    Strict counts leave out all samples at the very radius. Without ties that is one sample, in the
    side that set the radius. Where values are rounded it is the whole next value, and the
    information looks larger by up to 0.6 nats; so at ties all counts, that of the joint included,
    are of the closed ball. Both are one formula, max(closed, strict + 1).
    """
    found = search(spaces, k, counts=subsets, metric=norm)
    counts: list[Float] = [c.astype(np.float64) + 1.0 for c in found.counts]
    if not tied:
        order: Float = np.full(len(spaces[0]), float(k))
        return Mixture(order, counts, np.zeros(len(order), dtype=bool), False)
    radius, atom = found.radius, found.radius == 0

    def closed(members: Sequence[int]) -> Float:
        chosen = [spaces[s] for s in members]
        within = count_within(chosen, radius, metric=norm, closed=True)
        return np.asarray(within + atom, dtype=np.float64)

    order = closed(range(len(spaces)))
    all_counts = [np.maximum(closed(m), c) for m, c in zip(subsets, counts, strict=True)]
    differs = [order > k, *(a > c for a, c in zip(all_counts, counts, strict=True))]
    return Mixture(order, all_counts, atom, bool(np.any(differs)))


def crowded(mixture: Mixture, k: int) -> tuple[Diagnostic, ...]:
    """Say where values repeat too seldom to be atoms, or too few of them differ to be numbers."""
    n, out = len(mixture.order), []
    small = int((mixture.atom & (mixture.order <= 4 * k)).sum())
    if small > 0.1 * n:
        out.append(
            Diagnostic(
                code="small-atoms",
                severity="error" if small > 0.25 * n else "warning",
                message=f"{small} of {n} samples have more than {k - 1} and fewer than {4 * k} "
                "copies: too few for atoms, too many for a density, and the information looks "
                "larger than it is; use unrounded values, more samples, or quantise both sides "
                "and count",
            )
        )
    smeared = int((~mixture.atom & (mixture.order > 10 * k)).sum())
    if smeared > 0.1 * n:
        out.append(
            Diagnostic(
                code="smeared",
                severity="error" if smeared > 0.25 * n else "warning",
                message=f"{smeared} of {n} samples have more than {10 * k} others all as near as "
                f"their {k}-th neighbour, as rare symbols do, which are all equally far apart; "
                "what tells these apart is lost: use discrete_mi, or merge rare symbols",
            )
        )
    return tuple(out)
