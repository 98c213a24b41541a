"""What the README says to type is typed, with the bundled model where it names one of 14 GB."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import redundancy as rd

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HUB = "llava-hf/llava-1.5-7b-hf"

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.S | re.M)
COMMANDS = [
    line
    for language, block in BLOCKS
    if language == "shell"
    for line in block.splitlines()
    if line.startswith("redundancy ") and line != "redundancy demo"  # CI runs that as `make demo`
]
ON_MODEL = [line for line in COMMANDS if "acts" in line or HUB in line]
ON_ARRAYS = [line for line in COMMANDS if line not in ON_MODEL]
PYTHON = [block for language, block in BLOCKS if language == "python"]


def type_in(line, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.fixture
def states(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 8))
    groups = np.repeat(np.arange(40), 10)
    np.savez(tmp_path / "states.npz", groups=groups, layer_0=x, layer_1=x + 0.1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_has_what_is_tested_here():
    assert len(ON_MODEL) >= 5
    assert len(ON_ARRAYS) >= 1
    assert len(PYTHON) == 3
    for target in re.findall(r"^make ([a-z]+)$", README, re.M):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


def test_paths_and_links_lead_somewhere():
    named = re.findall(r"`((?:docs|examples)/[\w./-]*|[A-Z]+\.(?:md|cff))`", README)
    named += re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert named
    for path in named:
        # `make docs` builds what is below _build; a fresh clone does not have it yet.
        assert (ROOT / path.split("/_build")[0]).exists(), path


def test_the_blocks_without_a_model(states):
    rng = np.random.default_rng(0)
    namespace = {"rd": rd, "x": rng.normal(size=200), "y": rng.normal(size=200)}
    namespace["p"] = rng.dirichlet(np.ones(8)).reshape(2, 2, 2)
    for block in PYTHON:
        if "skipping" not in block:
            exec(block, namespace)


@pytest.mark.slow
@pytest.mark.parametrize("line", ON_ARRAYS)
def test_the_commands_on_arrays(states, line):
    type_in(line, states)


@pytest.mark.slow
def test_the_commands_on_a_model(tmp_path, monkeypatch):
    from redundancy.demo import model as bundled
    from redundancy.demo.scenes import write_dataset

    for number, name in enumerate(["vqa", "calibration", "test"]):  # 72 certify at least
        write_dataset(tmp_path / name, "held_out", [20, 80, 20][number], seed=80 + number)
    for line in ON_MODEL:
        line = line.replace(HUB, str(bundled.checkpoint()))
        type_in(re.sub(r"(\w+)\.jsonl", r"\1/data.jsonl", line), tmp_path)
    model, processor = bundled.load()
    question = bundled.prompt(processor, "How many digits are there?", image=False)
    inputs = processor(text=[question], return_tensors="pt")
    monkeypatch.chdir(tmp_path)
    [block] = [block for block in PYTHON if "skipping" in block]
    exec(block, {"rd": rd, "model": model, "inputs": inputs})
