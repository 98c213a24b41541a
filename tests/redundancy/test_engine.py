"""Work goes out, every answer comes back, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import InputError
from redundancy.engine import submit
from redundancy.engine._chains import Chains


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


@given(st.integers(0, 40), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_chains_give_every_task_once_and_keep_neighbours_together(count, workers, seed):
    """Whoever asks when: nobody is sent away while something is left, and few chains are torn."""
    rng = np.random.default_rng(seed)
    chains, seen, torn, before = Chains(range(count), workers), [], 0, {}
    while len(seen) < count:
        worker = int(rng.integers(workers))
        index = chains.next(worker)
        assert index is not None
        torn += index != before.get(worker, index - 1) + 1
        before[worker] = index
        seen.append(index)
    assert sorted(seen) == list(range(count))
    assert all(chains.next(worker) is None for worker in range(workers))
    # Taking over half of what is left tears a chain a few times per worker, not at every task.
    assert torn <= workers * (2 + np.log2(count + 1))


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


def die_if_asked(task: tuple[str, int]) -> int:
    """Task 0 dies every time; the others tell how many processes ran."""
    marker, x = task
    if x == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    Path(marker, f"{x}-{os.getpid()}").write_text("")
    time.sleep(0.2)  # long enough for a second process to start on a busy machine
    return x


def test_after_a_death_the_rest_still_runs_side_by_side(tmp_path):
    found = collect(submit(die_if_asked, [(str(tmp_path), x) for x in range(20)], jobs=2))
    assert {i: answer for i, (answer, _) in found.items()} == {0: None} | {
        i: i for i in range(1, 20)
    }
    # Only the few that were under way with the killer are run alone.
    notes = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    last = {path.name.partition("-")[2] for path in notes[-10:]}
    assert len(last) == 2


def test_the_local_engine_has_no_address():
    with pytest.raises(InputError, match="the local engine has no address"):
        submit(square, [1], engine="local:tcp://127.0.0.1:1")


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_a_missing_cluster_library_is_one_sentence(monkeypatch, name):
    library = {"dask": "distributed", "ray": "ray"}[name]
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"not installed; type: pip install 'redundancy\[{name}"):
        list(submit(square, [1], engine=name))


CLUSTERS = ["dask", pytest.param("ray", marks=pytest.mark.slow)]


@pytest.fixture
def cluster(request):
    pytest.importorskip({"dask": "distributed"}.get(request.param, request.param))
    return request.param


@pytest.mark.distributed
@pytest.mark.parametrize("cluster", CLUSTERS, indirect=True)
def test_a_cluster_gives_the_same_answers(cluster):
    found = {o.index: o.answer for o in submit(square, list(range(7)), engine=cluster, jobs=2)}
    assert found == {i: i * i for i in range(7)}


@pytest.mark.distributed
@pytest.mark.parametrize("cluster", CLUSTERS, indirect=True)
def test_a_worker_of_a_cluster_killed_once_loses_nothing(cluster, tmp_path):
    tasks = [(i, str(tmp_path / "marker")) for i in range(6)]
    found = collect(submit(die_once, tasks, engine=cluster, jobs=2))
    assert found == {i: (i, None) for i in range(6)}
    assert (tmp_path / "marker").exists()


@pytest.mark.distributed
@pytest.mark.parametrize("cluster", CLUSTERS, indirect=True)
def test_on_a_cluster_too_the_killer_fails_alone(cluster):
    found = collect(submit(always_die_at_two, list(range(5)), engine=cluster, jobs=2))
    assert {i: a for i, (a, _) in found.items()} == {0: 0, 1: 1, 2: None, 3: 3, 4: 4}
    assert "died twice" in found[2][1]


@pytest.mark.distributed
@pytest.mark.parametrize("cluster", CLUSTERS, indirect=True)
def test_an_exception_on_a_cluster_reaches_the_caller(cluster):
    with pytest.raises(ValueError, match="three is not allowed"):
        list(submit(explode_at_three, list(range(6)), engine=cluster, jobs=2))


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("engine", "library", "remedy"),
    [
        ("dask:tcp://127.0.0.1:1", "distributed", "dask scheduler"),
        ("dask:nonsense://x", "distributed", "dask scheduler"),
        ("ray:127.0.0.1:1", "ray", "ray start --head"),
    ],
)
def test_an_address_where_nobody_answers(engine, library, remedy):
    pytest.importorskip(library)
    with pytest.raises(InputError, match=remedy):
        list(submit(square, [1, 2], engine=engine))


@pytest.mark.distributed
def test_a_scheduler_at_an_address():
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(host="127.0.0.1", silence_logs=50, **options) as there:
        found = list(submit(square, [1, 2, 3], engine=f"dask:{there.scheduler_address}"))
    assert sorted(o.answer for o in found) == [1, 4, 9]
