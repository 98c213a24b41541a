"""Readings of the unquantised states: mutual information, dimension, distance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from estimators import Diagnostic, Estimate, InputError
from estimators.intervals import cluster_mean
from redundancy.summary import cosine_distances

__all__ = ["neighbour_extras", "reduce_width"]

_TOKENS = 2000
_WIDTH = 32


def neighbour_extras(
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
    codes: NDArray[np.int64],
    *,
    mi: bool,
    seed: int,
) -> dict[str, Estimate]:
    """Mutual information, TwoNN dimension and mean cosine distance of the same tokens.

    Neighbours are searched among at most 2,000 tokens, spread over as many groups as possible, in
    at most 32 principal directions of each layer: enough for a reading beside the headline, at a
    second a pair.
    """
    from estimators.intrinsic import intrinsic_dimension

    rho = cosine_distances(lower, upper)
    mean = cluster_mean(
        np.bincount(codes, weights=rho), np.bincount(codes), weighting="token", level=None
    )
    out = {
        "cos": Estimate(
            value=mean.value,
            unit="cosine distance",
            kind="estimate",
            n=len(rho),
            method="mean over tokens",
        )
    }
    rows = _spread(codes, seed)
    low, share_low = reduce_width(lower[rows], seed)
    high, share_high = reduce_width(upper[rows], seed)
    params = {
        "tokens": len(rows),
        "width": [low.shape[1], high.shape[1]],
        "variance_kept": [share_low, share_high],
    }
    groups = codes[rows] if len(np.unique(codes[rows])) < len(rows) else None
    out["d_int"] = _attempt(
        lambda: intrinsic_dimension(high, groups=groups, ci=None, seed=seed), "dimensions", params
    )
    if mi:
        from estimators.mutual_information import mutual_information

        out["mi"] = _attempt(
            lambda: mutual_information(low, high, groups=groups, ci=None, seed=seed), "nats", params
        )
    return out


def _attempt(make: Callable[[], Estimate], unit: str, params: dict[str, object]) -> Estimate:
    """A by-product, or its absence with the reason: it must not cost the headline."""
    try:
        return _with(make(), params)
    except InputError as error:
        reason = Diagnostic(code="failed", severity="error", message=str(error))
        return Estimate(
            value=None,
            unit=unit,
            kind="estimate",
            n=int(str(params["tokens"])),
            method="nearest neighbours",
            params=params,
            diagnostics=(reason,),
        )


def _with(estimate: Estimate, params: dict[str, object]) -> Estimate:
    return replace(estimate, params={**estimate.params, **params})


def _spread(codes: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """At most 2,000 rows: one of every group before a second of any, in the order given."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(codes))
    order = np.argsort(codes[shuffled], kind="stable")
    sizes = np.bincount(codes)
    turn = np.empty(len(codes), dtype=np.int64)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    turn[shuffled[order]] = np.arange(len(codes)) - starts
    chosen = np.lexsort((rng.permutation(len(codes)), turn))[:_TOKENS]
    return np.sort(chosen)


def reduce_width(
    x: NDArray[np.float32], seed: int, width: int = _WIDTH
) -> tuple[NDArray[np.float64], float]:
    """Project on the first principal directions; also the share of variance they keep.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    >>> reduced, share = reduce_width(x, 0)
    >>> reduced.shape, share
    ((100, 3), 1.0)
    """
    centred = x.astype(np.float64)
    centred -= centred.mean(axis=0)
    if min(x.shape) <= width:
        return centred, 1.0
    from sklearn.utils.extmath import randomized_svd

    left, values, _ = randomized_svd(centred, width, random_state=seed)
    total = float((centred**2).sum())
    kept = float((values**2).sum()) / total if total > 0 else 1.0
    return left * values, min(kept, 1.0)
