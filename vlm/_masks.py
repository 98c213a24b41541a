"""Which keys a packed query may see, in the two forms that attention functions take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vlm import model as live
from vlm._errors import VLMError
from vlm._rows import Rows, packed_mask
from vlm.cache import CompactLayer

__all__ = ["block_mask", "flash", "one_prompt_per_row"]


def flash(model: Any) -> bool:
    """Whether the decoder runs the library's own flash attention, by whichever kernel.

    Its blocks get a mask of padding over the keys, or none; what a query sees follows from the
    order of the keys.
    """
    from transformers.integrations.flash_attention import flash_attention_forward
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, flash_attention_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    name = getattr(live.text_config(model), "_attn_implementation", None)
    return (
        ALL_ATTENTION_FUNCTIONS.get(name) is flash_attention_forward
        and ALL_MASK_ATTENTION_FUNCTIONS.get(name) is flash_attention_mask
    )


def one_prompt_per_row(given: Mapping[str, Any]) -> None:
    """Refuse several prompts packed into one row, which flash attention tells by their positions.

    Parameters
    ----------
    given : mapping
        Arguments of the base model.

    Raises
    ------
    VLMError
        If lengths of sequences are given, or positions that begin anew.
    """
    packed = given.get("cu_seq_lens_q") is not None
    positions, mask = given.get("position_ids"), given.get("attention_mask")
    if isinstance(positions, Tensor) and positions.ndim == 3:
        # Angles in time, height and width repeat; before them may stand the plain positions.
        positions = positions[0] if positions.shape[0] == 4 else None
    if isinstance(positions, Tensor) and len(positions) == 1:
        falls = bool((positions.diff(dim=-1) <= 0).any())
        packed |= falls and (mask is None or bool(mask.all()))
    if packed:
        raise VLMError(
            "under flash attention, plans take one prompt per row, and this row packs several; "
            "give each a row of its own, or load the model with attn_implementation='sdpa'."
        )


def block_mask(
    mask: Any,
    rows: Rows | None,
    compact: CompactLayer | None,
    past: int,
    shape: tuple[int, int],
    device: torch.device,
    by_order: bool,
) -> Tensor | None:
    """Mask for a block that gets `rows` (None: all) and looks back at what `compact` stores.

    Parameters
    ----------
    mask : tensor or None
        What the model made for all tokens.
    rows, compact : Rows, CompactLayer, or None
    past : int
        Number of tokens before the new ones.
    shape : (int, int)
        Rows of the batch and new tokens.
    device : torch.device
        Of the block.
    by_order : bool
        Whether attention goes by the order of the keys and takes a mask of padding (see `flash`).

    Raises
    ------
    VLMError
        For masks in another form.
    """
    batch, tokens = shape
    if mask is not None and not (isinstance(mask, Tensor) and mask.ndim == (2 if by_order else 4)):
        kind = f"of {mask.ndim} dimensions" if isinstance(mask, Tensor) else type(mask).__name__
        wanted = "of padding (batch x keys)" if by_order else "over query and key positions"
        raise VLMError(
            f"plans need an attention mask {wanted}; this model's blocks take one {kind}. Load it "
            "with attn_implementation='sdpa' or 'eager'."
        )
    if rows is None:
        queries, valid = torch.arange(tokens, device=device).expand(batch, -1), None
    else:
        queries, valid = rows.index, rows.valid
    keys, valid_keys = (queries, valid) if compact is None else compact.all_positions()
    keys = keys.to(device)
    mask = None if mask is None else mask.to(device)
    if not by_order:
        return packed_mask(mask, queries, keys, valid, valid_keys, past)
    if mask is None:
        return valid_keys
    real: Tensor = mask.bool().expand(batch, -1).gather(1, keys)
    return real if valid_keys is None else real & valid_keys.to(device)
