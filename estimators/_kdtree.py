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

__all__ = ["KDTree", "count_sorted"]

# Leaves hold LEAF / 2 to LEAF points; LEAF_MAX bounds them whatever the rounding.
LEAF = 48
LEAF_MAX = 64
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
def _box_nearest(q: Float, low: Float, high: Float, offsets: Int, squared: bool) -> float:
    """Least distance of a point to a box; rounding is monotone, so no nearer point is missed."""
    worst = 0.0
    if not squared:
        for t in range(len(q)):
            worst = max(worst, max(low[t] - q[t], q[t] - high[t]))
        return worst
    for s in range(len(offsets) - 1):
        total = 0.0
        for t in range(offsets[s], offsets[s + 1]):
            v = max(0.0, max(low[t] - q[t], q[t] - high[t]))
            total += v * v
        worst = max(worst, total)
    return worst


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _box_farthest(q: Float, low: Float, high: Float, offsets: Int, squared: bool) -> float:
    worst = 0.0
    if not squared:
        for t in range(len(q)):
            worst = max(worst, max(high[t] - q[t], q[t] - low[t]))
        return worst
    for s in range(len(offsets) - 1):
        total = 0.0
        for t in range(offsets[s], offsets[s + 1]):
            v = max(high[t] - q[t], q[t] - low[t])
            total += v * v
        worst = max(worst, total)
    return worst


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
    """Fill the k nearest of every point in the given leaves, by climbing from its own leaf."""
    first_leaf = len(start) // 2
    stack = np.empty(_STACK, dtype=np.int64)
    bound = np.empty(_STACK)
    best = np.empty(k)
    who = np.empty(k, dtype=np.int64)
    q = np.empty(len(columns))
    found = np.empty(2 * LEAF_MAX)
    for leaf in range(leaf_from, leaf_to):
        for i in range(start[leaf], end[leaf]):
            for t in range(len(q)):
                q[t] = columns[t, i]
            for m in range(k):
                best[m] = np.inf
                who[m] = -1
            node = leaf
            stack[0] = leaf
            bound[0] = -1.0
            depth = 1
            while True:
                while depth > 0:
                    depth -= 1
                    here = stack[depth]
                    if bound[depth] >= best[k - 1]:
                        continue
                    if here < first_leaf:
                        # The nearer child is looked at first, so it goes on the stack last.
                        one, two = 2 * here + 1, 2 * here + 2
                        a = _box_nearest(q, low[one], high[one], offsets, squared)
                        b = _box_nearest(q, low[two], high[two], offsets, squared)
                        if a < b:
                            one, two = two, one
                            a, b = b, a
                        if a < best[k - 1]:
                            stack[depth] = one
                            bound[depth] = a
                            depth += 1
                        if b < best[k - 1]:
                            stack[depth] = two
                            bound[depth] = b
                            depth += 1
                        continue
                    begin = start[here]
                    size = end[here] - begin
                    _leaf_distances(columns, q, begin, size, offsets, squared, found)
                    if here == leaf:
                        found[i - begin] = np.inf
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
                if node == 0:
                    break
                sibling = node + 1 if node % 2 == 1 else node - 1
                stack[0] = sibling
                bound[0] = _box_nearest(q, low[sibling], high[sibling], offsets, squared)
                depth = 1
                node = (node - 1) // 2
            for m in range(k):
                distances[i, m] = best[m]
                indices[i, m] = who[m]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _count(
    columns: Float,
    start: Int,
    end: Int,
    low: Float,
    high: Float,
    offsets: Int,
    squared: bool,
    radius: Float,
    closed: bool,
    leaf_from: int,
    leaf_to: int,
    counts: Int,
) -> None:
    """Count other points strictly within (or, closed, at most at) each point's radius."""
    first_leaf = len(start) // 2
    stack = np.empty(_STACK, dtype=np.int64)
    q = np.empty(len(columns))
    found = np.empty(2 * LEAF_MAX)
    for leaf in range(leaf_from, leaf_to):
        for i in range(start[leaf], end[leaf]):
            for t in range(len(q)):
                q[t] = columns[t, i]
            r = radius[i]
            total = 0
            stack[0] = 0
            depth = 1
            while depth > 0:
                depth -= 1
                here = stack[depth]
                nearest = _box_nearest(q, low[here], high[here], offsets, squared)
                if nearest > r or (nearest == r and not closed):
                    continue
                begin = start[here]
                size = end[here] - begin
                farthest = _box_farthest(q, low[here], high[here], offsets, squared)
                if farthest < r or (farthest == r and closed):
                    total += size
                elif here < first_leaf:
                    stack[depth] = 2 * here + 1
                    stack[depth + 1] = 2 * here + 2
                    depth += 2
                else:
                    _leaf_distances(columns, q, begin, size, offsets, squared, found)
                    if closed:
                        for j in range(size):
                            total += found[j] <= r
                    else:
                        for j in range(size):
                            total += found[j] < r
            if closed or r > 0:
                total -= 1  # the point itself
            counts[i] = total


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def count_sorted(
    ordered: Float, radius: Float, squared: bool, closed: bool, low: int, high: int, counts: Int
) -> None:
    """Range counts on a line: walk outwards in doubling steps, then bisect.

    `ordered` ascends and `radius` belongs to its entries; fills counts[low:high].
    """
    n = len(ordered)
    for i in range(low, high):
        q = ordered[i]
        r = radius[i]
        # first index not inside, on either side, by the same comparison as everywhere else
        inside, step = i, 1
        while True:
            probe = inside + step
            if probe >= n:
                outside = n
                break
            v = ordered[probe] - q
            v = v * v if squared else v
            if v < r or (closed and v == r):
                inside = probe
                step *= 2
            else:
                outside = probe
                break
        while outside - inside > 1:
            probe = (inside + outside) // 2
            v = ordered[probe] - q
            v = v * v if squared else v
            if v < r or (closed and v == r):
                inside = probe
            else:
                outside = probe
        above = inside - i
        inside, step = i, 1
        while True:
            probe = inside - step
            if probe < 0:
                outside = -1
                break
            v = q - ordered[probe]
            v = v * v if squared else v
            if v < r or (closed and v == r):
                inside = probe
                step *= 2
            else:
                outside = probe
                break
        while inside - outside > 1:
            probe = (inside + outside) // 2
            v = q - ordered[probe]
            v = v * v if squared else v
            if v < r or (closed and v == r):
                inside = probe
            else:
                outside = probe
        counts[i] = above + i - inside


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

    def count(self, radius: Float, *, closed: bool, run: Any) -> Int:
        """Return the number of other rows within `radius` of each row."""
        counts = np.empty(len(self.order), dtype=np.int64)
        sorted_radius = radius[self.order]

        def part(low: int, high: int) -> None:
            _count(
                self.columns, self.start, self.end, self.low, self.high, self.offsets,
                self.squared, sorted_radius, closed, low, high, counts,
            )  # fmt: skip

        run(part, *self.leaves)
        out = np.empty_like(counts)
        out[self.order] = counts
        return out
