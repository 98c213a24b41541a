"""Scenes of coloured handwritten digits on a grid, and questions about them.

A scene is a 48 x 48 image: 1 to 4 scikit-learn digits, each in one of 6 colours, in a 6 x 6 grid of
8 x 8 pixel cells. Five tasks ask about it in words, and every answer is one word. The data need no
network: the digits ship with scikit-learn.

The digit images are divided once, by their index, into three splits that share none: ``train``
fits the weights, ``choose`` settles every choice of the training recipe, and ``held_out`` only
gives the published figures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy.demo.questions import (
    COLORS,
    COLUMNS,
    COUNTS,
    DIGITS,
    ROWS,
    TASKS,
    Question,
    ask,
    chance_levels,
    once,
)

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "CELL",
    "COLORS",
    "COLUMNS",
    "COUNTS",
    "DIGITS",
    "GRID",
    "ROWS",
    "SPLITS",
    "TASKS",
    "Question",
    "Scene",
    "SceneObject",
    "ask",
    "chance_levels",
    "digit_images",
    "draw_objects",
    "render",
    "rows",
    "scenes",
    "split_indices",
    "write_dataset",
]

GRID = 6
CELL = 8
SPLITS: dict[str, int] = {"train": 1247, "choose": 250, "held_out": 300}
"""How many of the 1,797 digit images each split owns."""

_SPLIT_SEED = 20_250_611


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One digit in a scene: what it shows, its colour, its cell, and the image it was drawn from.

    Parameters
    ----------
    digit : int
        The digit shown, 0 to 9.
    color : str
        One of `COLORS`.
    row, column : int
        The cell, counted from 0 at the top left.
    source : int
        Index of the drawing in ``sklearn.datasets.load_digits()``.
    """

    digit: int
    color: str
    row: int
    column: int
    source: int


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """An image and what is in it, with one question for each task.

    Parameters
    ----------
    id : str
        Unique among all scenes of a split and seed.
    image : ndarray of uint8, shape (48, 48, 3)
        Red, green and blue, on black.
    objects : tuple of SceneObject
        In reading order.
    questions : tuple of Question
        One per task, in the order of `TASKS`.
    """

    id: str
    image: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]
    questions: tuple[Question, ...]


@cache
def digit_images() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All digit images, intensities in [0, 1], shape (1797, 8, 8), and the digits they show."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images, labels = data.images / 16.0, data.target.astype(np.int64)
    images.setflags(write=False)
    labels.setflags(write=False)
    return images, labels


@cache
def split_indices(split: str) -> NDArray[np.int64]:
    """Indices of the digit images that a split owns; no index is in two splits.

    Raises
    ------
    InputError
        If there is no such split.

    Examples
    --------
    >>> [len(split_indices(split)) for split in SPLITS]
    [1247, 250, 300]
    """
    if split not in SPLITS:
        raise InputError(f"no split named {split!r}; choose one of {', '.join(SPLITS)}.")
    order = np.random.default_rng(_SPLIT_SEED).permutation(sum(SPLITS.values()))
    start = 0
    for name, size in SPLITS.items():
        if name == split:
            break
        start += size
    owned = np.sort(order[start : start + SPLITS[split]])
    owned.setflags(write=False)
    return owned


