"""Centred kernel alignment with a linear kernel, from feature sums: never an n x n matrix."""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from estimators._alignment import side_of, squared_alignment
from estimators._arrays import (
    FloatArray,
    check_ci,
    check_lengths,
    check_varies,
    group_codes,
    matrix,
)
from estimators._resample import blocks, few_groups, jackknife_interval
from estimators._types import Diagnostic, Estimate

__all__ = ["cka", "cka_pair"]

_BLOCKS = 20


def cka(
    x: Any,
    y: Any,
    debiased: bool = True,
    *,
    groups: Any = None,
    ci: float | None = 0.95,
    seed: int = 0,
) -> Estimate:
    r"""Centred kernel alignment of two representations of the same samples, linear kernel.

    .. math:: \mathrm{CKA} = \frac{\mathrm{HSIC}(X, Y)}{\sqrt{\mathrm{HSIC}(X, X)\,
        \mathrm{HSIC}(Y, Y)}}

    with HSIC_1 (Song et al. 2012) if `debiased`, which is right on average and may be negative,
    and the usual biased HSIC otherwise, which tends to 1 when the width passes the number of
    samples. CKA is dominated by directions of large variance; a high value does not say that one
    layer can replace the other.

    Parameters
    ----------
    x, y : float array, shape (n, dx) and (n, dy)
        Rows belong to the same samples.
    debiased : bool
        Use HSIC_1.
    groups : array, shape (n,), optional
        Cluster of each sample; the interval leaves out whole clusters.
    ci : float or None
        Level of the interval (delete-a-block jackknife); None skips it.
    seed : int
        Seed of the assignment of groups to blocks.

    Returns
    -------
    Estimate
        Unit ``"similarity"``; the value is None where fewer than 4 samples or a denominator
        that is not positive leave it undefined.

    Raises
    ------
    InputError
        On integers, NaN, unequal lengths, constant arrays, groups of wrong length.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(cka(x, 2 * x + 1, ci=None).value, 9)
    1.0

    References
    ----------
    Kornblith et al. 2019; Song et al. 2012, eq. 5; Murphy et al. 2024 (debiased CKA).
    """
    return _estimates(x, y, groups, ci, seed, (debiased,), {}, {})[0]


def cka_pair(
    x: Any,
    y: Any,
    *,
    groups: Any = None,
    ci: float | None = 0.95,
    seed: int = 0,
    memo_x: MutableMapping[Any, Any] | None = None,
    memo_y: MutableMapping[Any, Any] | None = None,
) -> tuple[Estimate, Estimate]:
    """Debiased and biased `cka` from one pass over the data, rows read as they are needed.

    Parameters
    ----------
    x, y : float array, shape (n, dx) and (n, dy), or what reads such rows when indexed
        Rows belong to the same samples.
    groups, ci, seed
        As for `cka`; the interval is of the debiased value.
    memo_x, memo_y : mutable mapping, optional
        Where to keep what depends on one side alone, for the next pair it is part of.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> debiased, biased = cka_pair(x, x[:, :2], ci=None)
    >>> debiased.value < biased.value
    True
    """
    empty: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})
    memo_x = empty[0] if memo_x is None else memo_x
    memo_y = empty[1] if memo_y is None else memo_y
    debiased, biased = _estimates(x, y, groups, ci, seed, (True, False), memo_x, memo_y)
    return debiased, replace(biased, ci=None, seed=None)


def _estimates(
    x: Any,
    y: Any,
    groups: Any,
    ci: float | None,
    seed: int,
    kinds: Sequence[bool],
    memo_x: MutableMapping[Any, Any],
    memo_y: MutableMapping[Any, Any],
) -> list[Estimate]:
    level = check_ci(ci)
    a, b = (u if hasattr(u, "read_rows") else _checked(u, name) for u, name in ((x, "x"), (y, "y")))
    n = check_lengths(x=a, y=b)
    members, n_groups = group_codes(groups, n)
    wanted = min(_BLOCKS, n_groups or n) if level is not None and n >= 4 else 1
    label = blocks(n, members, wanted, seed=seed)
    sides = side_of(a, label, wanted, memo_x), side_of(b, label, wanted, memo_y)
    both = dict(zip((True, False), squared_alignment(*sides, label, wanted), strict=True))
    out = []
    for debiased in kinds:
        found: list[Diagnostic] = list(few_groups(n_groups))
        value: float | None = float(both[debiased][0])
        left_out, interval = both[debiased][1:], None
        if debiased and n < 4:
            found.append(_undefined(f"debiased CKA needs at least 4 samples and there are {n}"))
            value = None
        elif value is None or math.isnan(value):
            found.append(
                _undefined("an unbiased HSIC of a representation with itself is not positive")
            )
            value = None
        elif level is not None and bool(np.isfinite(left_out).all()) and len(left_out):
            interval = jackknife_interval(value, left_out, members, level=level)
        out.append(
            Estimate(
                value=value,
                unit="similarity",
                kind="estimate",
                n=n,
                n_groups=n_groups,
                method=f"linear CKA, {'HSIC_1' if debiased else 'biased HSIC'}",
                ci=interval,
                params={"debiased": debiased, "dx": a.shape[1], "dy": b.shape[1]},
                seed=seed if interval is not None else None,
                diagnostics=tuple(found),
            )
        )
    return out


def _checked(x: Any, name: str) -> FloatArray:
    a = matrix(x, name)
    check_varies(a, name)
    return a


def _undefined(reason: str) -> Diagnostic:
    return Diagnostic(
        code="undefined",
        severity="error",
        message=f"{reason}, so CKA is undefined; use more samples",
    )
