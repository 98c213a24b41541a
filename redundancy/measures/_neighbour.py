"""Readings of the unquantised states: mutual information, dimension, distance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import Diagnostic, Estimate, InputError
from estimators.intervals import cluster_mean
from redundancy._rows import take
from redundancy.summary import cosine_distances

__all__ = ["neighbour_extras", "reduce_width", "spread"]

_TOKENS = 2000
_WIDTH = 32
# Enough to see a trend, at about a third of a second a pair.
_SCALING_N, _SCALING_K = (125, 250, 500, 1000), 3
_SWEEP_K, _SWEEP_N = (1, 3, 5, 10), 500


def neighbour_extras(
    lower: Any,
    upper: Any,
    codes: NDArray[np.int64],
    rho: NDArray[np.float64] | None = None,
    *,
    mi: bool,
    seed: int,
    kept: NDArray[np.int64] | None = None,
) -> dict[str, Estimate]:
    """Mutual information, TwoNN dimension and mean cosine distance of the rows `kept` (all).

    Neighbours are searched among at most 2,000 tokens, spread over as many groups as possible, in
    at most 32 principal directions of each layer: enough for a reading beside the headline, at a
    second a pair. `rho` are the distances of the rows `kept`, where they are known.
    """
    from estimators.intrinsic import intrinsic_dimension

    kept = np.arange(len(lower)) if kept is None else kept
    rho = cosine_distances(lower, upper)[kept] if rho is None else rho
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
    rows = spread(codes, seed, _TOKENS)
    low, share_low = _reduced(lower, kept[rows], seed)
    high, share_high = _reduced(upper, kept[rows], seed)
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
            lambda: mutual_information(low, high, groups=groups, ci=None, seed=seed),
            "nats",
            params | _sweeps(low, high, seed),
        )
    return out


def _sweeps(
    low: NDArray[np.float64], high: NDArray[np.float64], seed: int
) -> dict[str, list[tuple[int, float]]]:
    """KSG values over the number of tokens and over k; empty where KSG does not apply."""
    from estimators.ksg import ksg_mi

    order = np.random.default_rng(seed).permutation(len(low))

    def value(n: int, k: int) -> float:
        some = order[:n]
        return float(ksg_mi(low[some], high[some], k=k, ci=None, seed=seed))

    sizes = [n for n in _SCALING_N if n <= len(low)]
    try:
        return {
            "n_scaling": [(n, value(n, _SCALING_K)) for n in sizes],
            "k_sweep": [(k, value(min(_SWEEP_N, len(low)), k)) for k in _SWEEP_K],
        }
    except InputError:
        # Too few samples, or none that differ: the headline's own diagnostics say so.
        return {}


def _reduced(x: Any, rows: NDArray[np.int64], seed: int) -> tuple[NDArray[np.float64], float]:
    """Principal directions of some rows of a layer, found once for both of the layer's pairs."""
    memo = getattr(x, "memo", {})
    key = ("reduced", seed, rows.tobytes())
    if key not in memo:
        memo[key] = reduce_width(take(x, rows), seed)
    found: tuple[NDArray[np.float64], float] = memo[key]
    return found


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


def spread(codes: NDArray[np.int64], seed: int, count: int) -> NDArray[np.int64]:
    """At most `count` rows: one of every group before a second of any, in the order given."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(codes))
    order = np.argsort(codes[shuffled], kind="stable")
    sizes = np.bincount(codes)
    turn = np.empty(len(codes), dtype=np.int64)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    turn[shuffled[order]] = np.arange(len(codes)) - starts
    chosen = np.lexsort((rng.permutation(len(codes)), turn))[:count]
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
