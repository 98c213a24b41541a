"""What a plan does to a model's answers and to its cost, question by question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vlm._errors import VLMError
from vlm._evaluation import Evaluation
from vlm._questions import ask
from vlm.data import PreparedRow, is_correct, prepare, rows_of
from vlm.flops import kv_bytes, prefill_flops
from vlm.keep import Counted, Rule
from vlm.model import decoder_layers, model_type, text_config
from vlm.plan import SkipPlan
from vlm.skip import skipping

__all__ = ["Evaluation", "Kind", "evaluate", "plans_of", "sweep"]

Kind = Literal["late", "exit", "drop", "single"]
Progress = Callable[[int, int | None], None]


def evaluate(
    model: Any,
    processor: Any,
    data: str | Path | Iterable[Mapping[str, Any]],
    plan: SkipPlan | None = None,
    *,
    keep: Rule | None = None,
    baseline: Evaluation | None = None,
    batch_size: int = 16,
    max_new_tokens: int = 16,
    nll: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Ask a model all questions under a plan, and keep answers and costs of each.

    A row with choices whose first tokens differ is answered by the choice with the largest
    first-token logit; any other row by greedy generation. Wall times are of one run: compare plans
    in several, interleaved ones before believing a few per cent.

    Parameters
    ----------
    model : PreTrainedModel
        In evaluation mode.
    processor : transformers processor
        The model's own.
    data : path or iterable of mapping
        Rows with ``question``, ``image`` or ``images``, and as far as known ``answer``,
        ``choices``, ``id`` and ``group`` (see `vlm.data.read_rows`).
    plan : SkipPlan, optional
        None: the model as it is.
    keep : callable, optional
        Chooses at run time which vision tokens take part, on top of the plan (see `vlm.keep`).
        Operations and bytes are then those of the tokens that did; what the rule itself computes
        is in the times, not in the operations.
    baseline : Evaluation, optional
        A run of the same samples, e.g. without a plan, to compare predictions with.
    batch_size : int
    max_new_tokens : int
        Longest generated answer.
    nll : bool
        Whether to score the right answers too, which costs a second pass over the prompt.
    progress : callable, optional
        Called with (samples done, samples in all) after every batch.

    Returns
    -------
    Evaluation

    Raises
    ------
    VLMError
        For unusable data or settings, a plan for another model, or a baseline of other samples.

    Examples
    --------
    With a model and a processor from `vlm.model.load`::

        before = evaluate(model, processor, "questions.jsonl")
        plan = SkipPlan(32, vision_exit=20)
        after = evaluate(model, processor, "questions.jsonl", plan, baseline=before)
        after.accuracy, after.agreement, after.prefill_flops.sum() / before.prefill_flops.sum()
    """
    batches = _batches(model, processor, data, batch_size)
    plan = plan or SkipPlan(len(decoder_layers(model)), model_type=model_type(model))
    return _evaluate(
        model,
        processor,
        batches,
        plan,
        baseline,
        {
            "batch_size": batch_size,
            "max_new_tokens": max_new_tokens,
            "nll": nll,
            "keep": None if keep is None else getattr(keep, "__qualname__", repr(keep)),
        },
        progress,
        keep=keep,
    )


def plans_of(kind: Kind, n_layers: int, layers: Sequence[int] | None = None) -> list[SkipPlan]:
    """Plans of a sweep.

    Parameters
    ----------
    kind : {"late", "exit", "drop", "single"}
        Late entry at L (L = 0 to n; n: never), early exit at K (K = 0 to n; n: none), layer l
        dropped, vision hidden from layer l alone.
    n_layers : int
    layers : sequence of int, optional
        The L, K or l to take; all by default.

    Examples
    --------
    >>> [plan.vision_entry for plan in plans_of("late", 4)]
    [0, 1, 2, 3, 4]
    >>> [plan.drop_layers for plan in plans_of("drop", 4, [1, 3])]
    [(1,), (3,)]
    """
    if kind not in get_args(Kind):
        raise VLMError(f"there is no sweep {kind!r}; have {', '.join(get_args(Kind))}.")
    if layers is None:
        layers = range(n_layers + (kind in ("late", "exit")))
    if kind == "late":
        return [SkipPlan(n_layers, vision_entry=layer) for layer in layers]
    if kind == "exit":
        return [SkipPlan(n_layers, vision_exit=layer) for layer in layers]
    if kind == "drop":
        return [SkipPlan(n_layers, drop_layers=(layer,)) for layer in layers]
    return [SkipPlan(n_layers, vision_off=(layer,)) for layer in layers]