def draw_objects(
    rng: np.random.Generator, sources: NDArray[np.int64], n: int
) -> tuple[SceneObject, ...]:
    """Place n digits from `sources` in distinct cells, in colours drawn uniformly.

    Drawn anew until at least one colour and one digit occur exactly once, so that every task has a
    question with a single right answer.
    """
    labels = digit_images()[1]
    colors = tuple(COLORS)
    while True:
        picked = sources[rng.integers(len(sources), size=n)]
        shades = rng.integers(len(colors), size=n)
        digits = labels[picked]
        if once(shades.tolist()) and once(digits.tolist()):
            break
    cells = np.sort(rng.permutation(GRID * GRID)[:n])
    return tuple(
        SceneObject(int(d), colors[c], int(cell) // GRID, int(cell) % GRID, int(i))
        for d, c, cell, i in zip(digits, shades, cells, picked, strict=True)
    )


def render(
    objects: Sequence[SceneObject], patches: Sequence[NDArray[np.floating[Any]]]
) -> NDArray[np.uint8]:
    """Draw a scene: each object's 8 x 8 intensities in [0, 1], times its colour, in its cell.

    Returns
    -------
    ndarray of uint8, shape (48, 48, 3)
    """
    image = np.zeros((GRID * CELL, GRID * CELL, 3), np.uint8)
    for item, patch in zip(objects, patches, strict=True):
        y, x = item.row * CELL, item.column * CELL
        ink = patch[:, :, None] * np.asarray(COLORS[item.color], np.float64)
        image[y : y + CELL, x : x + CELL] = np.rint(ink).astype(np.uint8)
    return image


def scenes(split: str, n: int, seed: int = 0) -> list[Scene]:
    """Draw n scenes from one split's digits; scene i is the same whatever n is.

    Parameters
    ----------
    split : str
        ``"train"``, ``"choose"`` or ``"held_out"``.
    n : int
        Number of scenes.
    seed : int
        Seed of the draw.

    Returns
    -------
    list of Scene

    Raises
    ------
    InputError
        If there is no such split, or n is below 1.

    Examples
    --------
    >>> scene = scenes("held_out", 1, seed=0)[0]
    >>> scene.image.shape, len(scene.questions)
    ((48, 48, 3), 5)
    >>> [q.task for q in scene.questions]
    ['count', 'exists', 'digit_at', 'digit_of_color', 'color_of_digit']
    """
    sources = split_indices(split)
    if n < 1:
        raise InputError(f"{n} scenes were asked for; ask for at least 1.")
    return [_scene(split, sources, seed, i) for i in range(n)]


def rows(split: str, n: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the 5 n questions about n scenes as flat rows.

    Yields
    ------
    dict
        ``id``, ``group`` (the scene's id: its questions share an image and are dependent),
        ``image`` (PIL, RGB), ``question``, ``answer``, ``choices`` (list of str) and ``task``.

    Examples
    --------
    >>> row = next(rows("held_out", 1))
    >>> row["question"], row["choices"]
    ('How many digits are there?', ['one', 'two', 'three', 'four'])
    """
    from PIL import Image

    for scene in scenes(split, n, seed):
        picture = Image.fromarray(scene.image)
        for question in scene.questions:
            yield _row(scene, question, picture)


def write_dataset(folder: str | Path, split: str, n: int, seed: int = 0) -> Path:
    """Write n scenes as PNG files under ``images/`` and their questions as ``data.jsonl``.

    One JSON object per line, as in `rows`, with ``image`` the picture's path relative to `folder`.

    Returns
    -------
    Path
        The JSONL file, written last: if it stands, the pictures do.

    Raises
    ------
    InputError
        If `folder` already holds something, or the split or n is unusable.
    """
    from PIL import Image

    drawn = scenes(split, n, seed)
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} already holds something; name a new or empty folder.")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for scene in drawn:
        name = f"images/{scene.id}.png"
        Image.fromarray(scene.image).save(folder / name)
        lines += [json.dumps(_row(scene, question, name)) for question in scene.questions]
    path = folder / "data.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _scene(split: str, sources: NDArray[np.int64], seed: int, index: int) -> Scene:
    # A generator per scene: its content depends neither on n nor on the scenes before it.
    rng = np.random.default_rng([seed, list(SPLITS).index(split), index])
    name = f"{split}-{seed}-{index:05d}"
    objects = draw_objects(rng, sources, int(rng.integers(1, len(COUNTS) + 1)))
    images = digit_images()[0]
    questions = tuple(
        Question(name, task, *ask(rng, objects, task), choices) for task, choices in TASKS.items()
    )
    return Scene(name, render(objects, [images[o.source] for o in objects]), objects, questions)


def _row(scene: Scene, question: Question, image: Image | str) -> dict[str, Any]:
    return {
        "id": f"{scene.id}-{question.task}",
        "group": scene.id,
        "image": image,
        "question": question.question,
        "answer": question.answer,
        "choices": list(question.choices),
        "task": question.task,
    }
