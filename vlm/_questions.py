"""One batch of questions to a live model: what it answers, how sure it is, how long it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm._answers import first_tokens, greedy, read_answers
from vlm._errors import VLMError
from vlm.data import PreparedRow
from vlm.model import language_model, vision_mask

__all__ = ["ask"]

Floats = NDArray[np.float64]


def ask(
    model: Any,
    processor: Any,
    inputs: Mapping[str, Any],
    info: Sequence[PreparedRow],
    *,
    max_new_tokens: int,
    nll: bool,
    warm: bool,
) -> dict[str, Any]:
    """Answer one prepared batch; with `warm`, one pass goes untimed before."""
    inputs = {
        name: value.to(model.device) if isinstance(value, Tensor) else value
        for name, value in inputs.items()
    }
    tokenizer = getattr(processor, "tokenizer", processor)
    records = [one.record for one in info]
    starts = first_tokens(tokenizer, records)
    real = inputs["attention_mask"].bool()
    vision = vision_mask(model, inputs["input_ids"]) & real
    answered_at_once = all(start is not None for start in starts)
    try:
        if warm:
            # The first pass of a process pays for what later ones find ready.
            greedy(model, inputs, 1)
        with _clock(model) as passes:
            first, new = greedy(model, inputs, 1 if answered_at_once else max_new_tokens)
    except (ValueError, RuntimeError) as error:
        if isinstance(error, VLMError) or "do not match" not in str(error):
            raise
        raise VLMError(
            "the image placeholders of the prompt do not match what the model makes of the "
            f"images, in the batch from sample {info[0].id!r} on; use the processor that was "
            "saved with this model."
        ) from error
    answers = read_answers(tokenizer, records, starts, first, new)
    rows = len(info)
    return {
        "ids": [one.id for one in info],
        "groups": [one.group for one in info],
        "predictions": [str(answer["prediction"]) for answer in answers],
        "correct": np.array([float(answer.get("correct", np.nan)) for answer in answers]),
        "nll": _nll(model, tokenizer, inputs, info) if nll else np.full(rows, np.nan),
        "n_text": (real & ~vision).sum(dim=1).cpu().numpy().astype(np.int64),
        "n_vision": vision.sum(dim=1).cpu().numpy().astype(np.int64),
        "prefill_seconds": np.full(rows, passes[0] / rows),
        "decode_seconds": np.full(rows, sum(passes[1:]) / rows),
        "decode_steps": np.full(rows, len(passes) - 1, dtype=np.int64),
    }


@contextmanager
def _clock(model: Any) -> Iterator[list[float]]:
    """Seconds of every pass of the language model."""
    passes: list[float] = []
    started = 0.0

    def now(device: torch.device) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def before(module: Any, args: Any) -> None:
        nonlocal started
        started = now(model.device)

    def after(module: Any, args: Any, output: Any) -> None:
        passes.append(now(model.device) - started)

    decoder = language_model(model)
    handles = [decoder.register_forward_pre_hook(before), decoder.register_forward_hook(after)]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def _nll(model: Any, tokenizer: Any, inputs: Any, info: Sequence[PreparedRow]) -> Floats:
    """Nats that the right answer costs after the prompt; NaN without an answer."""
    answers = [_answer_tokens(tokenizer, one) for one in info]
    longest = max(map(len, answers))
    nats = np.full(len(info), np.nan)
    if longest == 0:
        return nats
    ids: Tensor = inputs["input_ids"]
    added = torch.zeros(len(info), longest, dtype=ids.dtype, device=ids.device)
    real = torch.zeros(len(info), longest, dtype=torch.bool, device=ids.device)
    for row, tokens in enumerate(answers):
        added[row, : len(tokens)] = torch.tensor(tokens, dtype=ids.dtype)
        real[row, : len(tokens)] = True
    longer = {}
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.shape == ids.shape:
            # Masks and kinds of tokens: what follows the prompt is real text, kind 0.
            tail = added if name == "input_ids" else real.to(value.dtype)
            if name not in ("input_ids", "attention_mask"):
                tail = torch.zeros_like(tail)
            value = torch.cat([value, tail], dim=1)
        longer[name] = value
    logits = model(**longer, logits_to_keep=longest + 1, use_cache=False).logits[:, :-1]
    scores = logits.float().log_softmax(dim=-1).gather(-1, added[..., None])[..., 0]
    summed = -(scores * real).sum(dim=1).double().cpu().numpy()
    has = np.array([len(tokens) > 0 for tokens in answers])
    nats[has] = summed[has]
    return nats


def _answer_tokens(tokenizer: Any, one: PreparedRow) -> list[int]:
    """Tokens of a row's (first) answer as they would follow its prompt."""
    answer = one.record.get("answer")
    if answer is None or answer == [] or answer == "":
        return []
    text = answer if isinstance(answer, str) else str(answer[0])
    tokens: list[int] = tokenizer.encode(text, add_special_tokens=False)
    lead = tokenizer.convert_ids_to_tokens(tokens[:1])
    marked = lead and str(lead[0])[:1] in ("▁", "Ġ")
    if not marked and one.prompt and not one.prompt[-1].isspace():
        tokens = tokenizer.encode(f" {text}", add_special_tokens=False)
    return tokens
