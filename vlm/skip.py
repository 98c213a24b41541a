"""Apply a skip plan to a live model, and take it off again.

Every decoder block that a plan touches gets another ``forward`` on the instance: it hands the rows
that take part (with their rotary angles and their part of the mask) to the block's own forward and
puts the result back among the rows that do not. The model's classes, weights and code stay as they
are, and so does everything above the blocks.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vlm import families
from vlm import model as live
from vlm._errors import VLMError
from vlm._rows import Rows, pack, packed_mask, take
from vlm.cache import CompactLayer, adopt
from vlm.plan import SkipPlan

__all__ = ["planned", "skipping"]

_PLANNED: weakref.WeakSet[nn.Module] = weakref.WeakSet()
_LOCK = threading.Lock()


@contextmanager
def skipping(model: Any, plan: SkipPlan, *, vision_mask: Tensor | None = None) -> Iterator[Any]:
    """Run a model under a skip plan.

    Inside the context, ``model(...)`` and ``model.generate(...)`` skip what the plan says: work is
    not done, and keys and values of hidden tokens are not stored. On leaving it, also by an
    exception, the model is as it was. A plan that skips nothing changes nothing, bit for bit.

    Parameters
    ----------
    model : PreTrainedModel
        A vision-language model of a supported family, with eager or SDPA attention.
    plan : SkipPlan
        Made for this model's number of layers.
    vision_mask : bool tensor, shape (batch, tokens), optional
        Which tokens are vision, for prompts given as ``inputs_embeds``; with ``input_ids`` the
        placeholders tell.

    Yields
    ------
    PreTrainedModel
        The same model.

    Raises
    ------
    VLMError
        If plan and model do not match, the family or its attention is not supported, or a plan is
        on the model already. Inside the context: for caches that plans do not support or that were
        filled outside, and for ``inputs_embeds`` without `vision_mask`.

    Examples
    --------
    A small LLaVA with random weights: layers 0 and 1 keep the keys of three text tokens, the
    others also those of nine vision tokens.

    >>> from transformers import AutoConfig, AutoModelForImageTextToText
    >>> config = AutoConfig.for_model("llava", **families.load("llava").tiny)
    >>> model = AutoModelForImageTextToText.from_config(config).eval()
    >>> ids = torch.tensor([[1] + [98] * 9 + [5, 6]])
    >>> with skipping(model, SkipPlan(6, vision_entry=2)), torch.no_grad():
    ...     out = model(input_ids=ids, pixel_values=torch.zeros(1, 3, 24, 24))
    >>> [layer.keys.shape[-2] for layer in out.past_key_values.layers]
    [3, 3, 12, 12, 12, 12]
    """
    if hasattr(model, "_orig_mod"):
        raise VLMError("the model was compiled with torch.compile; apply plans to the original.")
    plan.check(model)
    if plan.is_noop:
        yield model
        return
    _refuse(model)
    layers, base = live.decoder_layers(model), live.base_model(model)
    patch = _Patch(plan, model, vision_mask)
    with _LOCK:
        if base in _PLANNED:
            raise VLMError("a plan is applied to this model already; leave its context first.")
        _PLANNED.add(base)
    handles = []
    before: list[tuple[nn.Module, Any]] = []
    try:
        handles.append(base.register_forward_pre_hook(patch.enter, with_kwargs=True))
        handles.append(base.register_forward_hook(patch.leave, always_call=True))
        for number, layer in enumerate(layers):
            if not plan.active_vision(number):
                before.append((layer, layer.__dict__.get("forward")))
                # The attribute of the instance goes before the class's method.
                layer.forward = patch.wrap(number, layer)
        yield model
    finally:
        for layer, forward in before:
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward
        for handle in handles:
            handle.remove()
        with _LOCK:
            _PLANNED.discard(base)


def planned(model: Any) -> bool:
    """Whether a plan is on the model at this moment."""
    return live.base_model(model) in _PLANNED


def _refuse(model: Any) -> None:
    """Raise for what is known not to work."""
    kind = live.model_type(model)
    family = families.load(kind)
    if family is None:
        raise VLMError(
            f"the architecture {kind!r} is not supported: no test has run plans on it. Supported "
            f"families are {', '.join(families.names())}; to add one, write "
            f"vlm/families/{kind}.py with a Family in it (docs/skipping.md shows how)."
        )
    if family.refused is not None:
        raise VLMError(f"plans cannot be applied to {kind!r} models: {family.refused}")
    config = live.text_config(model)
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if kinds:
        raise VLMError(
            f"the model has decoder layers of type {', '.join(sorted(kinds))}; plans support full "
            "attention only."
        )
    attention = str(getattr(config, "_attn_implementation", "sdpa"))
    if attention.startswith(("flash", "flex", "paged", "kernels")) or "/" in attention:
        raise VLMError(
            f"plans do not support attn_implementation={attention!r}; load the model with 'sdpa' "
            "(which uses flash kernels where it can) or 'eager'."
        )


@dataclass(slots=True)
class _Pass:
    """What the blocks must know about the forward pass they are part of."""

    rows: Rows | None
    cache: Any
    memo: dict[tuple[str, int], tuple[Any, Any]] = field(default_factory=dict)

    def once(self, name: str, value: Any, make: Callable[[], Any]) -> Any:
        """Return what `make` makes of an argument that several blocks get."""
        key = (name, id(value))
        if key not in self.memo:
            # The value is kept beside its result, so that its id is not given to another.
            self.memo[key] = (value, make())
        return self.memo[key][1]


class _Patch:
    """One plan on one model: the hook that sees the tokens, and the blocks' forwards."""

    def __init__(self, plan: SkipPlan, model: Any, vision_mask: Tensor | None) -> None:
        self.plan = plan
        self.model = model
        self.vision_mask = vision_mask
        # Per thread, so that several may generate under one plan.
        self.local = threading.local()

    # The two hooks on the base model.

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        names = _parameters(module)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        cache = given.get("past_key_values")
        if cache is not None:
            adopt(cache, self.plan)
        self.local.step = _Pass(self._rows(given), cache)

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.local.step = None

    def _rows(self, given: Mapping[str, Any]) -> Rows | None:
        ids, embeds = given.get("input_ids"), given.get("inputs_embeds")
        if embeds is not None and ids is None:
            vision = self._explicit(embeds)
        elif ids is not None and any(map(_is_image, given, given.values())):
            vision = live.vision_mask(self.model, ids)
        else:
            # Without an image in this call, a placeholder id is one that the model has generated.
            return None
        if not bool(vision.any()):
            return None
        mask = given.get("attention_mask")
        keep = ~vision
        if isinstance(mask, Tensor) and mask.ndim == 2:
            keep = keep & mask[:, -keep.shape[1] :].to(keep.device, torch.bool)
        return pack(keep)

    def _explicit(self, embeds: Tensor) -> Tensor:
        batch, tokens = embeds.shape[:2]
        mask = self.vision_mask
        if mask is None:
            raise VLMError(
                "inputs_embeds do not tell vision from text; give skipping(..., vision_mask=) a "
                "mask of shape (batch, tokens), or call the model with input_ids."
            )
        # Beams and several return sequences repeat the rows of a prompt.
        if mask.ndim != 2 or mask.shape[1] != tokens or batch % max(1, mask.shape[0]):
            raise VLMError(
                f"vision_mask has shape {tuple(mask.shape)}, inputs_embeds are of {batch} x "
                f"{tokens} tokens."
            )
        return mask.to(embeds.device, torch.bool).repeat_interleave(batch // mask.shape[0], dim=0)

    # The forward of a block.

    def wrap(self, number: int, layer: nn.Module) -> Callable[..., Any]:
        """Make the forward of a block that hidden tokens pass by, or that does not run."""
        original: Callable[..., Any] = layer.forward
        names = _parameters(layer)
        runs = self.plan.runs(number)

        def forward(*args: Any, **kwargs: Any) -> Any:
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            hidden: Tensor = given.pop("hidden_states")
            step: _Pass | None = getattr(self.local, "step", None)
            if step is None:
                raise VLMError(
                    "under a plan, call the whole model (or its base model), not its language "
                    "model or a single block."
                )
            compact: CompactLayer | None = None
            cache = given.get("past_key_values")
            if cache is not None:
                if cache is not step.cache:
                    # One that the language model has just made for itself.
                    adopt(cache, self.plan)
                    step.cache = cache
                compact = cache.layers[number]
            if not runs:
                if compact is not None:
                    compact.pass_over(hidden.shape[1])
                return hidden
            return self._run(original, hidden, given, step, compact)

        return forward

    def _run(
        self,
        original: Callable[..., Any],
        hidden: Tensor,
        given: dict[str, Any],
        step: _Pass,
        compact: CompactLayer | None,
    ) -> Any:
        batch, tokens = hidden.shape[:2]
        rows = None if step.rows is None else step.rows.to(hidden.device)
        if rows is not None and rows.index.shape[1] == 0:
            if compact is not None:
                compact.pass_over(tokens)
            return hidden
        past, was_complete = 0, True
        if compact is not None:
            past, was_complete = compact.length, compact.complete
            compact.expect(rows, batch, tokens, hidden.device)
        if rows is None and was_complete:
            return original(hidden, **given)
        shape = (batch, tokens)
        mask = given.get("attention_mask")
        given["attention_mask"] = step.once(
            "attention_mask", mask, partial(_mask, mask, rows, compact, past, shape, hidden.device)
        )
        if rows is None:
            return original(hidden, **given)
        for name, value in given.items():
            if name != "attention_mask" and isinstance(value, Tensor | tuple):
                given[name] = step.once(name, value, partial(_packed, name, value, rows, shape))
        if given.get("position_embeddings") is not None:
            # Rotary angles are in there already, and a gap in position ids would be read as
            # several sequences packed into one.
            given["position_ids"] = None
        output = original(rows.gather(hidden), **given)
        if isinstance(output, tuple):
            return (rows.scatter(hidden, output[0]), *output[1:])
        return rows.scatter(hidden, output)


def _packed(name: str, value: Any, rows: Rows, shape: tuple[int, int]) -> Any:
    """What a block gets for an argument when it gets only some rows."""
    if name == "position_embeddings":
        if isinstance(value, tuple):
            return tuple(take(part, rows.index) for part in value)
        return take(value, rows.index)
    if name == "position_ids":
        return take(value[..., None], rows.index)[..., 0]
    if isinstance(value, Tensor) and value.shape[:2] == shape:
        # Whatever else comes token by token, e.g. the modality of each.
        return rows.gather(value)
    return value


def _mask(
    mask: Any,
    rows: Rows | None,
    compact: CompactLayer | None,
    past: int,
    shape: tuple[int, int],
    device: torch.device,
) -> Tensor | None:
    batch, tokens = shape
    if mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 4):
        raise VLMError(
            f"plans need an attention mask over query and key positions; this model's blocks take "
            f"{type(mask).__name__}. Load it with attn_implementation='sdpa' or 'eager'."
        )
    if rows is None:
        queries, valid = torch.arange(tokens, device=device).expand(batch, -1), None
    else:
        queries, valid = rows.index, rows.valid
    keys, valid_keys = (queries, valid) if compact is None else compact.all_positions()
    mask = None if mask is None else mask.to(device)
    return packed_mask(mask, queries, keys.to(device), valid, valid_keys, past)


def _is_image(name: str, value: Any) -> bool:
    """Whether an argument of a forward pass brings images (an empty mapping of them does not)."""
    if isinstance(value, Mapping):
        return name == "mm_encoder_outputs" and any(v is not None for v in value.values())
    known = ("mm_encoder_outputs", "image_hidden_states", "image_embeds", "video_embeds")
    return value is not None and ("pixel_values" in name or name in known)


def _parameters(module: nn.Module) -> list[str]:
    return list(inspect.signature(type(module).forward).parameters)[1:]
