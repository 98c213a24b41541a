"""Vision Attention Ratio without attention matrices.

A registered attention function runs PyTorch's scaled dot product attention as it is, and computes
besides only the query rows that were asked for, against all keys, in float32.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from vlm._errors import VLMError
from vlm._precision import full_precision
from vlm.model import decoder_layers, text_config

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["AttentionRows", "attention_rows"]

_NAME = "sdpa_with_rows"
# Rows of scores held at once: memory stays far below that of an attention matrix.
_ROWS_AT_ONCE = 64
_LOCK = threading.Lock()
_RECORDERS: WeakKeyDictionary[Any, tuple[AttentionRows, int]] = WeakKeyDictionary()


class AttentionRows:
    """Attention mass of chosen queries on vision keys, as `attention_rows` collects it."""

    def __init__(self, n_layers: int, vision: Tensor | None, rows: Tensor | None) -> None:
        self.vision = vision
        self.rows = rows
        self._found: list[Tensor | None] = [None] * n_layers
        self._active = vision is not None

    @property
    def per_head(self) -> Tensor:
        """VAR of the watched queries, float32, shape (batch, layers, heads, rows); NaN if absent.

        Raises
        ------
        VLMError
            If some decoder layer did not run through the watched attention since the last `watch`.
        """
        import torch

        missing = [layer for layer, found in enumerate(self._found) if found is None]
        if missing:
            raise VLMError(
                f"no attention was seen in decoder layers {missing}; run the model once inside "
                "the context, with as many tokens as the vision mask has."
            )
        found = [layer for layer in self._found if layer is not None]
        return torch.stack([layer.to(found[-1].device) for layer in found], dim=1)

    def watch(
        self,
        vision: Tensor,
        rows: Tensor | Sequence[int] | None = None,
        attention_mask: Tensor | None = None,
    ) -> None:
        """Say which keys are vision and which query rows to compute in the next forward pass.

        Parameters
        ----------
        vision : bool tensor, shape (batch, tokens)
        rows : int tensor, shape (batch, r) or (r,), optional
            Query positions in the padded batch; -1 leaves a place empty. By default the last token
            of every row that is not padding: the one that predicts the answer.
        attention_mask : tensor, shape (batch, tokens), optional
            0 at padding; needed for the default `rows` where the padding is on the right.
        """
        import torch

        batch, tokens = vision.shape
        if rows is None:
            real = torch.ones_like(vision) if attention_mask is None else attention_mask.bool()
            place = torch.arange(tokens, device=vision.device)
            rows = torch.where(real, place, -1).amax(dim=1, keepdim=True)
        else:
            rows = torch.as_tensor(rows, dtype=torch.int64, device=vision.device)
            if rows.ndim == 1:
                rows = rows.expand(batch, -1)
        if rows.ndim != 2 or rows.shape[0] != batch or int(rows.max()) >= tokens:
            raise VLMError(
                f"query rows of shape {tuple(rows.shape)} and largest position {int(rows.max())} "
                f"do not fit a batch of {batch} rows with {tokens} tokens."
            )
        self.vision, self.rows = vision.bool(), rows
        self._found = [None] * len(self._found)
        self._active = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Compute attention without watching, e.g. for a second run of one block."""
        before, self._active = self._active, False
        try:
            yield
        finally:
            self._active = before

    def _see(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scaling: float | None,
        causal: bool,
    ) -> None:
        import torch

        if not self._active or self.vision is None or self.rows is None:
            return
        # Decoding steps that follow a prefill are none of our business.
        if query.shape[2] != self.vision.shape[1] or key.shape[2] != query.shape[2]:
            return
        rows, vision = self.rows.to(query.device), self.vision.to(query.device)
        parts = [
            _mass(query, key, mask, rows[:, start : start + _ROWS_AT_ONCE], vision, scaling, causal)
            for start in range(0, rows.shape[1], _ROWS_AT_ONCE)
        ]
        self._found[layer] = torch.cat(parts, dim=2)


