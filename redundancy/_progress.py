"""How long the rest will take, told from how long the steps took so far."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

__all__ = ["TimeLeft"]

_START = 2
_REMEMBERED = 16  # durations of one kind that count: a machine gets busier and quieter
_OVERDUE = 0.1  # of a step's usual time, for one that has taken longer than that


class TimeLeft:
    """Seconds left of a work of steps, of which some may have been done before it began.

    Told from the rate of steps; where a `plan` of them is known, by playing the rest of it through.

    Parameters
    ----------
    clock : callable
        Seconds, from any origin.

    Examples
    --------
    >>> now = iter([0.0, 2.0, 4.0, 5.0])
    >>> left = TimeLeft(lambda: next(now))
    >>> left.update(91, 100)  # 90 were there from an earlier run
    >>> left.update(92, 100)
    >>> left.seconds()
    15.0

    Two workers have four steps of 10 s; both of the first end almost at once.

    >>> now = iter([0.0, 0.0, 10.0, 10.0])
    >>> left = TimeLeft(lambda: next(now))
    >>> left.plan([("long", i) for i in range(4)], workers=2, kind=lambda step: step[0])
    >>> left.finished(("long", 0))
    >>> round(left.seconds())
    11
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._last = clock()
        self._first = self._began
        self._before: int | None = None
        self._done, self._total = 0, 0
        self._queue: list[Any] = []  # steps that nobody has begun, the next one last
        self._running: dict[Any, float] = {}  # when each was begun
        self._took: dict[Hashable, list[float]] = {}
        self._workers = 0
        self._kind: Callable[[Any], Hashable] = hash

    def plan(
        self,
        steps: Sequence[Any],
        workers: int,
        kind: Callable[[Any], Hashable] = lambda step: None,
    ) -> None:
        """Take note of the steps that are to be done, in the order in which workers take them.

        Parameters
        ----------
        steps : sequence
            Names of steps.
        workers : int
            How many of them are under way at a time.
        kind : callable
            Of a step; those of one kind take about as long as each other.
        """
        self._kind, self._workers = kind, max(workers, 1)
        self._queue = list(reversed(steps))
        now = self._clock()
        for _ in range(min(self._workers, len(self._queue))):
            self._running[self._queue.pop()] = now

    def finished(self, step: Any) -> None:
        """Take note that a step of the plan is done, and that its worker has begun the next."""
        now = self._clock()
        begun = self._running.pop(step, None)
        if begun is None:  # taken out of turn, as a cluster may do
            if step not in self._queue:
                return
            self._queue.remove(step)
            begun = self._running.pop(min(self._running, key=self._running.__getitem__))
        self._took.setdefault(self._kind(step), []).append(now - begun)
        if self._queue:
            self._running[self._queue.pop()] = now

    def update(self, done: int, total: int) -> None:
        """Take note that `done` of `total` steps are finished."""
        if self._before is None:
            self._before = max(done - 1, 0)  # called after each step, so one of them was ours
        self._done, self._total, self._last = done, total, self._clock()
        if done - self._before <= _START:
            self._first = self._last

    def seconds(self) -> float | None:
        """Seconds from now; None until a step was finished."""
        if self._took:
            return self._played()
        steps = self._done - (self._before or 0)
        if steps < 1:
            return None
        if steps >= 3 * _START:  # by now without the first steps, which paid for the start
            rate = (self._last - self._first) / (steps - _START)
        else:
            rate = (self._last - self._began) / steps
        return max(rate * (self._total - self._done) - (self._clock() - self._last), 0.0)

    def _played(self) -> float:
        """When the last worker would be done, if every step took as long as its kind does."""
        now = self._clock()
        usual = {kind: self._usual(took) for kind, took in self._took.items()}
        unknown = sum(usual.values()) / len(usual)

        def length(step: Any) -> float:
            return usual.get(self._kind(step), unknown)

        free = [
            max(length(step) - (now - begun), _OVERDUE * length(step))
            for step, begun in self._running.items()
        ]
        heapq.heapify(free)
        for step in reversed(self._queue):
            heapq.heappush(free, heapq.heappop(free) + length(step))
        return max(free, default=0.0)

    def _usual(self, took: Sequence[float]) -> float:
        # The first step of each worker pays for its start, and for the layer before the first.
        counted = took[self._workers :][-_REMEMBERED:] if len(took) >= 2 * self._workers else took
        return sum(counted) / len(counted)
