"""Exact nearest neighbours and range counts: the one place that decides how they are found.

Callers speak of *spaces* (matrices over the same samples), of the joint of some of them (distance:
the maximum over its spaces) and of counts in others at the radius of the k-th joint neighbour.
Three ways lead to the same numbers: sorting on a line, a compiled k-d tree, blocked brute force.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from estimators._arrays import FloatArray
from estimators._errors import InputError

__all__ = [
    "Found",
    "Job",
    "Metric",
    "count_within",
    "nearest",
    "resolve_metric",
    "scale_exponent",
    "search",
    "search_many",
    "threads",
]

Metric = Literal["auto", "chebyshev", "euclidean"]
Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

# Measured on 2 cores (docs/estimators.md): below these joint dimensions a tree beats brute force.
TREE_DIMENSIONS = {"chebyshev": 12, "euclidean": 7}
SERIAL_BELOW = 2000
AUTO_CHEBYSHEV = 10


@dataclass(frozen=True, slots=True)
class Job:
    """Neighbours in the joint of the spaces `joint`, counts in each subset of `counts`."""

    joint: tuple[int, ...]
    counts: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found; distances are *squared* where the metric is Euclidean.

    Squares are kept because a strict comparison must see the very floats that were computed; see
    `scale_exponent` for data whose squares leave the range of floats.
    """

    distances: Float
    indices: Int
    counts: tuple[Int, ...]
    squared: bool

    @property
    def radius(self) -> Float:
        """Comparable distance of the k-th neighbour, shape (n,)."""
        return self.distances[:, -1]

    def length(self) -> Float:
        """Distances of the k neighbours in the unit of the data, shape (n, k)."""
        return np.sqrt(self.distances) if self.squared else self.distances


def threads() -> int:
    """Number of threads to use: OMP_NUM_THREADS where set, all usable cores otherwise."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_metric(metric: str, dimension: int) -> Literal["chebyshev", "euclidean"]:
    """Turn ``"auto"`` into a norm: Chebyshev up to joint dimension 10, else Euclidean."""
    if metric == "auto":
        return "chebyshev" if dimension <= AUTO_CHEBYSHEV else "euclidean"
    if metric == "chebyshev":
        return "chebyshev"
    if metric == "euclidean":
        return "euclidean"
    raise InputError(f"metric is {metric!r}; use 'auto', 'chebyshev' or 'euclidean'")


def _runner(n: int) -> Callable[[Callable[[int, int], None], int, int], None]:
    """Return run(f, low, high), which covers the range by calls f(a, b), in threads if worth it."""
    workers = 1 if n < SERIAL_BELOW else threads()

    def run(f: Callable[[int, int], None], low: int, high: int) -> None:
        if workers == 1:
            f(low, high)
            return
        cuts = np.linspace(low, high, min(4 * workers, high - low) + 1).astype(int).tolist()
        with ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(f, a, b) for a, b in pairwise(cuts)]:
                done.result()

    return run


def _one_blas_thread(n: int) -> Any:
    # Row blocks run in threads of their own; BLAS threads inside them would fight for the cores.
    if n < SERIAL_BELOW or threads() == 1:
        return nullcontext()
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships none

    return threadpool_limits(1, user_api="blas")


def scale_exponent(spaces: Sequence[FloatArray]) -> int:
    """Power of two by which to divide so that squares neither overflow nor vanish; usually 0.

    Division by a power of two changes no digit of any number.
    """
    top = max(float(np.abs(x).max(initial=0.0)) for x in spaces)
    exponent = int(np.frexp(top)[1]) if np.isfinite(top) and top > 0 else 0
    return exponent if abs(exponent) > 32 else 0


def _typed(spaces: Sequence[FloatArray], keep_single: bool) -> list[FloatArray]:
    """Widen to float64, except where float32 input is only ever read pair by pair."""
    return [
        x if keep_single and x.dtype == np.float32 else np.asarray(x, dtype=np.float64)
        for x in spaces
    ]


def search(
    spaces: Sequence[FloatArray],
    k: int,
    *,
    counts: Sequence[tuple[int, ...]] = (),
    metric: Literal["chebyshev", "euclidean"],
    closed: bool = False,
    device: str | None = None,
    method: Literal["tree", "brute"] | None = None,
) -> Found:
    """Find the k nearest in the joint of all spaces, and count others within the k-th distance.

    Parameters
    ----------
    spaces : sequence of float arrays, shape (n, d_s)
    k : int
    counts : sequence of tuples
        Subsets of spaces to count in, strictly within (or, `closed`, at most at) the radius.
    metric : {"chebyshev", "euclidean"}
        Norm within each space; the joint distance is the maximum over spaces either way.
    device : str, optional
        Torch device for the matrix products, e.g. ``"cuda"``.
    method : {"tree", "brute"}, optional
        Overrules the measured rule.
    """
    job = Job(joint=tuple(range(len(spaces))), counts=tuple(counts))
    return search_many(
        spaces, [job], k, metric=metric, closed=closed, device=device, method=method
    )[0]


def search_many(
    spaces: Sequence[FloatArray],
    jobs: Sequence[Job],
    k: int,
    *,
    metric: Literal["chebyshev", "euclidean"],
    closed: bool = False,
    device: str | None = None,
    method: Literal["tree", "brute"] | None = None,
) -> list[Found]:
    """Run several jobs over shared spaces; brute force computes each space's distances once."""
    squared = metric == "euclidean"
    n = len(spaces[0])
    widest = max(sum(spaces[s].shape[1] for s in job.joint) for job in jobs)
    if device is not None:
        method = "brute"
    if method is None:
        method = "tree" if widest <= TREE_DIMENSIONS[metric] else "brute"
    scaled = _typed(spaces, keep_single=method == "brute")
    if device is not None:
        from estimators._torch import search as on_device

        raw = on_device(scaled, jobs, k, squared=squared, closed=closed, device=device)
    elif method == "tree":
        cache: dict[tuple[int, ...], Any] = {}
        raw = [_tree_job(scaled, job, k, squared, closed, cache, _runner(n)) for job in jobs]
    else:
        from estimators import _brute

        with _one_blas_thread(n):
            raw = _brute.search(
                _brute.Blocks(scaled, squared=squared),
                jobs,
                k,
                closed=closed,
                run=_runner(n),
            )
    return [Found(d, i, tuple(c), squared) for d, i, c in raw]


