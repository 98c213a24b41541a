"""An estimate killed anywhere and resumed gives the results of one that nobody disturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

import redundancy as rd
from redundancy.record import read_record
from tests.faults.killing import cli, kill_after, seconds_of, warm_up

MEASURES = ("geometric", "cka", "informational")


@pytest.fixture(scope="module")
def acts(tmp_path_factory):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4, 4))
    arrays = {layer: x + 0.3 * layer * rng.normal(size=x.shape) for layer in range(7)}
    path = tmp_path_factory.mktemp("killed") / "acts"
    rd.ActivationStore.from_arrays(arrays).save(path)
    return path


def command(acts, out, *more):
    chosen = [part for name in MEASURES for part in ("--measure", name)]
    given = ["estimate", str(acts), *chosen, "--out", str(out), "--jobs", "1", "-q"]
    return cli(*given, "--option", "mi=none", "--states", "4", *more)


@pytest.fixture(scope="module")
def undisturbed(acts, tmp_path_factory):
    """Results as bytes, and how long they took; the second run finds everything loaded."""
    folder = tmp_path_factory.mktemp("undisturbed")
    warm_up(command(acts, folder / "first"))
    took = seconds_of(command(acts, folder / "run"))
    return results_of(folder / "run"), took


def results_of(run: Path) -> bytes:
    record = read_record(run)
    assert record.status == "complete"
    return msgspec.json.encode(record.results)


def keys_of(run: Path) -> list[tuple]:
    lines = [line for line in (run / "pairs.jsonl").read_bytes().splitlines() if line.strip()]
    found = []
    for line in lines:
        try:
            one = json.loads(line)
        except ValueError:
            continue
        found.append((one["measure"], one["modality"], *one["pair"]))
    return found


def killed_and_resumed(acts, folder, undisturbed, seed):
    results, took = undisturbed
    out = folder / f"run-{seed}"
    rng = np.random.default_rng(seed)
    alive = kill_after(command(acts, out), float(rng.uniform(0, took)))
    again = kill_after(command(acts, out, "--resume"), float(rng.uniform(0, took)))
    before = keys_of(out) if (out / "pairs.jsonl").exists() else []
    seconds_of(command(acts, out, "--resume"))
    assert results_of(out) == results
    # Nothing finished was computed twice: at most the line that was being written.
    assert len(set(keys_of(out))) == 18
    assert len(keys_of(out)) == 18 or len(before) < len(keys_of(out)) <= 20
    assert not [path for path in out.iterdir() if path.name.startswith(".tmp-") and _old(path)]
    return alive + again


def _old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > 120


def test_killed_and_resumed(acts, tmp_path, undisturbed):
    assert sum(killed_and_resumed(acts, tmp_path, undisturbed, seed) for seed in (1, 2)) > 0


@pytest.mark.slow
def test_a_hundred_kills(acts, tmp_path, undisturbed):
    alive = [killed_and_resumed(acts, tmp_path, undisturbed, seed) for seed in range(100, 200)]
    assert sum(alive) >= 100  # of 200


def test_a_kill_before_the_record_leaves_a_folder_that_can_be_used(acts, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / ".tmp-0123456789ab-record.json").write_bytes(b'{"half')
    seconds_of(command(acts, out))
    results_of(out)


@pytest.mark.parametrize("where", ["first", pytest.param("last", marks=pytest.mark.slow)])
def test_a_flipped_byte_in_the_journal_costs_one_pair_and_no_truth(
    acts, tmp_path, undisturbed, where
):
    out = tmp_path / "run"
    seconds_of(command(acts, out))
    journal = out / "pairs.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    at = {"first": 0, "last": 17}[where]
    digit = lines[at].index(b'"value":') + 8
    changed = bytearray(lines[at])
    changed[digit] = ord("7") if changed[digit] != ord("7") else ord("3")
    journal.write_bytes(b"".join([*lines[:at], bytes(changed), *lines[at + 1 :]]))
    seconds_of(command(acts, out, "--resume"))
    assert results_of(out) == undisturbed[0]
    assert len(keys_of(out)) == 19


@pytest.mark.slow
def test_no_worker_outlives_a_killed_run(acts, tmp_path):
    arguments = [
        "estimate",
        str(acts),
        "-m",
        "informational",
        "--pairs",
        "all",
        "--jobs",
        "2",
        "-q",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "redundancy", *arguments, "--out", str(tmp_path / "run")],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    journal = tmp_path / "run" / "pairs.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.05)
    process.kill()
    process.wait()
    while time.monotonic() < deadline and _session(process.pid):
        time.sleep(0.5)
    left = _session(process.pid)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def _session(leader: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found
