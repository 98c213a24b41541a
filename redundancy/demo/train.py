"""Train the bundled vision-language model: ``python -m redundancy.demo.train``.

One command runs all stages (see `redundancy.demo.stages`), measures the result on the digits held
out from training and from every choice, and writes a checkpoint that loads with plain
``from_pretrained``, with its model card and its figures. About a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from estimators import InputError
from redundancy.demo.card import model_card
from redundancy.demo.model import N_LAYERS
from redundancy.demo.scenes import SPLITS
from redundancy.demo.stages import Recipe

__all__ = ["CUT_DOWN", "QUICK", "main", "train", "train_shared_tower"]

QUICK = Recipe(tower=4, language=4, projector=4, answers=4, refine=4, batch=2, variants=1)
"""A few steps of every stage: shows that all of it runs, learns nothing."""

CUT_DOWN = Recipe(
    tower=600,
    language=1200,
    projector=150,
    answers=800,
    refine=0,
    batch=8,
    variants=20,
    skipping=0.0,
)
"""Smaller steps and no skipping, a fifth of the published recipe's time: for many models."""

_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "scikit-learn", "pillow")

# Seconds of a step, to share out the time left; only their ratios matter.
_COST = {"tower": 3, "language": 14, "projector": 4, "answers": 17, "refine": 19}


