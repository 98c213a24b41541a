"""Processes of a Ray cluster. Second choice: it starts slowly, and its ports are open to the net
unless a firewall closes them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from estimators import InputError
from redundancy.engine._chains import Chains
from redundancy.engine._task import DIED_TWICE, Answer, Outcome, Task, call

__all__ = ["on_ray"]


def on_ray(
    function: Callable[[Task], Answer], tasks: Sequence[Task], address: str, jobs: int
) -> Iterator[Outcome[Answer]]:
    """Run tasks on a Ray cluster; see `redundancy.engine.submit`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise InputError(
            "the Ray engine is not installed; type: pip install 'redundancy[ray]'"
        ) from error
    with _cluster(ray, address, jobs):
        # A worker that dies is replaced, and its task tried once more.
        remote = ray.remote(num_cpus=1, max_retries=1)(call)
        places = max(int(ray.cluster_resources().get("CPU", 1)), 1)
        chains = Chains(range(len(tasks)), places)
        waiting: dict[Any, tuple[int, int]] = {}

        def begin(place: int) -> None:
            # One task a worker at a time: the one who is done is the one who takes the next.
            index = chains.next(place)
            if index is not None:
                waiting[remote.remote(function, index, tasks[index])] = place, index

        for place in range(places):
            begin(place)
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1)
            for reference in ready:
                place, index = waiting.pop(reference)
                begin(place)
                try:
                    _, answer, failure = ray.get(reference)
                except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
                    yield Outcome(index, None, DIED_TWICE)
                    continue
                except ray.exceptions.RayError as error:
                    text = (str(error).splitlines() or [type(error).__name__])[0]
                    yield Outcome(index, None, f"its worker failed: {text}")
                    continue
                if failure is not None:
                    raise failure
                yield Outcome(index, answer)


@contextlib.contextmanager
def _cluster(ray: Any, address: str, jobs: int) -> Iterator[None]:
    """Join the cluster at an address or start one here, and leave it in the end."""
    if ray.is_initialized():
        # The caller's own; it stays as it is.
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    try:
        if address:
            _knock(address)
            ray.init(address=address, **quiet)
        else:
            with _one_arena():
                ray.init(
                    num_cpus=jobs,
                    include_dashboard=False,
                    _node_ip_address="127.0.0.1",
                    **quiet,
                )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"no Ray cluster could be reached at {address or 'this machine'!r} ({text}); start one "
            "with `ray start --head` and give its address as --engine ray:host:port"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _one_arena() -> Iterator[None]:
    """Processes started meanwhile keep the memory that arrays of some megabytes come and go in.

    Ray's workers have many threads, and with an arena for each, glibc hands such memory back to the
    system all the time: page faults took a tenth of the work.
    """
    before = os.environ.get("MALLOC_ARENA_MAX")
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")
    try:
        yield
    finally:
        if before is None:
            del os.environ["MALLOC_ARENA_MAX"]


def _knock(address: str) -> None:
    """Ray itself would try for minutes to reach an address where nobody listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal() and int(port) < 2**16:
        with socket.create_connection((host, int(port)), timeout=10):
            pass
