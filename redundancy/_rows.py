"""Rows of states that are read when they are asked for, so that a layer need not fit into memory.

`LazyRows` stands where an array of shape (n, d) would: it has a shape and a dtype, is indexed by
slices, masks and row numbers, and becomes an array in full only where somebody insists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators._half import as_float32

__all__ = ["LazyRows", "blocks", "take"]

# Fixed, not made from the memory at hand: what is added up in which order must not depend on it.
_ELEMENTS = 2**22


class LazyRows:
    """States of one layer, shape (n, d), on disk.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy dtype
    read : callable
        ``read(rows)`` returns the rows of ascending numbers, an int64 array, as an array.

    Attributes
    ----------
    memo : dict
        For whoever finds something out about this layer alone, for the next pair it is part of.

    Examples
    --------
    >>> x = np.arange(6.0).reshape(3, 2)
    >>> lazy = LazyRows(x.shape, x.dtype, lambda rows: x[rows])
    >>> len(lazy), lazy[1:][0].tolist(), lazy[[2, 0]].tolist()
    (3, [2.0, 3.0], [[4.0, 5.0], [0.0, 1.0]])
    """

    ndim = 2

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        read: Callable[[NDArray[np.int64]], NDArray[Any]],
    ) -> None:
        self.shape, self.dtype, self._read = shape, dtype, read
        self.memo: dict[Any, Any] = {}
        self._window: tuple[int, int, NDArray[Any]] | None = None

    @property
    def size(self) -> int:
        """Number of values."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes as an array."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows from `start` up to `stop`; the last block read is kept, for those who go slowly."""
        step = max(1, _ELEMENTS // max(1, self.shape[1]))
        if stop - start > step:
            return self._read(np.arange(start, stop))
        if self._window is None or not self._window[0] <= start <= stop <= self._window[1]:
            end = min(len(self), max(start + step, stop))
            self._window = (start, end, self._read(np.arange(start, end)))
        begin = self._window[0]
        return self._window[2][start - begin : stop - begin]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if isinstance(key, slice):
            start, stop, stride = key.indices(len(self))
            if stride == 1:
                return self.read_rows(start, max(start, stop))
            return self[np.arange(start, stop, stride)]
        if isinstance(key, int | np.integer):
            at = int(key) + (len(self) if key < 0 else 0)
            if not 0 <= at < len(self):
                raise IndexError(f"row {key} of {len(self)}")
            return np.asarray(self._read(np.array([at]))[0])
        rows = np.asarray(key)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        rows = np.where(rows < 0, rows + len(self), rows).astype(np.int64)
        if rows.size < 2 or (np.diff(rows) > 0).all():
            return self._read(rows)
        order, back = np.unique(rows, return_inverse=True)
        return np.asarray(self._read(order)[back])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        whole = self._read(np.arange(len(self)))
        return whole if dtype is None else whole.astype(dtype)

    def forget(self) -> None:
        """Let go of the block that was read last."""
        self._window = None


def blocks(x: Any) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Go through rows in blocks of a fixed number of values: which rows, and the rows.

    Examples
    --------
    >>> [(span.start, span.stop) for span, _ in blocks(np.zeros((3, 2)))]
    [(0, 3)]
    """
    step = max(1, _ELEMENTS // max(1, x.shape[1]))
    for start in range(0, len(x), step):
        span = slice(start, min(start + step, len(x)))
        yield span, np.asarray(x[span])


def take(x: Any, rows: NDArray[Any]) -> NDArray[np.float32]:
    """Some rows, in single precision."""
    return as_float32(np.asarray(x[rows]))
