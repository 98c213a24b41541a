"""Neighbours of two scalars: strips of equal size along one, sorted by the other within each.

A query walks outwards from its own place in its strip, then through the strips to either side,
for as long as the gap alone leaves room for a nearer point. Range counts on a line start from a
guess (a table of equal bins) and correct it by the very comparison that defines them, so the guess
decides the time and never the count. Distances are computed as everywhere: the radius is the float
that is compared.

Importing this module imports numba.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["count_line", "nearest_plane"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

# A strip about as wide as the distance to the k-th neighbour is cheapest; measured for k = 1..10.
STRIP = 1.5


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]  # numba ships no types
def _strips(x: Float, y: Float, by_x: Int, by_y: Int, size: int) -> tuple[Int, Float, Float, Float]:
    """Lay points out strip by strip along x, ascending in y within each; and the strips' edges."""
    n = len(x)
    count = (n + size - 1) // size
    strip = np.empty(n, dtype=np.int64)
    edges = np.empty((2, count))
    for s in range(count):
        first, last = s * size, min((s + 1) * size, n)
        for r in range(first, last):
            strip[by_x[r]] = s
        edges[0, s] = x[by_x[first]]
        edges[1, s] = x[by_x[last - 1]]
    place = np.arange(count) * size
    order = np.empty(n, dtype=np.int64)
    px, py = np.empty(n), np.empty(n)
    for r in range(n):
        i = by_y[r]
        p = place[strip[i]]
        place[strip[i]] = p + 1
        order[p] = i
        px[p] = x[i]
        py[p] = y[i]
    return order, px, py, edges


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _insert(v: float, who: int, k: int, best: Float, index: Int) -> None:
    m = k - 1
    while m > 0 and best[m - 1] > v:
        best[m] = best[m - 1]
        index[m] = index[m - 1]
        m -= 1
    best[m] = v
    index[m] = who


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _walk(
    px: Float, py: Float, qx: float, qy: float, up: int, down: int, first: int, last: int,
    k: int, best: Float, index: Int,
) -> None:  # fmt: skip
    """Look at the strip's points from `up` upwards and from `down` downwards."""
    while up < last:
        dy = py[up] - qy
        if dy >= best[k - 1]:
            break
        dx = abs(px[up] - qx)
        v = max(dx, dy)
        if v < best[k - 1]:
            _insert(v, up, k, best, index)
        up += 1
    while down >= first:
        dy = qy - py[down]
        if dy >= best[k - 1]:
            break
        dx = abs(px[down] - qx)
        v = max(dx, dy)
        if v < best[k - 1]:
            _insert(v, down, k, best, index)
        down -= 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _from(py: Float, qy: float, hint: int, first: int, last: int) -> int:
    """First place in the strip whose y is at least qy: gallop up from a hint that is not above."""
    below, step = hint - 1, 1
    while below + step < last and py[below + step] < qy:
        below += step
        step *= 2
    above = min(below + step, last)
    while above - below > 1:
        middle = (below + above) // 2
        if py[middle] < qy:
            below = middle
        else:
            above = middle
    return max(above, first)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _nearest(
    order: Int, px: Float, py: Float, edges: Float, size: int, k: int,
    strip_from: int, strip_to: int, distances: Float, indices: Int,
) -> None:  # fmt: skip
    """Fill the k nearest of the points of the given strips, in the rows of the samples."""
    n = len(px)
    count = edges.shape[1]
    hint = np.empty(count, dtype=np.int64)
    best = np.empty(k)
    index = np.empty(k, dtype=np.int64)
    for s in range(strip_from, strip_to):
        for t in range(count):
            hint[t] = t * size
        first, last = s * size, min((s + 1) * size, n)
        for p in range(first, last):
            qx, qy = px[p], py[p]
            for m in range(k):
                best[m] = np.inf
            _walk(px, py, qx, qy, p + 1, p - 1, first, last, k, best, index)
            for side in range(2):
                t = s + 1 if side == 0 else s - 1
                while 0 <= t < count:
                    gap = edges[0, t] - qx if side == 0 else qx - edges[1, t]
                    if gap >= best[k - 1]:
                        break
                    begin, end = t * size, min((t + 1) * size, n)
                    at = _from(py, qy, hint[t], begin, end)
                    hint[t] = at
                    _walk(px, py, qx, qy, at, at - 1, begin, end, k, best, index)
                    t = t + 1 if side == 0 else t - 1
            row = order[p]
            for m in range(k):
                distances[row, m] = best[m]
                indices[row, m] = order[index[m]]