def sweep(
    model: Any,
    processor: Any,
    data: str | Path | Iterable[Mapping[str, Any]],
    kind: Kind = "late",
    *,
    layers: Sequence[int] | None = None,
    plans: Sequence[SkipPlan] | None = None,
    baseline: Evaluation | None = None,
    batch_size: int = 16,
    max_new_tokens: int = 16,
    nll: bool = True,
    progress: Progress | None = None,
) -> list[Evaluation]:
    """Evaluate one plan after the other on the same questions.

    Images and prompts are prepared once and held in memory for all plans.

    Parameters
    ----------
    model, processor, data, batch_size, max_new_tokens, nll
        As for `evaluate`.
    kind, layers
        As for `plans_of`.
    plans : sequence of SkipPlan, optional
        Plans to take instead of those of a kind.
    baseline : Evaluation, optional
        Run to compare with; made first if not given.
    progress : callable, optional
        Called with (samples done, samples in all), counting every plan.

    Returns
    -------
    list of Evaluation
        One per plan, in order. A plan that skips nothing is the baseline itself.

    Examples
    --------
    With a model and a processor from `vlm.model.load`::

        curve = sweep(model, processor, "questions.jsonl", "exit")
        [(run.plan.vision_exit, run.accuracy) for run in curve]
    """
    n_layers = len(decoder_layers(model))
    chosen = list(plans_of(kind, n_layers, layers) if plans is None else plans)
    for plan in chosen:
        # What cannot be applied is refused before hours have gone into the others.
        with skipping(model, plan):
            pass
    batches = list(_batches(model, processor, data, batch_size))
    n = sum(len(info) for _, info in batches)
    settings = {"batch_size": batch_size, "max_new_tokens": max_new_tokens, "nll": nll}
    total = n * (sum(not plan.is_noop for plan in chosen) + (baseline is None))
    done = 0

    def told(samples: int, _: int | None) -> None:
        if progress is not None:
            progress(done + samples, total)

    def run(plan: SkipPlan, baseline: Evaluation | None) -> Evaluation:
        # What a first pass pays for is paid once, not once per plan.
        first = done == 0
        return _evaluate(model, processor, batches, plan, baseline, settings, told, warm=first)

    if baseline is None:
        baseline = run(SkipPlan(n_layers), None)
        done += n
    found = []
    for plan in chosen:
        if plan.is_noop:
            found.append(_against(baseline, baseline, plan))
            continue
        found.append(run(plan, baseline))
        done += n
    return found


Batch = tuple[Any, list[PreparedRow]]


def _batches(
    model: Any,
    processor: Any,
    data: str | Path | Iterable[Mapping[str, Any]],
    batch_size: int,
) -> Iterator[Batch]:
    if batch_size < 1:
        raise VLMError(f"batch_size is {batch_size}; it must be at least 1.")
    if model.training:
        raise VLMError("the model is in training mode, where dropout is random; call model.eval().")
    waiting: list[dict[str, Any]] = []
    for row in rows_of(data):
        waiting.append(row)
        if len(waiting) == batch_size:
            yield prepare(processor, waiting, dtype=model.dtype)
            waiting = []
    if waiting:
        yield prepare(processor, waiting, dtype=model.dtype)


def _evaluate(
    model: Any,
    processor: Any,
    batches: Iterable[Batch],
    plan: SkipPlan,
    baseline: Evaluation | None,
    settings: Mapping[str, Any],
    progress: Progress | None,
    *,
    keep: Rule | None = None,
    warm: bool = True,
) -> Evaluation:
    import torch

    if settings["max_new_tokens"] < 1:
        raise VLMError(f"max_new_tokens is {settings['max_new_tokens']}; it must be at least 1.")
    parts: list[dict[str, Any]] = []
    done = 0
    rule = None if keep is None else Counted(keep)
    with skipping(model, plan, keep=rule), torch.inference_mode():
        for inputs, info in batches:
            part = ask(
                model,
                processor,
                inputs,
                info,
                max_new_tokens=settings["max_new_tokens"],
                nll=settings["nll"],
                warm=warm and not parts,
            )
            if rule is not None:
                part["kept"] = _took_part(rule, plan.n_layers, len(info))
            parts.append(part)
            done += len(info)
            if progress is not None:
                progress(done, None)
    if not parts:
        raise VLMError("the data has no rows to evaluate.")

    def column(name: str) -> Any:
        return np.concatenate([part[name] for part in parts])

    def texts(name: str) -> tuple[str, ...]:
        return tuple(text for part in parts for text in part[name])

    n_text, n_vision = column("n_text"), column("n_vision")
    kept = None if keep is None else column("kept")
    config = text_config(model)
    itemsize = torch.empty((), dtype=model.dtype).element_size()
    result = Evaluation(
        plan=plan,
        ids=texts("ids"),
        groups=texts("groups"),
        predictions=texts("predictions"),
        correct=column("correct"),
        agrees=None,
        nll=column("nll"),
        n_text=n_text,
        n_vision=n_vision,
        prefill_seconds=column("prefill_seconds"),
        decode_seconds=column("decode_seconds"),
        decode_steps=column("decode_steps"),
        prefill_flops=prefill_flops(config, n_text, n_vision, plan, kept=kept),
        kv_bytes=kv_bytes(config, n_text, n_vision, plan, itemsize=itemsize, kept=kept),
        settings=dict(settings),
    )
    return result if baseline is None else _against(result, baseline, plan)


def _took_part(rule: Counted, n_layers: int, rows: int) -> NDArray[np.int64]:
    """Vision tokens of each row that took part in each layer, shape (rows, layers)."""
    found = np.zeros((rows, n_layers), dtype=np.int64)
    for layer, counts in rule.counts.items():
        found[:, layer] = counts.cpu().numpy()
    rule.counts.clear()
    return found


def _against(run: Evaluation, baseline: Evaluation, plan: SkipPlan) -> Evaluation:
    """Add to a run whether it agrees with another."""
    if run.ids != baseline.ids:
        raise VLMError(
            f"the baseline has other samples ({len(baseline)}, beginning with "
            f"{baseline.ids[:1]}) than this run ({len(run)}, beginning with {run.ids[:1]})."
        )
    agrees = [
        float(is_correct(said, before))
        for said, before in zip(run.predictions, baseline.predictions, strict=True)
    ]
    return replace(run, plan=plan, agrees=np.array(agrees))
