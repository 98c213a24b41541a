"""Exact neighbours by blocked brute force: float32 matrix products propose, float64 decides.

A block of rows meets all rows in one matrix product per space. The product's float32 squared
distances carry a known rounding error, so k + 17 candidates are kept and ranked again in float64
from differences, a row whose candidates could have missed a neighbour is done again in full, and
counts near the radius are decided in float64. What comes out equals a float64 computation; only
the time does not. Chebyshev distances are computed in float64 throughout.

Importing this module imports numba.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numba import njit

from estimators._arrays import FloatArray

if TYPE_CHECKING:
    from estimators._neighbours import Job

__all__ = ["Blocks", "count_within", "search"]

EXTRA = 17
BLOCK_BYTES = 24 * 2**20

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]  # numba ships no types
def _select(block: Any, values: Any, who: Int) -> None:
    """Keep the smallest entries of each row of `block`, ascending, and where they were."""
    rows, n = block.shape
    c = values.shape[1]
    for b in range(rows):
        best = values[b]
        index = who[b]
        for m in range(c):
            best[m] = np.inf
            index[m] = 0
        worst = best[c - 1]
        row = block[b]
        for begin in range(0, n, 64):
            stop = min(begin + 64, n)
            hit = 0
            for j in range(begin, stop):
                hit += row[j] < worst
            if hit == 0:
                continue
            for j in range(begin, stop):
                v = row[j]
                if v < best[c - 1]:
                    m = c - 1
                    while m > 0 and best[m - 1] > v:
                        best[m] = best[m - 1]
                        index[m] = index[m - 1]
                        m -= 1
                    best[m] = v
                    index[m] = j
            worst = best[c - 1]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _exact_pairs(x: Any, i: Int, j: Int, squared: bool, out: Float) -> None:
    """Distances of row pairs in float64, maximised into `out`."""
    for p in range(len(i)):
        a, b = x[i[p]], x[j[p]]
        total = 0.0
        if squared:
            for t in range(len(a)):
                v = np.float64(a[t]) - np.float64(b[t])
                total += v * v
        else:
            for t in range(len(a)):
                total = max(total, abs(np.float64(a[t]) - np.float64(b[t])))
        out[p] = max(out[p], total)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _count(block: Any, low: Any, high: Any, counts: Int) -> tuple[Int, Int]:
    """Count entries below `low` in each row; return the places of those between low and high."""
    rows, n = block.shape
    undecided = 0
    band = np.empty(rows, dtype=np.int64)
    for b in range(rows):
        row = block[b]
        lo, hi = low[b], high[b]
        inside, reach = 0, 0
        for j in range(n):
            inside += row[j] < lo
            reach += row[j] <= hi
        counts[b] = inside
        band[b] = reach - inside
        undecided += reach - inside
    who = np.empty(undecided, dtype=np.int64)
    where = np.empty(undecided, dtype=np.int64)
    p = 0
    for b in range(rows):
        if band[b] == 0:
            continue
        row = block[b]
        for j in range(n):
            if row[j] >= low[b] and row[j] <= high[b]:
                who[p] = b
                where[p] = j
                p += 1
    return who, where


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _chebyshev(rows: Any, columns: Any, out: Float) -> None:
    for b in range(len(rows)):
        row = out[b]
        row[:] = 0.0
        for t in range(len(columns)):
            q = np.float64(rows[b, t])
            column = columns[t]
            for j in range(len(column)):
                row[j] = max(row[j], abs(q - np.float64(column[j])))


class Blocks:
    """Row blocks of the distance matrices of several spaces over the same n samples."""

    def __init__(self, spaces: Sequence[FloatArray], *, squared: bool) -> None:
        self.spaces = list(spaces)
        self.squared = squared
        self.n = len(spaces[0])
        self.dtype: Any = np.float32 if squared else np.float64
        if squared:
            prepared = [_products(x) for x in self.spaces]
            self.left = [left for left, _, _ in prepared]
            self.right = [right for _, right, _ in prepared]
            self.error = [error for _, _, error in prepared]
        else:
            self.right = [np.ascontiguousarray(x.T) for x in self.spaces]
            self.error = [np.zeros(self.n) for _ in self.spaces]
        width = len(self.spaces) * self.n * np.dtype(self.dtype).itemsize
        self.rows = int(np.clip(BLOCK_BYTES // max(width, 1), 16, 512))

    def fill(self, s: int, start: int, stop: int, out: npt.NDArray[Any]) -> None:
        """Write the distances of rows start..stop in space s to `out`; to themselves, infinity."""
        if self.squared:
            np.matmul(self.left[s][start:stop], self.right[s], out=out)
        else:
            _chebyshev(self.spaces[s][start:stop], self.right[s], out)
        own = np.arange(start, stop)
        out[own - start, own] = np.inf

    def exact(self, members: Sequence[int], i: Int, j: Int) -> Float:
        """Float64 distances of row pairs (i, j), the maximum over the member spaces."""
        out = np.zeros(len(i))
        for s in members:
            _exact_pairs(self.spaces[s], i, j, self.squared, out)
        return out

    def tolerance(self, members: Sequence[int], start: int, stop: int) -> Float:
        """Largest rounding error of a filled distance, per row."""
        return np.asarray(np.max([self.error[s][start:stop] for s in members], axis=0))


def _products(
    x: FloatArray,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Float]:
    """Factors whose float32 product is the squared distance, and a bound on its error.

    Rows are centred in float64 first: with a mean far from 0 the product would lose every digit.
    """
    d = x.shape[1]
    moved = np.ascontiguousarray(x - x.mean(axis=0, dtype=np.float64), dtype=np.float32)
    norms = np.einsum("ij,ij->i", moved, moved, dtype=np.float64)
    left = np.empty((len(x), d + 2), dtype=np.float32)
    left[:, :d] = moved
    left[:, d] = norms
    left[:, d + 1] = 1.0
    right = np.empty((d + 2, len(x)), dtype=np.float32)
    np.multiply(moved.T, -2.0, out=right[:d])
    right[d] = 1.0
    right[d + 1] = norms
    # Rounding of inputs, of norms and of a sum of d products; errors of a sum grow like sqrt(d)
    # with a constant that is far below 4 in practice (Higham and Mary 2019).
    unit = 2.0**-24
    error = unit * (8.0 + 4.0 * np.sqrt(d)) * (norms + norms.max(initial=0.0))
    return left, right, error


def _joined(buffer: npt.NDArray[Any], members: Sequence[int], scratch: npt.NDArray[Any]) -> Any:
    if len(members) == 1:
        return buffer[members[0]]
    np.maximum(buffer[members[0]], buffer[members[1]], out=scratch)
    for s in members[2:]:
        np.maximum(scratch, buffer[s], out=scratch)
    return scratch


def search(
    blocks: Blocks, jobs: Sequence[Job], k: int, *, closed: bool, run: Callable[..., None]
) -> list[tuple[Float, Int, list[Int]]]:
    """Return for each job the k distances, the k indices, and one array of counts per subset."""
    n = blocks.n
    out: list[tuple[Float, Int, list[Int]]] = [
        (
            np.empty((n, k)),
            np.empty((n, k), dtype=np.int64),
            [np.empty(n, dtype=np.int64) for _ in job.counts],
        )
        for job in jobs
    ]
    needed = sorted({s for job in jobs for s in (*job.joint, *(c for g in job.counts for c in g))})

    def part(first: int, last: int) -> None:
        size = min(blocks.rows, last - first)
        buffer = np.empty((len(blocks.spaces), size, n), dtype=blocks.dtype)
        scratch = np.empty((size, n), dtype=blocks.dtype)
        for start in range(first, last, size):
            stop = min(start + size, last)
            used = buffer[:, : stop - start]
            for s in needed:
                blocks.fill(s, start, stop, used[s])
            for job, (distances, indices, counts) in zip(jobs, out, strict=True):
                joint = _joined(used, job.joint, scratch[: stop - start])
                d, i = _nearest_of_block(blocks, job.joint, joint, start, stop, k)
                distances[start:stop], indices[start:stop] = d, i
                for members, into in zip(job.counts, counts, strict=True):
                    block = _joined(used, members, scratch[: stop - start])
                    into[start:stop] = _counts_of_block(
                        blocks, members, block, d[:, -1], start, stop, closed
                    )

    run(part, 0, n)
    return out


def count_within(
    blocks: Blocks, members: Sequence[int], radius: Float, *, closed: bool, run: Callable[..., None]
) -> Int:
    """Return how many other rows lie within `radius` of each row, over the member spaces."""
    n = blocks.n
    counts = np.empty(n, dtype=np.int64)

    def part(first: int, last: int) -> None:
        size = min(blocks.rows, last - first)
        buffer = np.empty((len(blocks.spaces), size, n), dtype=blocks.dtype)
        scratch = np.empty((size, n), dtype=blocks.dtype)
        for start in range(first, last, size):
            stop = min(start + size, last)
            for s in members:
                blocks.fill(s, start, stop, buffer[s, : stop - start])
            block = _joined(buffer[:, : stop - start], members, scratch[: stop - start])
            counts[start:stop] = _counts_of_block(
                blocks, members, block, radius[start:stop], start, stop, closed
            )

    run(part, 0, n)
    return counts


def _nearest_of_block(
    blocks: Blocks, members: Sequence[int], joint: Any, start: int, stop: int, k: int
) -> tuple[Float, Int]:
    rows, n = stop - start, blocks.n
    c = min(k + EXTRA, n - 1) if blocks.squared else k
    values = np.empty((rows, c), dtype=blocks.dtype)
    who = np.empty((rows, c), dtype=np.int64)
    _select(joint, values, who)
    if not blocks.squared:
        return values, who
    slack = blocks.tolerance(members, start, stop)
    # A candidate this far beyond the k-th cannot come before it, whatever the rounding.
    near_b, near_c = np.nonzero(values <= (values[:, k - 1] + 2.0 * slack)[:, None])
    exact = np.full((rows, c), np.inf)
    exact[near_b, near_c] = blocks.exact(members, near_b + start, who[near_b, near_c])
    order = np.argsort(exact, axis=1, kind="stable")[:, :k]
    d, i = np.take_along_axis(exact, order, axis=1), np.take_along_axis(who, order, axis=1)
    if c < n - 1:
        # Whatever was not a candidate is at least this far, up to rounding.
        beyond = values[:, -1].astype(np.float64) - slack
        for b in np.flatnonzero(d[:, -1] > beyond):
            everyone = np.delete(np.arange(n), start + b)
            full = blocks.exact(members, np.full(n - 1, start + b), everyone)
            nearest = np.argpartition(full, k - 1)[:k]
            nearest = nearest[np.argsort(full[nearest], kind="stable")]
            d[b], i[b] = full[nearest], everyone[nearest]
    return d, i


def _counts_of_block(
    blocks: Blocks,
    members: Sequence[int],
    block: Any,
    radius: Float,
    start: int,
    stop: int,
    closed: bool,
) -> Int:
    counts = np.empty(stop - start, dtype=np.int64)
    if not blocks.squared:
        # Exact already: a closed count is a strict one at the next float up.
        limit = np.nextafter(radius, np.inf) if closed else radius
        _count(block, limit, np.nextafter(limit, -np.inf), counts)
        return counts
    slack = blocks.tolerance(members, start, stop)
    low = np.nextafter((radius - slack).astype(np.float32), np.float32(-np.inf))
    high = np.nextafter((radius + slack).astype(np.float32), np.float32(np.inf))
    rows, columns = _count(block, low, high, counts)
    if len(rows):
        r = radius[rows]
        exact = blocks.exact(members, rows + start, columns)
        inside = exact <= r if closed else exact < r
        counts += np.bincount(rows[inside], minlength=stop - start)
    return counts
