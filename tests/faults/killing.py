"""Work in a process of its own that is killed at a given moment, without a chance to tidy up."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from typing import Any

CONTEXT = multiprocessing.get_context("fork")


def start(work: Callable[[], Any]) -> Any:
    """Run `work` in a forked process: everything is imported already, so kills hit the work."""

    def quietly() -> None:
        with (
            open(os.devnull, "w") as nowhere,  # noqa: PTH123
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            try:
                work()
            except SystemExit as end:
                os._exit(int(end.code or 0))
            except BaseException:
                os._exit(70)
        os._exit(0)

    sys.stdout.flush()
    process = CONTEXT.Process(target=quietly)
    process.start()
    return process


def seconds_of(work: Callable[[], Any]) -> float:
    """How long the work takes when nobody disturbs it."""
    began = time.perf_counter()
    process = start(work)
    process.join()
    assert process.exitcode == 0, process.exitcode
    return time.perf_counter() - began


def kill_after(work: Callable[[], Any], seconds: float) -> bool:
    """Kill the work after some time; whether it was still going on."""
    process = start(work)
    process.join(seconds)
    alive = process.is_alive()
    process.kill()
    process.join()
    assert alive or process.exitcode == 0, process.exitcode
    return alive


def warm_up(work: Callable[[], Any]) -> None:
    """Do the work here once, so that whatever it imports is there for the processes to come."""
    with (
        open(os.devnull, "w") as nowhere,  # noqa: PTH123
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        contextlib.suppress(SystemExit),
    ):
        work()


def cli(*arguments: str) -> Callable[[], None]:
    """A command line, as work."""

    def work() -> None:
        from redundancy.cli import main

        main(list(arguments))

    return work
