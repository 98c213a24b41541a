"""The states that a pair's checks are made on: few, distinct, the same for ours and theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redundancy.measures._neighbour import reduce_width
from redundancy.pairs import LayerPair
from redundancy.store import ActivationStore

__all__ = ["ENOUGH", "Material", "material_of"]

Float = NDArray[np.float64]

ENOUGH = 50
"""Fewer distinct tokens are not worth a comparison of neighbours."""
_LABELS = 8


@dataclass(frozen=True, slots=True)
class Material:
    """Tokens of one pair, ready for any estimator.

    Parameters
    ----------
    pair : LayerPair
        All kept tokens.
    lower, upper : ndarray of float64, shape (n, 2)
        Two principal directions of at most `tokens` distinct tokens, scaled into [-1, 1], since
        npeet_plus adds noise of 1e-10 whatever the scale.
    samples : ndarray of int64, shape (m,)
        Sample of each kept token.
    third : ndarray of float64, shape (n, 1), or None
        One principal direction of another layer, for conditional information.
    rows : ndarray of int64, shape (n,)
        Which of the pair's tokens these are.
    labels : ndarray of int64, shape (m,), or None
        The target's classes for all kept tokens, where it has 2 to 8 of them.
    """

    pair: LayerPair
    lower: Float
    upper: Float
    third: Float | None
    rows: NDArray[np.int64]
    samples: NDArray[np.int64]
    labels: NDArray[np.int64] | None

    @property
    def where(self) -> tuple[tuple[int, int], str]:
        """What a `Check` says of its place."""
        return (self.pair.lower, self.pair.upper), self.pair.modality


def material_of(
    store: ActivationStore, lower: int, upper: int, modality: str, *, tokens: int, seed: int
) -> Material | None:
    """Return the states of a pair, or None where the store kept sums only."""
    pair = store.pair(lower, upper, modality)
    if pair.x_lower is None or pair.x_upper is None:
        return None
    a, b = (np.asarray(x, dtype=np.float32) for x in (pair.x_lower, pair.x_upper))
    rows = _distinct(a, b)
    rng = np.random.default_rng(seed)
    if len(rows) > tokens:
        rows = np.sort(rng.choice(rows, tokens, replace=False))
    others = [layer for layer in store.layers if layer not in (lower, upper)]
    third = None
    if others and len(rows) >= ENOUGH:
        states = np.asarray(store.states(others[-1], modality), dtype=np.float32)
        third = _scaled(reduce_width(states[rows], seed, 1)[0])
    return Material(
        pair=pair,
        lower=_scaled(reduce_width(a[rows], seed, 2)[0]),
        upper=_scaled(reduce_width(b[rows], seed, 2)[0]),
        third=third,
        rows=rows,
        samples=store.token_samples(modality),
        labels=_labels(pair.target),
    )


def _distinct(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.int64]:
    """Return tokens that have no copy in either layer: a copy has no nearest-neighbour distance."""
    _, first = np.unique(a, axis=0, return_index=True)
    _, again = np.unique(b[first], axis=0, return_index=True)
    return np.sort(first[again]).astype(np.int64)


def _scaled(x: Float) -> Float:
    largest = float(np.abs(x).max(initial=0.0))
    return x if largest == 0.0 else x / largest


def _labels(target: NDArray[Any] | None) -> NDArray[np.int64] | None:
    if target is None or target.ndim != 1:
        return None
    values, codes = np.unique(target, return_inverse=True)
    return codes.astype(np.int64) if 2 <= len(values) <= _LABELS else None
