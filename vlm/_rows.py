"""Rows of a batch that take part in a block, packed together, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rows", "pack", "packed_mask", "take"]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Tokens of a batch that take part, packed to the right; n is the longest row's count.

    Parameters
    ----------
    index : int tensor, shape (batch, n)
        Positions among the batch's tokens, in their own order. Where a row has fewer than n, it
        begins with tokens that do not take part.
    valid : bool tensor, shape (batch, n), or None
        Which entries of `index` count; None if all do.
    tokens : int
        Length the batch had before.
    """

    index: Tensor
    valid: Tensor | None
    tokens: int

    def to(self, device: torch.device) -> Rows:
        """Move to a device."""
        if self.index.device == device:
            return self
        valid = None if self.valid is None else self.valid.to(device)
        return Rows(self.index.to(device), valid, self.tokens)

    def _flat(self) -> Tensor:
        first = torch.arange(self.index.shape[0], device=self.index.device) * self.tokens
        return self.index + first[:, None]

    def gather(self, hidden: Tensor) -> Tensor:
        """Rows of (batch, tokens, ...) that take part: (batch, n, ...)."""
        batch, n = self.index.shape
        # One selection of whole rows is several times faster than torch.gather.
        picked = hidden.reshape(batch * self.tokens, -1).index_select(0, self._flat().flatten())
        return picked.view(batch, n, *hidden.shape[2:])

    def scatter(self, hidden: Tensor, packed: Tensor) -> Tensor:
        """Copy of `hidden` with the rows that took part replaced; all others are untouched."""
        batch = self.index.shape[0]
        flat, rows = self._flat().flatten(), packed.reshape(-1, packed.shape[-1])
        if self.valid is not None:
            real = self.valid.flatten().nonzero().squeeze(1)
            flat, rows = flat[real], rows[real]
        out = hidden.to(packed.device, copy=True).reshape(batch * self.tokens, -1)
        return out.index_copy(0, flat, rows).view(hidden.shape)


def pack(keep: Tensor) -> Rows | None:
    """Pack the tokens that are True in `keep` (batch, tokens); None if all are."""
    tokens = keep.shape[1]
    counts = keep.sum(dim=1)
    least, most = (int(count) for count in torch.stack([counts.min(), counts.max()]).tolist())
    if least == tokens:
        return None
    # A stable order of False before True keeps the tokens' own order among those that stay.
    order = keep.to(torch.int8).argsort(dim=1, stable=True)[:, tokens - most :]
    valid = None
    if least != most:
        place = torch.arange(most, device=keep.device)
        valid = place >= most - counts[:, None]
    return Rows(order, valid, tokens)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Rows `index` (batch, n) of x (..., batch or 1, tokens, d), e.g. of cosines and sines."""
    batch, n = index.shape
    index = index.to(x.device)
    x = x.expand(*x.shape[:-3], batch, *x.shape[-2:])
    shape = (*x.shape[:-2], n, x.shape[-1])
    return x.gather(-2, index[:, :, None].expand(shape))


def packed_mask(
    mask: Tensor | None,
    queries: Tensor,
    keys: Tensor,
    valid_queries: Tensor | None,
    valid_keys: Tensor | None,
    past: int,
) -> Tensor | None:
    """Attention mask over packed queries and keys.

    Parameters
    ----------
    mask : tensor, shape (batch or 1, heads or 1, new tokens, all tokens), or None
        Mask over the tokens before packing: bool, True where attention is allowed, or additive;
        None means plain causal attention over real tokens.
    queries : int tensor, shape (batch, n)
        Positions among the new tokens.
    keys : int tensor, shape (batch, k)
        Positions among all tokens; the last n belong to the queries.
    valid_queries, valid_keys : bool tensor or None
        Which of them count; None if all do.
    past : int
        Number of tokens before the new ones.
    """
    batch, n = queries.shape
    k = keys.shape[1]
    if mask is None:
        if valid_keys is None and (n == 1 or n == k):
            return None
        packed = (keys[:, None, :] <= queries[:, :, None] + past)[:, None]
    else:
        mask = mask.expand(batch, -1, -1, -1)
        if batch == 1:
            packed = mask.index_select(2, queries[0]).index_select(3, keys[0])
        else:
            down = queries[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
            across = keys[:, None, None, :].expand(-1, mask.shape[1], n, -1)
            packed = mask.gather(2, down).gather(3, across)
    if valid_keys is None:
        return packed
    hidden = ~valid_keys[:, None, None, :]
    # What fills a short row attends to itself alone: without any key it would become NaN.
    alone = None
    if valid_queries is not None:
        own = torch.arange(k - n, k, device=keys.device)[:, None] == torch.arange(
            k, device=keys.device
        )
        alone = own & ~valid_queries[:, None, :, None]
    if packed.dtype == torch.bool:
        packed = packed & ~hidden
        return packed if alone is None else packed | alone
    packed = packed.masked_fill(hidden, torch.finfo(packed.dtype).min)
    return packed if alone is None else packed.masked_fill(alone, 0.0)
