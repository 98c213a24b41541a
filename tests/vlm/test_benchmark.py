"""The benchmark of plans runs, and finds the promised bytes in every cache."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "skip.py"


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_every_line_holds_the_promised_bytes(tmp_path: Path) -> None:
    few = ("--layers", "4", "--vision", "16", "--rounds", "1", "--steps", "2", "--batch", "2")
    done = _run(*few, "--dtype", "bfloat16", "--out", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    lines = json.loads((tmp_path / "figures.json").read_text())["results"]
    assert [line["plan"] for line in lines][:2] == ["unpatched", "no-op"]
    assert any("FastV" in line["plan"] for line in lines)
    assert any("VTW" in line["plan"] for line in lines)
    assert all(line["kv_as_promised"] for line in lines)
    assert all(line["decode_ms"] > 0 and line["prefill_ms"] > 0 for line in lines)
    # 64 tokens of text in every layer, and 16 of vision in two of four: 72 of 80.
    half = next(line for line in lines if line["plan"] == "every second layer")
    assert half["kv_share"] == pytest.approx(0.9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--layers", "3"), "the plans need at least 4"),
        (("--dtype", "int8"), "--dtype int8 is none"),
        (("--text", "9"), "16 tokens stand before the image"),
        (("--vision", "15"), "must be a square number"),
        (("--attention", "nonsense"), "cannot build the model"),
    ],
)
def test_what_it_cannot_run_is_said_in_a_line(options: tuple[str, ...], words: str) -> None:
    done = _run(*options)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
