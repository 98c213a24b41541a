"""Where work runs. The one package that knows joblib, Dask and Ray.

`submit` takes a function and its tasks and yields each task's outcome as it finishes. An exception
raised by a task travels to the caller; a task whose worker died is tried again alone, and reported
as failed if it takes its worker down once more. Results do not depend on the engine: tasks carry
their seeds, and every worker runs one BLAS thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from estimators import InputError
from redundancy.engine._task import Answer, Outcome, Task
from redundancy.registry import unknown

__all__ = ["ENGINES", "Outcome", "default_jobs", "submit"]

ENGINES = ("local", "dask", "ray")


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
        ``"local"``; ``"dask"`` or ``"ray"`` for a cluster on this machine;
        ``"dask:tcp://host:port"`` for the scheduler at that address, ``"ray:host:port"`` for the
        Ray cluster there.
    jobs : int, optional
        Processes on this machine; a cluster elsewhere has its own number. With the local engine
        and 1, tasks run in this process, in order.

    Raises
    ------
    InputError
        If the engine is unknown or not installed, nothing answers at its address, or `jobs` is not
        positive.

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
    if not tasks:
        return iter(())
    if name == "dask":
        from redundancy.engine._dask import on_dask

        return on_dask(function, tasks, address, jobs)
    if name == "ray":
        from redundancy.engine._ray import on_ray

        return on_ray(function, tasks, address, jobs)
    if address:
        raise InputError(
            f"engine {engine!r}: the local engine has no address; use dask:tcp://host:port"
        )
    if jobs == 1:
        return (Outcome(i, function(task)) for i, task in enumerate(tasks))
    from redundancy.engine._local import on_loky

    return on_loky(function, tasks, jobs)
