"""Long sums of products of rows, in single precision where that loses nothing that counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import blas

__all__ = ["LARGE", "SingleProduct"]

Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
LARGE = 64
"""Coordinates of either side that stay in double precision."""
_BLOCKS = 16  # added up in single precision before they go to a sum in double
_TILE = 512


class SingleProduct:
    """The sum of left' right over blocks of rows.

    Coordinates of large variance are multiplied in double precision: their rounding would not
    average out over the others.

    Parameters
    ----------
    shape : tuple of int
        Columns of both sides.
    large : tuple of two ndarrays of int64
        Coordinates of either side that stay in double precision.
    symmetric : bool
        Whether both sides are the same, which halves the work.

    Examples
    --------
    >>> x = np.arange(6.0).reshape(3, 2)
    >>> none = np.array([], dtype=np.int64)
    >>> product = SingleProduct((2, 2), (none, none), symmetric=True)
    >>> product.add(x, x)
    >>> product.total().tolist()
    [[20.0, 26.0], [26.0, 35.0]]
    """

    def __init__(
        self, shape: tuple[int, int], large: tuple[Indices, Indices], *, symmetric: bool
    ) -> None:
        self._large, self._symmetric = large, symmetric
        self._sums = np.zeros(shape[::-1], dtype=np.float32, order="F")
        self._added = 0
        self._total = np.zeros(shape)
        self._across = np.zeros((len(large[0]), shape[1]))
        self._down = np.zeros((shape[0], len(large[1])))

    def add(self, left: Matrix, right: Matrix) -> None:
        """Add the product of some rows; `right` is ignored where both sides are the same."""
        if self._added == _BLOCKS:
            self._flush()
        self._added += 1
        # Row by row, as arrays lie here, is column by column of the transpose, as BLAS wants it.
        a = left.astype(np.float32).T
        if self._symmetric:
            self._across += left[:, self._large[0]].T @ left
            self._sums = blas.ssyrk(1.0, a, 1.0, self._sums, lower=1, overwrite_c=1)
            return
        self._across += left[:, self._large[0]].T @ right
        self._down += left.T @ right[:, self._large[1]]
        b = right.astype(np.float32).T
        self._sums = blas.sgemm(1.0, b, a, 1.0, self._sums, trans_b=1, overwrite_c=1)

    def total(self) -> Matrix:
        """The sum; nothing may be added after."""
        self._flush()
        if self._symmetric:
            _mirror(self._total)
        self._total[self._large[0]] = self._across
        self._total[:, self._large[1]] = self._across.T if self._symmetric else self._down
        return self._total

    def _flush(self) -> None:
        self._total += self._sums.T
        self._sums[...] = 0.0
        self._added = 0


def _mirror(a: Matrix) -> None:
    """Copy what is above the diagonal to below it, by tiles that fit a cache."""
    for i in range(0, len(a), _TILE):
        rows = slice(i, i + _TILE)
        block = a[rows, rows]
        a[rows, rows] = np.triu(block) + np.triu(block, 1).T
        for j in range(i + _TILE, len(a), _TILE):
            columns = slice(j, j + _TILE)
            a[columns, rows] = a[rows, columns].T
