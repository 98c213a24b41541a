"""Questions to ask of any estimator: is it above chance, and is it stable in n and in k?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from estimators._arrays import check_lengths, group_codes, to_numpy
from estimators._errors import InputError
from estimators._resample import blocks, few_groups, group_permutations
from estimators._types import Diagnostic, Estimate

__all__ = ["k_sweep", "n_scaling", "permutation_test"]

Estimator = Callable[..., Estimate]


def _value(estimate: Estimate, what: str) -> float:
    if estimate.value is None:
        raise InputError(
            f"the estimator gave no value on {what}: "
            + "; ".join(d.message for d in estimate.diagnostics)
        )
    return estimate.value


def permutation_test(
    estimator: Estimator,
    x: Any,
    y: Any,
    *,
    n_permutations: int = 199,
    groups: Any = None,
    seed: int = 0,
    **options: Any,
) -> Estimate:
    r"""P-value of independence: how often rearranged pairs carry as much information.

    .. math:: p = \frac{1 + \#\{b : \hat I(X, \pi_b Y) \ge \hat I(X, Y)\}}{1 + B}

    Valid for any estimator. With groups, whole clusters are rearranged. A small p says "not
    independent", never "the value is right": an estimator that has lost 12 of 14 nats still beats
    its permutations.

    Parameters
    ----------
    estimator : callable
        E.g. `estimators.ksg.ksg_mi`; called as ``estimator(x, y, ci=None, **options)``.
    x, y : array, samples along axis 0
    n_permutations : int
        B; the smallest possible p is 1 / (B + 1).
    groups : array, shape (n,), optional
        Cluster of each sample.
    seed : int
        Seed of the permutations.
    **options
        Passed on to `estimator`.

    Returns
    -------
    Estimate
        Unit ``"probability"``; `params` has the observed value and the mean under permutation.

    Raises
    ------
    InputError
        If `n_permutations` is below 1, lengths differ, or the estimator refuses the data.

    Examples
    --------
    >>> from estimators.gaussian import gaussian_mi
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(100, 1))
    >>> permutation_test(gaussian_mi, x, x + rng.normal(size=(100, 1)), n_permutations=19).value
    0.05

    References
    ----------
    Phipson and Smyth 2010.
    """
    a, b = to_numpy(x, "x"), to_numpy(y, "y")
    n = check_lengths(x=a, y=b)
    members, n_groups = group_codes(groups, n)
    observed = _value(estimator(a, b, ci=None, **options), "the data")
    null = [
        _value(estimator(a, b[rows], ci=None, **options), "rearranged data")
        for rows in group_permutations(n, members, n_permutations, seed=seed)
    ]
    above = sum(v >= observed for v in null)
    return Estimate(
        value=(1 + above) / (1 + n_permutations),
        unit="probability",
        kind="exact",
        n=n,
        n_groups=n_groups,
        method=f"permutation of {'samples' if members is None else 'groups'}, {n_permutations}",
        params={
            "observed": observed,
            "null_mean": float(np.mean(null)),
            "null_95": float(np.quantile(null, 0.95)),
        },
        seed=seed,
        diagnostics=few_groups(n_groups),
    )


def n_scaling(
    estimator: Estimator,
    *arrays: Any,
    parts: Sequence[int] = (1, 2, 4, 8),
    groups: Any = None,
    seed: int = 0,
    **options: Any,
) -> Estimate:
    r"""Bias of an estimate as its n-scaling curve suggests: the value less its limit.

    The estimator runs on the whole, and on each of 2, 4 and 8 disjoint parts; a line through the
    averages against 1/n, weighted by their precision, meets 1/n = 0 at the limit.

    .. math:: \hat I(n) \approx I_\infty + b / n

    Where the bias falls more slowly than 1/n (k-NN in several dimensions), what it shows is less
    than the bias there is.

    Parameters
    ----------
    estimator : callable
        Called as ``estimator(*arrays, ci=None, **options)``.
    *arrays : arrays, samples along axis 0
    parts : sequence of int
        In how many parts the samples are split, ascending from 1.
    groups : array, shape (n,), optional
        Cluster of each sample; parts keep clusters together.
    seed : int
        Seed of the splits.
    **options
        Passed on to `estimator`.

    Returns
    -------
    Estimate
        The bias, in the unit of the estimator: negative where the value is too low. `params` has
        the curve and the limit.

    Raises
    ------
    InputError
        If `parts` does not ascend from 1, or the estimator refuses a part.

    Examples
    --------
    >>> from estimators.discrete import discrete_entropy
    >>> s = np.random.default_rng(0).integers(0, 50, size=400)
    >>> n_scaling(discrete_entropy, s, correction="plug-in").value < 0
    True

    References
    ----------
    Strong et al. 1998; Holmes and Nemenman 2019.
    """
    if len(parts) < 2 or parts[0] != 1 or sorted(set(parts)) != list(parts):
        raise InputError(f"parts is {parts!r}; use ascending whole numbers from 1, e.g. (1, 2, 4)")
    data = [to_numpy(a, f"arrays[{i}]") for i, a in enumerate(arrays)]
    n = check_lengths(**{f"arrays[{i}]": a for i, a in enumerate(data)})
    members, n_groups = group_codes(groups, n)
    whole = estimator(*data, ci=None, **options)
    curve: dict[int, float] = {n: _value(whole, "the data")}
    for count in parts[1:]:
        label = blocks(n, members, count, seed=seed)
        values = [
            _value(
                estimator(*(a[label == part] for a in data), ci=None, **options),
                f"one of {count} parts ({int((label == part).sum())} samples)",
            )
            for part in range(int(label.max()) + 1)
        ]
        curve[round(n / count)] = float(np.mean(values))
    sizes = np.array(list(curve))
    slope, limit = np.polyfit(1.0 / sizes, list(curve.values()), 1, w=np.sqrt(sizes))
    bias = curve[n] - float(limit)
    found: tuple[Diagnostic, ...] = ()
    if abs(bias) > 0.03:
        found = (
            Diagnostic(
                code="drift",
                severity="warning",
                message=f"the value moves with the number of samples (from "
                f"{list(curve.values())[-1]:.3f} at n = {sizes[-1]} to {curve[n]:.3f} at {n}); "
                "its bias is at least what is given here",
            ),
        )
    if not math.isfinite(bias):
        raise InputError("the n-scaling curve has no finite limit; use more samples")
    return Estimate(
        value=bias,
        unit=whole.unit,
        kind="estimate",
        n=n,
        n_groups=n_groups,
        method="n-scaling: line in 1/n",
        params={
            "curve": {int(m): v for m, v in curve.items()},
            "limit": float(limit),
            "slope": float(slope),
        },
        seed=seed,
        diagnostics=(*found, *few_groups(n_groups)),
    )


def k_sweep(
    estimator: Estimator, *arrays: Any, ks: Sequence[int] = (3, 10, 30), **options: Any
) -> Estimate:
    r"""Spread of a nearest-neighbour estimate over the number of neighbours.

    .. math:: \max_k \hat I_k - \min_k \hat I_k

    A larger k averages over larger balls: where the estimates fall with k, the balls are too large
    for the structure of the data, and the value at any k is too low.

    Parameters
    ----------
    estimator : callable
        Called as ``estimator(*arrays, k=k, ci=None, **options)``.
    *arrays : arrays, samples along axis 0
    ks : sequence of int
        At least two numbers of neighbours.
    **options
        Passed on to `estimator`.

    Returns
    -------
    Estimate
        The spread, in the unit of the estimator; ``params["curve"]`` has the value at each k.

    Raises
    ------
    InputError
        For fewer than two k, or where the estimator refuses the data.

    Examples
    --------
    >>> from estimators.ksg import ksg_mi
    >>> x = np.random.default_rng(0).normal(size=(300, 8))
    >>> y = x + 0.5 * np.random.default_rng(1).normal(size=(300, 8))
    >>> [d.code for d in k_sweep(ksg_mi, x, y).diagnostics]
    ['unstable-in-k']

    References
    ----------
    Kraskov, Stoegbauer and Grassberger 2004, section II.
    """
    if len(set(ks)) < 2:
        raise InputError(f"ks is {ks!r}; pass at least two numbers of neighbours, e.g. (3, 10, 30)")
    made = {int(k): estimator(*arrays, k=k, ci=None, **options) for k in ks}
    curve = {k: _value(e, f"the data with k = {k}") for k, e in made.items()}
    spread = max(curve.values()) - min(curve.values())
    first = made[int(ks[0])]
    found: tuple[Diagnostic, ...] = ()
    if spread > max(0.05, 0.1 * abs(curve[int(ks[0])])):
        listing = ", ".join(f"{v:.3f} at k = {k}" for k, v in curve.items())
        found = (
            Diagnostic(
                code="unstable-in-k",
                severity="warning",
                message=f"the value depends on the number of neighbours ({listing}): neighbours "
                "are too far apart to see the structure, and the information is likely larger "
                "than any of these; use mutual_information, or more samples",
            ),
        )
    return Estimate(
        value=spread,
        unit=first.unit,
        kind="estimate",
        n=first.n,
        method=f"spread over k = {', '.join(map(str, curve))}",
        params={"curve": curve},
        diagnostics=found,
    )
