"""Train a set of small models that differ in seed, depth and recipe.

``python -m redundancy.demo.several OUT --cut-down``. What one model shows of its layers may be an
accident of its training; a set of them says how much. Models of one seed share a vision tower,
trained once. Every model is written when it is finished, and the same command goes on where it was
stopped; ``--share 1/2`` and ``--share 2/2`` divide a set between two processes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from estimators import InputError
from redundancy.demo.model import checkpoint
from redundancy.demo.scenes import rows
from redundancy.demo.stages import Recipe
from redundancy.demo.train import CUT_DOWN, QUICK, train, train_shared_tower

__all__ = [
    "IMAGES",
    "RECIPES",
    "Member",
    "check_questions",
    "describe",
    "main",
    "members",
    "questions",
    "train_several",
]

IMAGES = 500
"""Images that a model is tested on, and five times as many as its layers are read on."""

RECIPES = ("pretrained", "scratch")
"""With and without a decoder that learned the questions in words before it saw images."""


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """One model of a set: what tells it from the others, and the name of its folder."""

    seed: int
    recipe: str
    n_layers: int

    @property
    def name(self) -> str:
        """Name of the model's folder."""
        return f"{self.recipe}-{self.n_layers}-layers-seed-{self.seed}"


def members(
    seeds: Sequence[int], layers: Sequence[int], recipes: Sequence[str] = RECIPES
) -> list[Member]:
    """Every combination, seed by seed, so that an unfinished set still has whole seeds.

    Examples
    --------
    >>> [m.name for m in members([0], [6, 8], ["scratch"])]
    ['scratch-6-layers-seed-0', 'scratch-8-layers-seed-0']
    """
    unknown = [recipe for recipe in recipes if recipe not in RECIPES]
    if unknown:
        raise InputError(f"there is no recipe {unknown[0]!r}; use {' or '.join(RECIPES)}")
    return [Member(s, recipe, n) for s in seeds for recipe in recipes for n in layers]


def train_several(
    out: str | Path,
    wanted: Sequence[Member],
    *,
    recipe: Recipe,
    n_scenes: int = 200,
    log: Callable[[str], None] | None = None,
) -> list[Path]:
    """Train those models of a set that are not there yet, and return the folders of all.

    Parameters
    ----------
    out : path
        Folder of the set. A model appears in it when it is finished.
    wanted : sequence of Member
    recipe : Recipe
        Steps and rates of every model; its depth and pre-training are the member's.
    n_scenes : int
        Scenes of each split that every model is measured on.
    log : callable, optional
        Takes the lines of progress.
    """
    root = Path(out)
    root.mkdir(parents=True, exist_ok=True)
    say = log if log is not None else _silent
    for number, member in enumerate(wanted, start=1):
        folder = root / member.name
        if (folder / "metrics.json").exists():
            say(f"{member.name} is there")
            continue
        say(f"{member.name} ({number} of {len(wanted)})")
        tower = root / f"tower-seed-{member.seed}.safetensors"
        if not tower.exists():
            train_shared_tower(tower, recipe=recipe, seed=member.seed, log=log)
        partial = root / f".{member.name}.partial"
        # What a killed run left; finished models never carry this name.
        shutil.rmtree(partial, ignore_errors=True)
        train(
            partial,
            recipe=replace(
                recipe, n_layers=member.n_layers, pretrained=member.recipe == "pretrained"
            ),
            seed=member.seed,
            n_scenes=n_scenes,
            tower=tower,
            log=log,
        )
        partial.rename(folder)
    return [root / member.name for member in wanted]


