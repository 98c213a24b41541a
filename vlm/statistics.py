"""Running sums over the tokens of captured states, on the model's own device.

The distances are those of Definition 1: rho(x, y) = 1 - cos(x, y). Computed like that, a distance
of 1e-6 drowns in the rounding of float32. Here every distance comes from unit vectors u_l and their
increments e_l = u_l - u_{l-1} instead,

    rho(x_i, x_j) = |u_i - u_j|^2 / 2 = sum of <e_a, e_b> over i < a, b <= j, divided by 2,

so that near-copies cost no digits, and all pairs of layers come from one small Gram matrix per
token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vlm._errors import VLMError
from vlm._precision import full_precision
from vlm.sample import DEFAULT_THRESHOLDS, TokenStatistics

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["check_thresholds", "token_statistics"]

# Values held at once: a few megabytes stay in a CPU's cache, a GPU wants long vectors.
_BLOCK_CPU = 2**21
_BLOCK_GPU = 2**26
# Norms outside this range have lost digits (or all of them) to float32's own range.
_SAFE_NORMS = (1e-12, 1e15)
# Where a path doubles back on itself its end points may be this much closer than its length says;
# below that share of the squared length the Gram sum has lost digits and is computed directly.
_DOUBLES_BACK = 1e-3


def check_thresholds(thresholds: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return cosine-distance thresholds as a float64 array, or say what is wrong with them.

    Raises
    ------
    VLMError
        If there is none, or one lies outside (0, 2].

    Examples
    --------
    >>> check_thresholds((0.01, 0.1))
    array([0.01, 0.1 ])
    """
    values = np.asarray(thresholds, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise VLMError(f"thresholds must be a list of numbers; got {thresholds!r}.")
    # Written so that NaN fails too.
    bad = values[~((values > 0.0) & (values <= 2.0))]
    if bad.size:
        raise VLMError(
            f"the threshold {bad[0]:g} is out of range; a cosine distance lies between 0 and 2, "
            "and a threshold above 0."
        )
    return values


def token_statistics(
    states: Sequence[Tensor],
    masks: Mapping[str, Tensor],
    *,
    thresholds: Sequence[float] | NDArray[np.float64] = DEFAULT_THRESHOLDS,
    names: Sequence[str] | None = None,
    block_tokens: int | None = None,
) -> list[dict[str, TokenStatistics]]:
    """Sums over tokens of the distances between all layers, per row of a batch and modality.

    For token k of a row, with rho_k(i, j) = 1 - cos(x_k^i, x_k^j), this accumulates the sums of
    rho_k(i, j) for all i, j, the numbers of tokens with rho_k < t between consecutive layers and
    from layer 0, squared distances and squared norms (see `TokenStatistics`). A token whose state
    is the zero vector has no distance there: it is left out of that sum and of ``n_defined``.

    It lies where the states themselves were rounded: two bfloat16 states of one direction differ by
    rho of about 1e-6 to 1e-5 from rounding alone.

    Parameters
    ----------
    states : sequence of L + 1 tensors, shape (batch, tokens, d)
        What entered block 0 and what each block handed on, any floating dtype; computed in float32.
    masks : mapping of str to bool tensor, shape (batch, tokens)
        By modality, the tokens that belong to it (padding belongs to none).
    thresholds : sequence of float
        Cosine distances at which tokens are counted, each in (0, 2].
    names : sequence of str, optional
        Names of the rows for error messages; by default their numbers.
    block_tokens : int, optional
        Tokens worked on at once; by default as many as suit the device's memory.

    Returns
    -------
    list of dict of str to TokenStatistics
        One dict per row of the batch, with every modality of `masks` (an absent one counts 0).

    Raises
    ------
    VLMError
        If a state of a masked token is NaN or infinite, or a threshold is out of range.

    Examples
    --------
    >>> import torch
    >>> before = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    >>> after = torch.tensor([[[0.0, 3.0], [0.0, 5.0]]])
    >>> [row] = token_statistics([before, after], {"text": torch.tensor([[True, True]])})
    >>> row["text"].rho_sum.tolist(), row["text"].below_adjacent[:, 0].tolist()[-1]
    ([[0.0, 1.0], [1.0, 0.0]], 1)
    """
    import torch

    limits = check_thresholds(thresholds)
    n_states, batch, width = len(states), states[0].shape[0], states[0].shape[2]
    n_blocks = n_states - 1
    n_segments = batch * len(masks)
    device = states[-1].device
    # Which tokens count in which segment (row of the batch and modality).
    member = torch.zeros((*states[0].shape[:2], batch, len(masks)), dtype=torch.bool, device=device)
    for m, mask in enumerate(masks.values()):
        for row in range(batch):
            member[row, :, row, m] = mask[row].to(device)
    member = member.reshape(-1, n_segments)
    counted = member.any(dim=1)
    # Without padding all tokens count, and nothing need be gathered.
    chosen = None if bool(counted.all()) else counted.nonzero().squeeze(1)
    if chosen is not None:
        member = member[chosen]
    n_tokens = member.sum(dim=0).cpu()
    if block_tokens is None:
        block_tokens = (_BLOCK_CPU if device.type == "cpu" else _BLOCK_GPU) // (n_states * width)
    block_tokens = max(1, min(block_tokens, member.shape[0]))
    # MPS has no float64.
    wide = torch.float32 if device.type == "mps" else torch.float64
    levels = torch.as_tensor(limits, dtype=wide, device=device)
    first, second = torch.triu_indices(n_states, n_states, offset=1, device=device)
    n_pairs = first.numel()
    next_to = (second == first + 1).nonzero().squeeze(1)
    sizes = [n_pairs, n_blocks, n_blocks, n_states, len(limits) * n_blocks, len(limits) * n_blocks]
    sums = torch.zeros((n_segments, sum(sizes)), dtype=wide, device=device)
    undefined = torch.zeros((n_segments, n_states, n_states), dtype=wide, device=device)
    space = _Space(n_states, block_tokens, width, device)

    for start in range(0, member.shape[0], block_tokens):
        part = slice(start, start + block_tokens)
        place = part if chosen is None else chosen[part]
        split = _directions([_take(state, place, device) for state in states], space, wide)
        if split is None:
            raise _non_finite(states, masks, names)
        size, rho = split
        zero = size == 0.0
        from_first = rho[:, :n_blocks]
        adjacent = rho[:, next_to]
        # Nothing cancels here: |x - y|^2 = (|x| - |y|)^2 + 2 |x| |y| rho.
        adjacent_sq = size.diff(dim=1).square() + 2.0 * size[:, 1:] * size[:, :-1] * adjacent
        first_sq = (size[:, 1:] - size[:, :1]).square() + 2.0 * size[:, 1:] * size[
            :, :1
        ] * from_first
        below_adjacent = adjacent[:, None, :] < levels[:, None]
        below_first = from_first[:, None, :] < levels[:, None]
        inside = member[part].to(wide)
        if zero.any():
            either = zero[:, :, None] | zero[:, None, :]
            undefined += torch.einsum("ts,tij->sij", inside, either.to(wide))
            rho = rho.masked_fill(either[:, first, second], 0.0)
            below_adjacent &= ~either[:, None, range(n_blocks), range(1, n_states)]
            below_first &= ~either[:, None, 0, 1:]
        values = torch.cat(
            [
                rho,
                adjacent_sq,
                first_sq,
                size.square(),
                below_adjacent.flatten(1).to(wide),
                below_first.flatten(1).to(wide),
            ],
            dim=1,
        )
        sums += inside.T @ values

    host = sums.cpu().numpy()
    pieces = np.split(host, np.cumsum(sizes)[:-1], axis=1)
    pairs, adjacent_sums, first_sums, squares, counts, counts_first = pieces
    lost = undefined.cpu().numpy()
    i, j = first.cpu().numpy(), second.cpu().numpy()
    out: list[dict[str, TokenStatistics]] = [{} for _ in range(batch)]
    for s in range(n_segments):
        matrix = np.zeros((n_states, n_states))
        matrix[i, j] = matrix[j, i] = pairs[s]
        n = int(n_tokens[s])
        out[s // len(masks)][list(masks)[s % len(masks)]] = TokenStatistics(
            n_tokens=n,
            n_defined=(n - lost[s]).astype(np.int32),
            rho_sum=matrix,
            thresholds=limits,
            below_adjacent=_counts(counts[s], n_blocks),
            below_first=_counts(counts_first[s], n_blocks),
            sq_dist_adjacent=adjacent_sums[s].astype(np.float64),
            sq_dist_first=first_sums[s].astype(np.float64),
            sq_norm=squares[s].astype(np.float64),
        )
    return out


def _counts(flat: NDArray[np.float64], n_blocks: int) -> NDArray[np.int32]:
    return flat.reshape(-1, n_blocks).astype(np.int32)


class _Space:
    """Room for one block of tokens, taken once: fresh memory costs a CPU as much as arithmetic."""

    def __init__(self, n_states: int, tokens: int, width: int, device: torch.device) -> None:
        import torch

        self.norm = torch.empty((n_states, tokens), dtype=torch.float32, device=device)
        self.unit = torch.empty((2, tokens, width), dtype=torch.float32, device=device)
        self.step = torch.empty((tokens, n_states - 1, width), dtype=torch.float32, device=device)


def _take(state: Tensor, place: slice | Tensor, device: torch.device) -> Tensor:
    """Float32 states of chosen tokens, shape (tokens, d)."""
    import torch

    flat = state.detach().reshape(-1, state.shape[2])
    # A model spread over several devices leaves each state where its block ran.
    part = flat[place] if isinstance(place, slice) else flat.index_select(0, place.to(flat.device))
    return part.to(device, torch.float32)


def _directions(
    x: Sequence[Tensor], space: _Space, wide: torch.dtype
) -> tuple[Tensor, Tensor] | None:
    """Norms by token, and the distances between all pairs i < j of layers, (tokens, pairs).

    None if some value is not finite. The direction of a zero vector counts as zero.
    """
    import torch

    n = x[0].shape[0]
    norm, step = space.norm[:, :n], space.step[:n]
    for layer, state in enumerate(x):
        torch.linalg.vector_norm(state, dim=-1, out=norm[layer])
    low, high = _SAFE_NORMS
    size = norm.T.to(wide)
    # NaN fails both.
    if not (float(norm.amin()) >= low and float(norm.amax()) <= high):
        if not all(bool(torch.isfinite(state).all()) for state in x):
            return None
        # Lengths out of range somewhere: scale each state by its largest entry.
        own = [state.abs().amax(dim=-1, keepdim=True) for state in x]
        x = [state / big.masked_fill(big == 0.0, 1.0) for state, big in zip(x, own, strict=True)]
        for layer, state in enumerate(x):
            torch.linalg.vector_norm(state, dim=-1, out=norm[layer])
        size = norm.T.to(wide) * torch.cat(own, dim=1).to(wide)
        norm.masked_fill_(norm == 0.0, 1.0)
    before, after = space.unit[:, :n]
    torch.div(x[0], norm[0, :, None], out=before)
    for layer in range(1, len(x)):
        torch.div(x[layer], norm[layer, :, None], out=after)
        torch.sub(after, before, out=step[:, layer - 1])
        before, after = after, before

    def direct(token: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """|u_i - u_j|^2 from the directions themselves."""
        found = torch.empty(token.numel(), dtype=wide, device=token.device)
        for lower in torch.unique(i).tolist():
            for upper in torch.unique(j[i == lower]).tolist():
                at = (i == lower) & (j == upper)
                t = token[at]
                a, b = (x[k][t] / norm[k, t, None] for k in (lower, upper))
                found[at] = (a - b).square().sum(dim=-1).to(wide)
        return found

    return size, _distances(step, direct)


def _distances(step: Tensor, direct: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Cosine distances between all pairs i < j of layers from the steps, (tokens, pairs)."""
    import torch

    n_blocks = step.shape[1]
    with full_precision(step.device.type):
        gram = torch.bmm(step, step.mT)
    if step.device.type != "mps":
        gram = gram.double()
    length = gram.diagonal(dim1=1, dim2=2)
    # A row i of `ahead` at column b is the sum of <e_a, e_b> over a from i to b.
    ahead = gram.triu().flip(1).cumsum(1).flip(1)
    gained = (2.0 * ahead - length[:, None, :]).triu()
    squared = gained.cumsum(2)
    path = length.clamp_min(0.0).sqrt()
    walked = path.cumsum(1)
    from_to = walked[:, None, :] - (walked - path)[:, :, None]
    i, j = torch.triu_indices(n_blocks, n_blocks, device=step.device)
    squared = squared[:, i, j]
    doubtful = squared < _DOUBLES_BACK * from_to[:, i, j].square()
    if bool(doubtful.any()):
        token, pair = doubtful.nonzero(as_tuple=True)
        squared[token, pair] = direct(token, i[pair], j[pair] + 1).to(squared.dtype)
    return (0.5 * squared).clamp_(0.0, 2.0)


def _non_finite(
    states: Sequence[Tensor], masks: Mapping[str, Tensor], names: Sequence[str] | None
) -> VLMError:
    """The error that says which layer of which row holds how many values that are not finite."""
    import torch

    total, layers, where = 0, 0, ""
    for layer, state in enumerate(states):
        wrong = ~torch.isfinite(state)
        before = total
        for modality, mask in masks.items():
            found = (wrong & mask.to(state.device).unsqueeze(-1)).sum(dim=(1, 2)).tolist()
            for row, count in enumerate(found):
                if count and not where:
                    name = f"row {row}" if names is None else f"sample {names[row]!r}"
                    where = f"first in layer {layer}, {modality} tokens of {name} ({count} values)"
                total += count
        layers += total > before
    return VLMError(
        f"{total} NaN or infinite values in the states of {layers} layers, {where}; run the model "
        "in bfloat16 or float32 instead of float16, or leave the sample out."
    )
