"""A compiled k-d tree: exact nearest neighbours and strict range counts, every point a query.

Distances are the maximum over *spaces* (runs of coordinates) of either the largest coordinate
difference or the squared Euclidean distance within the space. Neighbour search and range count
compute them by the same operations in the same order, so that the k-th neighbour's distance and
the radius compared with it are the same float: a strict count is exactly strict, at any scale.

Importing this module imports numba; `estimators._neighbours` does so when it first needs a tree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["KDTree"]

# Leaves hold LEAF / 2 to LEAF points; LEAF_MAX bounds them whatever the rounding. Loops over the
# points of a leaf vectorise and those over leaves do not: twice as fast as leaves of 16 to 32.
LEAF = 128
LEAF_MAX = 160
_STACK = 128

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]  # numba ships no types
def _quickselect(values: Float, order: Int, low: int, high: int, nth: int) -> None:
    """Arrange order[low:high] so that its nth entry is in place by `values`, smaller before it."""
    left, right = low, high - 1
    while right > left:
        middle = (left + right) // 2
        # Median of three as pivot: sorted input stays fast.
        if values[order[middle]] < values[order[left]]:
            order[left], order[middle] = order[middle], order[left]
        if values[order[right]] < values[order[left]]:
            order[left], order[right] = order[right], order[left]
        if values[order[right]] < values[order[middle]]:
            order[middle], order[right] = order[right], order[middle]
        pivot = values[order[middle]]
        i, j = left, right
        while i <= j:
            while values[order[i]] < pivot:
                i += 1
            while values[order[j]] > pivot:
                j -= 1
            if i <= j:
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if nth <= j:
            right = j
        elif nth >= i:
            left = i
        else:
            return


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _build(columns: Float, levels: int) -> tuple[Int, Int, Int, Float, Float]:
    """Split at medians of the widest coordinate; node i has children 2i + 1 and 2i + 2."""
    d, n = columns.shape
    nodes = 2 ** (levels + 1) - 1
    order = np.arange(n)
    start = np.zeros(nodes, dtype=np.int64)
    end = np.zeros(nodes, dtype=np.int64)
    low = np.empty((nodes, d))
    high = np.empty((nodes, d))
    end[0] = n
    first_leaf = 2**levels - 1
    for node in range(nodes):
        s, e = start[node], end[node]
        widest, extent = 0, -1.0
        for t in range(d):
            a = np.inf
            b = -np.inf
            for i in range(s, e):
                v = columns[t, order[i]]
                a = min(a, v)
                b = max(b, v)
            low[node, t] = a
            high[node, t] = b
            if b - a > extent:
                widest, extent = t, b - a
        if node < first_leaf:
            middle = (s + e) // 2
            _quickselect(columns[widest], order, s, e, middle)
            start[2 * node + 1], end[2 * node + 1] = s, middle
            start[2 * node + 2], end[2 * node + 2] = middle, e
    return order, start, end, low, high


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _leaf_distances(
    columns: Float, q: Float, begin: int, size: int, offsets: Int, squared: bool, out: Float
) -> None:
    """Distances of point q to the `size` points from `begin` on; loops along points vectorise."""
    for j in range(size):
        out[j] = 0.0
    if not squared:
        for t in range(len(q)):
            qt = q[t]
            column = columns[t, begin : begin + size]
            for j in range(size):
                out[j] = max(out[j], abs(qt - column[j]))
        return
    total = out[LEAF_MAX:]
    for s in range(len(offsets) - 1):
        for j in range(size):
            total[j] = 0.0
        for t in range(offsets[s], offsets[s + 1]):
            qt = q[t]
            column = columns[t, begin : begin + size]
            for j in range(size):
                v = qt - column[j]
                total[j] += v * v
        for j in range(size):
            out[j] = max(out[j], total[j])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _box_distances(
    q: Float, lows: Float, highs: Float, count: int, offsets: Int, squared: bool, out: Float
) -> None:
    """Least distances of a point to boxes; rounding is monotone, so no nearer point is missed."""
    for p in range(count):
        out[p] = 0.0
    if not squared:
        for t in range(len(q)):
            qt = q[t]
            low, high = lows[t, :count], highs[t, :count]
            for p in range(count):
                out[p] = max(out[p], max(low[p] - qt, qt - high[p]))
        return
    total = out[len(out) // 2 :]
    for s in range(len(offsets) - 1):
        for p in range(count):
            total[p] = 0.0
        for t in range(offsets[s], offsets[s + 1]):
            qt = q[t]
            low, high = lows[t, :count], highs[t, :count]
            for p in range(count):
                v = max(0.0, max(low[p] - qt, qt - high[p]))
                total[p] += v * v
        for p in range(count):
            out[p] = max(out[p], total[p])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _box_farthest(
    q: Float, low: Float, high: Float, node: int, offsets: Int, squared: bool
) -> float:
    worst = 0.0
    for s in range(len(offsets) - 1):
        total = 0.0
        for t in range(offsets[s], offsets[s + 1]):
            v = max(high[node, t] - q[t], q[t] - low[node, t])
            total = total + v * v if squared else max(total, v)
        worst = max(worst, total)
    return worst


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _box_gap(a: int, b: int, low: Float, high: Float, offsets: Int, squared: bool) -> float:
    """Least distance between two boxes."""
    worst = 0.0
    for s in range(len(offsets) - 1):
        total = 0.0
        for t in range(offsets[s], offsets[s + 1]):
            v = max(0.0, max(low[a, t] - high[b, t], low[b, t] - high[a, t]))
            total = total + v * v if squared else max(total, v)
        worst = max(worst, total)
    return worst


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _leaves_near(
    leaf: int,
    reach: float,
    low: Float,
    high: Float,
    offsets: Int,
    squared: bool,
    stack: Int,
    near: Int,
    lows: Float,
    highs: Float,
) -> int:
    """List the leaves whose box is within `reach` of this leaf's, and copy their boxes."""
    first_leaf = len(low) // 2
    found = 0
    stack[0] = 0
    depth = 1
    while depth > 0:
        depth -= 1
        here = stack[depth]
        if _box_gap(leaf, here, low, high, offsets, squared) > reach:
            continue
        if here < first_leaf:
            stack[depth] = 2 * here + 1
            stack[depth + 1] = 2 * here + 2
            depth += 2
        else:
            near[found] = here
            for t in range(low.shape[1]):
                lows[t, found] = low[here, t]
                highs[t, found] = high[here, t]
            found += 1
    return found


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _insert(found: Float, size: int, begin: int, k: int, best: Float, who: Int) -> None:
    """Merge a leaf's distances into the k smallest so far."""
    for j in range(size):
        v = found[j]
        if v < best[k - 1]:
            m = k - 1
            while m > 0 and best[m - 1] > v:
                best[m] = best[m - 1]
                who[m] = who[m - 1]
                m -= 1
            best[m] = v
            who[m] = begin + j


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _nearest(
    columns: Float,
    start: Int,
    end: Int,
    low: Float,
    high: Float,
    offsets: Int,
    squared: bool,
    k: int,
    leaf_from: int,
    leaf_to: int,
    distances: Float,
    indices: Int,
) -> None:
    """Fill the k nearest of every point in the given leaves.

    One descent serves a whole leaf: its own points and its sibling's bound the reach, and every
    leaf within reach of the box is looked at by each point whose own bound it meets.
    """
    first_leaf = len(start) // 2
    leaves = len(start) - first_leaf
    stack = np.empty(_STACK, dtype=np.int64)
    near = np.empty(leaves, dtype=np.int64)
    lows, highs = np.empty((len(columns), leaves)), np.empty((len(columns), leaves))
    gaps = np.empty(2 * leaves)
    q = np.empty(len(columns))
    found = np.empty(2 * LEAF_MAX)
    for leaf in range(leaf_from, leaf_to):
        begin = start[leaf]
        sibling = leaf
        if leaf > 0:
            sibling = leaf + 1 if leaf % 2 == 1 else leaf - 1
        reach = 0.0
        for i in range(begin, end[leaf]):
            best, who = distances[i], indices[i]
            for m in range(k):
                best[m] = np.inf
                who[m] = -1
            for t in range(len(q)):
                q[t] = columns[t, i]
            for turn in range(1 if sibling == leaf else 2):
                here = leaf if turn == 0 else sibling
                size = end[here] - start[here]
                _leaf_distances(columns, q, start[here], size, offsets, squared, found)
                if turn == 0:
                    found[i - begin] = np.inf
                _insert(found, size, start[here], k, best, who)
            reach = max(reach, best[k - 1])
        count = _leaves_near(leaf, reach, low, high, offsets, squared, stack, near, lows, highs)
        for i in range(begin, end[leaf]):
            best, who = distances[i], indices[i]
            for t in range(len(q)):
                q[t] = columns[t, i]
            _box_distances(q, lows, highs, count, offsets, squared, gaps)
            # The nearest box first: it brings the bound down for all others.
            first, least = -1, np.inf
            for p in range(count):
                if near[p] == leaf or near[p] == sibling:
                    gaps[p] = np.inf
                elif gaps[p] < least:
                    first, least = p, gaps[p]
            for p in range(-1, count):
                here = p if p >= 0 else first
                if here < 0 or gaps[here] >= best[k - 1]:
                    continue
                other = start[near[here]]
                others = end[near[here]] - other
                _leaf_distances(columns, q, other, others, offsets, squared, found)
                _insert(found, others, other, k, best, who)
                gaps[here] = np.inf


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _count(
    columns: Float,
    start: Int,
    end: Int,
    low: Float,
    high: Float,
    offsets: Int,
    squared: bool,
    limit: Float,
    leaf_from: int,
    leaf_to: int,
    counts: Int,
) -> None:
    """Count other points nearer to each point than its limit."""
    leaves = len(start) - len(start) // 2
    stack = np.empty(_STACK, dtype=np.int64)
    near = np.empty(leaves, dtype=np.int64)
    lows, highs = np.empty((len(columns), leaves)), np.empty((len(columns), leaves))
    gaps = np.empty(2 * leaves)
    q = np.empty(len(columns))
    found = np.empty(2 * LEAF_MAX)
    for leaf in range(leaf_from, leaf_to):
        reach = 0.0
        for i in range(start[leaf], end[leaf]):
            reach = max(reach, limit[i])
        count = _leaves_near(leaf, reach, low, high, offsets, squared, stack, near, lows, highs)
        for i in range(start[leaf], end[leaf]):
            for t in range(len(q)):
                q[t] = columns[t, i]
            r = limit[i]
            _box_distances(q, lows, highs, count, offsets, squared, gaps)
            total = 0
            for p in range(count):
                if gaps[p] >= r:
                    continue
                here = near[p]
                begin = start[here]
                size = end[here] - begin
                if _box_farthest(q, low, high, here, offsets, squared) < r:
                    total += size
                    continue
                _leaf_distances(columns, q, begin, size, offsets, squared, found)
                inside = 0
                for j in range(size):
                    inside += found[j] < r
                total += inside
            if r > 0:
                total -= 1  # the point itself
            counts[i] = total


