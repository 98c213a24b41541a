"""How often related and unrelated pairs are close: the counts behind a certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import InputError
from estimators._arrays import check_lengths, group_codes, matrix

__all__ = ["Distance", "PairShares", "pair_shares"]

Array = NDArray[np.float64]
Distance = Literal["cosine", "euclidean"] | Callable[[Array, Array], Array]

_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class PairShares:
    """Shares of close pairs at each threshold.

    Parameters
    ----------
    joint : ndarray, shape (G, T)
        For each group the share of its tokens whose two states are within each threshold.
    product : ndarray, shape (T,)
        Mean over ordered pairs of different groups of the share of close token pairs.
    n_groups, n_samples : int
        Groups and tokens used.
    """

    joint: Array
    product: Array
    n_groups: int
    n_samples: int


def pair_shares(
    x: Any,
    y: Any,
    thresholds: ArrayLike,
    *,
    groups: ArrayLike | None,
    distance: Distance,
    max_samples: int,
    seed: int,
) -> PairShares:
    """Count close pairs, within a token (x_i, y_i) and across different groups (x_i, y_j)."""
    whole_x, whole_y = matrix(x, "x"), matrix(y, "y")
    n = check_lengths(x=whole_x, y=whole_y)
    if not callable(distance) and whole_x.shape[1] != whole_y.shape[1]:
        raise InputError(
            f"x has {whole_x.shape[1]} coordinates and y {whole_y.shape[1]}; the {distance} "
            "distance compares states of equal width (a callable distance may compare others)"
        )
    codes, n_groups = group_codes(groups, n)
    if codes is None or n_groups is None:
        codes, n_groups = np.arange(n), n
    keep = _choose(codes, max_samples, np.random.default_rng(seed))
    # Raised to float64 only once chosen: a whole store of states may not fit twice.
    a, b = whole_x[keep].astype(np.float64), whole_y[keep].astype(np.float64)
    codes = np.unique(codes[keep], return_inverse=True)[1].reshape(-1)
    n_groups = int(codes.max()) + 1
    if n_groups < 2:
        raise InputError("one group is left; unrelated pairs come from at least two groups")
    between = _distance_function(distance)
    if distance == "cosine":
        a, b = _normalise(a, "x"), _normalise(b, "y")
    cuts = np.asarray(thresholds, dtype=np.float64).reshape(-1)
    sizes = np.bincount(codes, minlength=n_groups).astype(np.float64)
    weight = 1.0 / sizes[codes]  # every group counts alike, whatever its number of tokens
    joint = np.zeros((n_groups, cuts.size))
    product = np.zeros(cuts.size)
    for start in range(0, len(a), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(a)))
        rho = between(a[rows], b)
        if rho.shape != (rows.stop - start, len(b)) or bool(np.isnan(rho).any()):
            raise InputError(
                "the distance must return one number, not NaN, for each row of its first and each "
                f"row of its second argument; it returned shape {rho.shape}"
            )
        # Related pairs are read off the same product, so that both counts are of the same event.
        own = rho[np.arange(rows.stop - start), np.arange(start, rows.stop)]
        rho = np.where(codes[rows, None] == codes[None, :], np.inf, rho)
        for column, cut in enumerate(cuts):
            np.add.at(joint[:, column], codes[rows], weight[rows] * (own <= cut))
            product[column] += float(weight[rows] @ ((rho <= cut).astype(np.float64) @ weight))
    product /= n_groups * (n_groups - 1.0)
    return PairShares(np.clip(joint, 0.0, 1.0), np.clip(product, 0.0, 1.0), n_groups, len(a))


def _choose(codes: NDArray[np.int64], limit: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose at most `limit` samples: as many of each group as can be, then fewer groups."""
    n = len(codes)
    if n <= limit:
        return np.arange(n)
    order = rng.permutation(n)
    # Position of each sample within its group, in random order: the first of every group, then
    # the second of every group, and so on.
    by_group = order[np.argsort(codes[order], kind="stable")]
    grouped = codes[by_group]
    starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]])
    rank = np.arange(n) - np.repeat(starts, np.diff(np.r_[starts, n]))
    per_group = max(1, limit // int(codes.max() + 1))
    chosen = by_group[rank < per_group]
    if len(chosen) > limit:
        chosen = rng.permutation(chosen)[:limit]
    return np.sort(chosen)


def _normalise(a: Array, name: str) -> Array:
    norms = np.linalg.norm(a, axis=1, keepdims=True)
    zero = int((norms == 0).sum())
    if zero:
        raise InputError(
            f"{name} holds {zero} zero vectors, the first at row "
            f"{int(np.argmax(norms[:, 0] == 0))}; their cosine distance is undefined, remove them"
        )
    return np.asarray(a / norms, dtype=np.float64)


def _distance_function(distance: Distance) -> Callable[[Array, Array], Array]:
    if callable(distance):
        return distance
    if distance == "cosine":
        return lambda a, b: np.asarray(1.0 - a @ b.T)
    if distance == "euclidean":
        from scipy.spatial.distance import cdist

        return lambda a, b: np.asarray(cdist(a, b))
    raise InputError(f"distance is {distance!r}; use 'cosine', 'euclidean' or a function")
