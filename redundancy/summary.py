"""Cosine distances of two layers, token by token, and their sums per sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from estimators._half import as_float32
from redundancy.pairs import PairSummary
from vlm.sample import DEFAULT_THRESHOLDS

__all__ = ["check_finite", "cosine_distances", "summarise"]

_BLOCK_ELEMENTS = 2**18  # one block of a layer stays in the cache of a core


def cosine_distances(
    x_lower: NDArray[Any], x_upper: NDArray[Any], *, name: str = "the pair"
) -> NDArray[np.float64]:
    r"""Cosine distance of each row of one layer to the same row of the other.

    .. math:: \rho(x, y) = 1 - \frac{\langle x, y\rangle}{|x||y|}
              = \tfrac12 \Bigl|\frac{x}{|x|} - \frac{y}{|y|}\Bigr|^2 \in [0, 2]

    computed in float64 whatever the dtype, since the resolution of half precision (4e-3 for
    bfloat16) is the size of the distances measured; below 1e-4 by the second form, which loses no
    digits where the layers nearly agree.

    Parameters
    ----------
    x_lower, x_upper : ndarray, shape (n, d)
        States of the same n tokens, any real dtype.
    name : str
        What to call the pair in an error.

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN where one of the two vectors is zero: the distance is not defined there.

    Raises
    ------
    InputError
        If shapes differ or a value is NaN or infinite.

    Examples
    --------
    >>> cosine_distances(np.array([[1.0, 0], [1, 0], [0, 0]]), np.array([[2.0, 0], [0, 1], [1, 0]]))
    array([ 0.,  1., nan])
    """
    return _distances(x_lower, x_upper, name, squared=False)[0]


def summarise(
    x_lower: NDArray[Any],
    x_upper: NDArray[Any],
    groups: NDArray[Any] | None = None,
    thresholds: Sequence[float] | NDArray[np.float64] = DEFAULT_THRESHOLDS,
    *,
    name: str = "the pair",
) -> PairSummary:
    r"""Per-group sums of distances between two layers: what streaming capture would have kept.

    For each group g of tokens: :math:`\sum_{k \in g} \rho_k`, the number of tokens with
    :math:`\rho_k < t` for each threshold, and :math:`\sum_{k \in g} |x_k - y_k|^2`.

    Parameters
    ----------
    x_lower, x_upper : ndarray, shape (n, d)
        States of the same n tokens, any real dtype.
    groups : ndarray, shape (n,), or None
        What makes tokens dependent (their image or prompt); None makes every token its own group.
    thresholds : sequence of float
        Cosine distances at which tokens are counted, strictly below.
    name : str
        What to call the pair in an error, e.g. ``"layers 3→4 (vision)"``.

    Returns
    -------
    PairSummary
        One entry per distinct group, in ascending order of the labels.

    Raises
    ------
    InputError
        If shapes differ, there are no tokens, a value is NaN or infinite, or a threshold is not a
        distance.

    Examples
    --------
    >>> x = np.eye(3)
    >>> y = np.array([[1.0, 0, 0], [0, 0, 1], [0, 0, 1]])
    >>> s = summarise(x, y, groups=np.array([7, 7, 8]), thresholds=[0.5])
    >>> s.groups, s.rho_sum, s.below[:, 0]
    (array([7, 8]), array([1., 0.]), array([1, 1]))
    """
    cuts = np.asarray(thresholds, dtype=np.float64)
    if cuts.ndim != 1 or not np.all((cuts > 0) & (cuts <= 2)):
        raise InputError(
            f"thresholds are cosine distances above 0 and at most 2; got {np.asarray(thresholds)}"
        )
    rho, square = _distances(x_lower, x_upper, name)
    n = len(rho)
    if n == 0:
        raise InputError(f"{name} has no tokens; choose another modality or capture more")
    if groups is None:
        labels, code = np.arange(n), np.arange(n)
    else:
        groups = np.asarray(groups)
        if groups.shape != (n,):
            raise InputError(
                f"{name} has {n} tokens, but groups has shape {groups.shape}; give one per token"
            )
        labels, code = np.unique(groups, return_inverse=True)
    s = len(labels)
    defined = ~np.isnan(rho)
    rho_zero = np.where(defined, rho, 0.0)
    below = np.empty((s, len(cuts)), dtype=np.int64)
    for column, cut in enumerate(cuts):
        below[:, column] = np.bincount(code[defined & (rho_zero < cut)], minlength=s)
    return PairSummary(
        groups=labels,
        n_tokens=np.bincount(code, minlength=s).astype(np.int64),
        n_defined=np.bincount(code[defined], minlength=s).astype(np.int64),
        rho_sum=_sums(code, rho_zero, s),
        thresholds=cuts,
        sq_dist_sum=_sums(code, square, s),
        below=below,
    )


def check_finite(x: NDArray[Any], name: str) -> None:
    """Raise InputError if an array of states holds NaN or infinity: how many, and where first."""
    width = max(1, int(np.prod(x.shape[1:], dtype=np.int64)))
    count, first = 0, -1
    for start, stop in _blocks(len(x), width, 4 * _BLOCK_ELEMENTS):
        bad = ~_finite(x[start:stop])
        found = int(np.count_nonzero(bad))
        if found and not count:
            first = start + int(np.argmax(bad.reshape(stop - start, -1).any(axis=1)))
        count += found
    if count:
        raise InputError(
            f"{name} holds {count:,} NaN or infinite values of {x.size:,}, the first in row "
            f"{first}; capture it again in bfloat16 or float32, or remove those samples"
        )


def _finite(x: NDArray[Any]) -> NDArray[np.bool_]:
    if x.dtype.kind in "iub":
        return np.ones(x.shape, dtype=bool)
    if x.dtype.itemsize == 2:
        # Exponent all ones; several times faster than isfinite, which raises halves to float32.
        mask = np.uint16(0x7C00 if x.dtype == np.float16 else 0x7F80)
        bits = np.ascontiguousarray(x).view(np.uint16)
        return np.asarray((bits & mask) != mask)
    return np.asarray(np.isfinite(x))


def _blocks(n: int, width: int, elements: int = _BLOCK_ELEMENTS) -> Iterator[tuple[int, int]]:
    step = max(1, elements // max(1, width))
    for start in range(0, n, step):
        yield start, min(n, start + step)


def _distances(
    x_lower: NDArray[Any], x_upper: NDArray[Any], name: str, *, squared: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosine distances and, if asked for, squared Euclidean distances, row by row."""
    for x in (x_lower, x_upper):
        if x.ndim != 2:
            raise InputError(f"{name}: states have shape {x.shape}; expected (tokens, features)")
    if x_lower.shape != x_upper.shape:
        raise InputError(
            f"{name}: states have shapes {x_lower.shape} and {x_upper.shape}; a cosine distance "
            "needs the same tokens and the same width in both layers"
        )
    n, d = x_lower.shape
    rho, square = np.empty(n), np.empty(n)
    # Two buffers for the whole run: fresh ones for each block cost more than the arithmetic.
    buffers = np.empty((2, min(n, max(1, _BLOCK_ELEMENTS // max(1, d))), d))
    for start, stop in _blocks(n, d):
        a, b = buffers[:, : stop - start]
        _raise_precision(x_lower[start:stop], a)
        _raise_precision(x_upper[start:stop], b)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            square_a, square_b = _square_sum(a), _square_sum(b)
            part = 1.0 - np.einsum("ij,ij->i", a, b) / np.sqrt(square_a * square_b)
        # The product loses the digits of small angles, and all of them where squares over- or
        # underflow; such rows are brought to length one first.
        sound = (square_a > 1e-150) & (square_a < 1e150) & (square_b > 1e-150) & (square_b < 1e150)
        again = ~(sound & (part >= 1e-4))
        if again.any():
            if not sound.all():
                check_finite(x_lower, f"{name}, lower layer,")
                check_finite(x_upper, f"{name}, upper layer,")
            part[again] = 0.5 * _square_sum(_unit(a[again]) - _unit(b[again]))
        rho[start:stop] = part
        if not squared:
            continue
        with np.errstate(over="ignore"):
            b -= a
            square[start:stop] = _square_sum(b)
    return np.clip(rho, 0.0, 2.0, out=rho), square


def _raise_precision(x: NDArray[Any], out: NDArray[np.float64]) -> None:
    # NumPy has no fast way from half precision to float64 in one step.
    np.copyto(out, as_float32(x) if x.dtype.itemsize == 2 else x)


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows over their norms, at any scale; NaN for zero vectors."""
    largest = np.abs(x).max(axis=1, initial=0.0, keepdims=True)
    largest[largest == 0.0] = np.nan
    x = x / largest
    return np.asarray(x / np.sqrt(_square_sum(x))[:, None])


def _sums(code: NDArray[np.int64], values: NDArray[np.float64], s: int) -> NDArray[np.float64]:
    return np.asarray(np.bincount(code, weights=values, minlength=s), dtype=np.float64)


def _square_sum(x: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.einsum("ij,ij->i", x, x), dtype=np.float64)
