"""States of two layers under one shared quantiser, fitted on some groups and read on the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from estimators import Diagnostic, InputError
from estimators._half import as_float32
from redundancy._rows import blocks, take
from redundancy.measures._cross_entropy import fit_conditional
from redundancy.measures._effective import effective_size, group_codes, split_groups
from redundancy.measures._grouped import FEW_GROUPS, state_diagnostics
from redundancy.pairs import LayerPair
from redundancy.summary import check_finite, cosine_distances

__all__ = ["Coded", "Tokens", "encode", "fitting_bytes", "tokens_of"]

_FITTED = 40
"""Tokens per state that the quantiser is fitted on: more make k-means slow, not better."""


_LARGEST = 256
"""States of the default quantiser, at most."""


def fitting_bytes(n: int, d: int) -> int:
    """Bytes that `encode` takes: what k-means is fitted on, a few times over, and the codes."""
    return 24 * min(2 * n, _FITTED * _LARGEST) * d + 2**28 + 200 * n


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens with a direction in both layers, their groups, and what was left out.

    `rows` are their numbers in `lower` and `upper`, which are read block by block.
    """

    lower: Any
    upper: Any
    rows: NDArray[np.int64]
    codes: NDArray[np.int64]
    grouped: bool
    notes: tuple[Diagnostic, ...]


@dataclass(frozen=True, slots=True)
class Coded:
    """States of the evaluated part, the law fitted on the rest, and how they came about.

    `rho` are the cosine distances of all tokens, which are known once both layers have been read.
    """

    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    codes: NDArray[np.int64]
    law: NDArray[np.float64]
    rule: str
    n_states: int
    n_fit: int
    n_eff: float
    grouped: bool
    rho: NDArray[np.float64]


def tokens_of(pair: LayerPair) -> Tokens | Diagnostic:
    """Check the states of a pair, and leave out tokens without a direction."""
    lower, upper = pair.x_lower, pair.x_upper
    if lower is None or upper is None:
        raise InputError(
            f"layers {pair.label} carry no token states, which the informational measure needs; "
            "extract with --tokens"
        )
    constant = state_diagnostics(pair)
    if constant:
        return constant[0]
    if lower.shape[1] != upper.shape[1]:
        raise InputError(
            f"layers {pair.label} have widths {lower.shape[1]} and "
            f"{upper.shape[1]}; a shared quantiser needs equal ones"
        )
    if isinstance(lower, np.ndarray):  # what is read by blocks was checked by its store
        check_finite(lower, f"layer {pair.lower}")
        check_finite(upper, f"layer {pair.upper}")
    defined = _directed(lower) & _directed(upper)
    codes = group_codes(pair.groups, len(lower))
    notes: tuple[Diagnostic, ...] = ()
    if not defined.all():
        left = int((~defined).sum())
        note = Diagnostic(
            code="zero-norm",
            severity="warning" if defined.any() else "error",
            message=(
                f"{left:,} of {len(lower):,} tokens have a zero vector in one of the layers, which "
                "has no direction to quantise; they are left out"
            ),
        )
        if not defined.any():
            return note
        notes = (note,)
        codes = group_codes(codes[defined], int(defined.sum()))
    return Tokens(lower, upper, np.flatnonzero(defined), codes, pair.groups is not None, notes)


def encode(
    tokens: Tokens, n_states: int | None, method: Literal["kmeans", "pq", "signs"], seed: int
) -> Coded | Diagnostic:
    """Fit one quantiser to both layers on some of the groups and encode all tokens with it."""
    from estimators.quantise import quantise

    n_groups = int(tokens.codes.max()) + 1
    if n_groups < 4:
        return Diagnostic(
            code="one-group" if n_groups == 1 else "few-groups",
            severity="error",
            message=(
                f"the tokens come from {n_groups} group(s) (images or prompts); some fit "
                f"the quantiser and others are evaluated: capture at least {FEW_GROUPS}"
            ),
        )
    fit = split_groups(tokens.codes, seed)
    n_fit, n_eval = int(fit.sum()), int((~fit).sum())
    states = n_states
    if states is None:
        states = 2 ** int(math.log2(max(min(n_eval / 20, float(_LARGEST)), 4.0)))
    if 2 * n_fit < states:
        return Diagnostic(
            code="undersampled",
            severity="error",
            message=(
                f"{n_fit} tokens cannot fit {states} states; save more tokens (--tokens) or use "
                "fewer states (n_states)"
            ),
        )
    chosen = np.flatnonzero(fit)
    if 2 * n_fit > _FITTED * states:
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.choice(chosen, _FITTED * states // 2, replace=False))
    rule = quantise(
        [take(x, tokens.rows[chosen]) for x in (tokens.lower, tokens.upper)],
        method,
        n_states=states,
        normalise="unit",
        seed=seed,
    )
    lower, upper, rho = _codes(rule, tokens)
    held = ~fit
    codes = group_codes(tokens.codes[held], n_eval)
    joint = lower[held] * np.int64(rule.n_states) + upper[held]
    return Coded(
        lower=lower[held],
        upper=upper[held],
        codes=codes,
        law=fit_conditional(lower[fit], upper[fit], rule.n_states),
        rule=f"{method} {rule.n_states} states",
        n_states=rule.n_states,
        n_fit=n_fit,
        n_eff=effective_size(joint, codes),
        grouped=tokens.grouped,
        rho=rho,
    )


def _codes(
    rule: Any, tokens: Tokens
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """States of the chosen rows in both layers and their cosine distance, in one reading."""
    n = len(tokens.lower)
    codes, rho = np.zeros((2, n), dtype=np.int64), np.zeros(n)
    chosen = np.zeros(n, dtype=bool)
    chosen[tokens.rows] = True
    for span, block in blocks(tokens.lower):
        kept = chosen[span]
        if not kept.any():
            continue
        both = []
        for found, part in zip(codes, (block, np.asarray(tokens.upper[span])), strict=True):
            raised = _raised(part if kept.all() else part[kept])
            found[span][kept] = rule.encode(np.asarray(raised, dtype=np.float32))
            both.append(raised)
        rho[span][kept] = cosine_distances(*both)
    return codes[0][tokens.rows], codes[1][tokens.rows], rho[tokens.rows]


def _directed(x: Any) -> NDArray[np.bool_]:
    """Which rows are not zero; found once per layer where it can be remembered."""
    memo = getattr(x, "memo", {})
    if "directed" not in memo:
        memo["directed"] = np.concatenate([_nonzero(block) for _, block in blocks(x)])
    found: NDArray[np.bool_] = memo["directed"]
    return found


def _nonzero(block: NDArray[Any]) -> NDArray[np.bool_]:
    if block.dtype.itemsize == 2 and block.dtype.kind != "i":
        # All bits but the sign; comparing half-precision values takes twenty times as long.
        bits = np.ascontiguousarray(block).view(np.uint16)
        return np.asarray(np.bitwise_or.reduce(bits, axis=1) & np.uint16(0x7FFF), dtype=bool)
    return np.asarray((block != 0).any(axis=1))


def _raised(block: NDArray[Any]) -> NDArray[Any]:
    """Halves in single precision, whatever is wider as it was."""
    return as_float32(block) if block.dtype.itemsize == 2 else block
