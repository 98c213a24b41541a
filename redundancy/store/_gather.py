"""Where the rows of a result lie in the shards, and how they get into line."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redundancy.store._tensors import TensorFile

__all__ = ["expected_shape", "place_rows", "runs", "say", "whereabouts"]


def whereabouts(
    rows: Sequence[NDArray[np.int64]], samples: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Shard of each row of the result, and its row there, from where each shard's rows go."""
    number = np.empty(len(samples), dtype=np.int32)
    local = np.empty(len(samples), dtype=np.int64)
    for index, places in enumerate(rows):
        kept = np.flatnonzero(places >= 0)
        number[places[kept]] = index
        local[places[kept]] = kept
    return number, local


def runs(number: NDArray[np.int32], local: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Stretches that one read can serve: same shard, one row after another.

    Examples
    --------
    >>> list(runs(np.array([0, 0, 1, 1], np.int32), np.array([4, 5, 6, 8])))
    [(0, 2), (2, 3), (3, 4)]
    """
    if not len(number):
        return
    breaks = np.flatnonzero((np.diff(number) != 0) | (np.diff(local) != 1)) + 1
    edges = [0, *breaks.tolist(), len(number)]
    yield from itertools.pairwise(edges)


def expected_shape(name: str, layers: int, thresholds: int) -> tuple[int, ...] | None:
    known: dict[str, tuple[int, ...]] = {
        "n_tokens": (),
        "n_defined": (layers, layers),
        "rho_sum": (layers, layers),
        "below_adjacent": (thresholds, layers - 1),
        "below_first": (thresholds, layers - 1),
        "sq_dist_adjacent": (layers - 1,),
        "sq_dist_first": (layers - 1,),
        "sq_norm": (layers,),
    }
    return known.get(name)


def say(info: Any) -> str:
    return "missing" if info is None else f"{info.dtype} with rows of shape {info.shape[1:]}"


def place_rows(file: TensorFile, name: str, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
    """Copy a shard's rows to where they belong; one read without a detour if they lie together."""
    if not len(rows):
        return
    start, stop = int(rows[0]), int(rows[-1]) + 1
    if stop - start == len(rows) and np.array_equal(rows, np.arange(start, stop)) and start >= 0:
        file.read(name, out=out[start:stop])
        return
    kept = rows >= 0
    value = file.read(name)
    out[rows[kept]] = value if kept.all() else value[kept]