def _mass(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    rows: Tensor,
    vision: Tensor,
    scaling: float | None,
    causal: bool,
) -> Tensor:
    """Attention mass of query rows (batch, r) on vision keys: (batch, heads, r)."""
    import torch

    batch, heads, _, width = query.shape
    kv_heads, tokens = key.shape[1], key.shape[2]
    safe = rows.clamp_min(0)
    chosen = query.gather(2, safe[:, None, :, None].expand(batch, heads, -1, width)).float()
    chosen = chosen * (width**-0.5 if scaling is None else scaling)
    # Heads that share keys stand one after another, as in the library's repeat_kv.
    packed = chosen.reshape(batch, kv_heads, -1, width)
    with full_precision(query.device.type):
        scores = packed @ key.float().mT
    scores = scores.reshape(batch, heads, -1, tokens)
    # Adding minus infinity is several times faster than filling under a broadcast mask.
    allowed = None
    if mask is not None:
        index = safe[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
        allowed = mask.expand(batch, -1, -1, -1).gather(2, index)[..., :tokens]
    elif causal:
        allowed = (torch.arange(tokens, device=rows.device) <= safe[:, :, None])[:, None]
    if allowed is not None:
        if allowed.dtype == torch.bool:
            allowed = torch.zeros_like(allowed, dtype=torch.float32).masked_fill_(
                ~allowed, float("-inf")
            )
        scores += allowed.float()
    with full_precision(query.device.type):
        mass = (scores.softmax(dim=-1) @ vision[:, None, :, None].float()).squeeze(-1)
    return mass.masked_fill(rows[:, None, :] < 0, float("nan"))


def _forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    watched = _RECORDERS.get(module)
    if watched is not None:
        recorder, layer = watched
        causal = kwargs.get("is_causal")
        causal = getattr(module, "is_causal", True) if causal is None else causal
        recorder._see(layer, query, key, attention_mask, kwargs.get("scaling"), bool(causal))
    out: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, **kwargs
    )
    return out


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(_NAME, _forward)
    AttentionMaskInterface.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


@contextmanager
def attention_rows(
    model: nn.Module,
    vision: Tensor | None = None,
    rows: Tensor | Sequence[int] | None = None,
    *,
    attention_mask: Tensor | None = None,
) -> Iterator[AttentionRows]:
    """Watch how much attention chosen queries pay to vision tokens, per decoder layer and head.

    Vision Attention Ratio (Jiang et al.): VAR[l, h] = sum over vision keys i of A^(l, h)(k, i) for
    the query row k, in [0, 1]. It lies about the flow of vision where vision moves through other
    text tokens first: the query's own VAR does not see that.

    Inside the context the decoder runs scaled dot product attention, whatever it ran before; its
    outputs are those of ``attn_implementation="sdpa"`` to the bit. On exit, also by an error, the
    former implementation is back.

    Parameters
    ----------
    model : PreTrainedModel
        A vision-language model (or its text decoder).
    vision : bool tensor, shape (batch, tokens), optional
        Keys that are vision tokens. Without it nothing is watched until `AttentionRows.watch`.
    rows, attention_mask : optional
        Query rows to compute and padding mask, see `AttentionRows.watch`; by default the last
        token of each row.

    Yields
    ------
    AttentionRows
        Holds ``per_head`` after a forward pass with as many tokens as `vision` has.

    Raises
    ------
    VLMError
        If the model is being watched already, or cannot run scaled dot product attention.

    References
    ----------
    Jiang et al. 2025, "Devils in Middle Layers of Large Vision-Language Models".
    """
    if not getattr(model, "_supports_sdpa", True):
        raise VLMError(
            f"{type(model).__name__} cannot run scaled dot product attention, so its attention "
            "cannot be watched; use var=False and vision_effect=False."
        )
    layers = decoder_layers(model)
    recorder = AttentionRows(len(layers), None, None)
    if vision is not None:
        recorder.watch(vision, rows, attention_mask)
    modules = {module: number for number, layer in enumerate(layers) for module in layer.modules()}
    configs = {id(config): config for config in [text_config(model)]}
    for module in modules:
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation"):
            configs[id(config)] = config
    _register()
    with _LOCK:
        if any(module in _RECORDERS for module in modules):
            raise VLMError(
                "this model's attention is being watched already; leave the other context first."
            )
        _RECORDERS.update({module: (recorder, number) for module, number in modules.items()})
    # The public setter would also change the vision tower.
    before = [(config, config._attn_implementation) for config in configs.values()]
    try:
        for config, _ in before:
            config._attn_implementation_internal = _NAME
        yield recorder
    finally:
        for config, name in before:
            config._attn_implementation_internal = name
        with _LOCK:
            for module in modules:
                _RECORDERS.pop(module, None)
