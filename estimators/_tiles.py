"""Compiled loops over square tiles of a distance matrix, each tile used for its rows and columns.

A tile holds the distances of some rows (from `i0` on) to others (from `j0` on). Off the diagonal it
serves both at once, which halves the work of computing distances; on the diagonal it is complete
already. All loops run over tiles that fit a core's cache.

Importing this module imports numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["chebyshev_tile", "count_tile", "exact_pairs", "order_rows", "select_tile", "settle"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

# Columns looked at together; a tile's buffer is a multiple of it wide, padded with infinity.
CHUNK = 32


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]  # numba ships no types
def chebyshev_tile(x: Any, columns: Any, i0: int, rows: int, j0: int, cols: int, out: Any) -> None:
    """Write Chebyshev distances, in float64, of `rows` rows of x to `cols` columns of x.T."""
    for b in range(rows):
        row = out[b]
        row[:cols] = 0.0
        for t in range(len(columns)):
            q = np.float64(x[i0 + b, t])
            column = columns[t, j0 : j0 + cols]
            for j in range(cols):
                row[j] = max(row[j], abs(q - np.float64(column[j])))


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _keep(v: Any, who: int, best: Any, index: Any) -> Any:
    m = len(best) - 1
    while m > 0 and best[m - 1] > v:
        best[m] = best[m - 1]
        index[m] = index[m - 1]
        m -= 1
    best[m] = v
    index[m] = who
    return best[len(best) - 1]


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})  # type: ignore[untyped-decorator]
def select_tile(
    tile: Any, i0: int, rows: int, j0: int, cols: int, values: Any, who: Int, worst: Any
) -> None:
    """Keep the smallest distances of each row, and off the diagonal of each column, ascending."""
    both = i0 != j0
    for b in range(rows):
        i = i0 + b
        bound = worst[i]
        row = tile[b]
        for begin in range(0, cols, CHUNK):
            hits = np.float32(0.0)
            if both:
                limits = worst[j0 + begin : j0 + begin + CHUNK]
                for j in range(CHUNK):
                    hits += np.float32(row[begin + j] < max(bound, limits[j]))
            else:
                for j in range(CHUNK):
                    hits += np.float32(row[begin + j] < bound)
            if hits == 0:
                continue
            for j in range(begin, begin + CHUNK):
                v = row[j]
                if v < bound:
                    bound = _keep(v, j0 + j, values[i], who[i])
                if both and v < worst[j0 + j]:
                    worst[j0 + j] = _keep(v, i, values[j0 + j], who[j0 + j])
        worst[i] = bound


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})  # type: ignore[untyped-decorator]
def count_tile(
    tile: Any, i0: int, rows: int, j0: int, cols: int, low: Any, high: Any, counts: Int, pairs: Int
) -> int:
    """Add the entries below `low` to the counts of rows (and columns); list those up to `high`.

    Returns how many are undecided; `pairs`, if too short for all of them, takes the first.
    """
    one, none = np.float32(1.0), np.float32(0.0)
    both = i0 != j0
    lows, highs = low[j0 : j0 + cols], high[j0 : j0 + cols]
    below, reach = np.zeros(cols, dtype=np.float32), np.zeros(cols, dtype=np.float32)
    found = 0
    for b in range(rows):
        i = i0 + b
        lo, hi = low[i], high[i]
        row = tile[b]
        # Counted as floats, exact up to 2^24: comparisons and sums then share a vector width.
        inside, within = none, none
        for j in range(cols):
            inside += one if row[j] < lo else none
            within += one if row[j] <= hi else none
        counts[i] += np.int64(inside)
        if within > inside:
            for j in range(cols):
                if row[j] >= lo and row[j] <= hi:
                    if found < len(pairs):
                        pairs[found, 0], pairs[found, 1] = i, j0 + j
                    found += 1
        if both:
            for j in range(cols):
                below[j] += one if row[j] < lows[j] else none
            for j in range(cols):
                reach[j] += one if row[j] <= highs[j] else none
    if both:
        for j in range(cols):
            counts[j0 + j] += np.int64(below[j])
            if reach[j] > below[j]:
                for b in range(rows):
                    if tile[b, j] >= lows[j] and tile[b, j] <= highs[j]:
                        if found < len(pairs):
                            pairs[found, 0], pairs[found, 1] = j0 + j, i0 + b
                        found += 1
    return found


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def exact_pair(x: Any, i: int, j: int, squared: bool) -> float:
    """Distance of two rows in float64, coordinate by coordinate from left to right."""
    total = 0.0
    if squared:
        for t in range(x.shape[1]):
            v = np.float64(x[i, t]) - np.float64(x[j, t])
            total += v * v
    else:
        for t in range(x.shape[1]):
            total = max(total, abs(np.float64(x[i, t]) - np.float64(x[j, t])))
    return total


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def exact_pairs(x: Any, pairs: Any, squared: bool, out: Float) -> None:
    """Maximise the distances of row pairs into `out`."""
    for p in range(len(pairs)):
        out[p] = max(out[p], exact_pair(x, pairs[p, 0], pairs[p, 1], squared))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def settle(distances: Float, pairs: Int, limit: Float, counts: Int) -> None:
    """Add pairs whose exact distance is below the limit of their first row."""
    for p in range(len(pairs)):
        i = pairs[p, 0]
        counts[i] += distances[p] < limit[i]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def order_rows(exact: Float, who: Int, low: int, high: int, distances: Float, indices: Int) -> None:
    """Write the smallest entries of each row, ascending by distance and then by index."""
    k = distances.shape[1]
    for i in range(low, high):
        for m in range(k):
            distances[i, m] = np.inf
            indices[i, m] = 0
        for j in range(exact.shape[1]):
            v, w = exact[i, j], who[i, j]
            m = k - 1
            if v > distances[i, m] or (v == distances[i, m] and w > indices[i, m]):
                continue
            while m > 0 and (
                v < distances[i, m - 1] or (v == distances[i, m - 1] and w < indices[i, m - 1])
            ):
                distances[i, m] = distances[i, m - 1]
                indices[i, m] = indices[i, m - 1]
                m -= 1
            distances[i, m] = v
            indices[i, m] = w
