"""Skipping the slow way: every block sees all rows, masks hide keys, identity undoes updates.

Nothing here is shared with the package: no rows are gathered, nothing is cached, the masks are
written down from the definition.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from vlm.plan import SkipPlan


def _allowed(real: torch.Tensor, hidden: torch.Tensor, own: torch.Tensor | None) -> torch.Tensor:
    n = real.shape[1]
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    if own is not None:
        causal = own[:, 0]
    allowed = causal & (real & ~hidden)[:, None, :]
    # A query that nobody reads must still be a number.
    alone = ~allowed.any(dim=-1, keepdim=True) & torch.eye(n, dtype=torch.bool)
    return (allowed | alone)[:, None]


@contextmanager
def masked(
    live: Any, layers: Any, plan: SkipPlan, vision_id: int, prompt: int, choose: Any = None
) -> Iterator[None]:
    """Apply a plan to `live` for calls without a cache; `prompt` tokens may hold images.

    Masks are causal; only where layers differ in what they look at are they the model's own, made
    without a cache. `choose` maps a layer and the states that enter it to the vision tokens that
    take part.
    """
    seen: dict[str, torch.Tensor] = {}
    windows = getattr(live.config.get_text_config(), "sliding_window", None) is not None

    def tokens(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs["input_ids"]
        given = kwargs.get("attention_mask")
        real = torch.ones_like(ids).bool() if given is None else given.bool()
        vision = ids == vision_id
        vision[:, prompt:] = False
        seen["vision"], seen["real"] = vision, real

    def before(number: int) -> Any:
        def hook(_: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            hidden = seen["vision"] & (not plan.active_vision(number))
            if choose is not None and plan.active_vision(number):
                hidden = seen["vision"] & ~choose(number, args[0], seen["vision"])
            seen["hidden"] = hidden
            own = kwargs["attention_mask"] if windows else None
            mask = _allowed(seen["real"], hidden, own)
            dtype = args[0].dtype
            bias = torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
            return args, {**kwargs, "attention_mask": bias}

        return hook

    def after(number: int) -> Any:
        def hook(_: Any, args: Any, kwargs: dict[str, Any], out: torch.Tensor) -> torch.Tensor:
            if number in plan.drop_layers:
                return args[0]
            return torch.where(seen["hidden"][..., None], args[0], out)

        return hook

    handles = [live.model.register_forward_pre_hook(tokens, with_kwargs=True)]
    for number, layer in enumerate(layers):
        handles.append(layer.register_forward_pre_hook(before(number), with_kwargs=True))
        handles.append(layer.register_forward_hook(after(number), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
