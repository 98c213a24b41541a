"""Run a model over questions or texts and yield what its layers did, sample by sample."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vlm._answers import first_tokens, greedy, read_answers
from vlm._blocks import StateRoom, record_blocks
from vlm._errors import VLMError
from vlm.attention import attention_rows
from vlm.data import PreparedRow, count_rows, prepare, rows_of
from vlm.model import decoder_layers, is_text_only, vision_mask
from vlm.sample import DEFAULT_THRESHOLDS, CapturedSample
from vlm.skip import planned
from vlm.statistics import check_thresholds, token_statistics

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["capture", "subsample"]

MODALITIES = ("vision", "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    tokens: int | None
    modalities: tuple[str, ...]
    thresholds: NDArray[np.float64]
    var: bool
    var_text: bool
    seed: int
    layers: tuple[int, ...]
    vision_effect: bool
    predict: bool
    max_new_tokens: int


def capture(
    model: Any,
    processor: Any,
    data: str | Path | Iterable[Mapping[str, Any]],
    *,
    tokens: int | Literal["all"] = 0,
    modalities: Sequence[str] = MODALITIES,
    thresholds: Sequence[float] | NDArray[np.float64] = DEFAULT_THRESHOLDS,
    var: bool | Literal["text"] = True,
    batch_size: int = 8,
    seed: int = 0,
    layers: Sequence[int] | None = None,
    vision_effect: bool = False,
    skip_ids: Collection[str] = frozenset(),
    progress: Callable[[int, int | None], None] | None = None,
    predict: bool = True,
    max_new_tokens: int = 16,
) -> Iterator[CapturedSample]:
    """Yield the states of every layer, their running sums, VAR and the model's answer, per sample.

    States are raw: layer 0 is what enters the first decoder block, layer l what the l-th block
    hands on, before the final norm. Padding is left out; vision tokens and text tokens (everything
    else, special tokens included) are kept apart. All numbers of a sample depend on that sample and
    the settings alone; its batch matters to rounding only.

    With ``vision_effect``, each block is run once more on the text tokens alone, on the true
    trajectory, which gives the delta_l of Theorem 6::

        delta_l = |f_text^l(V_{l-1}, T_{l-1}) - f_text^l(empty, T_{l-1})|.

    Hooks and the attention function are in place only while a batch runs, never while the caller
    has the floor, and are removed after an error too.

    Parameters
    ----------
    model : PreTrainedModel
        A vision-language model in evaluation mode; or a text-only one, whose tokens are all text
        and which has no VAR (`var` has no effect).
    processor : transformers processor, or tokenizer
        The model's own.
    data : path or iterable of mapping
        See `read_rows`.
    tokens : int or "all"
        States kept per sample and modality: none, a seeded subsample, or all.
    modalities : sequence of {"vision", "text"}
    thresholds : sequence of float
        Cosine distances at which tokens are counted, in (0, 2].
    var : bool or "text"
        Measure the attention on vision tokens of the query that predicts the answer; with
        ``"text"`` also its mean over all text tokens after vision, which sees vision that reaches
        the answer through other tokens.
    batch_size : int
        Samples per forward pass. A pass holds (L + 1) x tokens x d values per sample.
    seed : int
        Seed of the token subsample, together with the sample's id and the modality.
    layers : sequence of int, optional
        Layers (0..L) whose states are kept; all by default. Running sums always cover all layers.
    vision_effect : bool
        Measure delta_l; costs about the share of text tokens of a forward pass.
    skip_ids : collection of str
        Samples to leave out, e.g. those of an earlier, interrupted run.
    progress : callable, optional
        Called with (samples done, samples in all or None) after every batch; skipped ones count.
    predict : bool
        Record the model's greedy answer: the choice with the largest first-token logit where
        choices have first tokens of their own, else generated text.
    max_new_tokens : int
        Longest generated answer.

    Yields
    ------
    CapturedSample
        In the order of the data.

    Raises
    ------
    VLMError
        For unusable settings or data, a model in training mode, states that are NaN or infinite.
    """
    blocks = decoder_layers(model)
    n_layers = len(blocks)
    if model.training:
        raise VLMError("the model is in training mode, where dropout is random; call model.eval().")
    unknown = sorted(set(modalities) - set(MODALITIES))
    if unknown or not modalities or isinstance(modalities, str):
        raise VLMError(f"modalities is {modalities!r}; name one or both of 'vision' and 'text'.")
    counted = isinstance(tokens, Integral) and not isinstance(tokens, bool)
    if tokens != "all" and (not counted or int(tokens) < 0):
        raise VLMError(f"tokens is {tokens!r}; use a number of tokens from 0, or 'all'.")
    for name, value in (("batch_size", batch_size), ("max_new_tokens", max_new_tokens)):
        if value < 1:
            raise VLMError(f"{name} is {value!r}; it must be at least 1.")
    if var not in (True, False, "text"):
        raise VLMError(f"var is {var!r}; use True, False or 'text'.")
    if is_text_only(model):
        if "text" not in modalities or vision_effect:
            raise VLMError(
                "the model is text-only and has no vision tokens; capture the modality 'text' "
                "with vision_effect=False."
            )
        modalities, var = ("text",), False
    kept = tuple(range(n_layers + 1)) if layers is None else tuple(sorted({int(x) for x in layers}))
    if not kept or kept[0] < 0 or kept[-1] > n_layers:
        raise VLMError(
            f"layers is {list(layers or ())}; this model has the layers 0 to {n_layers} (0 is what "
            "enters the first block)."
        )
    settings = _Settings(
        tokens=None if tokens == "all" else int(tokens),
        modalities=tuple(dict.fromkeys(modalities)),
        thresholds=check_thresholds(thresholds),
        var=bool(var),
        var_text=var == "text",
        seed=seed,
        layers=kept,
        vision_effect=vision_effect,
        predict=predict,
        max_new_tokens=max_new_tokens,
    )
    rows = rows_of(data)
    total = count_rows(data)
    return _stream(model, processor, rows, total, settings, batch_size, skip_ids, progress)


def _stream(
    model: Any,
    processor: Any,
    rows: Iterator[dict[str, Any]],
    total: int | None,
    settings: _Settings,
    batch_size: int,
    skip_ids: Collection[str],
    progress: Callable[[int, int | None], None] | None,
) -> Iterator[CapturedSample]:
    done = told = 0
    skipped = frozenset(skip_ids)
    room = StateRoom()

    def wanted() -> Iterator[dict[str, Any]]:
        nonlocal done
        for row in rows:
            if row["id"] in skipped:
                done += 1
            else:
                yield row

    remaining = wanted()
    while batch := list(itertools.islice(remaining, batch_size)):
        samples = _run(model, processor, batch, settings, room)
        yield from samples
        done += len(batch)
        if progress is not None:
            progress(told := done, total)
    if progress is not None and done > told:
        progress(done, total)


def _run(
    model: Any,
    processor: Any,
    batch: Sequence[Mapping[str, Any]],
    settings: _Settings,
    room: StateRoom,
) -> list[CapturedSample]:
    """One batch: forward pass under watch, then everything that leaves the device."""
    import torch

    inputs, info = prepare(processor, batch, device=model.device, dtype=model.dtype)
    tokenizer = getattr(processor, "tokenizer", processor)
    ids: Tensor = inputs["input_ids"]
    real: Tensor = inputs["attention_mask"].bool()
    vision = vision_mask(model, ids) & real
    masks = {"vision": vision, "text": real & ~vision}
    records = [one.record for one in info]
    starts = first_tokens(tokenizer, records) if settings.predict else []
    answered_at_once = all(start is not None for start in starts)
    blocks = list(decoder_layers(model))
    if (settings.var or settings.vision_effect) and planned(model):
        raise VLMError(
            "a skip plan is applied to the model, and its blocks do not see all tokens; capture "
            "without the plan, or with var=False and vision_effect=False."
        )
    with torch.inference_mode(), ExitStack() as stack:
        watch = None
        if settings.var or settings.vision_effect:
            watch = stack.enter_context(attention_rows(model))
        if watch is not None and settings.var:
            rows = _text_rows(masks) if settings.var_text else None
            watch.watch(vision, rows, attention_mask=real)
        record = stack.enter_context(
            record_blocks(
                blocks,
                ids.shape[1],
                text=masks["text"] if settings.vision_effect else None,
                quiet=None if watch is None else watch.paused,
                room=room,
            )
        )
        try:
            first, new = greedy(model, inputs, 1 if answered_at_once else settings.max_new_tokens)
        except (ValueError, RuntimeError) as error:
            if isinstance(error, VLMError) or "do not match" not in str(error):
                raise
            raise VLMError(
                "the image placeholders of the prompt do not match what the model makes of the "
                f"images, in the batch from sample {info[0].id!r} on ({error}); use the "
                "processor that was saved with this model."
            ) from error
        record.check()
        var = var_text = None
        if watch is not None and settings.var:
            mass = watch.per_head
            var = mass[..., 0].cpu().numpy()
            if settings.var_text:
                # A text without vision before it pays no attention to vision.
                var_text = mass[..., 1:].nanmean(dim=-1).nan_to_num(0.0).cpu().numpy()
        statistics = token_statistics(
            record.states,
            {name: masks[name] for name in settings.modalities},
            thresholds=settings.thresholds,
            names=[one.id for one in info],
        )
        answers = (
            read_answers(tokenizer, records, starts, first, new)
            if settings.predict
            else [{} for _ in info]
        )
        effect = size = None
        if settings.vision_effect:
            effect = torch.stack([x.cpu() for x in record.effect], dim=1).numpy()
            size = torch.stack([x.cpu() for x in record.size], dim=1).numpy()
        host = {name: mask.cpu().numpy() for name, mask in masks.items()}
        on_host = real.cpu().numpy()
        samples = []
        for row, one in enumerate(info):
            n_vision = int(host["vision"][row].sum())
            states, positions = _states(record.states, host, on_host, row, one, settings)
            samples.append(
                CapturedSample(
                    id=one.id,
                    group=one.group,
                    statistics=statistics[row],
                    states=states,
                    positions=positions,
                    layers=settings.layers,
                    var_per_head=None if var is None else var[row],
                    var_text_per_head=None if var_text is None else var_text[row],
                    # Without vision there is nothing to hide: not even rounding.
                    vision_effect=None if effect is None else effect[row] * (n_vision > 0),
                    text_norm=None if size is None else size[row],
                    n_vision=n_vision,
                    n_keys=int(on_host[row].sum()),
                    row={**_plain(one.record), **answers[row]},
                )
            )
    return samples


def _text_rows(masks: Mapping[str, Tensor]) -> Tensor:
    """The last token of every row, then its text tokens after vision; -1 fills up."""
    import torch

    after = masks["text"] & (masks["vision"].cumsum(dim=1) > 0)
    place = torch.arange(after.shape[1], device=after.device)
    rows = torch.where(after, place, -1).sort(dim=1, descending=True).values
    rows = rows[:, : max(1, int(after.sum(dim=1).max()))]
    last = torch.where(masks["text"], place, -1).amax(dim=1, keepdim=True)
    return torch.cat([last, rows], dim=1)


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("id", "group")}


def subsample(n: int, k: int | None, *, seed: int, sample: str, modality: str) -> NDArray[np.int64]:
    """Sorted indices of k of n tokens, drawn from the seed, the sample's id and the modality alone.

    Parameters
    ----------
    n : int
    k : int or None
        None, or anything from n on, keeps all.

    Examples
    --------
    >>> subsample(5, 9, seed=0, sample="a", modality="text")
    array([0, 1, 2, 3, 4])
    >>> len(subsample(576, 16, seed=0, sample="a", modality="vision"))
    16
    """
    if k is None or k >= n:
        return np.arange(n, dtype=np.int64)
    # Python's own hash differs between processes, and of NumPy's generators only the raw bits are
    # promised to stay the same between versions. The k tokens with the smallest draws are uniform,
    # and a smaller subsample is part of a larger one.
    key = hashlib.sha256(f"{seed}\0{modality}\0{sample}".encode()).digest()
    draws = np.random.PCG64(int.from_bytes(key, "big")).random_raw(n)
    return np.sort(np.argsort(draws, kind="stable")[:k]).astype(np.int64)


def _states(
    states: Sequence[Tensor],
    masks: Mapping[str, NDArray[np.bool_]],
    real: NDArray[np.bool_],
    row: int,
    info: PreparedRow,
    settings: _Settings,
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.int64]]]:
    import torch

    if settings.tokens == 0:
        return {}, {}
    own = np.cumsum(real[row]) - 1
    found: dict[str, NDArray[Any]] = {}
    positions: dict[str, NDArray[np.int64]] = {}
    for modality in settings.modalities:
        places = np.flatnonzero(masks[modality][row])
        places = places[
            subsample(
                len(places), settings.tokens, seed=settings.seed, sample=info.id, modality=modality
            )
        ]
        index = torch.from_numpy(places)
        found[modality] = _to_numpy(
            [states[layer][row, index.to(states[layer].device)] for layer in settings.layers]
        )
        positions[modality] = own[places].astype(np.int64)
    return found, positions


def _to_numpy(states: Sequence[Tensor]) -> NDArray[Any]:
    import torch

    stacked = torch.stack([state.to(states[-1].device) for state in states]).cpu()
    if stacked.dtype == torch.bfloat16:
        import ml_dtypes

        return stacked.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    array: NDArray[Any] = stacked.numpy()
    return array
