"""The demo's data: splits apart, draws repeatable, answers right, files as promised."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from estimators import InputError
from redundancy.demo.scenes import (
    CELL,
    COLORS,
    COLUMNS,
    COUNTS,
    ROWS,
    SPLITS,
    TASKS,
    Question,
    chance_levels,
    digit_images,
    rows,
    scenes,
    split_indices,
    write_dataset,
)


def test_splits_share_no_digit_image_and_own_all_of_them() -> None:
    owned = [set(split_indices(split).tolist()) for split in SPLITS]
    assert sum(map(len, owned)) == len(set().union(*owned)) == len(digit_images()[0])


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_draw_only_from_their_split(split: str) -> None:
    used = {o.source for scene in scenes(split, 50, seed=3) for o in scene.objects}
    assert used <= set(split_indices(split).tolist())


def test_draw_depends_on_the_seed_and_not_on_the_number_drawn() -> None:
    few, many = scenes("choose", 3, seed=5), scenes("choose", 6, seed=5)
    other = scenes("choose", 3, seed=6)
    for a, b in zip(few, many, strict=False):
        assert (a.id, a.objects, a.questions) == (b.id, b.objects, b.questions)
        np.testing.assert_array_equal(a.image, b.image)
    assert [s.objects for s in few] != [s.objects for s in other]


def test_image_shows_each_object_in_its_colour_in_its_cell_and_nothing_else() -> None:
    images = digit_images()[0]
    for scene in scenes("held_out", 20, seed=1):
        left = scene.image.copy()
        for item in scene.objects:
            cell = np.s_[
                item.row * CELL : (item.row + 1) * CELL,
                item.column * CELL : (item.column + 1) * CELL,
            ]
            ink = images[item.source][..., None] * np.array(COLORS[item.color])
            np.testing.assert_array_equal(left[cell], np.rint(ink).astype(np.uint8))
            left[cell] = 0
        assert not left.any()
        cells = [(o.row, o.column) for o in scene.objects]
        assert all(a < b for a, b in pairwise(cells)), "objects stand in reading order"


def test_every_question_has_exactly_the_answer_the_objects_give() -> None:
    for scene in scenes("held_out", 200, seed=2):
        assert [q.task for q in scene.questions] == list(TASKS)
        for q in scene.questions:
            assert q.scene == scene.id
            assert q.choices == TASKS[q.task]
            assert {q.answer} == _true_answers(q, scene.objects)


def _true_answers(question: Question, objects: tuple) -> set[str]:
    """All answers that hold, worked out from the question's words."""
    words = question.question.rstrip("?").split()
    if question.task == "count":
        return {COUNTS[len(objects) - 1]}
    if question.task == "exists":
        found = any((o.color, str(o.digit)) == (words[3], words[4]) for o in objects)
        return {"yes" if found else "no"}
    if question.task == "digit_at":
        place = ROWS.index(words[8]), COLUMNS.index(words[5])
        return {str(o.digit) for o in objects if (o.row, o.column) == place}
    if question.task == "digit_of_color":
        return {str(o.digit) for o in objects if o.color == words[3]}
    return {o.color for o in objects if str(o.digit) == words[4]}


def test_answers_are_balanced_so_that_no_constant_does_well() -> None:
    drawn = scenes("train", 1000, seed=4)
    given = {
        task: Counter(q.answer for s in drawn for q in s.questions if q.task == task)
        for task in TASKS
    }
    for task, choices in TASKS.items():
        share = 1 / len(choices)
        # Four standard errors of a share, plus what the digits' own frequencies vary.
        slack = 4 * np.sqrt(share * (1 - share) / len(drawn)) + 0.01
        assert set(given[task]) == set(choices)
        assert max(given[task].values()) / len(drawn) < share + slack


def test_some_noes_name_a_colour_and_a_digit_that_are_both_there() -> None:
    crossed = noes = 0
    for scene in scenes("train", 300, seed=7):
        question = scene.questions[1]
        if question.answer == "no" and len(scene.objects) > 1:
            color, digit = question.question.rstrip("?").split()[3:]
            noes += 1
            crossed += any(o.color == color for o in scene.objects) and any(
                str(o.digit) == digit for o in scene.objects
            )
    assert 0.4 < crossed / noes < 0.8


def test_chance_is_the_best_constant_answer_to_each_task() -> None:
    asked = [Question("s", "exists", "?", a, TASKS["exists"]) for a in ("yes", "yes", "no")]
    asked += [Question("s", "count", "?", a, TASKS["count"]) for a in ("one", "two")]
    assert chance_levels(asked) == {"exists": 2 / 3, "count": 1 / 2, "all": 3 / 5}


def test_written_data_read_back_as_they_were_drawn(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "data", "choose", 4, seed=9)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    expected = list(rows("choose", 4, seed=9))
    assert len(lines) == len(expected) == 4 * len(TASKS)
    assert len({line["id"] for line in lines}) == len(lines)
    for line, row in zip(lines, expected, strict=True):
        with Image.open(path.parent / line.pop("image")) as picture:
            np.testing.assert_array_equal(np.asarray(picture), np.asarray(row.pop("image")))
        assert line == row
        assert set(line) == {"id", "group", "question", "answer", "choices", "task"}


def test_bad_input_is_named_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no split named 'test'; choose one of train, choose"):
        scenes("test", 1)
    with pytest.raises(InputError, match="ask for at least 1"):
        scenes("train", 0)
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(InputError, match="already holds something"):
        write_dataset(tmp_path, "train", 1)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
