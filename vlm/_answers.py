"""Greedy answers: the prefill that capture watches, and what the model says after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vlm.data import is_correct

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["choice_tokens", "first_tokens", "greedy", "read_answers"]


def choice_tokens(tokenizer: Any, choices: Sequence[str]) -> list[list[int]] | None:
    """First tokens that tell the choices apart, per choice; None if first tokens do not.

    A choice may continue a prompt with or without a space before it, so both ways of writing it
    count, each only where it gives every choice a first token of its own.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    choices : sequence of str
    """
    found: list[list[int]] = [[] for _ in choices]
    for lead in ("", " "):
        firsts = [
            tokenizer.encode(lead + choice, add_special_tokens=False)[:1] for choice in choices
        ]
        flat = [ids[0] for ids in firsts if ids]
        if len(set(flat)) == len(choices) and tokenizer.unk_token_id not in flat:
            for ids, first in zip(found, flat, strict=True):
                ids.append(first)
    taken = [token for ids in found for token in set(ids)]
    return found if all(found) and len(set(taken)) == len(taken) else None


def first_tokens(tokenizer: Any, records: Sequence[Mapping[str, Any]]) -> list[Any]:
    """`choice_tokens` of every row that has choices, else None."""
    return [
        choice_tokens(tokenizer, record["choices"]) if len(record.get("choices", ())) > 1 else None
        for record in records
    ]


def greedy(model: Any, inputs: Mapping[str, Any], max_new_tokens: int) -> tuple[Tensor, Tensor]:
    """Continue a batch of prompts greedily through the model's own ``generate``.

    Going through ``generate`` gives every family the position ids and the cache it wants.

    Returns
    -------
    first : tensor, shape (batch, vocabulary)
        Logits of the first new token.
    new : tensor, shape (batch, n)
        New token ids.
    """
    from transformers import GenerationConfig

    own = model.generation_config
    pad = own.pad_token_id
    if pad is None:
        eos = own.eos_token_id
        pad = eos[0] if isinstance(eos, list) else eos
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        num_return_sequences=1,
        # What the checkpoint's own settings would bend the plain argmax with.
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=own.eos_token_id,
        pad_token_id=pad,
        use_cache=max_new_tokens > 1,
        output_logits=True,
        return_dict_in_generate=True,
    )
    out = model.generate(**inputs, generation_config=config)
    return out.logits[0], out.sequences[:, inputs["input_ids"].shape[1] :]


def read_answers(
    tokenizer: Any,
    records: Sequence[Mapping[str, Any]],
    starts: Sequence[Any],
    first: Tensor,
    new: Tensor,
) -> list[dict[str, Any]]:
    """Prediction of every row, and whether it is right where an answer is known."""
    logits = first.float().cpu().numpy()
    answers = []
    for row, (record, start) in enumerate(zip(records, starts, strict=True)):
        if start is not None:
            scores = [max(logits[row, token] for token in tokens) for tokens in start]
            said = record["choices"][int(np.argmax(scores))]
        else:
            said = tokenizer.decode(new[row], skip_special_tokens=True).strip()
            # The model may say a choice in its own capitals and stops.
            said = next((c for c in record.get("choices", ()) if is_correct(said, c)), said)
        found: dict[str, Any] = {"prediction": said}
        if record.get("answer") is not None:
            found["correct"] = is_correct(said, record["answer"])
        answers.append(found)
    return answers
