"""The packaged checkpoint: it loads plainly, answers well, and its published figures are true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redundancy.demo.card import accuracy_table, curve_table, model_card
from redundancy.demo.evaluate import figures, window_accuracy
from redundancy.demo.model import N_LAYERS, answers, checkpoint, load
from redundancy.demo.packing import Encoder, vision_window
from redundancy.demo.scenes import TASKS, rows, scenes, write_dataset
from vlm.evaluate import evaluate
from vlm.plan import SkipPlan
from vlm.skip import skipping

_DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def bundled() -> tuple[Any, Any]:
    return load()


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((checkpoint() / "metrics.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def control() -> dict[str, Any]:
    path = _DOCS / "data" / "demo_control_metrics.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_checkpoint_is_small_and_loads_by_plain_from_pretrained() -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = checkpoint()
    assert (folder / "model.safetensors").stat().st_size < 5e6
    model = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    assert model.config.model_type == "llava"
    assert model.config.text_config.num_hidden_layers == N_LAYERS
    assert processor.chat_template
    assert processor.tokenizer.padding_side == "left"


def test_answers_held_out_questions_in_padded_batches(bundled: tuple[Any, Any]) -> None:
    asked = list(rows("held_out", 20, seed=77))
    given = answers(*bundled, [r["question"] for r in asked], [r["image"] for r in asked])
    right = np.mean([g == r["answer"] for g, r in zip(given, asked, strict=True)])
    assert len(asked) == 100
    assert right >= 0.9


def test_published_figures_meet_the_targets(metrics: dict[str, Any]) -> None:
    held_out = metrics["held_out"]
    assert held_out["n_scenes"] >= 1000
    assert set(held_out["accuracy"]) == {*TASKS, "all"}
    assert held_out["accuracy"]["all"] >= 0.97
    assert min(held_out["accuracy"].values()) >= 0.95
    for task, chance in held_out["chance"].items():
        assert held_out["without_image"][task] <= chance + 0.05, task
    assert abs(held_out["without_image"]["all"] - held_out["chance"]["all"]) <= 0.05
    # Full depth is the full model, by another way of counting; no depth sees nothing.
    late, early = held_out["late_entry"], held_out["early_exit"]
    assert len(late) == len(early) == N_LAYERS + 1
    assert late[0] == early[-1] == pytest.approx(held_out["accuracy"]["all"], abs=0.002)
    assert late[-1] == early[0] <= held_out["chance"]["all"] + 0.05
    assert metrics["recipe"]["skipping"] > 0


def test_figures_hold_on_a_small_fresh_draw(
    bundled: tuple[Any, Any], metrics: dict[str, Any]
) -> None:
    model, processor = bundled
    windows = [
        vision_window(N_LAYERS, entry=1),
        vision_window(N_LAYERS, exit=N_LAYERS - 1),
        vision_window(N_LAYERS, entry=N_LAYERS),
    ]
    found = window_accuracy(model, Encoder(processor), scenes("held_out", 100, seed=78), windows)
    published = metrics["held_out"]
    expected = [
        published["late_entry"][1],
        published["early_exit"][-2],
        published["late_entry"][-1],
    ]
    # 500 questions in groups of five: a standard error of about two points at most.
    assert [f["all"] for f in found] == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize(("entry", "leave"), [(0, N_LAYERS), (2, N_LAYERS), (0, 5), (1, 6)])
def test_skipping_at_run_time_is_what_training_practised(
    bundled: tuple[Any, Any], entry: int, leave: int
) -> None:
    model, processor = bundled
    asked = list(rows("held_out", 20, seed=79))
    with skipping(model, SkipPlan(N_LAYERS, vision_entry=entry, vision_exit=leave)):
        given = answers(
            model, processor, [r["question"] for r in asked], [r["image"] for r in asked]
        )
    right = np.mean([g == r["answer"] for g, r in zip(given, asked, strict=True)])
    windows = [vision_window(N_LAYERS, entry, leave)]
    (found,) = window_accuracy(model, Encoder(processor), scenes("held_out", 20, seed=79), windows)
    # One question in a hundred may fall to rounding, or to a second word before the end token.
    assert right == pytest.approx(found["all"], abs=0.011)


def test_written_data_are_what_extraction_reads(bundled: tuple[Any, Any], tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "data", "held_out", 10, seed=80)
    result = evaluate(*bundled, path, SkipPlan(N_LAYERS), batch_size=16)
    assert len(result) == 50
    assert len(set(result.groups)) == 10
    assert result.accuracy is not None
    assert result.accuracy >= 0.9


def test_card_in_the_checkpoint_is_the_one_its_figures_give(metrics: dict[str, Any]) -> None:
    assert (checkpoint() / "README.md").read_text(encoding="utf-8") == model_card(metrics)


def test_control_differs_only_in_skipping(metrics: dict[str, Any], control: dict[str, Any]) -> None:
    assert control["recipe"]["skipping"] == 0.0
    same = {**control["recipe"], "skipping": metrics["recipe"]["skipping"]}
    assert same == metrics["recipe"]
    assert control["seed"] == metrics["seed"]
    assert control["held_out"]["seed"] == metrics["held_out"]["seed"]


def test_documentation_shows_the_figures_of_both_models(
    metrics: dict[str, Any], control: dict[str, Any]
) -> None:
    page = (_DOCS / "demo_model.md").read_text(encoding="utf-8")
    for kind in ("late_entry", "early_exit"):
        table = curve_table(
            {
                "with skipping in training": metrics["held_out"][kind],
                "without (control)": control["held_out"][kind],
            }
        )
        assert table in page
    assert accuracy_table(metrics["held_out"]) in page
    assert accuracy_table(control["held_out"]) in page


@pytest.mark.slow
def test_published_figures_are_reproduced(
    bundled: tuple[Any, Any], metrics: dict[str, Any]
) -> None:
    found, published = figures(*bundled, n_scenes=1000)["held_out"], metrics["held_out"]
    # Another machine's rounding may turn an answer or two.
    assert found.keys() == published.keys()
    for name, value in published.items():
        assert found[name] == pytest.approx(value, abs=0.003), name
