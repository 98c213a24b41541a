"""Entropy, mutual information and conditional entropy of symbols, with bias corrections.

All functions take symbols (integers, strings, booleans), one per sample; a row of several symbols
counts as one joint symbol. The corrections are in `estimators._corrections`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from estimators._arrays import (
    IntArray,
    check_ci,
    check_lengths,
    group_codes,
    joint_codes,
    symbols,
)
from estimators._corrections import coverage, entropy_from_counts
from estimators._counts import checked_counts, entropy_of_counts, undersampled
from estimators._errors import InputError
from estimators._resample import few_groups, half_sampling
from estimators._types import Estimate

__all__ = ["conditional_entropy", "discrete_cmi", "discrete_entropy", "discrete_mi"]

Coded = tuple[IntArray, int]


def discrete_entropy(
    samples: Any = None,
    *,
    counts: Any = None,
    correction: str = "miller-madow",
    n_states: int | None = None,
    groups: Any = None,
    ci: float | None = 0.95,
    seed: int = 0,
) -> Estimate:
    r"""Entropy of a discrete variable, in nats.

    .. math:: H(S) = -\sum_s p(s) \log p(s)

    The plug-in value is biased down by about (K - 1) / 2n for K occupied states. Every correction
    fails where most of the probability sits on states not seen: the estimate then carries the
    diagnostic ``"undersampled"``.

    Parameters
    ----------
    samples : array of int, str or bool, shape (n,) or (n, m)
        One symbol per sample; a row of m symbols counts as one.
    counts : array of int, any shape
        Instead of `samples`: how often each state occurred.
    correction : str
        Bias correction: ``"miller-madow"``, ``"plug-in"``, ``"grassberger"``, ``"chao-shen"``,
        ``"chao-wang-jost"``, ``"nsb"`` or ``"jackknife"``. Chao-Wang-Jost and Chao-Shen lose
        least on long-tailed laws.
    n_states : int, optional
        Size of the alphabet, used by ``"nsb"`` alone; by default estimated (Chao 1984).
    groups : array, shape (n,), optional
        Cluster of each sample; the interval resamples clusters.
    ci : float or None
        Level of the interval; None skips it.
    seed : int
        Seed of the resampling.

    Returns
    -------
    Estimate
        In nats; `params` has the number of occupied states and Good's coverage.

    Raises
    ------
    InputError
        On floats, negative or all-zero counts, an unknown correction, groups of wrong length.

    Examples
    --------
    >>> e = discrete_entropy(counts=[5, 5], correction="plug-in", ci=None)
    >>> round(e.value, 6)
    0.693147
    >>> round(discrete_entropy(["a", "b", "a", "b"], ci=None).value, 6)
    0.818147

    References
    ----------
    Miller 1955; Grassberger 2003; Chao and Shen 2003; Chao, Wang and Jost 2013; Nemenman, Shafee
    and Bialek 2002; Zahl 1977.
    """
    level = check_ci(ci)
    if (samples is None) == (counts is None):
        raise InputError("pass either the symbols themselves or counts=, one of the two")
    if counts is not None:
        if groups is not None:
            raise InputError(
                "counts= has lost which sample was in which group; pass the symbols with groups="
            )
        return entropy_of_counts(checked_counts(counts), correction, n_states, level, seed)

    coded = symbols(samples, "samples")

    def value_of(rows: IntArray | slice) -> float:
        return entropy_from_counts(np.bincount(coded[0][rows]), correction, n_states)

    return _estimate(
        value_of,
        "H",
        {"samples": coded},
        coded,
        correction=correction,
        groups=groups,
        level=level,
        seed=seed,
    )


def discrete_mi(
    x: Any,
    y: Any,
    *,
    correction: str = "miller-madow",
    groups: Any = None,
    ci: float | None = 0.95,
    seed: int = 0,
) -> Estimate:
    r"""Mutual information of two discrete variables, H(X) + H(Y) - H(X, Y), in nats.

    Miller-Madow: :math:`I + (K_x + K_y - K_{xy} - 1) / 2n` with observed numbers of states. The
    plug-in is biased *up*; corrected values may be negative, which is sampling noise around a
    small information and is not clipped.

    Parameters
    ----------
    x, y : array of int, str or bool, shape (n,) or (n, m)
    correction, groups, ci, seed
        As in `discrete_entropy`.

    Returns
    -------
    Estimate
        In nats; `params` has the three entropies.

    Raises
    ------
    InputError
        On floats, unequal lengths, an unknown correction, groups of wrong length.

    Examples
    --------
    >>> x = [0, 0, 1, 1]
    >>> round(discrete_mi(x, x, correction="plug-in", ci=None).value, 6)
    0.693147

    References
    ----------
    Miller 1955; Paninski 2003.
    """
    level = check_ci(ci)
    a, b = symbols(x, "x"), symbols(y, "y")
    check_lengths(x=a[0], y=b[0])
    ab = joint_codes(a, b)

    def value_of(rows: IntArray | slice) -> float:
        h = [entropy_from_counts(np.bincount(c[0][rows]), correction) for c in (a, b, ab)]
        return h[0] + h[1] - h[2]

    return _estimate(
        value_of,
        "I",
        {"x": a, "y": b, "joint": ab},
        ab,
        correction=correction,
        groups=groups,
        level=level,
        seed=seed,
    )


def conditional_entropy(
    samples: Any,
    given: Any,
    *,
    correction: str = "miller-madow",
    groups: Any = None,
    ci: float | None = 0.95,
    seed: int = 0,
) -> Estimate:
    r"""Conditional entropy of discrete variables, H(S | G) = H(S, G) - H(G), in nats.

    Miller-Madow: :math:`H + (K_{sg} - K_g) / 2n`. The plug-in is biased down, which makes a layer
    look more redundant than it is: never certify with it.

    Parameters
    ----------
    samples, given : array of int, str or bool, shape (n,) or (n, m)
    correction, groups, ci, seed
        As in `discrete_entropy`.

    Returns
    -------
    Estimate
        In nats; ``params["ratio"]`` is H(S | G) / H(S), None where H(S) is 0.

    Raises
    ------
    InputError
        On floats, unequal lengths, an unknown correction, groups of wrong length.

    Examples
    --------
    >>> s, g = [0, 1, 0, 1], [0, 0, 1, 1]
    >>> round(conditional_entropy(s, g, correction="plug-in", ci=None).value, 6)
    0.693147

    References
    ----------
    Miller 1955; Cover and Thomas 2006, ch. 2.
    """
    level = check_ci(ci)
    a, b = symbols(samples, "samples"), symbols(given, "given")
    check_lengths(samples=a[0], given=b[0])
    ab = joint_codes(a, b)

    def value_of(rows: IntArray | slice) -> float:
        joint = entropy_from_counts(np.bincount(ab[0][rows]), correction)
        return joint - entropy_from_counts(np.bincount(b[0][rows]), correction)

    found = _estimate(
        value_of,
        "H(S|G)",
        {"samples": a, "given": b, "joint": ab},
        ab,
        correction=correction,
        groups=groups,
        level=level,
        seed=seed,
    )
    marginal = found.params["entropy_samples"]
    ratio = None if not marginal > 0 or found.value is None else found.value / marginal
    return _with_params(found, ratio=ratio)


def discrete_cmi(
    x: Any,
    y: Any,
    given: Any,
    *,
    correction: str = "miller-madow",
    groups: Any = None,
    ci: float | None = 0.95,
    seed: int = 0,
) -> Estimate:
    r"""Conditional mutual information I(X; Y | Z) of three discrete variables, in nats.

    .. math:: I(X; Y | Z) = H(X, Z) + H(Y, Z) - H(X, Y, Z) - H(Z)

    Plug-in values are biased up, by more than in `discrete_mi`: the joint alphabet is larger.

    Parameters
    ----------
    x, y, given : array of int, str or bool, shape (n,) or (n, m)
    correction, groups, ci, seed
        As in `discrete_entropy`.

    Returns
    -------
    Estimate
        In nats.

    Raises
    ------
    InputError
        On floats, unequal lengths, an unknown correction, groups of wrong length.

    Examples
    --------
    >>> x, y = [0, 0, 1, 1], [0, 1, 0, 1]
    >>> xor = [0, 1, 1, 0]
    >>> round(discrete_cmi(x, y, xor, correction="plug-in", ci=None).value, 6)
    0.693147

    References
    ----------
    Cover and Thomas 2006, ch. 2.
    """
    level = check_ci(ci)
    a, b, c = symbols(x, "x"), symbols(y, "y"), symbols(given, "given")
    check_lengths(x=a[0], y=b[0], given=c[0])
    ac, bc = joint_codes(a, c), joint_codes(b, c)
    abc = joint_codes(ac, b)

    def value_of(rows: IntArray | slice) -> float:
        h = [entropy_from_counts(np.bincount(v[0][rows]), correction) for v in (ac, bc, abc, c)]
        return h[0] + h[1] - h[2] - h[3]

    return _estimate(
        value_of,
        "I(X;Y|Z)",
        {"x": a, "y": b, "given": c, "joint": abc},
        abc,
        correction=correction,
        groups=groups,
        level=level,
        seed=seed,
    )


def _estimate(
    value_of: Callable[[IntArray | slice], float],
    quantity: str,
    parts: dict[str, Coded],
    finest: Coded,
    *,
    correction: str,
    groups: Any,
    level: float | None,
    seed: int,
) -> Estimate:
    n = len(finest[0])
    members, n_groups = group_codes(groups, n)
    value = value_of(slice(None))
    occupied = np.bincount(finest[0])
    interval = None
    if level is not None and (n_groups or n) >= 2:
        interval = half_sampling(value_of, value, n, members, level=level, seed=seed)
    params: dict[str, Any] = {"correction": correction, "coverage": coverage(occupied)}
    for name, (codes, size) in parts.items():
        params[f"states_{name}"] = size
        params[f"entropy_{name}"] = entropy_from_counts(np.bincount(codes), correction)
    return Estimate(
        value=value,
        unit="nats",
        kind="estimate",
        n=n,
        n_groups=n_groups,
        method=f"{quantity} of symbols, {correction}",
        ci=interval,
        params=params,
        seed=seed if interval is not None else None,
        diagnostics=(*undersampled(occupied, correction, n_groups), *few_groups(n_groups)),
    )


def _with_params(estimate: Estimate, **more: Any) -> Estimate:
    from dataclasses import replace

    return replace(estimate, params={**estimate.params, **more})
