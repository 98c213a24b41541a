"""Estimates on clusters: the same results to the last bit, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import redundancy as rd
from redundancy._tasks import plan_tasks
from redundancy.engine import submit
from redundancy.run import run_task

pytestmark = pytest.mark.distributed
MEASURES = ("geometric", "cka", "informational")
ENGINES = ["local", "dask", pytest.param("ray", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def acts(tmp_path_factory):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5, 16))
    arrays = {layer: x + 0.3 * layer * rng.normal(size=x.shape) for layer in range(5)}
    path = tmp_path_factory.mktemp("engines") / "acts"
    rd.ActivationStore.from_arrays(arrays).save(path)
    return path


@pytest.fixture(scope="module")
def alone(acts):
    return rd.estimate(acts, MEASURES, jobs=1)


@pytest.fixture
def engine(request):
    pytest.importorskip(
        {"dask": "distributed", "local": "joblib"}.get(request.param, request.param)
    )
    return request.param


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_results_are_the_same_to_the_last_bit(acts, alone, engine):
    assert rd.estimate(acts, MEASURES, engine=engine, jobs=2) == alone


def test_arrays_in_memory_travel_to_a_cluster(acts, alone):
    pytest.importorskip("distributed")
    store = rd.open_source(acts)
    held = {layer: store.states(layer).reshape(60, 5, 16) for layer in store.layers}
    source = rd.ActivationStore.from_arrays(held)
    assert rd.estimate(source, "geometric", engine="dask", jobs=2) == alone.select("geometric")


def slowly(given):
    """A task of the run, slow enough to be met by a kill; who works on it leaves a note."""
    task, notes = given
    Path(notes, f"{task.measure}-{task.lower}-{os.getpid()}").write_text("")
    time.sleep(0.3)
    return run_task(task)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_workers_killed_in_the_middle_lose_nothing(acts, alone, engine, tmp_path):
    tasks = plan_tasks(rd.open_source(acts), MEASURES)
    killed = []

    def killer():
        for _ in range(4000):  # Ray takes its time to start
            found = sorted(tmp_path.glob("cka-*"))
            if found:
                killed.append(int(found[0].name.rpartition("-")[2]))
                os.kill(killed[0], signal.SIGKILL)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=killer)
    thread.start()
    found = {
        outcome.index: outcome
        for outcome in submit(slowly, [(t, str(tmp_path)) for t in tasks], engine=engine, jobs=2)
    }
    thread.join()
    assert killed
    assert os.getpid() not in killed
    assert sorted(found) == list(range(len(tasks)))
    assert all(outcome.failure is None for outcome in found.values())
    assert [found[i].answer.estimate for i in range(len(tasks))] == [one.estimate for one in alone]
