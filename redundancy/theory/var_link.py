"""From the attention that vision tokens draw to what removing them can change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import InputError
from redundancy.theory._result import Given, Number, TheoryResult

__all__ = ["var_to_delta"]

Array = NDArray[np.float64]


def var_to_delta(
    *,
    attention: ArrayLike,
    values: ArrayLike,
    w_o: ArrayLike,
    vision_index: Sequence[int] | NDArray[np.int64],
    block_lipschitz: Number | None = None,
) -> TheoryResult:
    r"""Bound what removing the vision keys changes in one attention sublayer, by their VAR.

    Dropping the vision keys and renormalising the softmax changes head h by
    :math:`a_h (o^{vis}_h - o^{text}_h)`, with :math:`a_h` the attention mass on vision keys and the
    two outputs averages of values over vision and over text keys. So

    .. math::
        |\Delta_{attn}| \le \sum_h a_h \|W_O^h\|_2\, c_h \le \sum_h a_h \|W_O^h\|_2 D_h
            \le C \cdot \mathrm{VAR_{sum}}, \qquad C = \max_h \|W_O^h\|_2 D_h,

    with :math:`D_h` the diameter of the head's values and :math:`c_h` the largest distance of a
    vision value to a text value. This ties the paper's attention ratio to the delta of Theorem 6,
    which it leaves open. A block's own delta is at most (1 + Lip(MLP after its norm)) times this.

    What it does not do: it is about one query. Theorem 6 needs delta for *all* text tokens, so the
    VAR of the answer token alone is no evidence for removing vision. And it is exact for masking
    only: keys set to zero keep their share of the softmax.

    Parameters
    ----------
    attention : array_like, shape (H, K)
        Attention weights of one query over K keys, one row per query head, each summing to 1.
    values : array_like, shape (H, K, v)
        The keys' value vectors per query head (repeated for grouped-query attention).
    w_o : array_like, shape (d, H * v)
        Output projection; columns h v to (h + 1) v belong to head h.
    vision_index : sequence of int
        Which keys are vision tokens.
    block_lipschitz : float, optional
        1 + Lip(MLP o norm): multiplies the bounds to cover the whole block.

    Returns
    -------
    TheoryResult
        `value` is the sharpest bound. ``forms``: ``"exact"`` (the change itself, before
        `block_lipschitz`), ``"bound_per_head"`` (with D_h), ``"bound_var_sum"`` (C times VAR),
        ``"C"``, ``"var_sum"``.

    Raises
    ------
    InputError
        If the shapes do not fit, an attention row does not sum to 1, or no key of either kind is
        left.

    Examples
    --------
    >>> result = var_to_delta(
    ...     attention=[[0.2, 0.3, 0.5]], values=[[[1.0], [0.0], [0.0]]], w_o=[[1.0]],
    ...     vision_index=[0],
    ... )
    >>> round(result.forms["exact"], 6), round(result.value, 6)
    (0.2, 0.2)
    """
    a, v, w, vision = _read(attention, values, w_o, vision_index)
    heads, keys = a.shape
    text = np.setdiff1d(np.arange(keys), vision)
    width = v.shape[2]
    blocks = w.reshape(w.shape[0], heads, width).transpose(1, 0, 2)
    mass = a[:, vision].sum(1)
    text_mass = a[:, text].sum(1)
    if bool((text_mass <= 0.0).any()):
        raise InputError(
            f"head {int(np.argmin(text_mass))} gives all its attention to vision keys; without "
            "them its output is undefined"
        )
    out_vision = np.einsum("hk,hkv->hv", a[:, vision], v[:, vision])
    out_text = np.einsum("hk,hkv->hv", a[:, text], v[:, text]) / text_mass[:, None]
    moved = out_vision - mass[:, None] * out_text
    exact = float(np.linalg.norm(np.einsum("hdv,hv->d", blocks, moved)))
    norms = np.array([np.linalg.norm(block, 2) for block in blocks])
    cross, diameter = _spans(v, vision, text)
    per_head = float((mass * norms * diameter).sum())
    sharp = float((mass * norms * cross).sum())
    constant = float((norms * diameter).max())
    given = Given()
    factor = 1.0
    assumptions: tuple[str, ...] = (
        "vision keys are removed by masking, with renormalised softmax",
    )
    if block_lipschitz is not None:
        factor = given.nonnegative(block_lipschitz, "block_lipschitz")
        assumptions += ("block_lipschitz bounds 1 + Lip(MLP after its norm) on these states",)
    return TheoryResult(
        value=factor * sharp,
        kind=given.kind(assumptions),
        unit="norm of the residual stream",
        statement="delta of this query at this layer <= value",
        assumptions=assumptions,
        forms={
            "exact": exact,
            "bound_per_head": factor * per_head,
            "bound_var_sum": factor * constant * float(mass.sum()),
            "corrected": factor * per_head,
            "sharpest": factor * sharp,
            "C": constant,
            "var_sum": float(mass.sum()),
        },
    )


def _read(
    attention: ArrayLike,
    values: ArrayLike,
    w_o: ArrayLike,
    vision_index: Sequence[int] | NDArray[np.int64],
) -> tuple[Array, Array, Array, NDArray[np.int64]]:
    a, v, w = (np.asarray(x, dtype=np.float64) for x in (attention, values, w_o))
    if a.ndim != 2 or v.ndim != 3 or v.shape[:2] != a.shape:
        raise InputError(
            f"attention has shape {a.shape} and values {v.shape}; give (heads, keys) and "
            "(heads, keys, width)"
        )
    if w.ndim != 2 or w.shape[1] != a.shape[0] * v.shape[2]:
        raise InputError(
            f"w_o has shape {w.shape}; give (d, {a.shape[0] * v.shape[2]}), heads times width"
        )
    if not all(bool(np.isfinite(x).all()) for x in (a, v, w)) or bool((a < 0).any()):
        raise InputError("attention, values and w_o must be finite, and attention not negative")
    sums = a.sum(1)
    # Attention read back from half precision sums to 1 only about.
    if bool((np.abs(sums - 1.0) > 2e-2).any()):
        raise InputError(
            f"an attention row sums to {float(sums[np.argmax(np.abs(sums - 1))]):.4g}, "
            "not 1; give softmax weights over all keys"
        )
    vision = np.unique(np.asarray(vision_index, dtype=np.int64))
    if vision.size == 0 or vision[0] < 0 or vision[-1] >= a.shape[1] or vision.size == a.shape[1]:
        raise InputError(
            f"vision_index names {vision.size} of {a.shape[1]} keys; it must name at least one, "
            "leave at least one, and count from 0"
        )
    return a / sums[:, None], v, w, vision


def _spans(v: Array, vision: NDArray[np.int64], text: NDArray[np.int64]) -> tuple[Array, Array]:
    """Per head: largest distance of a vision value to a text value, and of any two values."""
    from scipy.spatial.distance import cdist

    cross, diameter = np.empty(len(v)), np.empty(len(v))
    for h, head in enumerate(v):
        distances = cdist(head, head)
        diameter[h] = distances.max()
        cross[h] = distances[np.ix_(vision, text)].max()
    return cross, diameter
