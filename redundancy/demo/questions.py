"""Questions in words about scenes of coloured digits, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from estimators import InputError

if TYPE_CHECKING:
    from redundancy.demo.scenes import SceneObject

__all__ = [
    "COLORS",
    "COLUMNS",
    "COUNTS",
    "DIGITS",
    "ROWS",
    "TASKS",
    "Question",
    "ask",
    "chance_levels",
    "once",
]

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (235, 45, 45),
    "green": (45, 200, 65),
    "blue": (65, 95, 255),
    "yellow": (245, 225, 45),
    "magenta": (235, 65, 225),
    "cyan": (45, 220, 230),
}
DIGITS = tuple("0123456789")
COLUMNS = tuple("ABCDEF")
ROWS = ("first", "second", "third", "fourth", "fifth", "sixth")
COUNTS = ("one", "two", "three", "four")

TASKS: dict[str, tuple[str, ...]] = {
    "count": COUNTS,
    "exists": ("yes", "no"),
    "digit_at": DIGITS,
    "digit_of_color": DIGITS,
    "color_of_digit": tuple(COLORS),
}
"""Candidate answers of each task, by the task's name."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a scene in words, with its one-word answer and the task's candidates."""

    scene: str
    task: str
    question: str
    answer: str
    choices: tuple[str, ...]


def ask(rng: np.random.Generator, objects: Sequence[SceneObject], task: str) -> tuple[str, str]:
    """A question of one task about these objects, and its answer.

    ``exists`` is answered yes and no equally often; half of the noes name a colour and a digit that
    are both in the scene, but not on one object (where the scene has such a pair).
    """
    colors = [o.color for o in objects]
    digits = [o.digit for o in objects]
    if task == "count":
        return "How many digits are there?", COUNTS[len(objects) - 1]
    if task == "exists":
        if rng.random() < 0.5:
            item = objects[int(rng.integers(len(objects)))]
            return f"Is there a {item.color} {item.digit}?", "yes"
        color, digit = _absent_pair(rng, colors, digits)
        return f"Is there a {color} {digit}?", "no"
    if task == "digit_at":
        item = objects[int(rng.integers(len(objects)))]
        column, row = COLUMNS[item.column], ROWS[item.row]
        return f"Which digit is in column {column} of the {row} row?", str(item.digit)
    if task == "digit_of_color":
        unique = once(colors)
        item = objects[unique[int(rng.integers(len(unique)))]]
        return f"Which digit is {item.color}?", str(item.digit)
    if task == "color_of_digit":
        unique = once(digits)
        item = objects[unique[int(rng.integers(len(unique)))]]
        return f"What color is the {item.digit}?", item.color
    raise InputError(f"no task named {task!r}; choose one of {', '.join(TASKS)}.")


def chance_levels(questions: Sequence[Question]) -> dict[str, float]:
    """Accuracy of the best constant answer to each task, and over all questions together.

    The whole is the accuracy of always giving each task its own best answer: what can be had
    without looking at the image.
    """
    best: dict[str, int] = {}
    total: dict[str, int] = {}
    for task in TASKS:
        answers = [q.answer for q in questions if q.task == task]
        if answers:
            total[task] = len(answers)
            best[task] = max(answers.count(choice) for choice in TASKS[task])
    levels = {task: best[task] / total[task] for task in best}
    levels["all"] = sum(best.values()) / sum(total.values())
    return levels


def once(values: Sequence[Any]) -> list[int]:
    """Positions of the values that occur exactly once."""
    return [i for i, value in enumerate(values) if values.count(value) == 1]


def _absent_pair(
    rng: np.random.Generator, colors: Sequence[str], digits: Sequence[int]
) -> tuple[str, int]:
    present = set(zip(colors, digits, strict=True))
    crossed = sorted({(c, d) for c in colors for d in digits} - present)
    if crossed and rng.random() < 0.5:
        return crossed[int(rng.integers(len(crossed)))]
    # One property of an object that is there, the other drawn anew.
    while True:
        i = int(rng.integers(len(colors)))
        if rng.random() < 0.5:
            pair = (colors[i], int(rng.integers(10)))
        else:
            pair = (tuple(COLORS)[int(rng.integers(len(COLORS)))], digits[i])
        if pair not in present:
            return pair
