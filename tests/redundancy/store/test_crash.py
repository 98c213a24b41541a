"""Killed, out of disk, interrupted: nothing is lost that was finished, nothing is there twice."""

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from estimators import InputError
from redundancy import _files
from redundancy.store import ActivationStore

SAMPLES = 10


def fill(path, sample, create, *, resume, pause=0.0, rank=0):
    store = create(path, resume=resume)
    with store.writer(rank=rank, max_samples=2) as writer:
        for number in range(SAMPLES):
            writer.add(sample(number))
            time.sleep(pause)


def contents(store):
    arrays = [store.states(layer, word) for layer in store.layers for word in store.modalities]
    arrays += [store.positions(word) for word in store.modalities]
    for word in store.modalities:
        matrix = store.distances(word)
        arrays += [matrix.rho_sum, matrix.n_defined, store.pair(0, 1, word).summary.var_per_head]
    return store.samples, arrays


def same(path, other):
    (rows, arrays), (rows_b, arrays_b) = (contents(ActivationStore.open(p)) for p in (path, other))
    assert rows == rows_b
    for a, b in zip(arrays, arrays_b, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def undisturbed(tmp_path, sample, create):
    fill(tmp_path / "undisturbed", sample, create, resume=False)
    return tmp_path / "undisturbed"


class _Failing:
    """Let the first `allowed` calls through, then fail: for ever, or once."""

    def __init__(self, real, allowed, error, times):
        self.real, self.allowed, self.error, self.times = real, allowed, error, times

    def __call__(self, *arguments, **options):
        self.allowed -= 1
        if self.allowed < 0 and self.times:
            self.times -= 1
            raise self.error
        return self.real(*arguments, **options)


@pytest.mark.parametrize("name", ["link", "fsync"])
@pytest.mark.parametrize(
    ("error", "times"),
    [(OSError(28, "No space left on device"), 10**6), (KeyboardInterrupt(), 1)],
    ids=["disk full", "Ctrl-C"],
)
def test_failure_at_every_step_of_writing(
    tmp_path, sample, create, undisturbed, monkeypatch, name, error, times
):
    for allowed in range(0, 60, 5 if name == "fsync" else 2):
        path = tmp_path / f"{allowed}"
        failing = _Failing(getattr(os, name), allowed, error, times)
        monkeypatch.setattr(_files.os, name, failing)
        try:
            fill(path, sample, create, resume=False)
            finished = True
        except (InputError, KeyboardInterrupt):
            finished = False
        finally:
            monkeypatch.setattr(_files.os, name, failing.real)
        if (path / "store.json").exists():
            store = ActivationStore.open(path)
            assert [f for f in store.verify() if f.severity != "note"] == []
            written = {f"q{number}" for number in range(SAMPLES)}
            assert store.done_ids() <= written
        assert not list(path.glob(".tmp-*"))
        fill(path, sample, create, resume=True)
        same(path, undisturbed)
        if finished and failing.allowed >= 0:
            break
    else:
        pytest.fail("the failure was never pushed past the last call")


def test_interrupt_keeps_what_is_complete(tmp_path, sample, create):
    store = create(tmp_path / "acts")

    def interrupted():
        with store.writer(max_samples=100) as writer:
            for number in range(3):
                writer.add(sample(number))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    store = store.refresh()
    assert store.done_ids() == {"q0", "q1", "q2"}
    with store.writer() as writer:
        assert not writer.add(sample(1))
        assert writer.add(sample(3))
    assert store.refresh().n_samples == 4


def test_a_sample_that_does_not_fit_takes_none_with_it(tmp_path, sample, create):
    store = create(tmp_path / "acts")

    def misfit():
        with store.writer() as writer:
            writer.add(sample(0))
            writer.add(sample(1, np.float16))

    with pytest.raises(InputError, match="dtype and width of vision states"):
        misfit()
    assert store.done_ids() == {"q0"}


def test_full_disk_is_one_sentence(tmp_path, sample, create, monkeypatch):
    store = create(tmp_path / "acts")
    monkeypatch.setattr(
        _files.os, "fsync", _Failing(os.fsync, 0, OSError(28, "No space left on device"), 99)
    )
    writer = store.writer()
    writer.add(sample(0))
    with pytest.raises(InputError, match=r"can't be written: No space left.*--resume"):
        writer.flush()
    assert [path.name for path in store.path.iterdir()] == ["store.json"]


def _kill(path: Path, sample, create, seconds: float, ranks: int) -> int:
    """Processes that write one store, all killed after some time; how many were still at work."""
    context = multiprocessing.get_context("fork")
    create(path)
    workers = [
        context.Process(
            target=fill,
            args=(path, sample, create),
            kwargs={"resume": True, "pause": 0.002, "rank": rank},
        )
        for rank in range(ranks)
    ]
    for worker in workers:
        worker.start()
    time.sleep(seconds)
    alive = 0
    for worker in workers:
        alive += worker.is_alive()
        worker.kill()
    for worker in workers:
        worker.join()
    return alive


def _killed_and_resumed(tmp_path, sample, create, undisturbed, seed, ranks):
    path = tmp_path / f"seed-{seed}"
    seconds = float(np.random.default_rng(seed).uniform(0, 0.25))
    alive = _kill(path, sample, create, seconds, ranks)
    store = ActivationStore.open(path)
    assert [finding for finding in store.verify() if finding.severity == "error"] == []
    before = store.done_ids()
    create(path, resume=True)
    fill(path, sample, create, resume=True)
    assert before <= ActivationStore.open(path).done_ids()
    same(path, undisturbed)
    return alive


@pytest.mark.parametrize("ranks", [1, 2])
def test_sigkill_and_resume(tmp_path, sample, create, undisturbed, ranks):
    alive = [
        _killed_and_resumed(tmp_path, sample, create, undisturbed, seed, ranks) for seed in range(4)
    ]
    assert sum(alive) > 0


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_hundred_kills(tmp_path, sample, create, undisturbed, ranks):
    alive = [
        _killed_and_resumed(tmp_path, sample, create, undisturbed, seed, ranks)
        for seed in range(100, 200)
    ]
    assert sum(alive) >= 30


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path, create):
    create(tmp_path / "acts")
    old = time.time() - 3600
    dead = tmp_path / "acts" / ".tmp-0123456789ab-r0.safetensors"
    orphan = tmp_path / "acts" / "r0-0123456789ab-000001.safetensors"
    young = tmp_path / "acts" / ".tmp-0123456789ac-r0.safetensors"
    for path in (dead, orphan, young):
        path.write_bytes(b"half")
    for path in (dead, orphan):
        os.utime(path, (old, old))
    notes = ActivationStore.open(tmp_path / "acts").verify()
    assert {Path(finding.path).name for finding in notes} == {dead.name, orphan.name, young.name}
    with _files.atomic_file(tmp_path / "acts" / "r0-0123456789ad-000001.safetensors") as handle:
        os.utime(handle.name, (old, old))
        create(tmp_path / "acts", resume=True)
        assert Path(handle.name).exists()
    assert not dead.exists()
    assert not orphan.exists()
    assert young.exists()


def test_a_store_taken_away_is_said_before_anything_is_written(tmp_path, create):
    writer = create(tmp_path / "acts").writer()
    (tmp_path / "acts" / "store.json").unlink()
    with pytest.raises(InputError, match="is no store any more"):
        writer.__enter__()
    assert list((tmp_path / "acts").iterdir()) == []