def _tree_job(
    spaces: Sequence[FloatArray],
    job: Job,
    k: int,
    squared: bool,
    closed: bool,
    cache: dict[tuple[int, ...], Any],
    run: Callable[..., None],
) -> tuple[Float, Int, list[Int]]:
    tree = _tree(spaces, job.joint, squared, cache)
    distances, indices = tree.nearest(k, run)
    radius = np.ascontiguousarray(distances[:, -1])
    counted = [
        _count_low(spaces, members, radius, squared, closed, cache, run) for members in job.counts
    ]
    return distances, indices, counted


def _tree(
    spaces: Sequence[FloatArray],
    members: tuple[int, ...],
    squared: bool,
    cache: dict[tuple[int, ...], Any],
) -> Any:
    if members not in cache:
        from estimators._kdtree import KDTree

        chosen = [spaces[s] for s in members]
        widths = np.array([0, *(x.shape[1] for x in chosen)], dtype=np.int64)
        joint = np.concatenate(chosen, axis=1).astype(np.float64, copy=False)
        cache[members] = KDTree(joint, np.cumsum(widths), squared=squared)
    return cache[members]


def _count_low(
    spaces: Sequence[FloatArray],
    members: tuple[int, ...],
    radius: Float,
    squared: bool,
    closed: bool,
    cache: dict[tuple[int, ...], Any],
    run: Callable[..., None],
) -> Int:
    if len(members) == 1 and spaces[members[0]].shape[1] == 1:
        from estimators._kdtree import count_sorted

        values = spaces[members[0]][:, 0]
        order = np.argsort(values)
        ordered, r = values[order], radius[order]
        counts = np.empty(len(values), dtype=np.int64)
        run(lambda a, b: count_sorted(ordered, r, squared, closed, a, b, counts), 0, len(values))
        out = np.empty_like(counts)
        out[order] = counts
        return out
    tree = _tree(spaces, members, squared, cache)
    return np.asarray(tree.count(radius, closed=closed, run=run))


def count_within(
    spaces: Sequence[FloatArray],
    radius: Float,
    *,
    metric: Literal["chebyshev", "euclidean"],
    closed: bool = False,
    method: Literal["tree", "brute"] | None = None,
) -> Int:
    """Count the other rows within `radius` (as `Found.distances` gives it) in the joint."""
    squared = metric == "euclidean"
    n = len(spaces[0])
    dimension = sum(x.shape[1] for x in spaces)
    if method is None:
        method = "tree" if dimension <= TREE_DIMENSIONS[metric] else "brute"
    scaled = _typed(spaces, keep_single=method == "brute")
    r = np.ascontiguousarray(radius, dtype=np.float64)
    members = tuple(range(len(spaces)))
    if method == "tree":
        return _count_low(scaled, members, r, squared, closed, {}, _runner(n))
    from estimators import _brute

    with _one_blas_thread(n):
        return _brute.count_within(
            _brute.Blocks(scaled, squared=squared), members, r, closed=closed, run=_runner(n)
        )


def nearest(
    x: FloatArray,
    k: int,
    *,
    metric: Literal["chebyshev", "euclidean"] = "euclidean",
    device: str | None = None,
) -> tuple[Float, Int]:
    """Return distances (n, k) in the unit of x, ascending, and indices (n, k)."""
    exponent = scale_exponent([x])
    y = np.ldexp(x, -exponent) if exponent else x
    found = search([y], k, metric=metric, device=device)
    return np.ldexp(found.length(), exponent), found.indices
