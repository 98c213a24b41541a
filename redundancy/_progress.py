"""How long the rest will take, told from how long the steps took so far."""

from __future__ import annotations

import copy
import heapq
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from redundancy.engine._chains import Chains

__all__ = ["TimeLeft"]

_START = 2
_REMEMBERED = 8  # durations of one kind that count: a machine gets busier and quieter
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
        self._steps: list[Any] = []
        self._chains = Chains([], 1)
        self._running: dict[Any, tuple[int, float]] = {}  # by whom, and when it was begun
        self._took: dict[Hashable, list[float]] = {}
        self._first_took: dict[Hashable, list[float]] = {}
        self._kind: Callable[[Any], Hashable] = hash
        self._planned = self._began

    def plan(
        self,
        steps: Sequence[Any],
        workers: int,
        kind: Callable[[Any], Hashable] = lambda step: None,
    ) -> None:
        """Take note of the steps that are to be done, and that the first are begun.

        Parameters
        ----------
        steps : sequence
            Names of steps in line; each worker goes along a part of it, as `Chains` says.
        workers : int
            How many of them are under way at a time.
        kind : callable
            Of a step; those of one kind take about as long as each other.
        """
        self._kind, self._steps = kind, list(steps)
        self._chains = Chains(range(len(self._steps)), max(workers, 1))
        self._planned = self._clock()
        for worker in range(max(workers, 1)):
            self._begin(worker, self._planned)

    def finished(self, step: Any) -> None:
        """Take note that a step of the plan is done, and that its worker has begun the next."""
        if step not in self._running:  # not of this plan
            return
        now = self._clock()
        worker, begun = self._running.pop(step)
        # The first step of each worker pays for its start, and for the layer before the first.
        took = self._first_took if begun == self._planned else self._took
        took.setdefault(self._kind(step), []).append(now - begun)
        self._begin(worker, now)

    def _begin(self, worker: int, now: float) -> None:
        index = self._chains.next(worker)
        if index is not None:
            self._running[self._steps[index]] = worker, now

    def update(self, done: int, total: int) -> None:
        """Take note that `done` of `total` steps are finished."""
        if self._before is None:
            self._before = max(done - 1, 0)  # called after each step, so one of them was ours
        self._done, self._total, self._last = done, total, self._clock()
        if done - self._before <= _START:
            self._first = self._last

    def seconds(self) -> float | None:
        """Seconds from now; None until a step was finished."""
        if self._took or self._first_took:
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
        now, usual = self._clock(), {}
        for kind, took in {**self._first_took, **self._took}.items():
            usual[kind] = sum(took[-_REMEMBERED:]) / len(took[-_REMEMBERED:])
        unknown = sum(usual.values()) / len(usual)

        def length(step: Any) -> float:
            return usual.get(self._kind(step), unknown)

        chains, last = copy.deepcopy(self._chains), 0.0
        free = [
            (max(length(step) - (now - begun), _OVERDUE * length(step)), worker)
            for step, (worker, begun) in self._running.items()
        ]
        heapq.heapify(free)
        while free:
            last, worker = heapq.heappop(free)
            index = chains.next(worker)
            if index is not None:
                heapq.heappush(free, (last + length(self._steps[index]), worker))
        return last
