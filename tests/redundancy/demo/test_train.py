"""The training command: every stage runs, touches only its own part, and repeats exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from redundancy.demo.augment import TrainingScenes
from redundancy.demo.card import curve_table
from redundancy.demo.model import build_model, build_processor, load
from redundancy.demo.packing import Encoder
from redundancy.demo.scenes import TASKS, split_indices
from redundancy.demo.stages import (
    train_answers,
    train_language,
    train_projector,
    train_tower,
    word_sums,
)
from redundancy.demo.train import QUICK, main, train


def test_quick_command_writes_a_checkpoint_that_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    assert main(["--quick", "--no-skipping", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert all(task in shown.out for task in TASKS)
    assert "5/5 refine" in shown.err
    assert "left" in shown.err
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["recipe"]["skipping"] == 0.0
    assert len(metrics["held_out"]["late_entry"]) == len(metrics["held_out"]["early_exit"]) == 9
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "this is the control" in card
    model, processor = load(out)
    assert model.config.image_token_id == processor.image_token_id

    assert main(["--quick", "--out", str(out)]) == 2
    assert "already holds something" in capsys.readouterr().err


def test_same_seed_trains_the_same_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / name, recipe=QUICK, seed=seed, n_scenes=2)
    a, b, c = (load(tmp_path / name)[0].state_dict() for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


@pytest.fixture
def parts() -> tuple[Any, Encoder, TrainingScenes]:
    processor = build_processor()
    return build_model(processor.tokenizer), Encoder(processor), TrainingScenes(0, variants=1)


def _moved(model: Any, before: dict[str, torch.Tensor]) -> set[str]:
    after = model.state_dict()
    names = {key for key in after if not torch.equal(after[key], before[key])}
    known = ("vision_tower", "multi_modal_projector", "language_model", "lm_head")
    return {part for part in known for key in names if part in key}


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("tower", {"vision_tower"}),
        ("language", {"language_model", "lm_head"}),
        ("projector", {"multi_modal_projector"}),
        ("answers", {"multi_modal_projector", "language_model", "lm_head"}),
    ],
)
def test_each_stage_changes_only_its_own_part(
    parts: tuple[Any, Encoder, TrainingScenes], stage: str, expected: set[str]
) -> None:
    model, encoder, data = parts
    before = {key: value.clone() for key, value in model.state_dict().items()}
    seen: list[tuple[int, int]] = []

    def report(done: int, steps: int, loss: float) -> None:
        assert loss > 0
        seen.append((done, steps))

    if stage == "tower":
        train_tower(model, data, 2, report)
    elif stage == "language":
        train_language(model, encoder, data, 2, 2, 1.0, report)
    elif stage == "projector":
        train_projector(model, encoder, data, 2, 2, report)
    else:
        train_answers(model, encoder, data, 2, 2, 1.0, report)
    assert seen == [(1, 2), (2, 2)]
    assert _moved(model, before) == expected


def test_a_few_steps_bring_the_tower_closer_to_naming_the_cells(
    parts: tuple[Any, Encoder, TrainingScenes],
) -> None:
    model, _, data = parts
    losses: list[float] = []
    train_tower(model, data, 40, lambda done, steps, loss: losses.append(loss))
    assert losses[-1] < 0.8 * losses[0]


def test_control_sees_the_same_scenes() -> None:
    drawn = []
    for skipping in (0.0, 1.0):
        processor = build_processor()
        data = TrainingScenes(0, variants=1)
        train_answers(
            build_model(processor.tokenizer),
            Encoder(processor),
            data,
            2,
            2,
            skipping,
            lambda done, steps, loss: None,
        )
        drawn.append(data.objects())
    assert drawn[0] == drawn[1]


def test_training_scenes_use_the_training_digits_only() -> None:
    data = TrainingScenes(0, variants=1)
    used = {o.source for _ in range(300) for o in data.objects(n_max=12)}
    assert used <= set(split_indices("train").tolist())


def test_words_of_a_cell_are_summed_and_an_empty_cell_is_one_word(
    parts: tuple[Any, Encoder, TrainingScenes],
) -> None:
    model, encoder, data = parts
    embedding = model.model.language_model.embed_tokens
    objects = data.objects(n_max=1)
    (item,) = objects
    sums = word_sums(embedding, encoder, [objects])[0]
    words = (str(item.digit), item.color)
    words += (("first", "second", "third", "fourth", "fifth", "sixth")[item.row],)
    words += ("ABCDEF"[item.column],)
    cell = item.row * 6 + item.column
    expected = sum(embedding.weight[encoder.word(word)] for word in words)
    torch.testing.assert_close(sums[cell], expected)
    torch.testing.assert_close(sums[cell - 1], embedding.weight[encoder.word("empty")])


def test_curve_table_has_a_column_per_depth() -> None:
    table = curve_table({"late": [1.0, 0.5], "early": [0.25, 1.0]})
    assert table.splitlines() == [
        "| vision | L=0 | L=1 |",
        "|---|---|---|",
        "| late | 1.000 | 0.500 |",
        "| early | 0.250 | 1.000 |",
    ]