class KDTree:
    """A tree over the rows of `x`; its coordinates offsets[s] to offsets[s + 1] form space s."""

    def __init__(self, x: Float, offsets: Int, *, squared: bool) -> None:
        n = len(x)
        levels = max(0, int(np.ceil(np.log2(max(n, 1) / LEAF))))
        columns = np.ascontiguousarray(x.T)
        self.order, self.start, self.end, self.low, self.high = _build(columns, levels)
        self.columns = np.ascontiguousarray(columns[:, self.order])
        self.offsets = offsets
        self.squared = squared
        self.leaves = (2**levels - 1, 2 ** (levels + 1) - 1)

    def nearest(self, k: int, run: Any) -> tuple[Float, Int]:
        """Return distances (n, k), ascending, and indices (n, k) in the order of the rows of x."""
        n = len(self.order)
        distances, indices = np.empty((n, k)), np.empty((n, k), dtype=np.int64)

        def part(low: int, high: int) -> None:
            _nearest(
                self.columns, self.start, self.end, self.low, self.high, self.offsets,
                self.squared, k, low, high, distances, indices,
            )  # fmt: skip

        run(part, *self.leaves)
        out_d, out_i = np.empty_like(distances), np.empty_like(indices)
        out_d[self.order] = distances
        out_i[self.order] = self.order[indices]
        return out_d, out_i

    def count(self, limit: Float, run: Any) -> Int:
        """Return the number of other rows nearer to each row than its limit."""
        counts = np.empty(len(self.order), dtype=np.int64)
        own = limit[self.order]

        def part(low: int, high: int) -> None:
            _count(
                self.columns, self.start, self.end, self.low, self.high, self.offsets,
                self.squared, own, low, high, counts,
            )  # fmt: skip

        run(part, *self.leaves)
        out = np.empty_like(counts)
        out[self.order] = counts
        return out
