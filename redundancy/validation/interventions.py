"""What a model does under many plans: answers, their cost in nats, and how far its logits move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vlm.plan import SkipPlan

__all__ = ["Behaviour", "Trial", "try_plans"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Behaviour:
    """What one plan did, question by question.

    Parameters
    ----------
    predictions : tuple of str
        The answers.
    changed : ndarray of float64, shape (n,)
        1 where the answer differs from the full model's.
    correct : ndarray of float64, shape (n,)
        1 where it is right, 0 where not, NaN where the data has no answer.
    nll : ndarray of float64, shape (n,)
        Nats that the first token of the right answer costs; NaN without an answer.
    kl : ndarray of float64, shape (n,)
        Nats by which the distribution of the first answer token departs from the full model's,
        KL(full || plan).
    flops : ndarray of float64, shape (n,)
        Operations of the decoder blocks over the prompt.
    """

    predictions: tuple[str, ...]
    changed: Floats
    correct: Floats
    nll: Floats
    kl: Floats
    flops: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """The full model and every plan on the same questions.

    Parameters
    ----------
    full : Behaviour
    plans : mapping of SkipPlan to Behaviour
    ids, groups : tuple of str
        Name and image of each question.
    """

    full: Behaviour
    plans: Mapping[SkipPlan, Behaviour]
    ids: tuple[str, ...]
    groups: tuple[str, ...]


def try_plans(
    model: Any,
    processor: Any,
    data: str | Path | Iterable[Mapping[str, Any]],
    plans: Sequence[SkipPlan],
    *,
    batch_size: int = 16,
    max_new_tokens: int = 16,
    progress: Callable[[int, int | None], None] | None = None,
) -> Trial:
    """Ask all questions of the model and of the model under each plan.

    Unlike `vlm.evaluate.sweep` this keeps the distribution of the first answer token, and takes one
    pass of the prompt where that used two; it measures no time.

    Parameters
    ----------
    model, processor, data, batch_size, max_new_tokens
        As for `vlm.evaluate.evaluate`.
    plans : sequence of SkipPlan
        Each is run once, however often it is named.
    progress : callable, optional
        Called with (batches done, batches in all), counting every plan.

    Raises
    ------
    VLMError
        For unusable data, or a plan for another model.
    """
    import torch

    from vlm._errors import VLMError
    from vlm.data import prepare, rows_of
    from vlm.plan import SkipPlan
    from vlm.skip import skipping

    rows = list(rows_of(data))
    if not rows:
        raise VLMError("the data has no rows to try plans on.")
    batches = [
        prepare(processor, rows[start : start + batch_size], dtype=model.dtype)
        for start in range(0, len(rows), batch_size)
    ]
    wanted = list(dict.fromkeys(plans))
    total = len(batches) * (1 + len(wanted))
    # The full model's log probabilities of every batch, kept for the divergences.
    reference: list[Any] = []
    ids: list[str] = []
    groups: list[str] = []

    def run(plan: SkipPlan | None, full: Behaviour | None, number: int) -> Behaviour:
        parts = []
        with (
            skipping(model, plan or SkipPlan(_depth(model))),
            torch.inference_mode(),
        ):
            for at, (inputs, info) in enumerate(batches):
                part = _ask(model, processor, inputs, info, plan, max_new_tokens)
                logs = part.pop("logs")
                if plan is None:
                    reference.append(logs)
                    ids.extend(one.id for one in info)
                    groups.extend(one.group for one in info)
                p = reference[at]
                part["kl"] = (p.exp() * (p - logs)).sum(dim=-1).clamp(min=0).double().cpu().numpy()
                parts.append(part)
                if progress is not None:
                    progress(number * len(batches) + at + 1, total)
        said = tuple(text for part in parts for text in part["predictions"])
        before = said if full is None else full.predictions
        joined = {
            name: np.concatenate([part[name] for part in parts])
            for name in ("correct", "nll", "kl", "flops")
        }
        changed = np.array([float(a != b) for a, b in zip(said, before, strict=True)])
        return Behaviour(predictions=said, changed=changed, **joined)

    full = run(None, None, 0)
    found = {plan: run(plan, full, i) for i, plan in enumerate(wanted, start=1)}
    return Trial(full=full, plans=found, ids=tuple(ids), groups=tuple(groups))


def _depth(model: Any) -> int:
    from vlm.model import decoder_layers

    return len(decoder_layers(model))


def _ask(
    model: Any, processor: Any, inputs: Any, info: Sequence[Any], plan: Any, max_new_tokens: int
) -> dict[str, Any]:
    """One batch: predictions, whether right, nats of the right token, and log probabilities."""
    import torch

    from vlm._answers import first_tokens, greedy, read_answers
    from vlm.flops import prefill_flops
    from vlm.model import text_config, vision_mask

    inputs = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in inputs.items()
    }
    tokenizer = getattr(processor, "tokenizer", processor)
    records = [one.record for one in info]
    starts = first_tokens(tokenizer, records)
    at_once = all(start is not None for start in starts)
    first, new = greedy(model, inputs, 1 if at_once else max_new_tokens)
    logs = first.float().log_softmax(dim=-1)
    answers = read_answers(tokenizer, records, starts, first, new)
    nats = np.full(len(info), np.nan)
    for row, (record, start) in enumerate(zip(records, starts, strict=True)):
        tokens = _right_tokens(tokenizer, record, start)
        if tokens:
            nats[row] = -float(logs[row, tokens].logsumexp(dim=0))
    real = inputs["attention_mask"].bool()
    vision = vision_mask(model, inputs["input_ids"]) & real
    n_text = (real & ~vision).sum(dim=1).cpu().numpy()
    return {
        "predictions": [str(answer["prediction"]) for answer in answers],
        "correct": np.array([float(answer.get("correct", np.nan)) for answer in answers]),
        "nll": nats,
        "logs": logs,
        "flops": prefill_flops(text_config(model), n_text, vision.sum(dim=1).cpu().numpy(), plan),
    }


def _right_tokens(tokenizer: Any, record: Mapping[str, Any], start: Any) -> list[int]:
    """First tokens of a row's right answer, in every way of writing it."""
    answer = record.get("answer")
    if not answer:
        return []
    text = answer if isinstance(answer, str) else str(answer[0])
    if start is not None and text in record["choices"]:
        return sorted(set(start[list(record["choices"]).index(text)]))
    firsts = [tokenizer.encode(lead + text, add_special_tokens=False)[:1] for lead in ("", " ")]
    return sorted({ids[0] for ids in firsts if ids})
