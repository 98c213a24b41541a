"""Flash attention without its package: the library's own path, the two kernels written down.

Everything of transformers runs as on a GPU: how masks of padding are made, how rows are unpadded,
how packed sequences are told by their positions. Only the functions that the package ``flash_attn``
brings are replaced, by what its documentation says they compute: causal masks aligned to the bottom
right corner, windows counted in keys, grouped heads, zeros where a query sees nothing.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers.modeling_flash_attention_utils as library

from vlm.model import text_config

NAME = "flash_attention_2"


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float | None,
    causal: bool,
    window: tuple[int, int],
    softcap: float,
) -> torch.Tensor:
    """Attention of one sequence: (queries, heads, width) on (keys, shared heads, width)."""
    shared = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(shared, dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    place = torch.arange(len(q))[:, None] + len(k) - len(q)
    back = place - torch.arange(len(k))
    seen = torch.ones_like(back, dtype=torch.bool)
    if causal:
        seen &= back >= 0
    left, right = window
    if left >= 0:
        seen &= back <= left
    if right >= 0:
        seen &= back >= -right
    scores = scores.masked_fill(~seen, float("-inf"))
    share = torch.nan_to_num(scores.softmax(dim=-1))
    return torch.einsum("hqk,khd->qhd", share, v)


def flash_attn_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> torch.Tensor:
    """Batches of sequences of one length: (batch, tokens, heads, width)."""
    assert not dropout_p
    rows = zip(q, k, v, strict=True)
    return torch.stack([_attend(*x, softmax_scale, causal, window_size, softcap) for x in rows])


def flash_attn_varlen_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Any = None,
) -> torch.Tensor:
    """Sequences one after another: (all tokens, heads, width)."""
    assert not dropout_p
    sizes = [cu.diff().tolist() for cu in (cu_seqlens_q, cu_seqlens_k)]
    assert [max(size) for size in sizes] == [int(max_seqlen_q), int(max_seqlen_k)]
    assert [len(q), len(k)] == [sum(size) for size in sizes]
    parts = zip(q.split(sizes[0]), k.split(sizes[1]), v.split(sizes[1]), strict=True)
    return torch.cat([_attend(*x, softmax_scale, causal, window_size, softcap) for x in parts])


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the kernels where the library looks for those of the package."""
    kernels = {
        "_loaded_implementation": NAME,
        "_flash_fn": flash_attn_func,
        "_flash_varlen_fn": flash_attn_varlen_func,
        "_flash_with_kvcache_fn": None,
        "_pad_fn": library._pad_input,
        "_unpad_fn": library._unpad_input,
        "_process_flash_kwargs_fn": library._lazy_define_process_function(flash_attn_varlen_func),
        "_process_with_kvcache_kwargs_fn": dict,
    }
    for name, value in kernels.items():
        monkeypatch.setattr(library, name, value)


def switch_on(live: Any) -> Any:
    """Let a model's decoder run flash attention; the library's own switch wants a GPU."""
    text_config(live)._attn_implementation_internal = NAME
    return live