def _layout(x: Float, y: Float, size: int) -> tuple[Int, Float, Float, Float]:
    by_x, by_y = np.argsort(x), np.argsort(y)
    ordered = x[by_x]
    if size < len(x) and bool((ordered[size:] == ordered[:-size]).any()):
        # An atom of x fills whole strips: tell them apart by y.
        by_x = np.lexsort((y, x))
    out: tuple[Int, Float, Float, Float] = _strips(x, y, by_x, by_y, size)
    return out


def nearest_plane(
    x: Float, y: Float, k: int, *, squared: bool, run: Callable[..., None]
) -> tuple[Float, Int]:
    """Return distances (n, k), ascending, and indices (n, k) of the k nearest in max-norm."""
    n = len(x)
    size = int(np.clip(STRIP * np.sqrt(n * k), 8, n))
    order, px, py, edges = _layout(x, y, size)
    distances, indices = np.empty((n, k)), np.empty((n, k), dtype=np.int64)

    def part(low: int, high: int) -> None:
        _nearest(order, px, py, edges, size, k, low, high, distances, indices)

    run(part, 0, edges.shape[1])
    return (distances * distances if squared else distances), indices


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _bins(ordered: Float) -> tuple[Int, float]:
    """Where each of n equal bins begins in the ascending values, and bins per unit."""
    n = len(ordered)
    first = np.empty(n + 1, dtype=np.int64)
    extent = ordered[n - 1] - ordered[0]
    scale = n / extent if extent > 0 else 0.0
    if not np.isfinite(scale):
        scale = 0.0
    b = 0
    for i in range(n):
        here = min(int((ordered[i] - ordered[0]) * scale), n - 1)
        while b <= here:
            first[b] = i
            b += 1
    while b <= n:
        first[b] = n
        b += 1
    return first, scale


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _guess(v: float, ordered: Float, first: Int, scale: float) -> int:
    at = (v - ordered[0]) * scale
    if not at > 0:
        return 0
    return int(min(first[int(min(at, len(ordered) - 1.0))], len(ordered) - 1))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _beyond(v: float, q: float, r: float, squared: bool, way: int) -> bool:
    """Whether v lies on the given side of q and outside its radius."""
    d = v - q if way > 0 else q - v
    if d <= 0:
        return False
    d = d * d if squared else d
    return d >= r


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _edge(ordered: Float, at: int, q: float, r: float, squared: bool, way: int) -> int:
    """First place beyond the radius in direction `way`: gallop from a guess, then bisect."""
    n = len(ordered)
    inside = outside = at
    step = way
    if _beyond(ordered[at], q, r, squared, way):
        while True:
            inside = outside - step
            step *= 2
            if inside < 0 or inside >= n:
                inside = -1 if way > 0 else n
                break
            if not _beyond(ordered[inside], q, r, squared, way):
                break
            outside = inside
    else:
        while True:
            outside = inside + step
            step *= 2
            if outside < 0 or outside >= n:
                outside = n if way > 0 else -1
                break
            if _beyond(ordered[outside], q, r, squared, way):
                break
            inside = outside
    while abs(outside - inside) > 1:
        middle = (inside + outside) // 2
        if _beyond(ordered[middle], q, r, squared, way):
            outside = middle
        else:
            inside = middle
    return outside


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _count(
    ordered: Float, first: Int, scale: float, values: Float, limit: Float, squared: bool,
    low: int, high: int, counts: Int,
) -> None:  # fmt: skip
    for i in range(low, high):
        q, r = values[i], limit[i]
        if r <= 0:
            counts[i] = 0
            continue
        length = np.sqrt(r) if squared else r
        above = _guess(q + length, ordered, first, scale)
        below = _guess(q - length, ordered, first, scale)
        top = _edge(ordered, above, q, r, squared, 1)
        bottom = _edge(ordered, below, q, r, squared, -1)
        counts[i] = top - bottom - 2  # between them, without the point itself


def count_line(x: Float, limit: Float, *, squared: bool, run: Callable[..., None]) -> Int:
    """Return how many other values are nearer to each value than its limit."""
    ordered = np.sort(x)
    first, scale = _bins(ordered)
    counts = np.empty(len(x), dtype=np.int64)

    def part(low: int, high: int) -> None:
        _count(ordered, first, scale, x, limit, squared, low, high, counts)

    run(part, 0, len(x))
    return counts
