"""Several questions about one image in one sequence, and the forward pass that skips vision.

The questions share the image's prefix and are masked from each other, so the image is read once for
all of them; every question keeps the positions it would have alone. The forward pass runs the
model's own decoder layers and can leave the vision tokens out of any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from redundancy.demo.scenes import TASKS, Question

if TYPE_CHECKING:
    import torch

__all__ = ["Encoder", "Packed", "decode", "vision_window"]


@dataclass(frozen=True, slots=True)
class Packed:
    """B scenes with their questions as arrays: T tokens a row, of which V stand for the image.

    Parameters
    ----------
    tokens : ndarray of int64, shape (B, T)
        Token ids; the image's slots hold the image token.
    positions : ndarray of int64, shape (B, T)
        Position ids, those of each question asked alone.
    visible : ndarray of bool, shape (B, T, T)
        Whether the row's token (second axis) may attend to another (third axis).
    n_prefix, n_vision : int
        Tokens before the image, and the image's tokens: slots n_prefix ... n_prefix + n_vision - 1.
    at : ndarray of int64, shape (Q, 2)
        Row and place of each question's last prompt token; its answer follows in the next place.
    answer : ndarray of int64, shape (Q,)
        Token id of the right answer.
    task : ndarray of int64, shape (Q,)
        Index into `TASKS`.
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    visible: NDArray[np.bool_]
    n_prefix: int
    n_vision: int
    at: NDArray[np.int64]
    answer: NDArray[np.int64]
    task: NDArray[np.int64]


class Encoder:
    """Packs questions with a given processor, in exactly the tokens of its chat prompt."""

    def __init__(self, processor: Any) -> None:
        from redundancy.demo.model import prompt

        self.tokenizer = processor.tokenizer
        image = self.tokenizer.convert_tokens_to_ids("<image>")
        self.image_id = int(image)

        # A question's prompt is <prefix> <image> <question and what follows>; the words are few.
        @cache
        def split(question: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
            text = prompt(processor, question)
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            place = ids.index(image)
            return tuple(ids[:place]), tuple(ids[place + 1 :])

        self._split = split

    def word(self, text: str) -> int:
        """Token id of one word of the vocabulary."""
        return int(self.tokenizer.convert_tokens_to_ids(text))

    def pack(self, groups: Sequence[Sequence[Question]], n_vision: int) -> Packed:
        """Pack one group of questions per row, each row's image taking `n_vision` tokens."""
        names = list(TASKS)
        prefix = self._split(groups[0][0].question)[0]
        head = [*prefix, *[self.image_id] * n_vision]
        parts = [[(*self._split(q.question)[1], self.word(q.answer)) for q in g] for g in groups]
        width = len(head) + max(sum(map(len, row)) for row in parts)
        tokens = np.full((len(groups), width), self.tokenizer.pad_token_id, np.int64)
        positions = np.zeros_like(tokens)
        # Segment 0 is the shared prefix, 1, 2, ... the questions, -1 the padding at the end.
        segment = np.full_like(tokens, -1)
        tokens[:, : len(head)] = head
        positions[:, : len(head)] = np.arange(len(head))
        segment[:, : len(head)] = 0
        at, answer, task = [], [], []
        for r, row in enumerate(parts):
            start = len(head)
            for s, (ids, question) in enumerate(zip(row, groups[r], strict=True), start=1):
                stop = start + len(ids)
                tokens[r, start:stop] = ids
                positions[r, start:stop] = len(head) + np.arange(len(ids))
                segment[r, start:stop] = s
                at.append((r, stop - 2))
                answer.append(ids[-1])
                task.append(names.index(question.task))
                start = stop
        same = segment[:, :, None] == segment[:, None, :]
        shared = (segment == 0)[:, None, :]
        visible = np.tril(same | shared)
        return Packed(
            tokens,
            positions,
            visible,
            len(prefix),
            n_vision,
            np.asarray(at),
            np.asarray(answer),
            np.asarray(task),
        )


def vision_window(n_layers: int, entry: int = 0, exit: int | None = None) -> list[bool]:
    """Which layers see vision when it enters at layer `entry` and leaves before layer `exit`.

    Examples
    --------
    >>> vision_window(5, entry=1, exit=4)
    [False, True, True, True, False]
    """
    stop = n_layers if exit is None else exit
    return [entry <= layer < stop for layer in range(n_layers)]


def decode(
    model: Any, packed: Packed, vision: torch.Tensor, active: Sequence[bool]
) -> torch.Tensor:
    """Logits after every question and after its answer, with vision absent from inactive layers.

    In an inactive layer the vision tokens keep their states (identity) and are removed from the
    keys and values, not zeroed; all other tokens keep their original positions. This is what
    skipping does when a plan is applied to a finished model.

    Parameters
    ----------
    model : LlavaForConditionalGeneration
    packed : Packed
    vision : Tensor, shape (B, V, d)
        What stands in the image's slots: projected features, or sums of word embeddings.
    active : sequence of bool, one per decoder layer
        Whether vision tokens take part in the layer.

    Returns
    -------
    Tensor, shape (Q, 2, vocabulary)
        Next-token logits at the last prompt token (the answer is due) and at the answer (the end
        token is due).
    """
    import torch

    decoder = model.model.language_model
    first, after = packed.n_prefix, packed.n_prefix + packed.n_vision
    words = decoder.embed_tokens(torch.from_numpy(packed.tokens))
    states = torch.cat([words[:, :first], vision, words[:, after:]], dim=1)
    visible = torch.from_numpy(packed.visible)[:, None]
    mask = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)
    places = torch.cat([torch.arange(first), torch.arange(after, states.shape[1])])
    positions = torch.from_numpy(packed.positions)
    rotary = decoder.rotary_emb(states, position_ids=positions)
    text_mask = mask[:, :, places][..., places]
    text_rotary = tuple(part[:, places] for part in rotary)
    for layer, sees_vision in zip(decoder.layers, active, strict=True):
        if sees_vision:
            states = layer(states, attention_mask=mask, position_embeddings=rotary)
        else:
            text = layer(
                states[:, places], attention_mask=text_mask, position_embeddings=text_rotary
            )
            states = torch.cat([text[:, :first], states[:, first:after], text[:, first:]], dim=1)
    at = torch.from_numpy(packed.at)
    wanted = torch.stack([states[at[:, 0], at[:, 1]], states[at[:, 0], at[:, 1] + 1]], dim=1)
    logits: torch.Tensor = model.lm_head(decoder.norm(wanted))
    return logits
