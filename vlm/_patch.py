"""One plan on one live model: the forward that sees the tokens, and those of the blocks."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn

from vlm import model as live
from vlm._errors import VLMError
from vlm._masks import block_mask, flash, one_prompt_per_row
from vlm._rows import Rows, pack, take
from vlm.cache import CompactLayer, adopt
from vlm.keep import Rule, Step
from vlm.plan import SkipPlan

__all__ = ["Patch"]


@dataclass(slots=True)
class _Pass:
    """What the blocks must know about the forward pass they are part of."""

    rows: Rows | None
    cache: Any
    flash: bool
    vision: Tensor | None = None
    real: Tensor | None = None
    before: Tensor | None = None
    took_part: Tensor | None = None
    memo: dict[tuple[str, Any], tuple[Any, Any]] = field(default_factory=dict)

    def once(self, name: str, value: Any, group: Any, make: Callable[[], Any]) -> Any:
        """Return what `make` makes of an argument that a group of blocks gets."""
        known = self.memo.get((name, group))
        if known is None or known[0] is not value:
            known = self.memo[name, group] = (value, make())
        return known[1]


class Patch:
    """One plan on one model: the forward that sees the tokens, and the blocks' forwards."""

    def __init__(
        self, plan: SkipPlan, model: Any, vision_mask: Tensor | None, rule: Rule | None
    ) -> None:
        self.plan = plan
        self.model = model
        self.vision_mask = vision_mask
        self.rule = rule
        self.hides = rule is not None or not plan.drops_only
        self.vision_ids = live.vision_token_ids(model) if self.hides else ()
        # Per thread, so that several may generate under one plan.
        self.local = threading.local()

    # The forward of the base model.

    def wrap_base(self, module: nn.Module) -> Callable[..., Any]:
        """Make the forward that sees the tokens before they are merged with the image.

        No hook: their numbers differ from context to context, and torch.compile would compile anew.
        """
        original: Callable[..., Any] = module.forward
        names = _parameters(module)

        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            cache = given.get("past_key_values")
            if cache is not None:
                adopt(cache, self.plan, self.rule)
            self.local.step = self._pass(given, cache)
            try:
                return original(*args, **kwargs)
            finally:
                self.local.step = None

        return forward

    def _pass(self, given: Mapping[str, Any], cache: Any) -> _Pass:
        ids, embeds = given.get("input_ids"), given.get("inputs_embeds")
        by_order = flash(self.model)
        if not self.hides:
            return _Pass(None, cache, by_order)
        if embeds is not None and ids is None:
            vision = self._explicit(embeds)
        elif ids is not None and any(map(_is_image, given, given.values())):
            vision = torch.isin(ids, torch.tensor(self.vision_ids, device=ids.device))
        else:
            # Without an image in this call, a placeholder id is one that the model has generated.
            return _Pass(None, cache, by_order)
        if not bool(vision.any()):
            return _Pass(None, cache, by_order)
        if by_order:
            one_prompt_per_row(given)
        mask, real = given.get("attention_mask"), None
        if isinstance(mask, Tensor) and mask.ndim == 2:
            real = mask[:, -vision.shape[1] :].to(vision.device, torch.bool)
        rows = pack(~vision if real is None else ~vision & real)
        return _Pass(rows, cache, by_order, vision, real)

    def _explicit(self, embeds: Tensor) -> Tensor:
        batch, tokens = embeds.shape[:2]
        mask = self.vision_mask
        if mask is None:
            raise VLMError(
                "inputs_embeds do not tell vision from text; give skipping(..., vision_mask=) a "
                "mask of shape (batch, tokens), or call the model with input_ids."
            )
        whole = isinstance(mask, Tensor) and not (mask.is_floating_point() or mask.is_complex())
        # Beams and several return sequences repeat the rows of a prompt.
        if not whole or mask.ndim != 2 or mask.shape[1] != tokens or batch % max(1, len(mask)):
            is_tensor = isinstance(mask, Tensor)
            found = f"is a {type(mask).__name__}"
            if is_tensor:
                found = f"has shape {tuple(mask.shape)}" + ("" if whole else f", in {mask.dtype}")
            raise VLMError(
                f"vision_mask {found}; inputs_embeds are of {batch} x {tokens} tokens, and it "
                "takes one true or false for each."
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
                    adopt(cache, self.plan, self.rule)
                    step.cache = cache
                found = cache.layers[number]
                # A cache that knows of no windows keeps everything where vision is shown.
                compact = found if isinstance(found, CompactLayer) else None
            if not runs:
                if compact is not None:
                    compact.pass_over(hidden.shape[1])
                return hidden
            shows = self.plan.active_vision(number)
            rows = None if shows else step.rows
            # Blocks that hide and remember the same share what is made of masks and angles.
            group: Any = (shows, None if compact is None else compact.window)
            if self.rule is not None:
                rows, group = self._chosen(step, number, hidden), number
            return self._run(original, hidden, given, step, compact, rows, group)

        return forward

    def _chosen(self, step: _Pass, number: int, hidden: Tensor) -> Rows | None:
        """Ask the rule which vision tokens take part in a block."""
        if step.vision is None or self.rule is None:
            return None
        vision = step.vision.to(hidden.device)
        if not self.plan.active_vision(number):
            # The plan's own choice says nothing about how the tokens move.
            step.before = None
            return step.rows
        before = None if step.before is None else step.before.to(hidden.device)
        took = vision if step.took_part is None else step.took_part.to(hidden.device)
        took_part = self.rule(Step(number, hidden, before, vision, took))
        is_tensor = isinstance(took_part, Tensor)
        if not is_tensor or took_part.shape != vision.shape or took_part.dtype != torch.bool:
            found = f"{took_part.dtype} of shape {tuple(took_part.shape)}" if is_tensor else None
            raise VLMError(
                f"at layer {number}, the keep rule returned {found or type(took_part).__name__}; a "
                f"bool tensor of shape {tuple(vision.shape)} is needed."
            )
        took_part = took_part & vision
        keep = took_part | ~vision
        rows = pack(keep if step.real is None else keep & step.real.to(hidden.device))
        step.before, step.took_part = hidden, took_part
        return rows

    def _run(
        self,
        original: Callable[..., Any],
        hidden: Tensor,
        given: dict[str, Any],
        step: _Pass,
        compact: CompactLayer | None,
        rows: Rows | None,
        group: Any,
    ) -> Any:
        batch, tokens = hidden.shape[:2]
        rows = None if rows is None else rows.to(hidden.device)
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
            "attention_mask",
            mask,
            group,
            partial(block_mask, mask, rows, compact, past, shape, hidden.device, step.flash),
        )
        if rows is None:
            return original(hidden, **given)
        for name, value in given.items():
            if name != "attention_mask" and isinstance(value, Tensor | tuple):
                given[name] = step.once(
                    name, value, group, partial(_packed, name, value, rows, shape)
                )
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


def _is_image(name: str, value: Any) -> bool:
    """Whether an argument of a forward pass brings images (an empty mapping of them does not)."""
    if isinstance(value, Mapping):
        return name == "mm_encoder_outputs" and any(v is not None for v in value.values())
    known = ("mm_encoder_outputs", "image_hidden_states", "image_embeds", "video_embeds")
    return value is not None and ("pixel_values" in name or name in known)


def _parameters(module: nn.Module) -> list[str]:
    return list(inspect.signature(type(module).forward).parameters)[1:]
