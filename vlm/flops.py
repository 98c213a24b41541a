"""What a plan saves on paper: multiplications of the decoder blocks, and bytes of the cache.

One multiply-add counts as two floating-point operations. A decoder block with d = hidden size,
q = query width, k = key-value width and m = width of its gated MLP costs, for n tokens of which
each attends to itself and all before it,

    2 n (2 d q + 2 d k + 3 d m)  +  4 q n (n + 1) / 2,

the projections and the attention. Norms, rotary angles, the output head, the vision tower and the
projector are left out: a plan changes none of the last three. A layer with a sliding window is
counted as if it saw everything, so for models with such layers the counts are upper bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlm._errors import VLMError
from vlm.plan import SkipPlan

__all__ = ["decode_flops", "flop_limit_speedup", "kv_bytes", "prefill_flops"]

Floats = NDArray[np.float64]


def _shape(config: Any) -> tuple[int, int, int, int, int]:
    """Layers, hidden size, query width, key-value width, MLP width of a text config."""
    config = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    experts = [
        name
        for name in ("num_experts", "num_local_experts", "n_routed_experts")
        if getattr(config, name, None)
    ]
    if experts:
        raise VLMError(
            f"the config has experts ({experts[0]}); the count of operations knows dense MLPs only."
        )
    try:
        heads = int(config.num_attention_heads)
        hidden = int(config.hidden_size)
        width = int(getattr(config, "head_dim", None) or hidden // heads)
        groups = int(getattr(config, "num_key_value_heads", None) or heads)
        layers, inner = int(config.num_hidden_layers), int(config.intermediate_size)
    except AttributeError as error:
        raise VLMError(f"this is no decoder's config: {error}.") from error
    return layers, hidden, heads * width, groups * width, inner


def _tokens(n_text: ArrayLike, n_vision: ArrayLike) -> tuple[Floats, Floats]:
    text, vision = np.asarray(n_text, dtype=np.float64), np.asarray(n_vision, dtype=np.float64)
    if (text < 0).any() or (vision < 0).any():
        raise VLMError("numbers of tokens cannot be negative.")
    return text, vision


def _seen(n_layers: int, vision: Floats, plan: SkipPlan | None, kept: ArrayLike | None) -> Floats:
    """Vision tokens that take part in each layer that runs: shape (..., layers that run)."""
    if plan is not None:
        plan.check(n_layers)
    if kept is None:
        seen = np.repeat(vision[..., None], n_layers, axis=-1)
    else:
        seen = np.array(kept, dtype=np.float64)
        if seen.shape != (*vision.shape, n_layers) or (seen < 0).any():
            raise VLMError(
                f"kept has shape {seen.shape}; a number of vision tokens per prompt and layer is "
                f"needed, shape {(*vision.shape, n_layers)}."
            )
        if (seen > vision[..., None]).any():
            raise VLMError("kept names more vision tokens than there are.")
    if plan is None:
        return seen
    shows = np.array([plan.active_vision(layer) for layer in range(n_layers)])
    runs = np.array([plan.runs(layer) for layer in range(n_layers)])
    return np.asarray((seen * shows)[..., runs])


def prefill_flops(
    config: Any,
    n_text: ArrayLike,
    n_vision: ArrayLike,
    plan: SkipPlan | None = None,
    *,
    kept: ArrayLike | None = None,
) -> Any:
    """Floating-point operations of the decoder blocks over a prompt.

    Parameters
    ----------
    config : PreTrainedConfig
        Of the model or of its language model.
    n_text, n_vision : int or int array
        Tokens of the prompt (of each prompt), padding not counted.
    plan : SkipPlan, optional
        None: the whole model.
    kept : int array, shape (..., layers), optional
        Vision tokens that a rule let take part in each layer (see `vlm.keep`), on top of the plan;
        all by default. What the rule itself computes is not counted.

    Returns
    -------
    float, or float64 array of the shape of the token counts

    Examples
    --------
    LLaVA-1.5-7B with 576 vision tokens and 64 of text, in TFLOP, and less by early exit:

    >>> from transformers import LlamaConfig
    >>> config = LlamaConfig(
    ...     hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
    ... )
    >>> round(prefill_flops(config, 64, 576) / 1e12, 2)
    8.4
    >>> round(prefill_flops(config, 64, 576, SkipPlan(32, vision_exit=20)) / 1e12, 2)
    5.56
    """
    n_layers, hidden, query, key, inner = _shape(config)
    text, vision = _tokens(n_text, n_vision)
    n = text[..., None] + _seen(n_layers, vision, plan, kept)
    linear = 2.0 * n * hidden * (2 * query + 2 * key + 3 * inner)
    return _scalar(np.asarray((linear + 2.0 * query * n * (n + 1.0)).sum(axis=-1)))


def decode_flops(
    config: Any,
    n_text: ArrayLike,
    n_vision: ArrayLike,
    n_new: int,
    plan: SkipPlan | None = None,
    *,
    kept: ArrayLike | None = None,
) -> Any:
    """Floating-point operations of the decoder blocks for new tokens after a prompt.

    Parameters
    ----------
    config, n_text, n_vision, plan, kept
        As for `prefill_flops`.
    n_new : int
        Tokens passed through the blocks one by one, with a cache. The last token of an answer is
        not passed through, so an answer of k tokens takes k - 1.

    Returns
    -------
    float, or float64 array of the shape of the token counts
    """
    n_layers, hidden, query, key, inner = _shape(config)
    text, vision = _tokens(n_text, n_vision)
    past = text[..., None] + _seen(n_layers, vision, plan, kept)
    linear = 2.0 * n_new * hidden * (2 * query + 2 * key + 3 * inner)
    each = linear + 4.0 * query * (n_new * past + n_new * (n_new + 1) / 2.0)
    return _scalar(np.asarray(each.sum(axis=-1)))


def kv_bytes(
    config: Any,
    n_text: ArrayLike,
    n_vision: ArrayLike,
    plan: SkipPlan | None = None,
    *,
    itemsize: int = 2,
    kept: ArrayLike | None = None,
) -> Any:
    """Bytes of the keys and values that a prompt leaves in the cache.

    Parameters
    ----------
    config, n_text, n_vision, plan, kept
        As for `prefill_flops`; new tokens of an answer count as text.
    itemsize : int
        Bytes per number: 2 for float16 and bfloat16.

    Returns
    -------
    int, or int64 array of the shape of the token counts
        Exact for one prompt. In a batch, rows are stored at the length of the longest.

    Examples
    --------
    >>> from transformers import LlamaConfig
    >>> config = LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32)
    >>> kv_bytes(config, 64, 576) // 2**20, "MiB"
    (320, 'MiB')
    """
    n_layers, _, _, key, _ = _shape(config)
    text, vision = _tokens(n_text, n_vision)
    stored = text[..., None] + _seen(n_layers, vision, plan, kept)
    total = np.asarray(2 * key * itemsize * stored.sum(axis=-1))
    return int(total) if total.ndim == 0 else total.astype(np.int64)


def flop_limit_speedup(config: Any, n_text: ArrayLike, n_vision: ArrayLike, plan: SkipPlan) -> Any:
    """Speedup of the prefill that a plan's saved operations allow: whole cost over its cost.

    A machine that spent all its time on these operations would reach it; what moves data instead
    keeps it lower.

    Parameters
    ----------
    config, n_text, n_vision, plan
        As for `prefill_flops`.

    Returns
    -------
    float, or float64 array of the shape of the token counts
    """
    whole = prefill_flops(config, n_text, n_vision)
    return _scalar(np.asarray(whole / prefill_flops(config, n_text, n_vision, plan)))


def _scalar(value: Floats) -> Any:
    return float(value) if np.ndim(value) == 0 else value
