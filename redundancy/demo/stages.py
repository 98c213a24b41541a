"""The stages of training: eyes, language, the bridge between them, then questions about images.

Each stage fits one part while the rest stands still, because all at once did not learn to bind a
colour to its digit:

1. `train_tower`: the vision tower names digit, colour, row and column of every cell.
2. `train_language`: the decoder answers questions about scenes whose cells are given in words, each
   cell as the sum of its words' embeddings.
3. `train_projector`: the projector maps the tower's features to those sums.
4. `train_answers`: projector and decoder answer questions about images; run twice, the second time
   with more questions of the hardest tasks.

A decoder can also go without 2 and 3: `train_answers` with `from_nothing` fits it, and the
projector, from their first weights on images alone, with few cells shown at first.

In most steps of 2 and 4 the vision tokens take part only in a random window of layers (stochastic
skipping). In stage 4 alone it would come too late: a decoder that has learned to read the image in
its first layer did not move that to later layers any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from redundancy.demo.augment import TrainingScenes
from redundancy.demo.model import EMPTY, N_LAYERS, N_VISION_TOKENS
from redundancy.demo.packing import Encoder, Packed, decode, vision_window
from redundancy.demo.scenes import COLORS, COLUMNS, DIGITS, GRID, ROWS, SceneObject

if TYPE_CHECKING:
    import torch

__all__ = [
    "Recipe",
    "pixel_values",
    "train_answers",
    "train_language",
    "train_projector",
    "train_tower",
    "word_sums",
]

Report = Callable[[int, int, float], None]
"""Called after each step with the number of steps done, their total, and the loss."""

# Eight questions about each scene, more of the tasks that are learned last.
_ASKED = (
    "count",
    "exists",
    "exists",
    "digit_at",
    "digit_at",
    "digit_of_color",
    "digit_of_color",
    "color_of_digit",
)
# In the last stage, about what is still answered wrong most often.
_ASKED_LAST = ("digit_at",) * 5 + ("exists",) * 3 + ("count", "digit_of_color", "color_of_digit")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Steps and learning rates of the stages.

    Parameters
    ----------
    tower, language, projector, answers, refine : int
        Steps of each stage; ``refine`` is a second run of the last one, with a fresh schedule of
        learning rates and more questions of the hardest tasks.
    batch : int
        Scenes per step of the stages with questions, each with 8 of them (11 in ``refine``).
    variants : int
        Distorted copies of each training digit.
    skipping : float
        Share of the language and question-answering steps in which vision takes part in a window
        of layers only: it enters at layer 0, 1 or 2, and leaves before one of the last three layers
        or after the last (of 8: before layer 5, 6, 7 or 8).
    n_layers : int
        Decoder layers.
    pretrained : bool
        Whether the decoder learns the questions in words before it sees images. If not, the steps
        of ``language`` are spent on images too, and ``projector`` is left out.
    """

    tower: int = 1500
    language: int = 2400
    projector: int = 300
    answers: int = 1200
    refine: int = 1000
    batch: int = 16
    variants: int = 40
    skipping: float = 0.7
    n_layers: int = N_LAYERS
    pretrained: bool = True


