"""Hooks on the decoder blocks: their raw states, and what each block gets from vision."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vlm._errors import VLMError
from vlm._rows import Rows, pack, packed_mask, take

__all__ = ["BlockRecord", "StateRoom", "record_blocks"]


class StateRoom:
    """Memory for the states of one batch after another.

    A forward pass whose states are all kept finds none of the memory it freed the last time, and a
    CPU asks the system for new pages at every sample: several per cent of the pass. Copied into
    memory that stays, the states leave the pass to itself. Devices with an allocator of their own
    keep the states where they are.
    """

    def __init__(self) -> None:
        self._rooms: dict[int, Tensor] = {}

    def keep(self, layer: int, state: Tensor) -> Tensor:
        """The state, until the next one of this layer is kept."""
        if state.device.type != "cpu":
            return state
        room = self._rooms.get(layer)
        if room is None or room.dtype != state.dtype or room.numel() < state.numel():
            room = self._rooms[layer] = torch.empty(state.numel(), dtype=state.dtype)
        return room[: state.numel()].view(state.shape).copy_(state)


class BlockRecord:
    """States of one prefill, layer by layer, and the effect of hiding vision from each block.

    ``states`` holds L + 1 tensors of shape (batch, tokens, d) after the forward pass; ``effect``
    and ``size`` hold per block the norms of Delta and of the true text output, shape (batch, 2):
    over all text tokens, and of the last one alone.
    """

    def __init__(self, n_layers: int, n_tokens: int, text: Tensor | None, room: StateRoom) -> None:
        self.states: list[Tensor] = []
        self.effect: list[Tensor] = []
        self.size: list[Tensor] = []
        self.n_layers = n_layers
        self.n_tokens = n_tokens
        self._text = text
        self._room = room
        self._rows: Rows | None = None if text is None else pack(text)
        self._memo: dict[str, tuple[Any, Any]] = {}

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
            self.states.append(self._room.keep(0, hidden))

    def left(self, layer: int, block: nn.Module, arguments: dict[str, Any], output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        # Later calls of the same block are decoding steps.
        if len(self.states) != layer + 1 or hidden.shape[1] != self.n_tokens:
            return
        self.states.append(self._room.keep(layer + 1, hidden))
        if self._text is None:
            return
        if self._rows is None:
            # Text alone and no padding: there is nothing to hide.
            size = hidden.float().norm(dim=-1)
            self.size.append(_norms(size, None))
            self.effect.append(torch.zeros_like(self.size[-1]))
            return
        rows = self._rows.to(hidden.device)
        true = rows.gather(hidden)
        alone = _without_vision(block, arguments, rows, self._memo)
        self.effect.append(_norms((true.float() - alone.float()).norm(dim=-1), rows.valid))
        self.size.append(_norms(true.float().norm(dim=-1), rows.valid))


def _norms(per_token: Tensor, valid: Tensor | None) -> Tensor:
    """Norm over all valid tokens and of the last one, from norms per token: shape (batch, 2)."""
    counted = per_token if valid is None else per_token * valid
    # Texts are packed to the right, so the token that predicts the answer is the last place.
    return torch.stack([counted.norm(dim=1), per_token[:, -1]], dim=1)


def _without_vision(
    block: nn.Module, arguments: Mapping[str, Any], rows: Rows, memo: dict[str, tuple[Any, Any]]
) -> Tensor:
    """Run a block once more on the text tokens alone, at their own positions."""
    given = dict(arguments)
    hidden: Tensor = given["hidden_states"]
    shape = hidden.shape[:2]
    for name, value in arguments.items():
        # Most arguments are the same tensors in every block: pack them once.
        if name == "hidden_states":
            given[name] = rows.gather(hidden)
        elif name == "attention_mask" or isinstance(value, Tensor | tuple):
            if name not in memo or memo[name][0] is not value:
                memo[name] = (value, _packed(name, value, rows, (shape[0], shape[1])))
            given[name] = memo[name][1]
    if given.get("position_embeddings") is not None:
        # The angles say where a token stands; a gap in the ids would look like two sequences.
        given["position_ids"] = None
    for name, value in (("past_key_values", None), ("use_cache", False), ("cache_position", None)):
        if name in given:
            given[name] = value
    output = block.forward(**given)
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result


def _packed(name: str, value: Any, rows: Rows, shape: tuple[int, int]) -> Any:
    """What a block gets for an argument when it gets the text tokens alone."""
    if name == "attention_mask":
        if value is not None and not (isinstance(value, Tensor) and value.ndim == 4):
            raise VLMError(
                "vision_effect needs an attention mask over query and key positions; this model's "
                f"blocks take {type(value).__name__}. Use vision_effect=False."
            )
        mask = None if value is None else value[..., : shape[1]]
        return packed_mask(mask, rows.index, rows.index, rows.valid, rows.valid, 0)
    if name == "position_embeddings":
        if isinstance(value, tuple):
            return tuple(take(part, rows.index) for part in value)
        return take(value, rows.index)
    if name == "position_ids":
        return take(value[..., None], rows.index)[..., 0]
    if isinstance(value, Tensor) and value.shape[:2] == shape:
        return rows.gather(value)
    return value


@contextmanager
def record_blocks(
    layers: Sequence[nn.Module],
    n_tokens: int,
    *,
    text: Tensor | None = None,
    quiet: Any = None,
    room: StateRoom | None = None,
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
    room : StateRoom, optional
        Memory that lasts from one batch to the next; the states of the last batch are overwritten.
    """
    record = BlockRecord(len(layers), n_tokens, text, room or StateRoom())
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
