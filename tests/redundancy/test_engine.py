"""Work goes out, every answer comes back, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from estimators import InputError
from redundancy.engine import submit


def square(x: int) -> int:
    return x * x


def explode_at_three(x: int) -> int:
    if x == 3:
        raise ValueError("three is not allowed")
    return x


def die_once(task: tuple[int, str]) -> int:
    """Kill this worker the first time task 2 is met; the marker file remembers."""
    x, marker = task
    if x == 2 and not Path(marker).exists():
        Path(marker).write_text("died")
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def always_die_at_two(x: int) -> int:
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def collect(outcomes):
    return {o.index: (o.answer, o.failure) for o in outcomes}


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_task_is_answered_once(jobs):
    found = list(submit(square, list(range(7)), jobs=jobs))
    assert sorted(o.index for o in found) == list(range(7))
    assert {o.index: o.answer for o in found} == {i: i * i for i in range(7)}


def test_no_tasks_no_outcomes():
    assert list(submit(square, [], jobs=2)) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_exception_reaches_the_caller(jobs):
    with pytest.raises(ValueError, match="three is not allowed"):
        list(submit(explode_at_three, list(range(6)), jobs=jobs))


def test_a_killed_worker_loses_nothing(tmp_path):
    tasks = [(i, str(tmp_path / "marker")) for i in range(6)]
    found = collect(submit(die_once, tasks, jobs=2))
    assert found == {i: (i, None) for i in range(6)}
    assert (tmp_path / "marker").exists()


def test_a_task_that_always_kills_its_worker_fails_alone():
    found = collect(submit(always_die_at_two, list(range(5)), jobs=2))
    answers = {i: answer for i, (answer, _) in found.items()}
    assert answers == {0: 0, 1: 1, 2: None, 3: 3, 4: 4}
    assert "died twice" in found[2][1]


def test_unknown_engines_and_counts_are_refused():
    with pytest.raises(InputError, match="no engine named 'dusk'.*Did you mean 'dask'"):
        submit(square, [1], engine="dusk")
    with pytest.raises(InputError, match="jobs is 0"):
        submit(square, [1], jobs=0)


@pytest.mark.distributed
def test_dask_gives_the_same_answers():
    found = {o.index: o.answer for o in submit(square, list(range(7)), engine="dask", jobs=2)}
    assert found == {i: i * i for i in range(7)}


@pytest.mark.distributed
def test_dask_survives_a_task_that_kills_its_worker():
    found = collect(submit(always_die_at_two, list(range(5)), engine="dask", jobs=2))
    assert {i: a for i, (a, _) in found.items()} == {0: 0, 1: 1, 2: None, 3: 3, 4: 4}
    assert found[2][1]
