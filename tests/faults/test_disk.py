"""A disk that fills up, a limit on file sizes, writes that fail: one sentence, and no loss."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest

import redundancy as rd
from estimators import InputError
from redundancy.record import read_record
from redundancy.store import ActivationStore
from tests.faults.killing import cli, start, warm_up
from tests.redundancy.store.conftest import create_store, sample_of

SLOW = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB that can be made larger; skipped where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=400k", "none", str(folder)], capture_output=True
    )
    if not done or done.returncode:
        pytest.skip("mounting needs privileges; the file size limit below stands in for it")

    def grow(size: str) -> None:
        subprocess.run([mount, "-o", f"remount,size={size}", str(folder)], check=True)

    yield folder, grow
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path, *, resume):
    store = create_store(path, resume=resume)
    with store.writer(max_samples=5) as writer:
        for number in range(60):
            writer.add(sample_of(number))


def everything(path):
    store = ActivationStore.open(path)
    return store.samples, [
        np.asarray(store.states(layer, word)).tolist()
        for layer in store.layers
        for word in store.modalities
    ]


def test_a_store_on_a_disk_that_fills_up(small_disk, tmp_path):
    folder, grow = small_disk
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(300_000))
    with pytest.raises(InputError, match="No space left on device"):
        fill(folder / "acts", resume=False)
    left = ActivationStore.open(folder / "acts")
    assert [one for one in left.verify() if one.severity != "note"] == []
    kept = left.done_ids()
    assert len(kept) < 60
    assert not list((folder / "acts").glob(".tmp-*"))
    ballast.unlink()
    grow("8m")
    fill(folder / "acts", resume=True)
    fill(tmp_path / "elsewhere", resume=False)
    assert kept <= ActivationStore.open(folder / "acts").done_ids()
    assert everything(folder / "acts") == everything(tmp_path / "elsewhere")


@pytest.fixture(scope="module")
def acts(tmp_path_factory):
    rng = np.random.default_rng(0)
    arrays = {layer: rng.normal(size=(40, 3, 4)) for layer in range(6)}
    path = tmp_path_factory.mktemp("disk") / "acts"
    rd.ActivationStore.from_arrays(arrays).save(path)
    return path


def estimate(acts, out, *more):
    return cli(
        "estimate", str(acts), "-m", "geometric", "-m", "cka", "--jobs", "1", "-q", "--out",
        str(out), *more,
    )  # fmt: skip


def exit_code(work, before=lambda: None):
    def both():
        before()
        work()

    process = start(both)
    process.join()
    return process.exitcode


@SLOW
def test_a_run_on_a_disk_that_fills_up(small_disk, acts, tmp_path):
    folder, grow = small_disk
    warm_up(estimate(acts, tmp_path / "warm"))
    for room in (0, 3_000, 9_000, 30_000):
        out = folder / f"run-{room}"
        ballast = folder / "ballast"
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        ballast.write_bytes(bytes(max(free - room, 0)))
        assert exit_code(estimate(acts, out)) == 2, room
        ballast.unlink()
    grow("16m")
    for room in (0, 3_000, 9_000, 30_000):
        out = folder / f"run-{room}"
        assert exit_code(estimate(acts, out, "--resume")) == 0
        assert _results(out) == _results(tmp_path / "warm")


def _results(run: Path) -> bytes:
    return msgspec.json.encode(read_record(run).results)


@pytest.mark.parametrize(
    "limit",
    [
        5_000,
        pytest.param(1, marks=SLOW),
        pytest.param(500, marks=SLOW),
        pytest.param(20_000, marks=SLOW),
    ],
)
def test_a_limit_on_file_sizes(acts, tmp_path, limit):
    """The same without privileges: RLIMIT_FSIZE lets a write fail in the middle of a file."""

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    out = tmp_path / "run"
    assert exit_code(estimate(acts, out), limited) == 2
    assert exit_code(estimate(acts, out, "--resume")) == 0
    record = json.loads((out / "record.json").read_text())
    assert record["status"] == "complete"
    assert len(record["results"]) == 10
