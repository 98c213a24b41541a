"""Exact nearest neighbours and range counts: the one place that decides how they are found.

Callers speak of *spaces* (matrices over the same samples), of the joint of some of them (distance:
the maximum over its spaces) and of counts in others at the radius of the k-th joint neighbour.
Three ways lead to the same numbers: sorting on a line, a compiled k-d tree, blocked brute force.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from estimators._arrays import FloatArray
from estimators._errors import InputError
from estimators._jobs import SERIAL_BELOW, Found, Job, runner, strict, threads

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
]

Metric = Literal["auto", "chebyshev", "euclidean"]
Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Trees = dict[tuple[int, ...], Any]

# Measured on 2 cores (docs/estimators.md): below these joint dimensions a tree beats brute force.
TREE_DIMENSIONS = {"chebyshev": 12, "euclidean": 7}
AUTO_CHEBYSHEV = 10


def resolve_metric(metric: str, dimension: int) -> Literal["chebyshev", "euclidean"]:
    """Turn ``"auto"`` into a norm: Chebyshev up to joint dimension 10, else Euclidean."""
    if metric == "auto":
        return "chebyshev" if dimension <= AUTO_CHEBYSHEV else "euclidean"
    if metric == "chebyshev":
        return "chebyshev"
    if metric == "euclidean":
        return "euclidean"
    raise InputError(f"metric is {metric!r}; use 'auto', 'chebyshev' or 'euclidean'")


def _workers(n: int) -> int:
    return 1 if n < SERIAL_BELOW else threads()


def _one_blas_thread(n: int) -> Any:
    # Tiles are worked on in threads of their own; BLAS threads inside them would fight for cores.
    if _workers(n) == 1:
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
        cache: Trees = {}
        raw = [_tree_job(scaled, job, k, squared, closed, cache, runner(n)) for job in jobs]
    else:
        from estimators import _brute

        with _one_blas_thread(n):
            blocks = _brute.Blocks(
                scaled, squared=squared, workers=_workers(n), twice=any(j.counts for j in jobs)
            )
            raw = _brute.search(blocks, jobs, k, closed=closed, run=runner(n))
    return [Found(d, i, tuple(c), squared) for d, i, c in raw]


def _tree_job(
    spaces: Sequence[FloatArray],
    job: Job,
    k: int,
    squared: bool,
    closed: bool,
    cache: Trees,
    run: Callable[..., None],
) -> tuple[Float, Int, list[Int]]:
    _plant(spaces, job, squared, cache, run)
    distances, indices = _nearest_low(spaces, job.joint, k, squared, cache, run)
    limit = np.ascontiguousarray(strict(distances[:, -1], closed))
    counted = [_count_low(spaces, members, limit, squared, cache, run) for members in job.counts]
    return distances, indices, counted


def _scalars(spaces: Sequence[FloatArray], members: tuple[int, ...]) -> list[Float]:
    """Columns of the member spaces, if each is a scalar."""
    if any(spaces[s].shape[1] > 1 for s in members):
        return []
    return [np.asarray(spaces[s][:, 0], dtype=np.float64) for s in members]


def _plant(
    spaces: Sequence[FloatArray],
    job: Job,
    squared: bool,
    cache: Trees,
    run: Callable[..., None],
) -> None:
    """Build the trees of a job side by side."""
    wanted = []
    if len(_scalars(spaces, job.joint)) != 2:
        wanted.append(job.joint)
    wanted += [members for members in job.counts if len(_scalars(spaces, members)) != 1]

    def part(low: int, high: int) -> None:
        for members in wanted[low:high]:
            _tree(spaces, members, squared, cache)

    run(part, 0, len(wanted))


def _nearest_low(
    spaces: Sequence[FloatArray],
    members: tuple[int, ...],
    k: int,
    squared: bool,
    cache: Trees,
    run: Callable[..., None],
) -> tuple[Float, Int]:
    scalars = _scalars(spaces, members)
    if len(scalars) == 2:
        from estimators._plane import nearest_plane

        return nearest_plane(scalars[0], scalars[1], k, squared=squared, run=run)
    found: tuple[Float, Int] = _tree(spaces, members, squared, cache).nearest(k, run)
    return found


def _tree(
    spaces: Sequence[FloatArray],
    members: tuple[int, ...],
    squared: bool,
    cache: Trees,
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
    limit: Float,
    squared: bool,
    cache: Trees,
    run: Callable[..., None],
) -> Int:
    scalars = _scalars(spaces, members)
    if len(scalars) == 1:
        from estimators._plane import count_line

        return count_line(scalars[0], limit, squared=squared, run=run)
    tree = _tree(spaces, members, squared, cache)
    return np.asarray(tree.count(limit, run))


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
    limit = np.ascontiguousarray(strict(np.asarray(radius, dtype=np.float64), closed))
    members = tuple(range(len(spaces)))
    if method == "tree":
        return _count_low(scaled, members, limit, squared, {}, runner(n))
    from estimators import _brute

    with _one_blas_thread(n):
        blocks = _brute.Blocks(scaled, squared=squared, workers=_workers(n))
        return _brute.count_within(blocks, members, limit)


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
