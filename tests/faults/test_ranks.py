"""torchrun and accelerate: two processes, one store; one of them is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from redundancy.store import ActivationStore
from tests.faults.test_kill_extract import extraction, same, tiny, undisturbed

pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytestmark = [pytest.mark.distributed]

__all__ = ["tiny", "undisturbed"]

ROOT = Path(__file__).parents[2]


def launch(launcher: str, out: Path, *victim: str, restarts: int = 0) -> int:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "--max-restarts", str(restarts)]
    command += ["--local-addr", "127.0.0.1", str(ROOT / "tests/faults/rank.py")]
    command += [launcher, str(out), f"{out}-marker", *victim]
    given = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        command, env=given, cwd=out.parent, timeout=500, capture_output=True
    ).returncode


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_two_ranks_write_one_store(tmp_path, undisturbed, launcher):
    assert launch(launcher, tmp_path / "acts") == 0
    shards = sorted(path.name[:3] for path in (tmp_path / "acts").glob("*.safetensors"))
    assert set(shards) == {"r0-", "r1-"}
    same(ActivationStore.open(tmp_path / "acts"), undisturbed[0])


@pytest.mark.parametrize("victim", ["0", "1"])
def test_a_killed_rank_is_restarted_and_nothing_is_lost_or_doubled(tmp_path, undisturbed, victim):
    out = tmp_path / "acts"
    assert launch("torchrun", out, victim, restarts=1) == 0
    assert Path(f"{out}-marker").exists()
    store = ActivationStore.open(out)
    same(store, undisturbed[0])
    rows = [row.id for shard in store._source._shards for row in shard.sidecar.samples]
    assert len(rows) == len(set(rows)) == 8


def test_without_restarts_one_process_takes_up_what_is_left(tmp_path, tiny, undisturbed):
    out = tmp_path / "acts"
    assert launch("torchrun", out, "1") != 0
    before = ActivationStore.open(out).done_ids()
    assert 0 < len(before) < 8
    extraction(tiny, out)()
    assert before <= ActivationStore.open(out).done_ids()
    same(ActivationStore.open(out), undisturbed[0])
