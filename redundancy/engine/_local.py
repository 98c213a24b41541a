"""Processes on this machine, by joblib's loky.

A killed worker breaks loky's whole pool. What finished is kept; the tasks that were under way are
suspects and run again alone, one after the other, so that the one which kills its worker takes
nothing else down; the rest goes on at full width.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from redundancy.engine._chains import Chains
from redundancy.engine._task import DIED_TWICE, THREADS, Answer, Outcome, Task, call

__all__ = ["on_loky"]

_IDLE = 300  # seconds after which workers without work go home
_watched: list[int] = []


def on_loky(
    function: Callable[[Task], Answer], tasks: Sequence[Task], jobs: int
) -> Iterator[Outcome[Answer]]:
    """Run tasks in `jobs` processes; see `redundancy.engine.submit`."""
    chains = Chains(range(len(tasks)), jobs)
    while suspects := (yield from _run(function, tasks, chains, jobs)):
        for index in suspects:
            if (yield from _run(function, tasks, Chains([index], 1), 1)):
                yield Outcome(index, None, DIED_TWICE)


def _run(
    function: Callable[[Task], Answer], tasks: Sequence[Task], chains: Chains, jobs: int
) -> Generator[Outcome[Answer], None, list[int]]:
    """Run what is in the chains; return what was under way when a worker died, if one did."""
    from joblib.externals.loky.process_executor import BrokenProcessPool

    pool = _pool(jobs)
    running: dict[Future[Any], tuple[int, int]] = {}
    suspects: list[int] = []

    def begin(worker: int) -> None:
        # One task a worker at a time: the one who is done is the one who takes the next.
        index = None if suspects else chains.next(worker)
        if index is None:
            return
        try:
            future = pool.submit(_call_beside, os.getpid(), function, index, tasks[index])
        except BrokenProcessPool:
            suspects.append(index)
        else:
            running[future] = worker, index

    try:
        for worker in range(jobs):
            begin(worker)
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                worker, index = running.pop(future)
                try:
                    _, answer, error = future.result()
                except BrokenProcessPool:
                    suspects.append(index)
                    continue
                if error is not None:
                    running[future] = worker, index
                    raise error
                begin(worker)
                yield Outcome(index, answer)
        return suspects
    finally:
        if running:  # an error, or nobody wants the rest
            _stop(pool, running)


def _pool(jobs: int) -> Any:
    """The processes of the last call, if they are still there, or new ones.

    Made by joblib, which hands arrays to them through files that they map.
    """
    from joblib.executor import get_memmapping_executor

    return get_memmapping_executor(jobs, timeout=_IDLE, env=dict.fromkeys(THREADS, "1"))


def _stop(pool: Any, running: Iterable[Future[Any]]) -> None:
    """End the workers at once."""
    # A task that loky's manager has not handed out yet would be gone when it looks for it.
    latest = time.monotonic() + 1
    while any(not (one.running() or one.done()) for one in running) and time.monotonic() < latest:
        time.sleep(0.001)
    pool.shutdown(wait=True, kill_workers=True)


def _call_beside(
    driver: int, function: Callable[[Task], Answer], index: int, task: Task
) -> tuple[int, Answer | None, Exception | None]:
    """Run one task in a worker that ends when the process which wants the answer is gone."""
    if not _watched:
        _watched.append(driver)
        threading.Thread(target=_watch, args=(driver,), daemon=True).start()
    return call(function, index, task)


def _watch(driver: int) -> None:
    # A killed process can't stop its workers, and loky's own wait five minutes for more work.
    while os.getppid() == driver:
        time.sleep(1)
    os._exit(1)
