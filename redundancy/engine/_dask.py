"""Processes of a Dask cluster: here on loopback, or wherever its scheduler is.

Not through joblib's Dask backend, which hangs on a task that kills its worker.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from estimators import InputError
from redundancy.engine._chains import Chains
from redundancy.engine._task import DIED_TWICE, Answer, Outcome, Task, call

__all__ = ["on_dask"]

# Without what a cluster of minutes on one machine has no use for, and looking round less often.
_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.tick.interval": "1s",
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.diagnostics.nvml": False,
    # Dask would also have workers give memory back to the system at once (MALLOC_TRIM_THRESHOLD_),
    # and arrays of some megabytes come and go all the time: page faults took a tenth of the work.
    "distributed.nanny.pre-spawn-environ": {
        "OMP_NUM_THREADS": 1,
        "MKL_NUM_THREADS": 1,
        "OPENBLAS_NUM_THREADS": 1,
        "MALLOC_ARENA_MAX": 1,
    },
}


def on_dask(
    function: Callable[[Task], Answer], tasks: Sequence[Task], address: str, jobs: int
) -> Iterator[Outcome[Answer]]:
    """Run tasks on a Dask cluster; see `redundancy.engine.submit`."""
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise InputError(
            "the Dask engine is not installed; type: pip install 'redundancy[dask]'"
        ) from error
    with contextlib.ExitStack() as stack:
        client = _client(distributed, stack, address, jobs)
        suspects: list[int] = []
        for outcome in _answers(distributed, client, function, tasks, range(len(tasks))):
            if outcome.failure is None:
                yield outcome
            else:
                suspects.append(outcome.index)
        # The scheduler blames every task that a dying worker held; alone, only the guilty die.
        for index in suspects:
            yield from _answers(distributed, client, function, tasks, [index])


def _client(distributed: Any, stack: contextlib.ExitStack, address: str, jobs: int) -> Any:
    target: Any = address
    if not address:
        import dask

        # Loopback only, no web page of its own, and no looking at what workers do all the time.
        stack.enter_context(dask.config.set(_QUIET))
        target = stack.enter_context(
            distributed.LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                memory_limit=0,
                silence_logs=50,
            )
        )
    try:
        return stack.enter_context(distributed.Client(target, timeout="10s"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Dask scheduler answers at {address!r}; start one with `dask scheduler` and give "
            "its address as --engine dask:tcp://host:port"
        ) from error


def _answers(
    distributed: Any,
    client: Any,
    function: Callable[[Task], Answer],
    tasks: Sequence[Task],
    indices: Sequence[int],
) -> Iterator[Outcome[Answer]]:
    # One task at a time for each thread: the worker that is done is the idle one, so the scheduler
    # gives it the next of its chain. (Naming the worker would leave tasks waiting for a dead one.)
    known = client.scheduler_info(n_workers=-1)["workers"].values()
    places = sum(about["nthreads"] for about in known) or 1
    chains = Chains(indices, places)
    futures: dict[Any, tuple[int, int]] = {}
    finished = distributed.as_completed()

    def begin(place: int) -> None:
        index = chains.next(place)
        if index is not None:
            future = client.submit(call, function, index, tasks[index], pure=False)
            futures[future] = place, index
            finished.add(future)

    for place in range(places):
        begin(place)
    for future in finished:
        place, index = futures.pop(future)
        begin(place)
        if future.status == "error" and isinstance(future.exception(), distributed.KilledWorker):
            yield Outcome(index, None, DIED_TWICE)
        elif future.status != "finished":
            yield Outcome(index, None, f"its worker failed: {_reason(future)}")
        else:
            _, answer, failure = future.result()
            if failure is not None:
                raise failure
            yield Outcome(index, answer)
        future.release()


def _reason(future: Any) -> str:
    return str(future.exception()) if future.status == "error" else str(future.status)
