"""How long the rest will take, told from how long the steps took so far."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["TimeLeft"]

_START = 2


class TimeLeft:
    """Seconds left of a work of equal steps, of which some may have been done before it began.

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
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._last = clock()
        self._first = self._began
        self._before: int | None = None
        self._done, self._total = 0, 0

    def update(self, done: int, total: int) -> None:
        """Take note that `done` of `total` steps are finished."""
        if self._before is None:
            self._before = max(done - 1, 0)  # called after each step, so one of them was ours
        self._done, self._total, self._last = done, total, self._clock()
        if done - self._before <= _START:
            self._first = self._last

    def seconds(self) -> float | None:
        """Seconds from now; None until a step was finished."""
        steps = self._done - (self._before or 0)
        if steps < 1:
            return None
        if steps >= 3 * _START:  # by now without the first steps, which paid for the start
            rate = (self._last - self._first) / (steps - _START)
        else:
            rate = (self._last - self._began) / steps
        return max(rate * (self._total - self._done) - (self._clock() - self._last), 0.0)
