"""Exact neighbours by brute force over square tiles: float32 products propose, float64 decides.

Each tile of the distance matrices is computed once and serves its rows and its columns. A tile's
float32 squared distances carry a known rounding error, so k + 5 candidates are kept and ranked
again in float64 from differences, a row whose last candidate could hide a nearer point is done
again, and counts near the radius are decided in float64. What comes out equals a float64
computation; only the time does not. Chebyshev distances are computed in float64 throughout.

Neighbours take one pass over the tiles and counts another, since the radius is known only then:
computing a tile again costs less than keeping n x n numbers, or than reading them back.

Importing this module imports numba.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from estimators import _tiles
from estimators._arrays import FloatArray
from estimators._jobs import EXTRA, Job, rounding, strict
from estimators._schedule import over_tiles

__all__ = ["Blocks", "count_within", "search"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Members = tuple[int, ...]
Run = Callable[[Callable[[int, int], Any], int, int], None]

# Rows and columns of a tile; two or three tiles fit a core's cache of 2 MiB.
TILE = {"float32": 384, "float64": 256}
# Tiles of the first pass kept for the second, where computing them costs more than memory does.
KEEP_BYTES = 2**28
KEEP_FROM = {"float32": 128, "float64": 8}
# Numbers in a row block of rows that are done again.
AGAIN = 2**22


class Blocks:
    """Tiles of the distance matrices of several spaces over the same n samples.

    With `twice`, tiles are kept for a second pass, where that pays, as far as the room goes.
    """

    def __init__(
        self, spaces: Sequence[FloatArray], *, squared: bool, workers: int, twice: bool = False
    ) -> None:
        self.spaces = list(spaces)
        self.squared = squared
        self.workers = workers
        self.n = len(spaces[0])
        self.dtype: Any = np.float32 if squared else np.float64
        self.factors = [_products(x) if squared else None for x in self.spaces]
        self.columns = [None if squared else np.ascontiguousarray(x.T) for x in self.spaces]
        share = -(-self.n // (4 * workers))  # enough tiles for every worker
        side = int(np.clip(share, _tiles.CHUNK, TILE[np.dtype(self.dtype).name]))
        self.tile = -(-side // _tiles.CHUNK) * _tiles.CHUNK
        self.kept: dict[tuple[int, int, int], npt.NDArray[Any]] = {}
        worth = KEEP_FROM[np.dtype(self.dtype).name]
        self.worth = {s for s, x in enumerate(self.spaces) if twice and x.shape[1] >= worth}
        across = -(-self.n // self.tile)
        room = KEEP_BYTES // (self.tile**2 * np.dtype(self.dtype).itemsize)
        # One large block, whose pages come into being as they are written.
        self.room = np.empty(
            (min(room, len(self.worth) * across * (across + 1) // 2), self.tile, self.tile),
            dtype=self.dtype,
        )
        self.free = iter(range(len(self.room)))

    def tile_of(self, s: int, i0: int, j0: int, out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a tile of space s, kept or computed; `out` is written only if it is not kept."""
        known = self.kept.get((s, i0, j0))
        if known is not None:
            return known
        place = next(self.free, None) if s in self.worth else None
        if place is not None:
            out = self.kept[s, i0, j0] = self.room[place]
        self.fill(s, i0, j0, out)
        return out

    def fill(self, s: int, i0: int, j0: int, out: npt.NDArray[Any]) -> None:
        """Write a tile of space s to `out`, infinity beyond the last sample and to itself."""
        rows, cols = min(self.tile, self.n - i0), min(self.tile, self.n - j0)
        factors = self.factors[s]
        if factors is not None:
            left, right, _ = factors
            np.matmul(left[i0 : i0 + rows], right[:, j0 : j0 + cols], out=out[:rows, :cols])
        else:
            _tiles.chebyshev_tile(self.spaces[s], self.columns[s], i0, rows, j0, cols, out)
        out[:rows, cols:] = np.inf
        if i0 == j0:
            np.fill_diagonal(out[:rows], np.inf)

    def exact(self, members: Members, pairs: Int, run: Run) -> Float:
        """Float64 distances of row pairs, the maximum over the member spaces."""
        out = np.zeros(len(pairs))

        def part(low: int, high: int) -> None:
            for s in members:
                _tiles.exact_pairs(self.spaces[s], pairs[low:high], self.squared, out[low:high])

        run(part, 0, len(pairs))
        return out

    def slack(self, members: Members, distance: Float) -> Float:
        """Rounding error of filled distances to samples at most this far, per row.

        Bounded by the norms of samples that near, not by the largest norm of all: one sample far
        out must not put every other in doubt.
        """
        worst = np.zeros(self.n)
        for s in members:
            factors = self.factors[s]
            if factors is not None:
                norms = factors[2]
                far = (np.sqrt(norms) + np.sqrt(np.maximum(distance, 0.0))) ** 2
                factor = 1.001 * rounding(self.spaces[s].shape[1])
                np.maximum(worst, factor * (norms + far), out=worst)
        return worst


