"""The model card, and the tables of figures it shares with the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redundancy.demo.model import N_LAYERS

__all__ = ["accuracy_table", "curve_table", "model_card"]


def accuracy_table(held_out: Mapping[str, Any]) -> str:
    """Markdown table of accuracy per task with the image, without it, and by chance."""
    lines = ["| task | accuracy | without the image | chance |", "|---|---|---|---|"]
    for task, value in held_out["accuracy"].items():
        blind, chance = held_out["without_image"][task], held_out["chance"][task]
        lines.append(f"| {task} | {value:.1%} | {blind:.1%} | {chance:.1%} |")
    return "\n".join(lines)


def curve_table(curves: Mapping[str, list[float]]) -> str:
    """Markdown table of accuracy against L, one row per named curve."""
    n = len(next(iter(curves.values())))
    lines = ["| vision | " + " | ".join(f"L={depth}" for depth in range(n)) + " |"]
    lines.append("|---" * (n + 1) + "|")
    for name, values in curves.items():
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return "\n".join(lines)


def model_card(metrics: Mapping[str, Any]) -> str:
    """The README of a checkpoint, from the figures in its ``metrics.json``."""
    held_out, recipe = metrics["held_out"], metrics["recipe"]
    skipping = recipe["skipping"]
    # Recipes written before these could be chosen do not name them.
    n_layers, pretrained = recipe.get("n_layers", N_LAYERS), recipe.get("pretrained", True)
    last = f"{n_layers - 3}, {n_layers - 2}, {n_layers - 1} or {n_layers}"
    if skipping > 0:
        how = (
            f"In {skipping:.0%} of the decoder's steps the vision tokens (the cells in words, then "
            "the image) took part in a "
            f"window of layers only: they entered at layer 0, 1 or 2 and left before layer {last}, "
            "both drawn anew for the step. Outside the window their states pass unchanged "
            "and they are removed from the keys and values (not zeroed); the text keeps its "
            "positions. The plateau of late entry below is therefore trained in: it shows what "
            "skipping does to a model prepared for it, not what any model would bear."
        )
    else:
        how = "Vision took part in every layer in every step."
        if pretrained and recipe["refine"] and n_layers == N_LAYERS:
            how = (
                "Vision took part in every layer in every step: this is the control for the "
                "bundled model, which was trained with stochastic skipping and is otherwise the "
                "same."
            )
    curves = {
        "enters at L (late entry)": held_out["late_entry"],
        "leaves before L (early exit)": held_out["early_exit"],
    }
    packages = ", ".join(f"{name} {number}" for name, number in metrics["packages"].items())
    steps = ", ".join(
        f"{name} {recipe[name]}" for name in ("tower", "language", "projector", "answers", "refine")
    )
    if pretrained:
        lessons = (
            "the\ndecoder learned the questions on scenes given in words, a cell as the sum of its "
            "words' embeddings;\nthe projector learned to map cells to those sums; then projector "
            "and decoder learned to answer\nquestions about images, the tower standing still."
        )
    else:
        lessons = (
            "then\nprojector and decoder learned, from random weights, to answer questions about "
            "images, few cells shown at first,\nthe tower standing still; the decoder had learned "
            "no language before."
        )
    splits = metrics["splits"]
    return f"""\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---

# Digits on a grid: a small LLaVA

A vision-language model small enough to train on one core in minutes and to ship with a package,
made to demonstrate and test measures of redundancy between layers, and layer skipping. It answers
questions in words about pictures of coloured handwritten digits.

## Architecture

LLaVA, by transformers' own classes: a CLIP tower (2 layers, 64 dimensions, 48 x 48 pixels, patches
of 8, so each of the 36 grid cells is one vision token), a two-layer projector, a Llama \
decoder ({n_layers}
layers, 64 dimensions, 4 heads, MLP of 128) over {metrics["vocabulary"]} whole words.
{metrics["parameters"]:,} parameters, float32. It loads with `AutoModelForImageTextToText` and
`AutoProcessor`; the image processor needs PIL only.

Prompt: `<bos> USER <image> Which digit is cyan? ASSISTANT`, by the chat template. The answer is one
word and the end token.

## Data

Scenes of 1 to 4 digits of scikit-learn's `load_digits`, each in one of 6 colours in a cell of a 6 x
6 grid, on black. The 1,797 digit images are divided by index into {splits["train"]} for training,
{splits["choose"]} for choices of the recipe and {splits["held_out"]} held out, which gave the
figures below and nothing else. Images of one writer can be in several splits: the data set does not
name its writers.

Tasks: `count` (How many digits are there?), `exists` (Is there a red 7?), `digit_at` (Which digit
is in column C of the third row?), `digit_of_color` (Which digit is red?), `color_of_digit` (What
color is the 7?). Every scene gives one question of each.

## Training

Steps: {steps}; AdamW, warm-up and cosine. The tower learned to name what is in \
each cell; {lessons} {how}

Seed {metrics["seed"]}, {metrics["date"]}, {metrics["seconds"]["cpu"]:.0f} CPU seconds on one
thread. {packages}.

## Accuracy

On {held_out["n_scenes"]} scenes ({held_out["n_questions"]} questions) of the held-out digits, by
greedy generation; an answer counts if it is exactly the word. "Without the image": the prompt holds
no image tokens. "Chance": the best constant answer to each task.

{accuracy_table(held_out)}

The scenes reuse {splits["held_out"]} digit images, so the figures vary with those images more than
the number of questions suggests.

## Accuracy when vision skips layers

All tasks; the most probable word of the vocabulary counts. L counts decoder layers from 0.

{curve_table(curves)}

## Intended use and limits

For demonstrations, tests and teaching of layer-redundancy measures and skipping. It knows nothing
but these scenes and these five forms of question; other wording, images or words give meaningless
answers. What holds for its layers need not hold for large models. One seed: another may differ.
"""
