"""Apply a skip plan to a live model, and take it off again.

Every decoder block that a plan touches gets another ``forward`` on the instance: it hands the rows
that take part (with their rotary angles and their part of the mask) to the block's own forward and
puts the result back among the rows that do not. The model's classes, weights and code stay as they
are, and so does everything above the blocks.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from vlm import families
from vlm import model as live
from vlm._errors import VLMError
from vlm._masks import flash
from vlm._patch import Patch
from vlm.keep import Rule
from vlm.plan import SkipPlan

__all__ = ["planned", "skipping"]

_FULL, _SLIDING = "full_attention", "sliding_attention"
_PLANNED: weakref.WeakSet[nn.Module] = weakref.WeakSet()
_LOCK = threading.Lock()


@contextmanager
def skipping(
    model: Any, plan: SkipPlan, *, vision_mask: Tensor | None = None, keep: Rule | None = None
) -> Iterator[Any]:
    """Run a model under a skip plan.

    Inside the context, ``model(...)`` and ``model.generate(...)`` skip what the plan says: work is
    not done, and keys and values of hidden tokens are not stored. On leaving it, also by an
    exception, the model is as it was. A plan that skips nothing changes nothing, bit for bit.

    Parameters
    ----------
    model : PreTrainedModel
        A vision-language model of a supported family, with eager, SDPA or flash attention; or a
        text-only model of one, for plans that drop whole layers.
    plan : SkipPlan
        Made for this model's number of layers.
    vision_mask : bool tensor, shape (batch, tokens), optional
        Which tokens are vision, for prompts given as ``inputs_embeds``; with ``input_ids`` the
        placeholders tell.
    keep : callable, optional
        Chooses at every layer which vision tokens take part, among those the plan lets in (see
        `vlm.keep`).

    Yields
    ------
    PreTrainedModel
        The model as it was given.

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

    >>> import torch
    >>> from transformers import AutoConfig, AutoModelForImageTextToText
    >>> config = AutoConfig.for_model("llava", **families.load("llava").tiny)
    >>> model = AutoModelForImageTextToText.from_config(config).eval()
    >>> ids = torch.tensor([[1] + [98] * 9 + [5, 6]])
    >>> with skipping(model, SkipPlan(6, vision_entry=2)), torch.no_grad():
    ...     out = model(input_ids=ids, pixel_values=torch.zeros(1, 3, 24, 24))
    >>> [layer.keys.shape[-2] for layer in out.past_key_values.layers]
    [3, 3, 12, 12, 12, 12]
    """
    given = model
    # torch.compile watches the forwards it has compiled, and compiles anew where they change.
    model = getattr(model, "_orig_mod", model)
    if not isinstance(plan, SkipPlan):
        raise VLMError(
            f"the plan is a {type(plan).__name__}; give a SkipPlan (SkipPlan.load reads one from a "
            "file)."
        )
    if keep is not None and not callable(keep):
        raise VLMError(
            f"keep is a {type(keep).__name__}; give a function of a step, such as "
            "vlm.keep.settled(0.01)."
        )
    plan.check(model)
    if plan.is_noop and keep is None:
        yield given
        return
    _refuse(model, plan, vision_mask is not None or keep is not None)
    layers, base = live.decoder_layers(model), live.base_model(model)
    kinds = _kinds(model)
    patch = Patch(plan, model, vision_mask, keep)
    with _LOCK:
        if base in _PLANNED:
            raise VLMError("a plan is applied to this model already; leave its context first.")
        _PLANNED.add(base)
    before: list[tuple[nn.Module, Any]] = []

    def replace(module: nn.Module, forward: Any) -> None:
        before.append((module, module.__dict__.get("forward")))
        # The attribute of the instance goes before the class's method.
        module.forward = forward

    try:
        replace(base, patch.wrap_base(base))
        for number, layer in enumerate(layers):
            if keep is not None or kinds[number] != _FULL or not plan.active_vision(number):
                replace(layer, patch.wrap(number, layer))
        yield given
    finally:
        for module, forward in before:
            if forward is None:
                del module.forward
            else:
                module.forward = forward
        with _LOCK:
            _PLANNED.discard(base)


def _kinds(model: Any) -> list[str]:
    """Type of attention of every decoder layer."""
    config = live.text_config(model)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        # Without a list, the library's own caches go by these fields.
        kind = _SLIDING if getattr(config, "sliding_window", None) is not None else _FULL
        if getattr(config, "attention_chunk_size", None) is not None:
            kind = "chunked_attention"
        kinds = [kind] * int(config.num_hidden_layers)
    return [str(kind) for kind in kinds]


def planned(model: Any) -> bool:
    """Whether a plan is on the model at this moment."""
    return live.base_model(model) in _PLANNED


def _refuse(model: Any, plan: SkipPlan, choosing: bool) -> None:
    """Raise for what is known not to work."""
    kind, text_only = live.model_type(model), live.is_text_only(model)
    if kind not in families.names(text_only=text_only):
        raise live.unsupported(kind, "no test has run plans on it", text_only=text_only)
    if text_only and (choosing or not plan.drops_only):
        raise VLMError(
            f"{kind!r} is a text-only model, which has no vision tokens to hide; of a plan only "
            "drop_layers can be applied to it."
        )
    unknown = sorted(set(_kinds(model)) - {_FULL, _SLIDING})
    if unknown:
        raise VLMError(
            f"the model has decoder layers of type {', '.join(unknown)}; plans know full attention "
            "and sliding windows."
        )
    attention = str(getattr(live.text_config(model), "_attn_implementation", "sdpa"))
    if flash(model):
        if _SLIDING in _kinds(model) and (choosing or not plan.drops_only):
            raise VLMError(
                f"the model has layers with a sliding window, and {attention!r} counts a window in "
                "the tokens that take part, not in those of the prompt; load the model with 'sdpa' "
                "or 'eager' to hide vision tokens."
            )
    elif attention.startswith(("flash", "flex", "paged", "kernels")) or "/" in attention:
        raise VLMError(
            f"plans do not support attn_implementation={attention!r}; load the model with 'sdpa', "
            "'eager' or 'flash_attention_2'."
        )
