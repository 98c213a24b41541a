"""Where work runs. The one module that knows joblib and Dask.

`submit` takes a function and its tasks and yields each task's outcome as it finishes. An exception
raised by a task travels to the caller; a task whose worker died is tried again alone, and reported
as failed if it takes its worker down a second time. Results do not depend on the engine: tasks
carry their seeds, and every worker runs one BLAS thread.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from estimators import InputError
from redundancy.registry import unknown

__all__ = ["ENGINES", "Outcome", "default_jobs", "submit"]

ENGINES = ("local", "dask")

Task = TypeVar("Task")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Answer]):
    """The answer to task number `index`, or why there is none."""

    index: int
    answer: Answer | None
    failure: str | None = None


def default_jobs() -> int:
    """Return how many processes may run at once: the cores this process is allowed to use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def submit(
    function: Callable[[Task], Answer],
    tasks: Sequence[Task],
    *,
    engine: str = "local",
    jobs: int | None = None,
) -> Iterator[Outcome[Answer]]:
    """Run ``function(task)`` for every task and yield outcomes as they finish.

    Parameters
    ----------
    function : callable
        A module-level function; it travels to other processes by name.
    tasks : sequence
    engine : str
        ``"local"``; ``"dask"`` for a cluster on this machine; ``"dask:tcp://host:port"`` for the
        scheduler at that address.
    jobs : int, optional
        Processes for the local engines. With 1, tasks run in this process, in order.

    Raises
    ------
    InputError
        If the engine is unknown or not installed, or `jobs` is not positive.

    Examples
    --------
    >>> [outcome.answer for outcome in submit(abs, [-1, -2], jobs=1)]
    [1, 2]
    """
    name, _, address = engine.partition(":")
    if name not in ENGINES:
        raise InputError(unknown("engine", name, ENGINES))
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs is {jobs}; at least one process is needed")
    jobs = min(jobs or default_jobs(), max(len(tasks), 1))
    if name == "dask":
        return _dask(function, tasks, address, jobs)
    if jobs == 1:
        return (Outcome(i, function(task)) for i, task in enumerate(tasks))
    return _loky(function, tasks, jobs)


def _call(
    function: Callable[[Task], Answer], index: int, task: Task
) -> tuple[int, Answer | None, Exception | None]:
    """Run one task; an exception is an answer too, so that one bad task does not end a batch."""
    try:
        return index, function(task), None
    except Exception as error:
        return index, None, error


def _loky(
    function: Callable[[Task], Answer], tasks: Sequence[Task], jobs: int
) -> Iterator[Outcome[Answer]]:
    """Run on joblib's loky. A killed worker breaks the whole pool: keep what finished, go on."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    waiting = dict(enumerate(tasks))
    width = jobs
    while waiting:
        batch = list(waiting.items()) if width > 1 else list(waiting.items())[:1]
        try:
            for outcome in _loky_batch(function, batch, width):
                del waiting[outcome.index]
                yield outcome
        except TerminatedWorkerError:
            if width == 1 and batch[0][0] in waiting:
                index = batch[0][0]
                del waiting[index]
                yield Outcome(
                    index,
                    None,
                    "its worker process died twice (killed, or out of memory); give it more memory "
                    "or run fewer at once with --jobs",
                )
            # From here on each remaining task runs in a pool of its own, so that the one which
            # kills its worker takes nothing else down.
            width = 1


def _loky_batch(
    function: Callable[[Task], Answer], batch: list[tuple[int, Task]], jobs: int
) -> Iterator[Outcome[Answer]]:
    import joblib

    # A pool of one would run in this process, and a task that kills its worker would kill us.
    with joblib.parallel_config(backend="loky", n_jobs=max(jobs, 2), inner_max_num_threads=1):
        finished = joblib.Parallel(return_as="generator_unordered")(
            joblib.delayed(_call)(function, index, task) for index, task in batch
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


def _stop_pool() -> None:
    """End the workers at once; closing the generator alone leaves loky's manager in a race."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _dask(
    function: Callable[[Task], Answer], tasks: Sequence[Task], address: str, jobs: int
) -> Iterator[Outcome[Answer]]:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise InputError(
            "the Dask engine is not installed; type: pip install 'redundancy[dask]'"
        ) from error
    with contextlib.ExitStack() as stack:
        if address:
            target: Any = address
        else:
            target = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=jobs,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address=None,
                    silence_logs=50,
                )
            )
        try:
            client = stack.enter_context(distributed.Client(target, timeout="10s"))
        except OSError as error:
            raise InputError(
                f"no Dask scheduler answers at {address!r}; start one with `dask scheduler` and "
                "give its address as --engine dask:tcp://host:port"
            ) from error
        futures = {
            client.submit(_call, function, index, task, pure=False, retries=1): index
            for index, task in enumerate(tasks)
        }
        for future in distributed.as_completed(futures):
            index = futures[future]
            if future.status == "error":
                yield Outcome(index, None, f"its worker process failed: {future.exception()}")
            else:
                _, answer, failure = future.result()
                if failure is not None:
                    raise failure
                yield Outcome(index, answer)
            future.release()
