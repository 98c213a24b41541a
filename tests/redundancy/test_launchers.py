"""``torchrun`` and ``accelerate launch`` on the command line itself, as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.test_kill_extract import same

pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytestmark = [pytest.mark.distributed]

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "redundancy" / "demo" / "checkpoint"
ALONE = ["-m", "redundancy"]
LAUNCHERS = {
    "torchrun": "-m torch.distributed.run --standalone --local-addr 127.0.0.1 --nproc-per-node 2",
    # Without --multi-gpu, accelerate starts one process on a machine that has no GPU.
    "accelerate": "-m accelerate.commands.launch --multi-gpu --num-machines 1 --num-processes 2 "
    "--mixed-precision no --dynamo-backend no --main-process-port 0",
}


def _extract(launcher: list[str], folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "extract", str(MODEL), "--data", "data/data.jsonl"]
    # Rows alone in their batch: in other company the last bits of a state differ.
    command += ["--tokens", "4", "--batch-size", "1", *more]
    given = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        command, env=given, cwd=folder, timeout=300, capture_output=True, text=True
    )


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_write_what_one_writes(launcher: str, tmp_path: Path) -> None:
    from redundancy.demo.scenes import write_dataset
    from redundancy.store import ActivationStore

    launch = [*LAUNCHERS[launcher].split(), *ALONE]
    write_dataset(tmp_path / "data", "held_out", 3)
    assert _extract(ALONE, tmp_path, "-o", "alone").returncode == 0
    done = _extract(launch, tmp_path, "-o", "acts")
    assert done.returncode == 0, done.stderr
    shards = {path.name[:3] for path in (tmp_path / "acts").glob("*.safetensors")}
    assert shards == {"r0-", "r1-"}
    found = [ActivationStore.open(tmp_path / name) for name in ("alone", "acts")]
    same(*found)
    # One of the two speaks.
    assert done.stderr.count("ActivationStore(") == 1

    again = _extract(launch, tmp_path, "-o", "acts")
    assert again.returncode != 0
    assert "error: acts holds an activation store already; add --resume" in again.stderr
    same(found[0], ActivationStore.open(tmp_path / "acts"))
    assert _extract(launch, tmp_path, "-o", "acts", "--resume").returncode == 0
    same(found[0], ActivationStore.open(tmp_path / "acts"))
