"""Training scenes without end: the train split's digits, slightly turned, scaled and shifted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from redundancy.demo.scenes import (
    CELL,
    COUNTS,
    Question,
    SceneObject,
    ask,
    digit_images,
    draw_objects,
    render,
    split_indices,
)
from redundancy.demo.scenes import TASKS as CHOICES

__all__ = ["TrainingScenes"]


class TrainingScenes:
    """Draws scenes of the train split with randomly distorted digits, and questions about them.

    Parameters
    ----------
    seed : int
        Seed of the distortions and of every draw.
    variants : int
        Distorted copies made of each digit image, once, at the start.
    """

    def __init__(self, seed: int, variants: int = 40) -> None:
        self.seed = seed
        self.rng = np.random.default_rng([seed, 1])
        self.sources = split_indices("train")
        images = digit_images()[0]
        self._variants = {
            int(i): [_distort(self.rng, images[i]) for _ in range(variants)] for i in self.sources
        }

    def objects(self, n_max: int = len(COUNTS)) -> tuple[SceneObject, ...]:
        """The objects of one scene: 1 to `n_max` of them, each number equally likely."""
        return draw_objects(self.rng, self.sources, int(self.rng.integers(1, n_max + 1)))

    def image(self, objects: Sequence[SceneObject]) -> NDArray[np.uint8]:
        """Draw these objects, each with one of its distortions and a brightness of its own."""
        patches = []
        for item in objects:
            choices = self._variants[item.source]
            gain = self.rng.uniform(0.8, 1.2)
            patches.append(np.clip(gain * choices[self.rng.integers(len(choices))], 0.0, 1.0))
        return render(objects, patches)

    def questions(self, objects: Sequence[SceneObject], tasks: Sequence[str]) -> list[Question]:
        """One question per entry of `tasks`, each different question once."""
        asked = [Question("", task, *ask(self.rng, objects, task), CHOICES[task]) for task in tasks]
        return list(dict.fromkeys(asked))


def _distort(rng: np.random.Generator, image: NDArray[np.float64]) -> NDArray[np.float32]:
    """Turn, shear, stretch and shift a digit a little.

    Little, because eight pixels bear no more: twice as much, or noise, cost two points of accuracy
    on the ``choose`` split's digits.
    """
    from scipy.ndimage import affine_transform

    angle, shear = rng.uniform(-0.12, 0.12), rng.uniform(-0.1, 0.1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1.0, 0.0], [shear, 1.0]]) @ np.diag(rng.uniform(0.95, 1.05, size=2))
    centre = np.full(2, (CELL - 1) / 2)
    shift = rng.uniform([-0.4, -0.8], [0.4, 0.8])
    moved = affine_transform(image, matrix, offset=centre - matrix @ (centre + shift), order=3)
    return np.clip(moved, 0.0, 1.0).astype(np.float32)
