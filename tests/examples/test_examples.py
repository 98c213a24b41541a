"""Every script in examples/ runs; a new one is under test as soon as it is there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import redundancy as rd

pytestmark = pytest.mark.slow  # `make tutorials` runs them, and CI does

FOLDER = Path(__file__).resolve().parents[2] / "examples"
TESTED = {"saved_activations", "llava", "text_model", "vision_transformer"}


def main_of(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_every_example_is_tested():
    assert {path.stem for path in FOLDER.glob("*.py")} == TESTED


def test_saved_activations(tmp_path, capsys):
    results = main_of("saved_activations")(["--out", str(tmp_path)])
    assert [r.verdict for r in results.select("geometric")] == [
        "redundant",
        "redundant",
        "needed",
        "redundant",
    ]
    assert "<html" in (tmp_path / "report.html").read_text()
    assert "report.html" in capsys.readouterr().out


def test_text_model(tmp_path, capsys):
    plan = main_of("text_model")(["--out", str(tmp_path), "--drop", "2"])
    assert len(plan.drop_layers) == 2
    assert "answers that stayed the same" in capsys.readouterr().out


def test_vision_transformer(tmp_path):
    results = main_of("vision_transformer")(["--save", str(tmp_path / "acts")])
    assert results.modalities == ("patch",)
    assert len(results.select("geometric")) == 5
    assert all(r.estimate.n_groups == 40 for r in results)
    assert rd.ActivationStore.open(tmp_path / "acts").n_samples == 40


def test_llava_asks_for_its_three_files(tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main_of("llava")(["--out", str(tmp_path)])
    assert stopped.value.code == 2


def test_llava_on_the_bundled_model(tmp_path, capsys):
    plan = main_of("llava")(
        ["--model", "bundled", "--out", str(tmp_path), "--images", "40", "150", "20",
         "--batch-size", "50"]
    )  # fmt: skip
    assert rd.SkipPlan.load(tmp_path / "plan.json").to_json() == plan.to_json()
    out = capsys.readouterr().out
    assert "vision's effect in block 1" in out
    assert "accuracy" in out
    # The model was trained for this, and exiting from layer 5 on costs it nothing.
    assert not plan.is_noop
