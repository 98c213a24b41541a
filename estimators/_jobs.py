"""What a neighbour search is asked for, and what its ways of searching share."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["EXTRA", "Found", "Job", "rounding", "runner", "strict", "threads"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

# Candidates kept beyond k: where rounding could hide a neighbour behind them, a row is done again.
EXTRA = 5
SERIAL_BELOW = 2000


@dataclass(frozen=True, slots=True)
class Job:
    """Neighbours in the joint of the spaces `joint`, counts in each subset of `counts`."""

    joint: tuple[int, ...]
    counts: tuple[tuple[int, ...], ...] = ()

    @property
    def spaces(self) -> set[int]:
        """Every space that the job reads."""
        return {*self.joint, *(s for members in self.counts for s in members)}


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found; distances are *squared* where the metric is Euclidean.

    Squares are kept because a strict comparison must see the very floats that were computed; see
    `estimators._neighbours.scale_exponent` for data whose squares leave the range of floats.
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


def rounding(d: int) -> float:
    """Error of a float32 squared distance from a product over d coordinates, over |x|^2 + |y|^2.

    Rounding of inputs, of norms and of a sum of d products; errors of a sum grow like sqrt(d) with
    a constant that is far below 4 in practice (Higham and Mary 2019).
    """
    return 2.0**-24 * (8.0 + 4.0 * float(np.sqrt(d)))


def strict(radius: Float, closed: bool) -> Float:
    """Limit below which, strictly, a distance counts: a closed count ends at the next float up."""
    return np.nextafter(radius, np.inf) if closed else radius


def threads() -> int:
    """Number of threads to use: OMP_NUM_THREADS where set, all usable cores otherwise."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def runner(n: int) -> Callable[[Callable[[int, int], Any], int, int], None]:
    """Return run(f, low, high), which covers the range by calls f(a, b), in threads if worth it."""
    workers = 1 if n < SERIAL_BELOW else threads()

    def run(f: Callable[[int, int], Any], low: int, high: int) -> None:
        if workers == 1 or high - low < 2:
            f(low, high)
            return
        cuts = np.linspace(low, high, min(4 * workers, high - low) + 1).astype(int).tolist()
        with ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(f, a, b) for a, b in pairwise(cuts)]:
                done.result()

    return run
