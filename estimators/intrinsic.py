"""Intrinsic dimension from nearest-neighbour distances: TwoNN and maximum likelihood."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from estimators._arrays import check_ci, check_k, check_varies, group_codes, matrix
from estimators._errors import InputError
from estimators._neighbours import nearest
from estimators._resample import few_groups, half_sampling
from estimators._types import Diagnostic, Estimate

__all__ = ["intrinsic_dimension", "mle_from_distances", "twonn_from_distances"]


def twonn_from_distances(
    distances: npt.NDArray[np.float64], *, discard: float = 0.1
) -> float | None:
    """TwoNN from the distances (n, >= 2) of the first two neighbours.

    Facco et al.: -log(1 - F(mu)) = d log(mu) with mu = r2 / r1, fitted through the origin after
    discarding the largest ratios.
    """
    usable = distances[:, 0] > 0
    if usable.sum() < 3:
        return None
    mu = np.sort(np.log(distances[usable, 1]) - np.log(distances[usable, 0]))
    n = len(mu)
    kept = max(2, int(n * (1.0 - discard)))
    level = -np.log1p(-np.arange(1, kept + 1) / (n + 1.0))
    x = mu[:kept]
    scale = float(x @ x)
    return float(x @ level) / scale if scale > 0 else None


def mle_from_distances(distances: npt.NDArray[np.float64]) -> float | None:
    """Levina and Bickel's estimate from k distances, inverses averaged (MacKay and Ghahramani)."""
    k = distances.shape[1]
    usable = distances[:, 0] > 0
    if not usable.any():
        return None
    logs = np.log(distances[usable])
    inverse = float((logs[:, -1:] - logs[:, :-1]).sum(axis=1).mean()) / (k - 2)
    return 1.0 / inverse if inverse > 0 else None


def intrinsic_dimension(
    x: Any,
    method: Literal["twonn", "mle"] = "twonn",
    *,
    k: int = 20,
    discard: float = 0.1,
    groups: Any = None,
    ci: float | None = 0.95,
    seed: int = 0,
) -> Estimate:
    r"""Dimension of the manifold near which the samples lie.

    TwoNN reads it off the ratio of the distances of the second and the first neighbour,
    :math:`P(\mu > m) = m^{-d}`; the maximum-likelihood estimate uses k neighbours. Both are too
    low above about ten dimensions (by a third at 32 with n in the thousands), and see noise
    as dimension where it is as large as the neighbour distances.

    Parameters
    ----------
    x : float array, shape (n, d)
    method : {"twonn", "mle"}
    k : int
        Neighbours of the ``"mle"`` method, at least 3.
    discard : float
        Share of the largest ratios that ``"twonn"`` leaves out.
    groups, ci, seed
        As everywhere: clusters, level (half-sampling), seed. The half-samples are sparser, which
        shows in their mean but not in the spread that the interval uses.

    Returns
    -------
    Estimate
        Unit ``"dimensions"``.

    Raises
    ------
    InputError
        On integers, NaN, constant or too few samples, an unknown method.

    Examples
    --------
    >>> x = np.random.default_rng(0).uniform(size=(1000, 2)) @ np.ones((2, 5))
    >>> round(intrinsic_dimension(x, ci=None).value)
    1

    References
    ----------
    Facco et al. 2017; Levina and Bickel 2004; MacKay and Ghahramani 2005.
    """
    level = check_ci(ci)
    if method not in ("twonn", "mle"):
        raise InputError(f"method is {method!r}; use 'twonn' or 'mle'")
    if not 0.0 <= discard < 1.0:
        raise InputError(f"discard is {discard!r}; use a share from 0 to below 1, e.g. 0.1")
    a = matrix(x, "x")
    check_varies(a, "x")
    n = len(a)
    if method == "mle" and k < 3:
        raise InputError(f"k is {k}; the maximum-likelihood dimension needs at least 3 neighbours")
    neighbours = check_k(2 if method == "twonn" else k, n)
    members, n_groups = group_codes(groups, n)

    def dimension(rows: Any) -> tuple[float | None, int]:
        part = a[rows]
        distances, _ = nearest(part, neighbours)
        copies = 0
        if bool((distances[:, 0] == 0).any()):  # a copy hides the neighbours behind it
            distinct = np.unique(part, axis=0)
            copies = len(part) - len(distinct)
            if len(distinct) <= neighbours:
                return None, copies
            distances, _ = nearest(distinct, neighbours)
        value = estimate_from(distances)
        return value, copies

    def estimate_from(distances: npt.NDArray[np.float64]) -> float | None:
        if method == "twonn":
            return twonn_from_distances(distances, discard=discard)
        return mle_from_distances(distances)

    value, duplicates = dimension(slice(None))
    found: list[Diagnostic] = list(few_groups(n_groups))
    if duplicates:
        found.append(
            Diagnostic(
                code="duplicates",
                severity="warning" if duplicates < 0.1 * n else "error",
                message=f"{duplicates} of {n} samples repeat others exactly and were left out; "
                "remove repeated samples before asking for a dimension",
            )
        )
    if value is None:
        found.append(
            Diagnostic(
                code="undefined",
                severity="error",
                message="too few distinct neighbour distances for a dimension; use more samples",
            )
        )
    elif value > 12:
        found.append(
            Diagnostic(
                code="dimension-too-low",
                severity="warning",
                message=f"neighbour-based dimensions above about 12 are too low (here {value:.1f} "
                f"from {n} samples); read it as 'at least'",
            )
        )
    interval = None
    if value is not None and level is not None and (n_groups or n) >= 4 and n // 2 > neighbours:

        def statistic(rows: Any) -> float:
            part = dimension(rows)[0]
            return value if part is None else part

        interval = half_sampling(statistic, value, n, members, level=level, seed=seed)
    return Estimate(
        value=value,
        unit="dimensions",
        kind="estimate",
        n=n,
        n_groups=n_groups,
        method="TwoNN" if method == "twonn" else f"maximum likelihood, k = {k}",
        ci=interval,
        params={"discard": discard} if method == "twonn" else {"k": k},
        seed=seed if interval is not None else None,
        diagnostics=tuple(found),
    )
