"""Hooks on the decoder blocks: their raw states, and what each block gets from vision."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vlm._errors import VLMError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["BlockRecord", "record_blocks"]


class BlockRecord:
    """States of one prefill, layer by layer, and the effect of hiding vision from each block.

    ``states`` holds L + 1 tensors of shape (batch, tokens, d) after the forward pass; ``effect``
    and ``size`` hold per block the norms of Delta and of the true text output, shape (batch, 2):
    over all text tokens, and of the last one alone.
    """

    def __init__(self, n_layers: int, n_tokens: int, text: Tensor | None) -> None:
        self.states: list[Tensor] = []
        self.effect: list[Tensor] = []
        self.size: list[Tensor] = []
        self.n_layers = n_layers
        self.n_tokens = n_tokens
        self._text = None if text is None else _places(text)

    def check(self) -> None:
        """Raise `VLMError` unless every block was seen."""
        if len(self.states) != self.n_layers + 1:
            raise VLMError(
                f"{max(0, len(self.states) - 1)} of {self.n_layers} decoder blocks were seen with "
                f"the prompt's {self.n_tokens} tokens; capture needs a processor that writes one "
                "placeholder per vision token, and a model no plan is applied to."
            )

    def entered(self, hidden: Tensor) -> None:
        if not self.states and hidden.shape[1] == self.n_tokens:
            self.states.append(hidden)

    def left(self, layer: int, block: nn.Module, arguments: dict[str, Any], output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        # Later calls of the same block are decoding steps.
        if len(self.states) != layer + 1 or hidden.shape[1] != self.n_tokens:
            return
        self.states.append(hidden)
        if self._text is not None:
            places, valid = (tensor.to(hidden.device) for tensor in self._text)
            true = _take(hidden, places)
            change = (true.float() - _without_vision(block, arguments, places, valid).float()).norm(
                dim=-1
            )
            self.effect.append(_norms(change, valid))
            self.size.append(_norms(true.float().norm(dim=-1), valid))


def _norms(per_token: Tensor, valid: Tensor) -> Tensor:
    """Norm over all valid tokens and of the last one, from norms per token: shape (batch, 2)."""
    import torch

    # Texts are aligned on the right, so the token that predicts the answer is the last place.
    return torch.stack([(per_token * valid).norm(dim=1), per_token[:, -1]], dim=1)


def _places(text: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the text tokens, aligned on the right, and which of them are real."""
    import torch

    counts = text.sum(dim=1, keepdim=True)
    longest = int(counts.max())
    place = torch.arange(text.shape[1], device=text.device)
    # Stable order: what is not text first, then the text in its own order.
    order = torch.where(text, place + text.shape[1], place).argsort(dim=1)
    valid = torch.arange(longest, device=text.device) >= longest - counts
    return order[:, text.shape[1] - longest :], valid


def _take(x: Tensor, places: Tensor) -> Tensor:
    """Rows `places` (batch, n) of x (batch or 1, tokens, d)."""
    index = places[:, :, None].expand(-1, -1, x.shape[-1])
    return x.expand(places.shape[0], -1, -1).gather(1, index)


def _without_vision(
    block: nn.Module, arguments: Mapping[str, Any], places: Tensor, valid: Tensor
) -> Tensor:
    """Run a block once more on the text tokens alone, at their own positions."""
    import torch

    hidden: Tensor = arguments["hidden_states"]
    batch, tokens = hidden.shape[:2]
    mask = arguments.get("attention_mask")
    if mask is None:
        allowed = places[:, None, :, None] >= places[:, None, None, :]
    elif isinstance(mask, torch.Tensor) and mask.ndim == 4:
        heads = mask.shape[1]
        mask = mask.expand(batch, -1, -1, -1)[..., :tokens]
        down = places[:, None, :, None].expand(-1, heads, -1, tokens)
        across = places[:, None, None, :].expand(-1, heads, places.shape[1], -1)
        allowed = mask.gather(2, down).gather(3, across)
    else:
        raise VLMError(
            "vision_effect needs an attention mask over query and key positions; this model's "
            f"blocks take {type(mask).__name__}. Use vision_effect=False."
        )
    real = valid[:, None, None, :]
    # A padding row attends to itself alone: a row without any key would be NaN.
    alone = torch.eye(places.shape[1], dtype=torch.bool, device=places.device)
    if allowed.dtype == torch.bool:
        allowed = (allowed & real) | alone
    else:
        lowest = torch.finfo(allowed.dtype).min
        allowed = allowed.masked_fill(~real, lowest).masked_fill(alone & ~real, 0.0)
    given = dict(arguments)
    given["hidden_states"] = _take(hidden, places)
    given["attention_mask"] = allowed
    for name in ("position_embeddings", "position_embeddings_global", "position_embeddings_local"):
        rotary = given.get(name)
        if isinstance(rotary, tuple):
            given[name] = tuple(_take(part, places) for part in rotary)
        elif isinstance(rotary, torch.Tensor):
            given[name] = _take(rotary, places)
    positions = given.get("position_ids")
    if isinstance(positions, torch.Tensor):
        given["position_ids"] = positions.expand(*positions.shape[:-2], batch, -1).gather(
            -1, places.expand(*positions.shape[:-2], -1, -1)
        )
    for name, value in (("past_key_values", None), ("use_cache", False), ("cache_position", None)):
        if name in given:
            given[name] = value
    output = block.forward(**given)
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result


@contextmanager
def record_blocks(
    layers: Sequence[nn.Module], n_tokens: int, *, text: Tensor | None = None, quiet: Any = None
) -> Iterator[BlockRecord]:
    """Record the raw states of the next forward pass with `n_tokens` tokens.

    Parameters
    ----------
    layers : sequence of Module
        The decoder blocks in order.
    n_tokens : int
        Length of the padded prompt; passes of other lengths (decoding) are not recorded.
    text : bool tensor, shape (batch, tokens), optional
        Text tokens; with it each block is run once more on these alone.
    quiet : callable, optional
        Makes a context in which those second runs happen.
    """
    record = BlockRecord(len(layers), n_tokens, text)
    names = [list(inspect.signature(type(layer).forward).parameters)[1:] for layer in layers]

    def named(layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        return {**dict(zip(names[layer], args, strict=False)), **kwargs}

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        record.entered(named(0, args, kwargs)["hidden_states"])

    def after(layer: int) -> Any:
        def hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            if quiet is None:
                record.left(layer, block, named(layer, args, kwargs), out)
            else:
                with quiet():
                    record.left(layer, block, named(layer, args, kwargs), out)

        return hook

    handles = [layers[0].register_forward_pre_hook(before, with_kwargs=True)]
    try:
        for number, layer in enumerate(layers):
            handles.append(layer.register_forward_hook(after(number), with_kwargs=True))
        yield record
    finally:
        for handle in handles:
            handle.remove()
