"""Processes on this machine, by joblib's loky.

A killed worker breaks loky's whole pool. What finished is kept; the tasks that were under way are
suspects and run again alone, one after the other, so that the one which kills its worker takes
nothing else down; the rest goes on at full width.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence

from redundancy.engine._task import DIED_TWICE, Answer, Outcome, Task, call

__all__ = ["on_loky"]

_watched: list[int] = []


def on_loky(
    function: Callable[[Task], Answer], tasks: Sequence[Task], jobs: int
) -> Iterator[Outcome[Answer]]:
    """Run tasks in `jobs` processes; see `redundancy.engine.submit`."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    waiting = dict(enumerate(tasks))
    while waiting:
        begun: list[int] = []
        try:
            for outcome in _batch(function, list(waiting.items()), jobs, begun):
                del waiting[outcome.index]
                yield outcome
        except TerminatedWorkerError:
            for index in [index for index in begun if index in waiting]:
                task = waiting.pop(index)
                try:
                    yield from _batch(function, [(index, task)], 1, [])
                except TerminatedWorkerError:
                    yield Outcome(index, None, DIED_TWICE)


def _batch(
    function: Callable[[Task], Answer],
    batch: list[tuple[int, Task]],
    jobs: int,
    begun: list[int],
) -> Iterator[Outcome[Answer]]:
    """Run a batch; `begun` gets the numbers of the tasks that were handed to a worker."""
    import joblib

    def handed_out() -> Iterator[tuple[int, Task]]:
        for index, task in batch:
            begun.append(index)
            yield index, task

    # A pool of one would run in this process, and a task that kills its worker would kill us.
    with joblib.parallel_config(backend="loky", n_jobs=max(jobs, 2), inner_max_num_threads=1):
        # Tasks take seconds: in batches, one would wait for another while a worker is idle.
        finished = joblib.Parallel(
            return_as="generator_unordered", batch_size=1, pre_dispatch="1.5*n_jobs"
        )(
            joblib.delayed(_call_beside)(os.getpid(), function, index, task)
            for index, task in handed_out()
        )
        try:
            for index, answer, error in finished:
                if error is not None:
                    _stop_pool()
                    raise error
                yield Outcome(index, answer)
        finally:
            with warnings.catch_warnings():
                # joblib warns of tasks that are given up here, which is what we want.
                warnings.simplefilter("ignore", UserWarning)
                finished.close()


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


def _stop_pool() -> None:
    """End the workers at once; closing the generator alone leaves loky's manager in a race."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)
