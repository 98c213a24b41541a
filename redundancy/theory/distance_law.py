"""Mutual information from the law of the distance alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from estimators import InputError
from redundancy.theory._discrete import Table, information, relative_entropy, table
from redundancy.theory._pairs import Distance, pair_shares
from redundancy.theory._result import Given, InputKind, TheoryResult

__all__ = ["distance_law_from_samples", "distance_law_kl"]


def distance_law_kl(
    *,
    joint: ArrayLike | None = None,
    rho: ArrayLike | None = None,
    law_joint: ArrayLike | None = None,
    law_product: ArrayLike | None = None,
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Bound I(X; Y) from below by how the law of their distance differs from independence.

    .. math::
        I(X; Y) \ge \mathrm{KL}\bigl(\mathcal L(\rho \,|\, P_{XY}) \,\|\,
            \mathcal L(\rho \,|\, P_X \times P_Y)\bigr)
            \ge \max_t d(1 - P_t \,\|\, q_t)

    Data processing, applied to the distance itself rather than to one threshold of it; never below
    Theorem 4. Any symmetric or unsymmetric function serves as rho.

    Parameters
    ----------
    joint : array_like, shape (m, n)
        Joint probabilities of X (rows) and Y (columns); give it with `rho`.
    rho : array_like, shape (m, n)
        Distance of each pair of values.
    law_joint, law_product : array_like, shape (b,)
        Instead of the two above: the probabilities of b distance values (or bins, in ascending
        order) under the joint law and under independence.
    inputs : {"exact", "certified", "estimate"}
        How well the laws are known; frequencies of a sample make the result an ``"estimate"``.

    Returns
    -------
    TheoryResult
        `value` in nats. ``forms["best_binary_KL"]`` is the best single threshold's; with `joint`,
        ``forms["mutual_information"]`` is the truth.

    Raises
    ------
    InputError
        If the tables do not fit each other.

    Examples
    --------
    >>> result = distance_law_kl(joint=[[0.4, 0.1], [0.1, 0.4]], rho=[[0, 1], [1, 0]])
    >>> round(result.value, 6), round(result.forms["mutual_information"], 6)
    (0.192745, 0.192745)

    References
    ----------
    Cover, Thomas (2006), section 2.8 (data processing).
    """
    given = Given(inputs)
    forms: dict[str, float] = {}
    if joint is not None and rho is not None and law_joint is None and law_product is None:
        p = table(joint, "joint", "xy")
        distance = np.asarray(rho, dtype=np.float64)
        if distance.shape != p.shape or np.isnan(distance).any():
            raise InputError(
                f"rho has shape {distance.shape} for joint of shape {p.shape}; give one number "
                "for each pair of values"
            )
        values, where = np.unique(distance, return_inverse=True)
        where = where.reshape(-1)
        one: Table = np.bincount(where, p.reshape(-1), len(values)).astype(np.float64)
        product = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
        two: Table = np.bincount(where, product.reshape(-1), len(values)).astype(np.float64)
        forms["mutual_information"] = information(p)
    elif law_joint is not None and law_product is not None and joint is None and rho is None:
        one, two = table(law_joint, "law_joint", "b"), table(law_product, "law_product", "b")
        if one.shape != two.shape:
            raise InputError(
                f"law_joint has {one.size} values and law_product {two.size}; give both over the "
                "same distances"
            )
    else:
        raise InputError("give joint and rho, or law_joint and law_product")
    value = relative_entropy(one, two)
    forms["best_binary_KL"] = _best_threshold(one, two)
    forms["corrected"] = forms["sharpest"] = value
    return TheoryResult(
        value=value,
        kind=given.kind(()),
        unit="nats",
        statement="I(X; Y) >= KL(law of rho, joint || law of rho, independent) = value",
        vacuous=value <= 0.0,
        forms=forms,
    )


def distance_law_from_samples(
    x: Any,
    y: Any,
    *,
    edges: Sequence[float],
    groups: ArrayLike | None = None,
    distance: Distance = "cosine",
    max_samples: int = 4096,
    seed: int = 0,
) -> TheoryResult:
    r"""Estimate the distance-law divergence from paired samples, over bins of the distance.

    The law under independence is counted over pairs of *different* groups. A plug-in divergence is
    as often above as below the truth: this is an estimate, and `certified_mi_lower_bound` the
    bound. Bins that no unrelated pair falls in are merged with their neighbours.

    Parameters
    ----------
    x, y : array_like, shape (n, d)
        States of the same n tokens in two layers.
    edges : sequence of float
        Interior bin edges, ascending.
    groups : array_like, shape (n,), optional
        Cluster of each token.
    distance : {"cosine", "euclidean"} or callable
        As in :func:`certified_mi_lower_bound`.
    max_samples : int
        At most this many tokens are compared pairwise (a seeded choice).
    seed : int

    Returns
    -------
    TheoryResult
        Of kind ``"estimate"``.

    Raises
    ------
    InputError
        If the arrays do not fit, or `edges` is not ascending.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(400, 8))
    >>> y = x + 0.1 * rng.normal(size=x.shape)
    >>> distance_law_from_samples(x, y, edges=[0.05, 0.2, 0.5]).value > 2.0
    True
    """
    cuts = np.asarray(edges, dtype=np.float64)
    if cuts.ndim != 1 or cuts.size == 0 or not bool((np.diff(cuts) > 0).all()):
        raise InputError("edges must be an ascending list of distances, at least one")
    shares = pair_shares(
        x, y, cuts, groups=groups, distance=distance, max_samples=max_samples, seed=seed
    )
    one = np.diff(np.concatenate([[0.0], shares.joint.mean(0), [1.0]]))
    two = np.diff(np.concatenate([[0.0], shares.product, [1.0]]))
    one, two = _merge_empty(one, two)
    return distance_law_kl(law_joint=one, law_product=two, inputs="estimate")


def _best_threshold(one: Table, two: Table) -> float:
    from scipy.special import rel_entr

    if one.size < 2:
        return 0.0
    # Both tails are summed, since one minus a sum that is nearly 1 has no digits left.
    laws = [(law.cumsum()[:-1], law[::-1].cumsum()[::-1][1:]) for law in (one, two)]
    divergence = rel_entr(laws[0][0], laws[1][0]) + rel_entr(laws[0][1], laws[1][1])
    return max(float(divergence.max()), 0.0)


def _merge_empty(one: Table, two: Table) -> tuple[Table, Table]:
    """Merge bins that are empty under independence with the next bin, the last with the one before.

    Otherwise a bin without unrelated pairs would make the divergence infinite.
    """
    merged: list[list[float]] = []
    carry = np.zeros(2)
    for a, b in zip(one, two, strict=True):
        carry += (a, b)
        if carry[1] > 0.0:
            merged.append([float(carry[0]), float(carry[1])])
            carry[:] = 0.0
    if merged:
        merged[-1][0] += float(carry[0])
    laws = np.maximum(np.array(merged), 0.0)
    return laws[:, 0] / laws[:, 0].sum(), laws[:, 1] / laws[:, 1].sum()