def train(
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    n_scenes: int = 1000,
    tower: str | Path | None = None,
    log: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train the model by all stages, measure it, and write it with its card and figures.

    Parameters
    ----------
    out : path
        A new or empty folder.
    recipe : Recipe, optional
        Steps, rates and share of skipping; the published recipe by default.
    seed : int
        Seed of the initial weights and of every draw of training data.
    n_scenes : int
        Scenes drawn from each of the ``choose`` and ``held_out`` splits to measure on.
    tower : path, optional
        Weights of a tower that `train_shared_tower` fitted, to be used in place of the first stage.
    log : callable, optional
        Takes the lines of progress.

    Returns
    -------
    dict
        The figures, as written to ``metrics.json``.

    Raises
    ------
    InputError
        If `out` already holds something.
    """
    import torch

    from redundancy.demo.augment import TrainingScenes
    from redundancy.demo.evaluate import figures
    from redundancy.demo.model import build_model, build_processor
    from redundancy.demo.packing import Encoder
    from redundancy.demo.stages import (
        train_answers,
        train_language,
        train_projector,
        train_tower,
    )

    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} already holds something; name a new or empty folder.")
    recipe = Recipe() if recipe is None else recipe
    if tower is not None:
        recipe = replace(recipe, tower=0)
    say = log if log is not None else _silent
    clock = _Clock(recipe, say)

    processor = build_processor()
    encoder = Encoder(processor)
    model = build_model(processor.tokenizer, seed, recipe.n_layers).train()
    data = TrainingScenes(seed, recipe.variants)
    batch = recipe.batch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        skipping = recipe.skipping
        if tower is None:
            train_tower(model, data, recipe.tower, clock.stage("tower"))
        else:
            _put_tower(model, tower)
        teach = clock.stage("language")
        if recipe.pretrained:
            train_language(model, encoder, data, recipe.language, batch, skipping, teach)
            train_projector(model, encoder, data, recipe.projector, batch, clock.stage("projector"))
        else:
            train_answers(
                model, encoder, data, recipe.language, batch, skipping, teach, from_nothing=True
            )
        for name in ("answers", "refine"):
            train_answers(
                model,
                encoder,
                data,
                getattr(recipe, name),
                batch,
                skipping,
                clock.stage(name),
                refine=name == "refine",
            )
    seconds = clock.total()

    say("measuring on the choose and held-out splits")
    model.eval()
    metrics: dict[str, Any] = {
        "schema_version": 1,
        "date": datetime.now(UTC).date().isoformat(),
        "seed": seed,
        "recipe": asdict(recipe),
        "seconds": seconds,
        "packages": {"python": python_version(), **{name: version(name) for name in _PACKAGES}},
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "vocabulary": len(processor.tokenizer),
        "splits": dict(SPLITS),
        **figures(model, processor, n_scenes),
    }
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    (out / "README.md").write_text(model_card(metrics), encoding="utf-8")
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    return metrics


def train_shared_tower(
    path: str | Path,
    *,
    recipe: Recipe,
    seed: int,
    log: Callable[[str], None] | None = None,
) -> None:
    """Fit a vision tower alone and write its weights, for all models of one seed to share.

    Parameters
    ----------
    path : path
        A safetensors file; it appears whole or not at all.
    recipe : Recipe
        Its ``tower`` steps and ``variants`` are used.
    seed : int
        Of the weights and of the scenes.
    log : callable, optional
        Takes the lines of progress.
    """
    import torch
    from safetensors.torch import save

    from redundancy._files import write_atomic
    from redundancy.demo.augment import TrainingScenes
    from redundancy.demo.model import build_model, build_processor
    from redundancy.demo.stages import train_tower

    model = build_model(build_processor().tokenizer, seed).train()
    report = _Clock(recipe, log if log is not None else _silent).stage("tower")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        train_tower(model, TrainingScenes(seed, recipe.variants), recipe.tower, report)
    write_atomic(path, save(model.model.vision_tower.state_dict()))


def _put_tower(model: Any, path: str | Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        model.model.vision_tower.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{path} holds no weights of this vision tower; delete it to have it trained anew"
        ) from error


class _Clock:
    """Turns steps into lines of progress with the time left over all stages."""

    def __init__(self, recipe: Recipe, log: Callable[[str], None]) -> None:
        self._steps = {name: getattr(recipe, name) for name in _COST}
        self._log = log
        self._start = time.monotonic()
        self._cpu = time.process_time()
        self._shown = self._start

    def stage(self, name: str) -> Callable[[int, int, float], None]:
        names = list(_COST)
        number = names.index(name)
        before = sum(_COST[n] * self._steps[n] for n in names[:number])
        everything = sum(_COST[n] * self._steps[n] for n in names)

        def report(done: int, steps: int, loss: float) -> None:
            now = time.monotonic()
            if now - self._shown < 5 and done < steps:
                return
            self._shown = now
            share = (before + _COST[name] * done) / everything
            left = round((now - self._start) * (1 - share) / share)
            self._log(
                f"{number + 1}/{len(names)} {name:<9} step {done:>4}/{steps}  loss {loss:.4f}  "
                f"{left // 60}:{left % 60:02d} left"
            )

        return report

    def total(self) -> dict[str, float]:
        return {
            "wall": round(time.monotonic() - self._start, 1),
            "cpu": round(time.process_time() - self._cpu, 1),
        }


def _silent(line: str) -> None:
    """Take a line of progress and show nothing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 if the input was unusable."""
    parser = argparse.ArgumentParser(
        prog="python -m redundancy.demo.train", description=(__doc__ or "").split("\n\n")[1]
    )
    parser.add_argument("--out", default="runs/demo-model", help="new or empty folder to write to")
    parser.add_argument(
        "--no-skipping",
        action="store_true",
        help="train the control: vision takes part in every layer in every step",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and data")
    parser.add_argument("--layers", type=int, default=N_LAYERS, help="decoder layers")
    parser.add_argument(
        "--recipe",
        choices=("pretrained", "scratch"),
        default="pretrained",
        help="whether the decoder learns the questions in words before it sees images",
    )
    parser.add_argument(
        "--cut-down",
        action="store_true",
        help="smaller steps and no skipping, a fifth of the time: one of many models",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few steps of each stage, to see that it runs"
    )
    options = parser.parse_args(argv)

    import torch
    from transformers.utils import logging

    # Sums over several threads differ in their last bits from machine to machine.
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    recipe = QUICK if options.quick else CUT_DOWN if options.cut_down else Recipe()
    if options.no_skipping:
        recipe = replace(recipe, skipping=0.0)
    if not 1 <= options.layers <= 64:
        print(f"--layers is {options.layers}; give 1 to 64 decoder layers", file=sys.stderr)
        return 2
    recipe = replace(recipe, n_layers=options.layers, pretrained=options.recipe == "pretrained")
    try:
        metrics = train(
            options.out,
            recipe=recipe,
            seed=options.seed,
            n_scenes=8 if options.quick else 1000,
            log=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    held_out = metrics["held_out"]
    print(f"{'task':<16}{'accuracy':>10}{'no image':>10}{'chance':>10}")
    for task, value in held_out["accuracy"].items():
        blind, chance = held_out["without_image"][task], held_out["chance"][task]
        print(f"{task:<16}{value:>10.1%}{blind:>10.1%}{chance:>10.1%}")
    print(f"checkpoint, model card and metrics.json in {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
