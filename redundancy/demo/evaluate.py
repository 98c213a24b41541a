"""Accuracy of the bundled model: per task, without the image, and against the layers skipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redundancy.demo.model import N_VISION_TOKENS, answers
from redundancy.demo.packing import Encoder, decode, vision_window
from redundancy.demo.scenes import TASKS, Scene, chance_levels, scenes
from redundancy.demo.stages import pixel_values

__all__ = [
    "CHOOSE_SEED",
    "HELD_OUT_SEED",
    "accuracy",
    "figures",
    "generated_accuracy",
    "sweep",
    "window_accuracy",
]

CHOOSE_SEED = 1
HELD_OUT_SEED = 2026
"""Seed of the scenes that give the published figures; nothing else draws with it."""


def accuracy(right: NDArray[np.bool_], task: NDArray[np.int64]) -> dict[str, float]:
    """Share of right answers by task, and over all questions."""
    found = {name: float(right[task == i].mean()) for i, name in enumerate(TASKS)}
    return {**found, "all": float(right.mean())}


def generated_accuracy(
    model: Any, processor: Any, scenes: Sequence[Scene], *, image: bool = True
) -> dict[str, float]:
    """Accuracy of greedy ``generate``; an answer is right if the generated text is the word.

    Without `image` the prompt holds no image tokens: the question alone is answered.
    """
    from PIL import Image

    questions = [q for scene in scenes for q in scene.questions]
    pictures = None
    if image:
        pictures = [Image.fromarray(s.image) for s in scenes for _ in s.questions]
    given = answers(model, processor, [q.question for q in questions], pictures)
    right = np.array([g == q.answer for g, q in zip(given, questions, strict=True)])
    names = list(TASKS)
    return accuracy(right, np.array([names.index(q.task) for q in questions]))


def window_accuracy(
    model: Any,
    encoder: Encoder,
    scenes: Sequence[Scene],
    windows: Sequence[Sequence[bool]],
    *,
    batch: int = 50,
) -> list[dict[str, float]]:
    """Accuracy with vision taking part in some layers only, for several choices of layers.

    An answer is right if its word is the most probable of the whole vocabulary.
    """
    import torch

    right: list[list[NDArray[np.bool_]]] = [[] for _ in windows]
    tasks: list[NDArray[np.int64]] = []
    with torch.inference_mode():
        for start in range(0, len(scenes), batch):
            part = scenes[start : start + batch]
            packed = encoder.pack([scene.questions for scene in part], N_VISION_TOKENS)
            tasks.append(packed.task)
            pixels = pixel_values([scene.image for scene in part])
            states = model.model.vision_tower(pixels).last_hidden_state[:, 1:]
            vision = model.model.multi_modal_projector(states)
            for found, active in zip(right, windows, strict=True):
                best = decode(model, packed, vision, active)[:, 0].argmax(dim=-1)
                found.append(best.numpy() == packed.answer)
    task = np.concatenate(tasks)
    return [accuracy(np.concatenate(found), task) for found in right]


def sweep(model: Any, encoder: Encoder, scenes: Sequence[Scene]) -> dict[str, list[float]]:
    """Accuracy over all tasks when vision enters late, or leaves early, at L = 0 ... n_layers.

    Returns
    -------
    dict
        ``late_entry``: vision takes part in the layers L, L + 1, ...; ``early_exit``: in the layers
        before L. Late entry at 0 and early exit at n_layers are the full model.
    """
    n_layers = model.config.text_config.num_hidden_layers
    depths = range(n_layers + 1)
    late = [vision_window(n_layers, entry=depth) for depth in depths]
    early = [vision_window(n_layers, exit=depth) for depth in depths]
    found = [scores["all"] for scores in window_accuracy(model, encoder, scenes, late + early)]
    return {"late_entry": found[: len(late)], "early_exit": found[len(late) :]}


def figures(model: Any, processor: Any, n_scenes: int) -> dict[str, Any]:
    """All figures of a model: on the ``choose`` split, and the published ones.

    Returns
    -------
    dict
        ``choose`` (``accuracy`` by task) and ``held_out``: ``accuracy``, ``without_image`` and
        ``chance`` by task, ``late_entry`` and ``early_exit`` as in `sweep`.
    """
    encoder = Encoder(processor)
    choose = scenes("choose", n_scenes, CHOOSE_SEED)
    held_out = scenes("held_out", n_scenes, HELD_OUT_SEED)
    questions = [q for scene in held_out for q in scene.questions]
    everywhere = vision_window(model.config.text_config.num_hidden_layers)
    (chosen,) = window_accuracy(model, encoder, choose, [everywhere])
    return {
        "choose": {"n_scenes": n_scenes, "seed": CHOOSE_SEED, "accuracy": chosen},
        "held_out": {
            "n_scenes": n_scenes,
            "n_questions": len(questions),
            "seed": HELD_OUT_SEED,
            "accuracy": generated_accuracy(model, processor, held_out),
            "without_image": generated_accuracy(model, processor, held_out, image=False),
            "chance": chance_levels(questions),
            **sweep(model, encoder, held_out),
        },
    }