def _products(x: FloatArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Float]:
    """Factors whose float32 product is the squared distance, and squared norms.

    Rows are centred in float64 first: with a mean far from 0 the product would lose every digit.
    Any centre will do, and a median is one that a few samples far out cannot move.
    """
    n, d = x.shape
    left = np.empty((n, d + 2), dtype=np.float32)
    moved = left[:, :d]
    centre = np.median(x[:: -(-n // 256)], axis=0).astype(np.float64)
    np.subtract(x, centre, out=moved, casting="same_kind")
    norms = np.empty(n)
    for i in range(0, n, 1024):
        part = moved[i : i + 1024].astype(np.float64)
        norms[i : i + 1024] = np.einsum("ij,ij->i", part, part)
    left[:, d] = norms
    left[:, d + 1] = 1.0
    right = np.empty((d + 2, n), dtype=np.float32)
    np.multiply(moved.T, -2.0, out=right[:d])
    right[d] = 1.0
    right[d + 1] = norms
    return left, right, norms


class _Tile:
    """The distances of one tile, space by space and joined, in buffers of one worker."""

    def __init__(self, blocks: Blocks, needed: Sequence[int]) -> None:
        shape = (blocks.tile, blocks.tile)
        self.blocks = blocks
        self.buffers = {s: np.empty(shape, dtype=blocks.dtype) for s in needed}
        self.filled = dict(self.buffers)
        self.scratch = np.empty(shape, dtype=blocks.dtype)
        self.pairs = np.empty((4096, 2), dtype=np.int64)

    def fill(self, i0: int, j0: int) -> None:
        for s, out in self.buffers.items():
            self.filled[s] = self.blocks.tile_of(s, i0, j0, out)

    def joined(self, members: Members) -> npt.NDArray[Any]:
        first, *others = (self.filled[s] for s in members)
        for other in others:
            first = np.maximum(first, other, out=self.scratch)
        return first

    def size(self, i0: int, j0: int) -> tuple[int, int]:
        side, n = self.blocks.tile, self.blocks.n
        return min(side, n - i0), min(side, n - j0)


def search(
    blocks: Blocks, jobs: Sequence[Job], k: int, *, closed: bool, run: Run
) -> list[tuple[Float, Int, list[Int]]]:
    """Return for each job the k distances, the k indices, and one array of counts per subset."""
    found = _nearest(blocks, [job.joint for job in jobs], k, run)
    wanted = [
        (members, np.ascontiguousarray(strict(d[:, -1], closed)))
        for job, (d, _) in zip(jobs, found, strict=True)
        for members in job.counts
    ]
    counts = iter(_counts(blocks, wanted))
    return [
        (d, i, [next(counts) for _ in job.counts]) for job, (d, i) in zip(jobs, found, strict=True)
    ]


def count_within(blocks: Blocks, members: Members, limit: Float) -> Int:
    """Return how many other rows are nearer to each row than its limit, over the member spaces."""
    return _counts(blocks, [(members, limit)])[0]


def _padded(blocks: Blocks, values: Any, fill: float) -> npt.NDArray[Any]:
    """One number per sample, and beyond the last for columns that pad a tile."""
    out = np.full(blocks.n + blocks.tile, fill, dtype=blocks.dtype)
    out[: blocks.n] = values
    return out


def _nearest(
    blocks: Blocks, joints: Sequence[Members], k: int, run: Run
) -> list[tuple[Float, Int]]:
    n = blocks.n
    c = min(k + EXTRA, n - 1)
    kept = [
        (
            np.full((n + blocks.tile, c), np.inf, dtype=blocks.dtype),
            np.zeros((n + blocks.tile, c), dtype=np.int64),
            # Padding columns hold infinity, which is never below this.
            _padded(blocks, np.inf, -np.inf),
        )
        for _ in joints
    ]

    def visit(tile: _Tile, i0: int, j0: int) -> None:
        tile.fill(i0, j0)
        rows, cols = tile.size(i0, j0)
        for members, (values, who, worst) in zip(joints, kept, strict=True):
            _tiles.select_tile(tile.joined(members), i0, rows, j0, cols, values, who, worst)

    needed = sorted({s for members in joints for s in members})
    over_tiles(n, blocks.tile, blocks.workers, lambda: _Tile(blocks, needed), visit)
    return [
        _ranked(blocks, members, values[:n].astype(np.float64), who[:n], k, run)
        for members, (values, who, _) in zip(joints, kept, strict=True)
    ]


def _ranked(
    blocks: Blocks, members: Members, values: Float, who: Int, k: int, run: Run
) -> tuple[Float, Int]:
    """Rank candidates by exact distance, then by index, and do rows in doubt again."""
    n, c = values.shape
    kth = values[:, k - 1]
    exact = values
    if blocks.squared:
        bound = kth + 2.0 * blocks.slack(members, kth)  # no k-th neighbour is farther
        near = values <= (bound + blocks.slack(members, bound))[:, None]
        rows, columns = np.nonzero(near)
        pairs = np.column_stack([rows, who[rows, columns]])
        exact = np.full((n, c), np.inf)
        exact[rows, columns] = blocks.exact(members, pairs, run)
    distances, indices = np.empty((n, k)), np.empty((n, k), dtype=np.int64)
    run(lambda low, high: _tiles.order_rows(exact, who, low, high, distances, indices), 0, n)
    if c < n - 1:
        # Whatever was not a candidate is at least this far, up to rounding; ties are in doubt too,
        # so that the neighbour of smallest index is found whatever the order of the tiles.
        reach = distances[:, -1] + blocks.slack(members, distances[:, -1])
        doubtful = np.flatnonzero(reach >= values[:, -1])
        _do_again(blocks, members, doubtful, reach, distances, indices, run)
    return distances, indices


def _do_again(
    blocks: Blocks,
    members: Members,
    doubtful: Int,
    reach: Float,
    distances: Float,
    indices: Int,
    run: Run,
) -> None:
    """Rank everything within reach of the rows in doubt."""
    n, k = distances.shape
    step = max(1, AGAIN // n)
    for begin in range(0, len(doubtful), step):
        rows = doubtful[begin : begin + step]
        joint = _rows(blocks, members, rows)
        a, b = np.nonzero(joint <= reach[rows, None])
        exact = blocks.exact(members, np.column_stack([rows[a], b]), run)
        order = np.lexsort((b, exact, a))
        starts = np.searchsorted(a, np.arange(len(rows)))
        best = order[starts[:, None] + np.arange(k)]
        distances[rows], indices[rows] = exact[best], b[best]


def _rows(blocks: Blocks, members: Members, rows: Int) -> npt.NDArray[Any]:
    """Distances of some rows to all, over the member spaces; to themselves, infinity."""
    joint = np.zeros((len(rows), blocks.n), dtype=blocks.dtype)
    for s in members:
        factors = blocks.factors[s]
        if factors is not None:
            np.maximum(joint, factors[0][rows] @ factors[1], out=joint)
        else:
            own = np.empty_like(joint)
            part = np.ascontiguousarray(blocks.spaces[s][rows])
            _tiles.chebyshev_tile(part, blocks.columns[s], 0, len(rows), 0, blocks.n, own)
            np.maximum(joint, own, out=joint)
    joint[np.arange(len(rows)), rows] = np.inf
    return joint


def _counts(blocks: Blocks, wanted: Sequence[tuple[Members, Float]]) -> list[Int]:
    """Count below each limit of each row, in one pass for all."""
    if not wanted:
        return []
    tasks = []
    for members, limit in wanted:
        low, high = limit, np.nextafter(limit, -np.inf)  # nothing between: exact already
        if blocks.squared:
            slack = blocks.slack(members, limit)
            low = np.nextafter((limit - slack).astype(np.float32), np.float32(-np.inf))
            high = np.nextafter((limit + slack).astype(np.float32), np.float32(np.inf))
        ends = _padded(blocks, low, -np.inf), _padded(blocks, high, -np.inf)
        tasks.append((members, limit, *ends, np.zeros(blocks.n, dtype=np.int64)))

    def visit(tile: _Tile, i0: int, j0: int) -> None:
        tile.fill(i0, j0)
        rows, cols = tile.size(i0, j0)
        for members, limit, low, high, counts in tasks:
            joint = tile.joined(members)
            at = (joint, i0, rows, j0, cols, low, high)
            open_ = _tiles.count_tile(*at, counts, tile.pairs)
            if open_ > len(tile.pairs):
                tile.pairs = np.empty((2 * open_, 2), dtype=np.int64)
                _tiles.count_tile(*at, np.zeros_like(counts), tile.pairs)  # counted already
            if open_:
                pairs = tile.pairs[:open_]
                exact = blocks.exact(members, pairs, _at_once)
                _tiles.settle(exact, pairs, limit, counts)

    needed = sorted({s for members, _ in wanted for s in members})
    over_tiles(blocks.n, blocks.tile, blocks.workers, lambda: _Tile(blocks, needed), visit)
    return [counts for *_, counts in tasks]


def _at_once(f: Callable[[int, int], Any], low: int, high: int) -> None:
    f(low, high)
