"""A key-value cache layer that stores only the tokens that took part, at their own positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from vlm._errors import VLMError
from vlm._rows import Rows
from vlm.plan import SkipPlan

__all__ = ["CompactLayer", "adopt", "cache_bytes"]


class CompactLayer(DynamicLayer):  # type: ignore[misc]  # transformers ships no types here
    """Cache layer whose length is that of the conversation, whatever it stores of it.

    Position ids and masks are computed from the length a cache reports, so it reports all tokens
    seen; the keys and values are those of the kept ones.

    Attributes
    ----------
    keys, values : tensor, shape (batch, heads, kept, head dimension), or None
    kept : int tensor, shape (batch, kept), or None
        Position of every stored token in the conversation.
    valid : bool tensor, shape (batch, kept), or None
        Which stored tokens count, where rows have kept different numbers; None if all do.
    length : int
        Number of tokens seen.
    plan, rule : SkipPlan and callable or None
        What the cache is filled under.
    window : int or None
        Tokens farther back than this are forgotten, as a layer with a sliding window never looks
        at them again.
    record_past : bool
        While True, nothing is forgotten, so that `crop` can go back.
    """

    keys: Tensor | None
    values: Tensor | None

    def __init__(self, plan: SkipPlan, rule: Any = None, window: int | None = None) -> None:
        super().__init__()
        self.plan = plan
        self.rule = rule
        self.window = window
        self.record_past = False
        self.length = 0
        self.kept: Tensor | None = None
        self.valid: Tensor | None = None
        self._coming: tuple[Tensor, Tensor | None, int] | None = None

    @property
    def stored(self) -> int:
        """Number of tokens that keys and values are held for, per row."""
        return 0 if self.kept is None else self.kept.shape[1]

    @property
    def complete(self) -> bool:
        """Whether every token seen is stored."""
        return self.stored == self.length and self.valid is None

    def expect(self, rows: Rows | None, batch: int, tokens: int, device: torch.device) -> None:
        """Announce which of the `tokens` new ones the next `update` brings (None: all)."""
        if rows is None:
            index, valid = torch.arange(tokens, device=device).expand(batch, -1), None
        else:
            index, valid = rows.index, rows.valid
        self._coming = (index + self.length, valid, tokens)

    def all_positions(self) -> tuple[Tensor, Tensor | None]:
        """Positions of the stored tokens and those announced, and which of them count."""
        if self._coming is None:
            raise _out_of_place()
        index, valid, _ = self._coming
        if self.kept is None:
            # Own copies: torch.compile makes code anew where layers share a tensor and then do not.
            return index.clone(), None if valid is None else valid.clone()
        kept = torch.cat([self.kept.to(index.device), index], dim=1)
        if self.valid is None and valid is None:
            return kept, None
        parts = [
            torch.ones_like(part, dtype=torch.bool) if known is None else known.to(part.device)
            for known, part in ((self.valid, self.kept), (valid, index))
        ]
        return kept, torch.cat([part.to(index.device) for part in parts], dim=1)

    def pass_over(self, tokens: int) -> None:
        """Count tokens that left nothing here."""
        self.length += tokens

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append what was announced; return all keys and values stored."""
        if self._coming is None or self._coming[0].shape[1] != key_states.shape[-2]:
            raise _out_of_place()
        self.kept, self.valid = self.all_positions()
        self.length += self._coming[2]
        self._coming = None
        if self.keys is None or self.values is None:
            self.dtype, self.device = key_states.dtype, key_states.device
            self.is_initialized = True
            keys, values = key_states.contiguous(), value_states.contiguous()
        else:
            keys = torch.cat([self.keys, key_states], dim=-2)
            values = torch.cat([self.values, value_states], dim=-2)
        self.keys, self.values = keys, values
        self._forget()
        return keys, values

    def _forget(self) -> None:
        if self.window is None or self.record_past or self.kept is None:
            return
        if self.length >= self.window:
            self._stay(self.kept > self.length - self.window)

    def _stay(self, stay: Tensor) -> None:
        """Give back the columns in which no row has a token that stays."""
        if self.kept is None:
            return
        if self.valid is not None:
            stay = stay & self.valid
        columns = stay.any(dim=0).nonzero().squeeze(1)
        if len(columns) < self.kept.shape[1]:
            self.kept, stay = self.kept[:, columns], stay[:, columns]
            self.keys, self.values = (
                None if x is None else x.index_select(-2, columns.to(x.device))
                for x in (self.keys, self.values)
            )
        self.valid = None if bool(stay.all()) else stay

    def activate_past_recording(self) -> None:
        """Forget nothing until told otherwise."""
        self.record_past = True

    def get_seq_length(self) -> int:
        """Return the number of tokens seen, stored or not."""
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset of the mask over all tokens."""
        return self.length + query_length, 0

    def _select(self, select: Any) -> None:
        if self.kept is not None:
            self.keys, self.values, self.kept = map(select, (self.keys, self.values, self.kept))
            self.valid = None if self.valid is None else select(self.valid)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Follow a reordering of beams."""
        self._select(lambda x: x.index_select(0, beam_idx.to(x.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        self._select(lambda x: x.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows of the batch."""
        self._select(lambda x: x[indices.to(x.device), ...])

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens of the conversation; the number is given as negative."""
        if tokens_to_remove > 0:
            raise ValueError(
                f"crop takes the number of tokens to remove as a negative one, not "
                f"{tokens_to_remove}."
            )
        if self.window is not None and tokens_to_remove and not self.record_past:
            raise RuntimeError(
                "a layer with a sliding window has forgotten what crop would go back to; call "
                "activate_past_recording() on the cache first."
            )
        self.length = max(0, self.length + tokens_to_remove)
        if self.kept is not None:
            self._stay(self.kept < self.length)
        if self.window is not None and self.kept is not None:
            self._stay(self.kept > self.length - self.window)

    def reset(self) -> None:
        """Forget everything."""
        self.keys = self.values = self.kept = self.valid = self._coming = None
        self.is_initialized = False
        self.length = 0


def _out_of_place() -> VLMError:
    return VLMError(
        "this cache was filled under a skip plan and is used without it; go on inside the same "
        "skipping(model, plan), or begin with a new cache."
    )


def adopt(cache: Any, plan: SkipPlan, rule: Any = None) -> None:
    """Put compact layers where a plan hides tokens, or refuse the cache.

    Raises
    ------
    VLMError
        For caches other than a plain `DynamicCache`, and for one filled outside this plan.
    """
    if not isinstance(cache, DynamicCache) or cache.offloading:
        name = type(cache).__name__
        article = "an" if name[0] in "AEIOU" else "a"
        kind = f"{article} {name}"
        if getattr(cache, "offloading", False):
            kind = f"an offloading {name}"
        raise VLMError(
            f"plans work with DynamicCache, not with {kind}; leave cache_implementation at its "
            "default."
        )
    while len(cache.layers) < plan.n_layers:
        cache.layers.append(DynamicLayer())
    for number in range(plan.n_layers):
        layer = cache.layers[number]
        compact = isinstance(layer, CompactLayer)
        sliding = type(layer) is DynamicSlidingWindowLayer
        if not (compact or sliding) and type(layer) is not DynamicLayer:
            raise VLMError(
                f"layer {number} has a {type(layer).__name__}, which plans do not support; leave "
                "the cache to the model."
            )
        window = layer.window if compact else layer.sliding_window if sliding else None
        # One layer that counts positions in its own way would decide on the masks of all.
        wanted = rule is not None or window is not None or not plan.active_vision(number)
        if compact and wanted and layer.plan == plan and layer.rule is rule:
            continue
        if compact or (wanted and layer.get_seq_length() > 0):
            raise VLMError(
                "the cache was filled without this plan; begin with an empty cache inside "
                "skipping(model, plan)."
            )
        if wanted:
            cache.layers[number] = CompactLayer(plan, rule, window)
            cache.layers[number].record_past = getattr(layer, "record_past", False)


def cache_bytes(cache: Any) -> int:
    """Bytes that the keys and values of a cache take.

    Examples
    --------
    >>> import torch
    >>> cache = DynamicCache()
    >>> _ = cache.update(torch.zeros(1, 2, 5, 4), torch.zeros(1, 2, 5, 4), 0)
    >>> cache_bytes(cache)
    320
    """
    total = 0
    for layer in cache.layers:
        for tensor in (layer.keys, layer.values):
            if isinstance(tensor, Tensor):
                total += tensor.numel() * tensor.element_size()
    return total
