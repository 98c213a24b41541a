"""Products of rows with rows, and HSIC from them: for representations wider than their samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt

__all__ = ["GRAM_ROWS", "gram_of", "parts_without_blocks"]

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
# A matrix of this many rows takes 32 MiB, and one is held for each side that is remembered.
GRAM_ROWS = 2048


def gram_of(n: int, spans: list[slice], read: Callable[[slice], Matrix]) -> Matrix:
    """Products of all rows with all, two spans of rows at a time."""
    out = np.empty((n, n))
    for i, j in combinations_with_replacement(range(len(spans)), 2):
        left = read(spans[i])
        product = left @ (left if i == j else read(spans[j])).T
        out[spans[i], spans[j]] = product
        out[spans[j], spans[i]] = product.T
    return out


def parts_without_blocks(
    k: Matrix, m: Matrix, label: Labels, count: int
) -> Iterator[tuple[float, Matrix, Matrix]]:
    """Yield tr(KM) and both diagonals, centred, of everything and without each block."""
    for s in range(-1, count if count > 1 else 0):
        kept = label != s
        a = _centred(k[np.ix_(kept, kept)])
        b = a if m is k else _centred(m[np.ix_(kept, kept)])
        yield float(np.einsum("ij,ij->", a, b)), np.diag(a), np.diag(b)


def _centred(k: Matrix) -> Matrix:
    rows = k.mean(axis=0)
    k -= rows
    k -= rows[:, None]
    k += rows.mean()
    return k
