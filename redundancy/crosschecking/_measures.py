"""The measures of a pair beside scikit-learn's view of the same states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redundancy.crosschecking._material import Material
from redundancy.crosschecking._result import Check, compare, skipped
from redundancy.measures import cka, geometric, proximal
from redundancy.pairs import LayerPair

__all__ = ["measure_checks"]

_PEER = "scikit-learn"
_COSINE = "metrics.pairwise.paired_cosine_distances"
_KERNEL = "preprocessing.KernelCenterer, metrics.pairwise.linear_kernel"
# Four standard errors: once in 16,000 by chance.
_REACH = 4.0
# A kernel matrix of all tokens has n x n entries.
_MOST_ROWS = 2000
_T = 0.05


def measure_checks(material: Material, seed: int) -> Iterator[Check]:
    """Compare mean distance, share below t and CKA."""
    pair, where = material.pair, material.where
    lower, upper = (np.asarray(x, dtype=np.float64) for x in (pair.x_lower, pair.x_upper))
    defined = (np.abs(lower).max(axis=1) > 0) & (np.abs(upper).max(axis=1) > 0)
    if lower.shape != upper.shape or not defined.any():
        reason = "the two layers differ in width, or hold only zero vectors"
        yield skipped(where, "E ρ", _PEER, _COSINE, reason)
        return
    yield from _distances(material, lower, upper, defined)
    yield from _alignment(pair, where, lower, upper, seed)


def _distances(
    material: Material, lower: NDArray[Any], upper: NDArray[Any], defined: NDArray[Any]
) -> Iterator[Check]:
    from sklearn.metrics.pairwise import paired_cosine_distances

    pair, where = material.pair, material.where
    rho = np.full(len(lower), np.nan)
    rho[defined] = paired_cosine_distances(lower[defined], upper[defined])
    kept = LayerPair(pair.lower, pair.upper, pair.x_lower, pair.x_upper, pair.modality, pair.groups)
    groups = np.arange(len(rho)) if pair.groups is None else np.asarray(pair.groups)
    code = np.unique(groups[defined], return_inverse=True)[1]
    theirs = np.bincount(code, weights=rho[defined]) / np.bincount(code)
    ours = geometric.measure(kept, ci=None).estimate.value
    yield compare(
        where,
        "E ρ, kept tokens",
        _PEER,
        _COSINE,
        ours=ours,
        theirs=float(theirs.mean()),
        unit="cosine distance",
        tolerance=1e-9,
    )
    # Tokens whose distance is t to the last digit may fall on either side.
    near = float((np.abs(rho[defined] - _T) < 1e-9).mean())
    below = np.bincount(code, weights=(rho[defined] < _T).astype(float)) / np.bincount(code)
    yield compare(
        where,
        f"P[ρ < {_T:g}], kept tokens",
        _PEER,
        _COSINE,
        ours=proximal.measure(kept, ci=None, t=_T).estimate.value,
        theirs=float(below.mean()),
        unit="probability",
        tolerance=1e-9 + near,
    )
    yield from _sums(material, rho, defined)


def _sums(material: Material, rho: NDArray[Any], defined: NDArray[Any]) -> Iterator[Check]:
    """Sums over all tokens against the kept ones: per sample their difference has mean 0."""
    summary, sample = material.pair.summary, material.samples
    if summary is None or int(summary.n_tokens.sum()) <= len(rho):
        return
    kept = np.bincount(sample[defined], minlength=len(summary.n_defined))
    both = (kept > 0) & (summary.n_defined > 0)
    if len(kept) != len(both) or both.sum() < 10:
        return
    total = np.bincount(sample[defined], weights=rho[defined], minlength=len(kept))
    theirs = total[both] / kept[both]
    ours = summary.rho_sum[both] / summary.n_defined[both]
    # Samples of one group are not independent, so its mean counts once.
    _, code = np.unique(summary.groups[both], return_inverse=True)
    gap = np.bincount(code, weights=ours - theirs) / np.bincount(code)
    if len(gap) < 10:
        return
    se = float(gap.std(ddof=1)) / np.sqrt(len(gap))
    yield compare(
        material.where,
        "E ρ, all tokens",
        _PEER,
        _COSINE,
        ours=float(ours.mean()),
        theirs=float(theirs.mean()),
        unit="cosine distance",
        tolerance=_REACH * se + 1e-9,
        why="sampling: ours are sums over all tokens made while the model ran, theirs are of the "
        "tokens whose states were kept",
    )


def _alignment(
    pair: LayerPair, where: Any, lower: NDArray[Any], upper: NDArray[Any], seed: int
) -> Iterator[Check]:
    from sklearn.metrics.pairwise import linear_kernel
    from sklearn.preprocessing import KernelCenterer

    rows = np.arange(len(lower))
    if len(rows) > _MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _MOST_ROWS, replace=False))
    some = LayerPair(pair.lower, pair.upper, lower[rows], upper[rows], pair.modality)
    reading = cka.measure(some, ci=None)
    ours, biased = reading.estimate.value, reading.extras.get("biased")
    if biased is None or biased.value is None or ours is None:
        yield skipped(where, "CKA", _PEER, _KERNEL, "CKA is not defined on constant states")
        return
    k, l = (KernelCenterer().fit_transform(linear_kernel(x[rows])) for x in (lower, upper))  # noqa: E741
    theirs = float((k * l).sum() / np.sqrt((k * k).sum() * (l * l).sum()))
    yield compare(
        where,
        "CKA, biased",
        _PEER,
        _KERNEL,
        ours=biased.value,
        theirs=theirs,
        unit="similarity",
        tolerance=1e-8,
    )
    yield compare(
        where,
        "CKA, debiased",
        _PEER,
        _KERNEL,
        ours=ours,
        theirs=theirs,
        unit="similarity",
        tolerance=1e-8,
        expected=ours - biased.value,
        why="bias: theirs is the usual CKA, which tends to 1 as the width passes the number of "
        "tokens; ours takes that out",
    )
