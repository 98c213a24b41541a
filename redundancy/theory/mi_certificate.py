"""A lower bound of mutual information that holds with stated probability."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from estimators import InputError
from estimators.intervals import binary_kl, kl_lower, kl_upper
from redundancy.theory._pairs import Distance, pair_shares
from redundancy.theory._result import TheoryResult

__all__ = ["certified_mi_lower_bound", "mi_certificate"]


def mi_certificate(
    *,
    p_close: float,
    q_hat: float,
    n: int,
    delta: float = 0.05,
    k: int | None = None,
    thresholds: int = 1,
) -> TheoryResult:
    r"""Certify a lower bound of mutual information from two counted shares.

    .. math::
        a_{\mathrm{low}} = \min\{a : n\, d(\hat a \| a) \le \log\tfrac2\delta\}, \quad
        q_{\mathrm{up}} = \max\{q : k\, d(\hat q \| q) \le \log\tfrac2\delta\}, \quad
        I(X; Y) \ge d(a_{\mathrm{low}} \| q_{\mathrm{up}})

    with probability at least 1 - delta, if a_low > q_up; otherwise the bound is 0. The first is
    Chernoff's bound for n independent groups; the second holds for a U-statistic over pairs of
    them, which counts as k = floor(n/2) independent pairs (Hoeffding). However large the
    information, the bound stays below about :math:`\log(n / (2 \log(2/\delta)))`.

    Parameters
    ----------
    p_close : float in [0, 1]
        Mean over groups of the share of related pairs within the threshold.
    q_hat : float in [0, 1]
        Mean over pairs of different groups of the share of unrelated pairs within it.
    n : int
        Number of independent groups (images, prompts), not of tokens.
    delta : float in (0, 1)
        Probability with which the bound may fail.
    k : int, optional
        Effective number of independent pairs behind `q_hat`; ``n // 2`` if not given.
    thresholds : int
        Number of thresholds that were looked at; delta is divided by it.

    Returns
    -------
    TheoryResult
        Of kind ``"certified"``, in nats. ``forms`` has ``"a_low"``, ``"q_up"``, ``"ceiling"`` (the
        most that n groups can certify) and ``"plug_in"`` (d(a^ || q^), an estimate and no bound).

    Raises
    ------
    InputError
        If a number leaves its range.

    Examples
    --------
    >>> round(mi_certificate(p_close=0.97, q_hat=0.2, n=1000).value, 6)
    1.139798

    References
    ----------
    Hoeffding (1963), section 5b (U-statistics); McAllester, Stratos (2020) for the ceiling.
    """
    if not (isinstance(n, int | np.integer) and n >= 2):
        raise InputError(f"n is {n!r}; give the number of independent groups, at least 2")
    if not 0.0 < delta < 1.0:
        raise InputError(f"delta is {delta!r}; an error probability lies strictly between 0 and 1")
    if not (isinstance(thresholds, int) and thresholds >= 1):
        raise InputError(f"thresholds is {thresholds!r}; give how many were looked at, at least 1")
    effective = int(n) // 2 if k is None else k
    share = delta / (2.0 * thresholds)
    a_low = kl_lower(p_close, n, share)
    q_up = kl_upper(q_hat, effective, share)
    value = float(binary_kl(a_low, q_up)) if a_low > q_up else 0.0
    ceiling = float(binary_kl(kl_lower(1.0, n, share), kl_upper(0.0, effective, share)))
    plug_in = float(binary_kl(p_close, q_hat)) if p_close > q_hat else 0.0
    return TheoryResult(
        value=value,
        kind="certified",
        unit="nats",
        statement=f"I(X; Y) >= value with probability at least {1 - delta:g}",
        assumptions=(
            "groups are independent and identically distributed",
            "the threshold was chosen before the data were seen"
            if thresholds == 1
            else f"the {thresholds} thresholds were chosen before the data were seen",
        ),
        vacuous=value <= 0.0,
        forms={
            "sharpest": value,
            "a_low": a_low,
            "q_up": q_up,
            "ceiling": ceiling,
            "plug_in": plug_in,
        },
    )


def certified_mi_lower_bound(
    x: Any,
    y: Any,
    *,
    t: ArrayLike,
    groups: ArrayLike | None = None,
    delta: float = 0.05,
    distance: Distance = "cosine",
    max_samples: int = 8192,
    seed: int = 0,
) -> TheoryResult:
    r"""Certify a lower bound of the mutual information of two layers from paired samples.

    What Theorems 3 and 4 are after, without their assumptions: related states (x_i, y_i) are
    within t of each other more often than unrelated ones (x_i, y_j), and by data processing

    .. math:: I(X; Y) \ge d(P[\rho \le t] \,\|\, (P_X \times P_Y)[\rho \le t]) .

    Both probabilities are replaced by confidence bounds over independent groups
    (:func:`mi_certificate`); unrelated pairs are taken from different groups only. Certified in
    the exact sense: over repeated data sets the bound exceeds the truth in at most a delta share.
    (The plug-in value does so in nearly half of them where the inequality is tight.)

    When it says little: with G groups it cannot exceed about log(G / (2 log(2/delta))), however
    much information there is; and it is 0 where the distance does not tell related from unrelated.
    X and Y are a token's states for a random group and a random token of it: every group counts
    alike.

    Parameters
    ----------
    x, y : array_like, shape (n, d)
        States of the same n tokens in two layers.
    t : float or sequence of float
        Threshold. Several are tested at delta / len(t) each (Bonferroni) and the best bound is
        returned; choose them before looking at the data.
    groups : array_like, shape (n,), optional
        Cluster of each token (its image or prompt); by default tokens are independent.
    delta : float in (0, 1)
        Probability with which the bound may fail.
    distance : {"cosine", "euclidean"} or callable
        A callable takes arrays (m, d), (n, d') and returns the (m, n) distances.
    max_samples : int
        At most this many tokens are used, spread over the groups (a seeded choice, which keeps the
        guarantee); the work grows with its square.
    seed : int

    Returns
    -------
    TheoryResult
        Of kind ``"certified"``, in nats; ``forms`` as :func:`mi_certificate`, and ``"t"``,
        ``"p_close"``, ``"q_hat"``, ``"n_groups"``.

    Raises
    ------
    InputError
        If the arrays do not fit, a threshold is negative, or there are fewer than two groups.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(500, 16))
    >>> bound = certified_mi_lower_bound(x, x + 0.1 * rng.normal(size=x.shape), t=0.1)
    >>> bound.kind, round(bound.value, 2), round(bound.forms["ceiling"], 2)
    ('certified', 4.15, 4.15)

    References
    ----------
    Theorem 4 of the paper, replaced; Hoeffding (1963); Garivier, Cappé (2011) for the KL form.
    """
    cuts = np.atleast_1d(np.asarray(t, dtype=np.float64))
    if cuts.ndim != 1 or cuts.size == 0 or not bool((cuts >= 0).all()):
        raise InputError(f"t is {t!r}; give one threshold, or a list of them, each at least 0")
    shares = pair_shares(
        x, y, cuts, groups=groups, distance=distance, max_samples=max_samples, seed=seed
    )
    results = [
        mi_certificate(
            p_close=float(p_close),
            q_hat=float(q_hat),
            n=shares.n_groups,
            delta=delta,
            thresholds=int(cuts.size),
        )
        for p_close, q_hat in zip(shares.joint.mean(0), shares.product, strict=True)
    ]
    at = max(range(len(results)), key=lambda i: results[i].value)
    best = results[at]
    extra = {
        "t": float(cuts[at]),
        "p_close": float(shares.joint[:, at].mean()),
        "q_hat": float(shares.product[at]),
        "n_groups": float(shares.n_groups),
    }
    notes: tuple[str, ...] = (
        f"{shares.n_samples} tokens of {shares.n_groups} groups; no bound from so many groups "
        f"exceeds {best.forms['ceiling']:.3g} nats",
    )
    if math.isclose(best.value, best.forms["ceiling"], rel_tol=0.05):
        notes += ("the bound is at its ceiling: only more groups can raise it",)
    return TheoryResult(
        value=best.value,
        kind="certified",
        unit="nats",
        statement=best.statement,
        assumptions=best.assumptions,
        vacuous=best.vacuous,
        forms={**best.forms, **extra},
        notes=notes,
    )
