"""Centred kernel alignment with a linear kernel, from feature sums: never an n x n matrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

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

__all__ = ["cka"]

_BLOCKS = 20
_ROWS = 4096
Matrix = npt.NDArray[np.float64]


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
    level = check_ci(ci)
    a, b = matrix(x, "x"), matrix(y, "y")
    n = check_lengths(x=a, y=b)
    check_varies(a, "x")
    check_varies(b, "y")
    members, n_groups = group_codes(groups, n)
    found: list[Diagnostic] = list(few_groups(n_groups))
    value, interval = None, None
    if debiased and n < 4:
        found.append(_undefined(f"debiased CKA needs at least 4 samples and there are {n}"))
    else:
        wanted = min(_BLOCKS, n_groups or n) if level is not None else 1
        label = blocks(n, members, wanted, seed=seed)
        value, left_out = _alignment(_centred(a), _centred(b), label, wanted, debiased)
        if value is None:
            found.append(
                _undefined("an unbiased HSIC of a representation with itself is not positive")
            )
        elif level is not None:
            good = left_out[np.isfinite(left_out)]
            if len(good) == len(left_out):
                interval = jackknife_interval(value, good, members, level=level)
    return Estimate(
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


def _undefined(reason: str) -> Diagnostic:
    return Diagnostic(
        code="undefined",
        severity="error",
        message=f"{reason}, so CKA is undefined; use more samples",
    )


def _centred(a: FloatArray) -> Matrix:
    moved = a - a.mean(axis=0, dtype=np.float64)
    scale = float(np.abs(moved).max()) or 1.0  # CKA ignores scale; squares of 1e200 overflow
    return np.asarray(moved / scale, dtype=np.float64)


def _alignment(
    a: Matrix, b: Matrix, label: npt.NDArray[np.int64], count: int, debiased: bool
) -> tuple[float | None, npt.NDArray[np.float64]]:
    """CKA of all samples, and with each block left out."""
    pairs = [(a, a), (b, b), (a, b)]
    totals = [_hsic(u, v, label, count, debiased) for u, v in pairs]
    with np.errstate(invalid="ignore", divide="ignore"):
        product = totals[0] * totals[1]
        positive = (totals[0] > 0) & (totals[1] > 0)
        ratio = np.where(positive, totals[2] / np.sqrt(product), np.nan)
    value = float(ratio[0])
    return (None if math.isnan(value) else value), ratio[1:]


def _hsic(
    a: Matrix, b: Matrix, label: npt.NDArray[np.int64], count: int, debiased: bool
) -> npt.NDArray[np.float64]:
    """HSIC of everything (entry 0) and without each block (entries 1..count if count > 1).

    With K = A A', L = B B' of centred rows, tr(KL) is the squared norm of A'B. Without block s the
    means shift by -S_s / (n - n_s), which is put right in closed form.
    """
    n = len(a)
    whole = _cross(a, b, np.arange(n))
    out = [_from_cross(whole, a, b, np.ones(n, dtype=bool), None, debiased)]
    if count > 1:
        for s in range(count):
            rows = np.flatnonzero(label == s)
            kept = label != s
            size = int(kept.sum())
            ma, mb = -a[rows].sum(axis=0) / size, -b[rows].sum(axis=0) / size
            cross = whole - _cross(a, b, rows) - size * np.outer(ma, mb)
            out.append(_from_cross(cross, a, b, kept, (ma, mb), debiased))
    return np.array(out)


def _cross(a: Matrix, b: Matrix, rows: npt.NDArray[np.int64]) -> Matrix:
    total = np.zeros((a.shape[1], b.shape[1]))
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        total += a[part].T @ b[part]
    return total


def _from_cross(
    cross: Matrix,
    a: Matrix,
    b: Matrix,
    kept: npt.NDArray[np.bool_],
    means: tuple[Matrix, Matrix] | None,
    debiased: bool,
) -> float:
    n = int(kept.sum())
    trace = float((cross * cross).sum())
    if not debiased:
        return trace / (n - 1) ** 2
    if n < 4:
        return math.nan
    qa = _squared_norms(a, None if means is None else means[0])[kept]
    qb = _squared_norms(b, None if means is None else means[1])[kept]
    # Rows are centred, so the off-diagonal row sums of K are minus its diagonal.
    dot = float(qa @ qb)
    total = trace - dot + float(qa.sum() * qb.sum()) / ((n - 1) * (n - 2)) - 2.0 / (n - 2) * dot
    return total / (n * (n - 3))


def _squared_norms(a: Matrix, mean: Matrix | None) -> Matrix:
    norms = np.einsum("ij,ij->i", a, a)
    return norms if mean is None else np.asarray(norms - 2.0 * (a @ mean) + float(mean @ mean))
