"""How many independent tokens a sample of dependent ones is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["effective_size", "group_codes", "split_groups"]


def group_codes(groups: NDArray[Any] | None, n: int) -> NDArray[np.int64]:
    """Number the groups 0, 1, ... in order of first appearance; one per token where None."""
    if groups is None:
        return np.arange(n, dtype=np.int64)
    _, first, codes = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    rank = np.empty(first.size, dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(first.size)
    return rank[codes.reshape(-1)]


def split_groups(codes: NDArray[np.int64], seed: int, share: float = 0.4) -> NDArray[np.bool_]:
    """Draw whole groups at random for fitting; True marks their tokens.

    The same groups and seed give the same split for every pair of layers.
    """
    n_groups = int(codes.max()) + 1
    chosen = np.zeros(n_groups, dtype=bool)
    order = np.random.default_rng(seed).permutation(n_groups)
    chosen[order[: max(1, round(share * n_groups))]] = True
    return chosen[codes]


def effective_size(symbols: NDArray[np.int64], codes: NDArray[np.int64]) -> float:
    r"""Tokens divided by the design effect of their groups.

    .. math:: n_{\text{eff}} = \frac{n}{1 + (\bar m - 1)\, \hat\rho}, \qquad
              \hat\rho = \max\Big(0, \frac{P_w - P_b}{1 - P_b}\Big), \qquad
              \bar m = \sum_g m_g^2 / n

    with the probability that two tokens share a symbol within a group (w) and between groups (b):
    Fleiss' kappa, the intraclass correlation of a categorical variable. Where all tokens share one
    symbol nothing is known of their dependence, and the number of groups is returned.

    Parameters
    ----------
    symbols, codes : ndarray of int64, shape (n,)
        Symbol and group of each token.

    Examples
    --------
    >>> symbols = np.repeat([0, 1, 2, 3], 5)
    >>> effective_size(symbols, symbols)  # tokens of a group are copies
    4.0
    >>> effective_size(symbols, np.arange(20))
    20.0
    """
    n = len(symbols)
    sizes = np.bincount(codes).astype(np.float64)
    sizes = sizes[sizes > 0]
    within_pairs = float((sizes * (sizes - 1)).sum())
    if within_pairs == 0 or len(sizes) < 2:
        return float(n if within_pairs == 0 else 1)
    totals = np.unique(symbols, return_counts=True)[1].astype(np.float64)
    _, cells = np.unique(np.stack([codes, symbols]), axis=1, return_counts=True)
    within = float((cells * (cells - 1.0)).sum())
    everything = float((totals * (totals - 1)).sum())
    between_pairs = float(n) * (n - 1) - within_pairs
    p_within, p_between = within / within_pairs, (everything - within) / between_pairs
    if p_between >= 1.0:
        return float(len(sizes))
    correlation = min(max((p_within - p_between) / (1.0 - p_between), 0.0), 1.0)
    mean_size = float((sizes**2).sum()) / n
    return n / (1.0 + (mean_size - 1.0) * correlation)
