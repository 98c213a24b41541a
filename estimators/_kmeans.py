"""K-means through faiss, on centred and scaled float32 copies.

faiss expands squared distances in float32, which is fine for cluster centres once the data are
centred in float64, and wrong for nearest neighbours: those live in `estimators._neighbours`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from estimators._arrays import FloatArray
from estimators._errors import InputError

__all__ = ["kmeans", "nearest"]

_BLOCK = 4096


def kmeans(x: FloatArray, k: int, *, seed: int, iterations: int = 25) -> npt.NDArray[np.float64]:
    """Return k cluster centres of the rows of x, shape (k, d)."""
    import faiss

    if len(x) < k:
        raise InputError(
            f"k-means with {k} states needs at least {k} samples to fit on, and there are {len(x)};"
            " use fewer states (n_states=) or more samples"
        )
    centre = x.mean(axis=0, dtype=np.float64)
    moved = x - centre
    scale = float(np.abs(moved).max()) or 1.0
    moved /= scale
    moved32 = np.ascontiguousarray(moved, dtype=np.float32)
    del moved  # as large as everything else here together
    if k < 1024 and len(np.unique(moved32[: 4 * k + 4096], axis=0)) < k:
        distinct = len(np.unique(moved32, axis=0))
        if distinct < k:
            raise InputError(
                f"the data hold only {distinct} distinct rows, fewer than the {k} states asked "
                f"for; use n_states={distinct} or fewer"
            )
    # Few centres easily settle in a poor local optimum, and are cheap to try again.
    tries = 8 if k <= 64 else 1
    options: dict[str, Any] = {"niter": iterations, "nredo": tries, "seed": seed, "verbose": False}
    model = faiss.Kmeans(moved32.shape[1], k, min_points_per_centroid=1, **options)
    model.train(moved32)
    centres = np.asarray(model.centroids, dtype=np.float64).reshape(k, -1)
    return np.asarray(centres * scale + centre)


def nearest(x: FloatArray, centres: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the index of the centre nearest to each row, in float64, block by block."""
    centre = centres.mean(axis=0)
    c = centres - centre
    half = 0.5 * (c * c).sum(axis=1)
    out = np.empty(len(x), dtype=np.int64)
    for start in range(0, len(x), _BLOCK):
        rows = x[start : start + _BLOCK] - centre
        out[start : start + _BLOCK] = np.argmin(half - rows @ c.T, axis=1)
    return out