def pixel_values(images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """What the processor makes of 48 x 48 images: shape (B, 3, 48, 48), values in [-1, 1]."""
    import torch

    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return pixels / 127.5 - 1.0


def word_sums(
    embedding: torch.nn.Module, encoder: Encoder, scenes: Sequence[Sequence[SceneObject]]
) -> torch.Tensor:
    """Scenes in words: each cell the sum of its object's words' embeddings, or that of "empty".

    Returns
    -------
    Tensor, shape (B, 36, d)
    """
    import torch

    empty = encoder.word(EMPTY)
    words = np.full((len(scenes), GRID * GRID, 4), empty)
    for s, objects in enumerate(scenes):
        for o in objects:
            names = (DIGITS[o.digit], o.color, ROWS[o.row], COLUMNS[o.column])
            words[s, o.row * GRID + o.column] = [encoder.word(name) for name in names]
    ids = torch.from_numpy(words)
    # An empty cell is one word, not four times the same.
    share = torch.where((ids == empty).all(-1, keepdim=True), 0.25, 1.0)
    sums: torch.Tensor = embedding(ids).sum(dim=2) * share
    return sums


def train_tower(model: Any, data: TrainingScenes, steps: int, report: Report) -> None:
    """Fit the vision tower to name what is in each cell, with linear heads dropped afterwards."""
    import torch
    from torch.nn.functional import cross_entropy

    tower = model.model.vision_tower
    sizes = (len(DIGITS) + 1, len(COLORS) + 1, GRID, GRID)
    heads = torch.nn.Linear(tower.config.hidden_size, sum(sizes))
    colors = list(COLORS)
    cell = np.arange(GRID * GRID)
    for step in _steps([tower, heads], steps, 3e-3, report):
        # Three times the usual number of objects: every cell that shows one is an example.
        scenes = [data.objects(n_max=12) for _ in range(24)]
        truth = np.empty((len(scenes), GRID * GRID, 4), np.int64)
        truth[:] = [len(DIGITS), len(COLORS), 0, 0]
        truth[..., 2], truth[..., 3] = cell // GRID, cell % GRID
        for s, objects in enumerate(scenes):
            for o in objects:
                truth[s, o.row * GRID + o.column, :2] = o.digit, colors.index(o.color)
        features = _features(model, [data.image(objects) for objects in scenes])
        target = torch.from_numpy(truth)
        guesses = heads(features).split(sizes, dim=-1)
        losses = [
            cross_entropy(g.flatten(0, 1), target[..., i].flatten()) for i, g in enumerate(guesses)
        ]
        step(torch.stack(losses).sum())


def train_language(
    model: Any,
    encoder: Encoder,
    data: TrainingScenes,
    steps: int,
    batch: int,
    skipping: float,
    report: Report,
) -> None:
    """Fit the decoder to answer questions about scenes given in words.

    At first four cells are shown, then a random and growing number, at last all: four objects among
    few cells teach binding much sooner than four among thirty-six.
    """
    decoder = model.model.language_model
    windows = _windows(data.seed, 2, skipping, len(decoder.layers))
    for done, step in enumerate(_steps([decoder, model.lm_head], steps, 2e-3, report)):
        scenes = [data.objects() for _ in range(batch)]
        shown = _cells_shown(data.rng, done / steps)
        kept = np.stack([_cells_to_show(data.rng, objects, shown) for objects in scenes])
        packed = encoder.pack([data.questions(o, _ASKED) for o in scenes], shown)
        sums = word_sums(decoder.embed_tokens, encoder, scenes)
        sums = sums[np.arange(batch)[:, None], kept]
        step(_answer_loss(model, encoder, packed, sums, next(windows)))


def train_projector(
    model: Any, encoder: Encoder, data: TrainingScenes, steps: int, batch: int, report: Report
) -> None:
    """Fit the projector to the word sums; the loss is the relative squared error."""
    import torch

    projector = model.model.multi_modal_projector
    embedding = model.model.language_model.embed_tokens
    for step in _steps([projector], steps, 3e-3, report):
        scenes = [data.objects(n_max=12) for _ in range(batch)]
        with torch.no_grad():
            features = _features(model, [data.image(objects) for objects in scenes])
            goal = word_sums(embedding, encoder, scenes)
        step((projector(features) - goal).square().sum() / goal.square().sum())


def train_answers(
    model: Any,
    encoder: Encoder,
    data: TrainingScenes,
    steps: int,
    batch: int,
    skipping: float,
    report: Report,
    *,
    refine: bool = False,
    from_nothing: bool = False,
) -> None:
    """Fit projector and decoder to answer questions about images; the tower stands still.

    With `refine`, more of the questions are of the tasks that are learned last. With
    `from_nothing`, for a decoder that has learned no language, few cells are shown at first, as in
    `train_language`, and the rate is that of that stage.
    """
    import torch

    projector = model.model.multi_modal_projector
    decoder = model.model.language_model
    parts = [projector, decoder, model.lm_head]
    tasks = _ASKED_LAST if refine else _ASKED
    windows = _windows(data.seed, 4 if refine else 3, skipping, len(decoder.layers))
    rate = 2e-3 if from_nothing else 1.2e-3
    for done, step in enumerate(_steps(parts, steps, rate, report)):
        scenes = [data.objects() for _ in range(batch)]
        shown = _cells_shown(data.rng, done / steps) if from_nothing else N_VISION_TOKENS
        packed = encoder.pack([data.questions(o, tasks) for o in scenes], shown)
        with torch.no_grad():
            features = _features(model, [data.image(objects) for objects in scenes])
        if shown < N_VISION_TOKENS:
            kept = np.stack([_cells_to_show(data.rng, objects, shown) for objects in scenes])
            features = features[np.arange(batch)[:, None], kept]
        step(_answer_loss(model, encoder, packed, projector(features), next(windows)))


def _windows(seed: int, stage: int, skipping: float, n_layers: int) -> Iterator[list[bool]]:
    """The layers that see vision, step by step, without end.

    A generator of random numbers of their own: with and without skipping, training sees the same
    scenes.
    """
    rng = np.random.default_rng([seed, stage])
    first = min(n_layers, max(n_layers - 3, 3))
    while True:
        if rng.random() < skipping:
            entry, leave = rng.integers(min(3, n_layers)), rng.integers(first, n_layers + 1)
            yield vision_window(n_layers, int(entry), int(leave))
        else:
            yield vision_window(n_layers)


def _features(model: Any, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """The tower's states of the 36 cells, the class token dropped: shape (B, 36, d)."""
    states: torch.Tensor = model.model.vision_tower(pixel_values(images)).last_hidden_state
    return states[:, 1:]


def _answer_loss(
    model: Any, encoder: Encoder, packed: Packed, vision: torch.Tensor, active: Sequence[bool]
) -> torch.Tensor:
    """Cross-entropy of the answer and of the end token after it."""
    import torch
    from torch.nn.functional import cross_entropy

    logits = decode(model, packed, vision, active)
    answer = torch.from_numpy(packed.answer)
    end = torch.full_like(answer, encoder.tokenizer.eos_token_id)
    return cross_entropy(logits.flatten(0, 1), torch.stack([answer, end], dim=1).flatten())


def _cells_shown(rng: np.random.Generator, progress: float) -> int:
    if progress >= 0.8:
        return N_VISION_TOKENS
    most = 4 + (N_VISION_TOKENS - 4) * min(1.0, max(0.0, (progress - 0.4) / 0.2))
    return int(rng.integers(4, int(most) + 1))


def _cells_to_show(
    rng: np.random.Generator, objects: Sequence[SceneObject], n: int
) -> NDArray[np.int64]:
    """The objects' cells and as many empty ones as make n, in reading order."""
    taken = np.array([o.row * GRID + o.column for o in objects])
    free = np.setdiff1d(np.arange(GRID * GRID), taken)
    return np.sort(np.concatenate([taken, rng.permutation(free)[: n - len(taken)]]))


def _steps(
    parts: Sequence[torch.nn.Module], steps: int, rate: float, report: Report
) -> Iterator[Callable[[torch.Tensor], None]]:
    """Yield, `steps` times, a function that takes the step's loss and updates `parts`.

    AdamW, gradients clipped to norm 1; the rate rises over the first twentieth and then falls by a
    cosine to nothing. Parameters outside `parts` keep their values.
    """
    import torch

    weights = [w for part in parts for w in part.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.01)
    warm = max(1, steps // 20)

    def scale(done: int) -> float:
        if done < warm:
            return (done + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (done - warm) / max(1, steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, scale)
    for done in range(1, steps + 1):

        def update(loss: torch.Tensor, done: int = done) -> None:
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            report(done, steps, float(loss.detach()))

        yield update
