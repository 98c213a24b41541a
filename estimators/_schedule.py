"""Visit all tiles of a symmetric matrix, in threads that never touch the same rows at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Condition
from typing import TypeVar

__all__ = ["over_tiles"]

T = TypeVar("T")


def over_tiles(
    n: int, side: int, workers: int, make: Callable[[], T], visit: Callable[[T, int, int], None]
) -> None:
    """Call visit(buffers, i0, j0) for every tile on and above the diagonal.

    Each worker has buffers of its own from `make`. A tile writes to its rows and to its columns,
    so a worker takes the first one left whose rows and columns nobody else is at.
    """
    starts = range(0, n, side)
    left = [(i, j) for i in starts for j in starts if j >= i][::-1]
    workers = min(workers, (len(starts) + 1) // 2)
    if workers == 1:
        buffers = make()
        for i, j in reversed(left):
            visit(buffers, i, j)
        return
    busy: set[int] = set()
    turn = Condition()

    def take() -> tuple[int, int] | None:
        while left:
            for place in range(len(left) - 1, -1, -1):
                i, j = left[place]
                if i not in busy and j not in busy:
                    del left[place]
                    busy.update((i, j))
                    return i, j
            turn.wait()
        return None

    def work() -> None:
        own = make()
        while True:
            with turn:
                tile = take()
            if tile is None:
                return
            try:
                visit(own, *tile)
            except BaseException:
                with turn:
                    left.clear()
                raise
            finally:
                with turn:
                    busy.difference_update(tile)
                    turn.notify_all()

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work) for _ in range(workers)]:
            done.result()
