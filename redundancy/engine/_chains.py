"""Who does what next: neighbours go to one worker, for what it found out serves them too."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

__all__ = ["Chains"]


class Chains:
    """Tasks in line, cut into one chain per worker.

    A worker goes along its chain. One that has come to the end takes over the latter half of the
    longest chain that is left, so that none is idle while there is something to do.

    Parameters
    ----------
    line : sequence of int
        Numbers of tasks, neighbours beside each other.
    workers : int

    Examples
    --------
    >>> chains = Chains(range(6), 2)
    >>> [chains.next(worker) for worker in (0, 1, 0, 0)]
    [0, 3, 1, 2]
    >>> chains.next(0), chains.next(1), chains.next(0)  # the first worker helps the second
    (5, 4, None)
    """

    def __init__(self, line: Sequence[int], workers: int) -> None:
        edges = [len(line) * worker // workers for worker in range(workers + 1)]
        self._left = [deque(line[start:stop]) for start, stop in itertools.pairwise(edges)]

    def next(self, worker: int) -> int | None:
        """The next task for a worker; None if there is none left."""
        own = self._left[worker]
        if not own:
            longest = max(self._left, key=len)
            taken = [longest.pop() for _ in range(-(-len(longest) // 2))]
            own.extend(reversed(taken))
        return own.popleft() if own else None
