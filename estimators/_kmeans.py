"""K-means through scikit-learn, on centred and scaled float32 copies, and the nearest centre.

Squared distances expanded in float32 are fine for centres once the data are centred in float64,
and not for saying which of two centres is nearer: `nearest` settles close calls in float64.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from estimators._arrays import FloatArray
from estimators._errors import InputError

__all__ = ["kmeans", "nearest", "row_lengths"]

_BLOCK = 1024
_PER_STATE = 256  # samples per centre that are looked at, at most
_UNIT = 2.0**-24  # of rounding to float32


def kmeans(x: FloatArray, k: int, *, seed: int, iterations: int = 25) -> npt.NDArray[np.float64]:
    """Return k cluster centres of the rows of x, shape (k, d)."""
    if len(x) < k:
        raise InputError(
            f"k-means with {k} states needs at least {k} samples to fit on, and there are {len(x)};"
            " use fewer states (n_states=) or more samples"
        )
    if len(x) > _PER_STATE * k:
        x = x[_drawn(len(x), _PER_STATE * k, seed)]
    centre = x.mean(axis=0, dtype=np.float64)
    moved, scale = _moved(x, centre)
    if k < 1024 and len(np.unique(moved[: 4 * k + 4096], axis=0)) < k:
        distinct = len(np.unique(moved, axis=0))
        if distinct < k:
            raise InputError(
                f"the data hold only {distinct} distinct rows, fewer than the {k} states asked "
                f"for; use n_states={distinct} or fewer"
            )
    centres = _fitted(moved, k, seed, iterations)
    return np.asarray(centres.astype(np.float64) * scale + centre)


def nearest(
    x: FloatArray,
    centres: npt.NDArray[np.float64],
    *,
    lengths: npt.NDArray[np.float64] | None = None,
    length: float | None = None,
) -> npt.NDArray[np.int64]:
    """Return the index of the centre nearest to each row, block by block; the first of equals.

    Parameters
    ----------
    x : float array, shape (n, d)
    centres : ndarray of float64, shape (k, d)
    lengths : ndarray of float64, shape (n,), optional
        Of the rows, where they are known.
    length : float, optional
        What every row is scaled to first; none may be zero then.

    Products are taken in float32; rows where its rounding could tip the balance (Higham 2002, eq.
    3.5) are looked at again in float64.
    """
    middle = centres.mean(axis=0)
    c = centres - middle
    half = 0.5 * (c * c).sum(axis=1)
    with np.errstate(over="ignore"):
        c32 = c.astype(np.float32)
    # Half the squared distance is this less x.c, up to what all centres have in common.
    offset = half + c @ middle
    d, reach = x.shape[1], float(np.sqrt(2.0 * half.max()))
    # Twice the error of a product: of rounding c and x, of d multiplications and additions, and
    # of what is too small for float32.
    slack = 2.0 * (d + 4) * _UNIT / (1.0 - d * _UNIT) * reach
    tiny = 4.0 * d * float(np.finfo(np.float32).tiny)
    lengths = row_lengths(x) if lengths is None else lengths
    out = np.empty(len(x), dtype=np.int64)
    for start in range(0, len(x), _BLOCK):
        block, sizes = x[start : start + _BLOCK], lengths[start : start + _BLOCK]
        norms = np.ones(len(block)) if length is None else sizes / length
        with np.errstate(over="ignore", invalid="ignore"):
            scores = (block.astype(np.float32, copy=False) @ c32.T).astype(np.float64)
            np.subtract(offset, np.divide(scores, norms[:, None], out=scores), out=scores)
            best = scores.min(axis=1)
            margin = (slack * sizes + tiny * (1.0 + reach + sizes)) / norms
            rivals = (scores <= (best + margin)[:, None]).sum(axis=1)
            close = np.flatnonzero(~((rivals == 1) & np.isfinite(best)))
        found = scores.argmin(axis=1)
        if len(close):
            rows = block[close] / norms[close, None] - middle
            found[close] = np.argmin(half - rows @ c.T, axis=1)
        out[start : start + _BLOCK] = found
    return out


def row_lengths(x: FloatArray) -> npt.NDArray[np.float64]:
    """Euclidean length of each row, summed in float64."""
    with np.errstate(over="ignore"):
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64)))


def _fitted(
    moved: npt.NDArray[np.float32], k: int, seed: int, iterations: int
) -> npt.NDArray[np.float32]:
    """Lloyd's algorithm from rows drawn at random, the best of several tries where k is small."""
    if len(moved) == k:
        return moved
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    # Few centres easily settle in a poor local optimum, and are cheap to try again.
    tries = 8 if k <= 64 else 1
    best: Any = None
    # Sums by thread would round differently; copies among the rows are no reason for a warning.
    with _threads().limit(limits=1, user_api="openmp"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for attempt in range(tries):
            first = moved[_drawn(len(moved), k, seed + 1 + 15486557 * attempt)]
            model = KMeans(
                k, init=first, n_init=1, max_iter=iterations, tol=0.0, copy_x=tries > 1
            ).fit(moved)
            if best is None or model.inertia_ < best.inertia_:
                best = model
    return np.asarray(best.cluster_centers_, dtype=np.float32)


@functools.cache
def _threads() -> Any:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # ships none

    return ThreadpoolController()


def _drawn(n: int, count: int, seed: int) -> npt.NDArray[np.int64]:
    """The first `count` of a random order of 0..n - 1, as faiss draws it from the same seed."""
    # Of NumPy's generators this one promises the same stream for ever.
    raw = np.random.RandomState(seed % 2**32).randint(0, 2**32, size=count, dtype=np.uint32)
    order: dict[int, int] = {}
    out = np.empty(count, dtype=np.int64)
    for i in range(count):
        j = i + int(raw[i]) % (n - i)
        out[i] = order.get(j, j)
        order[j] = order.get(i, i)
    return out


def _moved(x: FloatArray, centre: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float32], float]:
    """Rows less the centre, over the largest value, in float32; and that value."""
    blocks = range(0, len(x), _BLOCK)
    scale = max(float(np.abs(x[start : start + _BLOCK] - centre).max()) for start in blocks) or 1.0
    out = np.empty(x.shape, dtype=np.float32)
    for start in blocks:
        out[start : start + _BLOCK] = (x[start : start + _BLOCK] - centre) / scale
    return out, scale
