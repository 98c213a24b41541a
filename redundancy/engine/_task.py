"""One task: how it is called in a worker, and what comes back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["DIED_TWICE", "THREADS", "Answer", "Outcome", "Task", "call"]

Task = TypeVar("Task")
Answer = TypeVar("Answer")

DIED_TWICE = (
    "its worker process died twice (killed, or out of memory); give it more memory, set --memory, "
    "or run fewer at once with --jobs"
)


THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""What libraries take their number of threads from when they are loaded."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Answer]):
    """The answer to task number `index`, or why there is none."""

    index: int
    answer: Answer | None
    failure: str | None = None


def call(
    function: Callable[[Task], Answer], index: int, task: Task
) -> tuple[int, Answer | None, Exception | None]:
    """Run one task; an exception is an answer too, so that one bad task does not end a batch."""
    for name in THREADS:
        os.environ.setdefault(name, "1")  # for libraries that are loaded from here on
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships none

    try:
        with threadpool_limits(limits=1):
            return index, function(task), None
    except Exception as error:
        return index, None, error