def describe(path: str | Path | None) -> dict[str, Any]:
    """What is known of a model before it is loaded; None is the bundled one.

    Returns
    -------
    dict
        ``name``, ``path``, and for models of `train` their ``seed``, ``recipe`` and ``cluster``
        (what models of one seed share).

    Raises
    ------
    InputError
        If the path is a file, or looks like a folder and is none.
    """
    from redundancy._files import read_json

    folder = checkpoint() if path is None else Path(path)
    if folder.is_file():
        raise InputError(f"{folder} is a file; name a model's folder, or a study (.json)")
    if not folder.exists() and (folder.is_absolute() or str(path).startswith(".")):
        raise InputError(f"there is no model folder {path}")
    name = "bundled" if path is None else folder.name or str(path).replace("/", "-")
    known: dict[str, Any] = {"name": name, "path": str(path if path is not None else folder)}
    metrics = folder / "metrics.json"
    if metrics.is_file():
        found = read_json(metrics)
        if isinstance(found, dict) and "recipe" in found and "seed" in found:
            known |= {
                "seed": found["seed"],
                "cluster": f"seed {found['seed']}",
                "recipe": found["recipe"],
            }
    return known


def check_questions(known: Mapping[str, Any], images: int | None = None) -> int:
    """How many scenes `questions` would test on.

    Raises
    ------
    InputError
        For a model that is not there, or was not trained on such scenes: it would answer at
        random; and for too few images.
    """
    if "recipe" not in known and not Path(known["path"]).exists():
        raise InputError(
            f"there is no folder {known['path']}; name a model's folder, or, for a model of the "
            "hub, give its questions with --data"
        )
    if "recipe" not in known:
        raise InputError(
            f"{known['name']} was not trained on the bundled model's scenes; give its questions "
            "with --data"
        )
    n = IMAGES if images is None else images
    if n < 40:
        raise InputError(f"{n} images are too few to tell layers apart; give at least 40")
    return n


def questions(
    known: Mapping[str, Any], *, images: int | None = None, seed: int = 0
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Held-out scenes to read a model's layers on, and others, one question each, to test on.

    Parameters
    ----------
    known : mapping
        Of `describe`.
    images : int, optional
        Scenes to test on; a fifth as many are read, with five questions each.
    seed : int

    Raises
    ------
    InputError
        As `check_questions`.
    """
    n = check_questions(known, images)
    # Seeds that neither the published figures nor the demonstration draw with.
    measured = list(rows("held_out", max(20, n // 5), seed=10_000 + 2 * seed))
    asked = rows("held_out", n, seed=10_001 + 2 * seed)
    return measured, [row for i, row in enumerate(asked) if i % 5 == i // 5 % 5]


def _silent(line: str) -> None:
    """Take a line of progress and show nothing."""


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _share(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not 1 <= int(number) <= int(of):
        raise ValueError(text)
    return int(number), int(of)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 if the input was unusable."""
    parser = argparse.ArgumentParser(
        prog="python -m redundancy.demo.several", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("out", help="folder of the set")
    parser.add_argument("--seeds", type=_numbers, default=[0, 1, 2, 3, 4], help="e.g. 0,1,2,3,4")
    parser.add_argument("--layers", type=_numbers, default=[6, 8], help="decoder layers, e.g. 6,8")
    parser.add_argument("--recipes", default=",".join(RECIPES), help="pretrained, scratch or both")
    parser.add_argument("--share", type=_share, default=(1, 1), help="train part i of n, e.g. 1/2")
    parser.add_argument(
        "--skipping", type=float, default=0.0, help="share of steps with vision in a window only"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--cut-down", action="store_true", help="a fifth of the time per model")
    size.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    options = parser.parse_args(argv)

    import torch
    from transformers.utils import logging

    # Sums over several threads differ in their last bits from machine to machine.
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    recipe = QUICK if options.quick else CUT_DOWN if options.cut_down else Recipe()
    number, of = options.share
    try:
        if not 0 <= options.skipping <= 1:
            raise InputError(f"--skipping is {options.skipping}; give a share between 0 and 1")
        wanted = members(options.seeds, options.layers, options.recipes.split(","))
        train_several(
            options.out,
            wanted[number - 1 :: of],
            recipe=replace(recipe, skipping=options.skipping),
            n_scenes=8 if options.quick else 200,
            log=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
