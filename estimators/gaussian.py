"""Mutual information under a Gaussian law, or a Gaussian copula, with exact bias correction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from estimators._arrays import (
    FloatArray,
    check_ci,
    check_lengths,
    check_varies,
    group_codes,
    matrix,
)
from estimators._errors import InputError
from estimators._linear import gaussian_information, normal_scores, whitened
from estimators._resample import block_jackknife, few_groups
from estimators._types import Diagnostic, Estimate

__all__ = ["copula_mi", "gaussian_mi"]


def gaussian_mi(
    x: Any, y: Any, *, groups: Any = None, ci: float | None = 0.95, seed: int = 0
) -> Estimate:
    r"""Mutual information as if (X, Y) were jointly Gaussian, in nats.

    .. math:: I = -\tfrac12 \sum_i \log(1 - r_i^2) - b(n, r_x, r_y)

    over the canonical correlations, less the exact bias b under normality. Each side is first
    projected on its numerical rank. Sees linear dependence alone: for other laws it may be far
    below the information, and above it for heavy tails in few samples.

    Parameters
    ----------
    x, y : float array, shape (n, dx) and (n, dy)
    groups : array, shape (n,), optional
        Cluster of each sample; the interval leaves out whole clusters.
    ci : float or None
        Level of the interval (delete-a-block jackknife); None skips it.
    seed : int
        Seed of the assignment of groups to blocks.

    Returns
    -------
    Estimate
        In nats; None where the ranks leave no degrees of freedom or Y is a linear function of X.

    Raises
    ------
    InputError
        On integers, NaN, unequal lengths, constant arrays, groups of wrong length.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(2000, 1))
    >>> y = 0.6 * x + 0.8 * rng.normal(size=(2000, 1))
    >>> abs(gaussian_mi(x, y, ci=None).value - 0.2231) < 0.05
    True

    References
    ----------
    Cover and Thomas 2006, ch. 8; Misra, Singh and Demchuk 2005 (bias).
    """
    return _information(x, y, groups, ci, seed, copula=False)


def copula_mi(
    x: Any, y: Any, *, groups: Any = None, ci: float | None = 0.95, seed: int = 0
) -> Estimate:
    r"""Mutual information under a Gaussian copula (GCMI), in nats.

    `gaussian_mi` of the normal scores of the ranks of each coordinate: exact for any monotone
    distortion of the coordinates of Gaussian data, a lower bound of the information in the limit
    for one coordinate a side, and *too high* for noise-free nonlinear embeddings, whose principal
    components are functions of each other.

    Parameters
    ----------
    x, y : float array, shape (n, dx) and (n, dy)
    groups, ci, seed
        As in `gaussian_mi`.

    Returns
    -------
    Estimate
        In nats.

    Raises
    ------
    InputError
        As `gaussian_mi`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(2000, 1))
    >>> y = np.exp(0.6 * x + 0.8 * rng.normal(size=(2000, 1)))
    >>> abs(copula_mi(x, y, ci=None).value - 0.2231) < 0.05
    True

    References
    ----------
    Ince et al. 2017.
    """
    return _information(x, y, groups, ci, seed, copula=True)


def _information(
    x: Any, y: Any, groups: Any, ci: float | None, seed: int, *, copula: bool
) -> Estimate:
    level = check_ci(ci)
    a, b = matrix(x, "x", min_samples=4), matrix(y, "y", min_samples=4)
    n = check_lengths(x=a, y=b)
    check_varies(a, "x")
    check_varies(b, "y")
    members, n_groups = group_codes(groups, n)
    bases = [_basis(v, copula) for v in (a, b)]
    ranks = [u.shape[1] for u in bases]
    found: list[Diagnostic] = list(few_groups(n_groups))
    for name, v, rank in (("x", a, ranks[0]), ("y", b, ranks[1])):
        if rank < min(v.shape[1], n - 1):
            found.append(_rank_deficient(name, v.shape[1], rank))
    if copula:
        found.extend(_ties(a, b))
    value, interval = None, None
    if sum(ranks) > n - 2:
        found.append(
            Diagnostic(
                code="too-few-samples",
                severity="error",
                message=f"{n} samples cannot determine a Gaussian of {ranks[0]} + {ranks[1]} "
                "dimensions; use mutual_information, which reduces first, or more samples",
            )
        )
    else:
        value = gaussian_information(*bases)
        if math.isinf(value):
            value = None
            found.append(
                Diagnostic(
                    code="deterministic",
                    severity="error",
                    message="a linear combination of y is an exact function of x, so the "
                    "information is infinite; drop shared coordinates or add the noise that the "
                    "measurement has",
                )
            )
        elif 2 * sum(ranks) > n:
            found.append(
                Diagnostic(
                    code="few-samples",
                    severity="warning",
                    message=f"{n} samples for {sum(ranks)} dimensions: the bias correction is as "
                    "large as the information may be; use at least 4 samples per dimension",
                )
            )
    if value is not None and level is not None and sum(ranks) < 0.85 * n - 2:

        def statistic(rows: Any) -> float:
            return gaussian_information(_basis(a[rows], copula), _basis(b[rows], copula))

        try:
            interval = block_jackknife(statistic, value, n, members, level=level, seed=seed)
        except InputError:  # a block of the data determined y: no spread to speak of
            interval = None
    return Estimate(
        value=value,
        unit="nats",
        kind="estimate",
        n=n,
        n_groups=n_groups,
        method=("Gaussian copula" if copula else "Gaussian") + ", bias-corrected",
        ci=interval,
        params={"rank_x": ranks[0], "rank_y": ranks[1]},
        seed=seed if interval is not None else None,
        diagnostics=tuple(found),
    )


def _basis(v: FloatArray, copula: bool) -> Any:
    return whitened(normal_scores(v) if copula else v)


def _rank_deficient(name: str, dimension: int, rank: int) -> Diagnostic:
    return Diagnostic(
        code="rank-deficient",
        severity="info",
        message=f"{name} has {dimension} coordinates on a linear subspace of {rank}; it was "
        "projected there, which loses nothing",
    )


def _ties(a: FloatArray, b: FloatArray) -> tuple[Diagnostic, ...]:
    out = []
    for name, v in (("x", a), ("y", b)):
        tied = max(1.0 - len(np.unique(column)) / len(column) for column in v.T[:64])
        if tied > 0.05:
            out.append(
                Diagnostic(
                    code="ties",
                    severity="warning",
                    message=f"{100 * tied:.0f}% of the values of a coordinate of {name} repeat "
                    "others, and ranks of tied values carry less; use mixed_mi if they are atoms",
                )
            )
    return tuple(out)
