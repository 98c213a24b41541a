"""Geometric redundancy: the mean cosine distance between two layers."""

from __future__ import annotations

from typing import Literal

from estimators import Estimate, InputError
from estimators.intervals import cluster_mean
from redundancy.measures._grouped import (
    certified_mean,
    check_level,
    mean_estimate,
    p_values,
    state_diagnostics,
    summary_of,
    zero_norm_diagnostics,
)
from redundancy.measures._spec import Column, MeasureSpec, Reading
from redundancy.pairs import LayerPair

__all__ = ["SPEC", "measure"]

SPEC = MeasureSpec(
    title="mean cosine distance between the states of two layers",
    symbol="E ρ",
    unit="cosine distance",
    needs=frozenset({"summary"}),
    streams=True,
    working_set=lambda n, d: 2**28 + 64 * n,
    redundant_when="below",
    default_threshold=0.05,
    paper="Definition 1, eq. (1)",
    columns=(
        Column("token_weighted", "E ρ by token"),
        Column("certified", "certified CI", as_interval=True),
    ),
)

_SUPPORT = (0.0, 2.0)


def measure(
    pair: LayerPair,
    *,
    threshold: float | None = None,
    ci: float | None = 0.95,
    seed: int = 0,
    weighting: Literal["sample", "token"] = "sample",
) -> Reading:
    r"""Mean cosine distance between the same tokens in two layers.

    .. math:: E\rho, \qquad \rho(x, y) = 1 - \frac{\langle x, y \rangle}{|x||y|} \in [0, 2]

    It equals ShortGPT's Block Influence. On pairs (0, l) it is the distance D[0, l] that late
    entry at layer l bridges; distances of neighbours do not add up to it.

    When it lies: a rotation of the whole space carries all information and has a large distance;
    a small distance in a direction the rest of the network reads may matter more than a large one
    elsewhere. A low threshold alone has called every layer of a small model redundant while
    skipping the first cost 27 points of accuracy. The last block is comparable only before the
    final norm.

    Parameters
    ----------
    pair : LayerPair
        With sums over all tokens (preferred, where the source kept them) or with states.
    threshold : float, optional
        Distance in (0, 2] below which the pair counts as redundant.
    ci : float or None
        Level of the intervals.
    seed : int
        Not used; nothing here is random.
    weighting : {"sample", "token"}
        Whether every sample or every token counts alike (the paper pools tokens); the other one
        is among the extras. They differ where samples differ in length.

    Returns
    -------
    Reading
        In cosine distance, with a skewness-corrected cluster-t interval over groups; extras
        ``token_weighted`` or ``sample_weighted``, ``certified`` (valid at every number of groups),
        ``squared_distance`` (mean squared Euclidean distance, where kept). The p-values are by
        cluster t and Chernoff's bound together; both must agree below 20 groups or without spread.

    Raises
    ------
    InputError
        If the pair carries neither sums nor states, a state is not finite, or the threshold is
        not a distance.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(200, 8))
    >>> reading = measure(LayerPair(0, 1, x, x + 0.1), threshold=0.05)
    >>> round(reading.estimate.value, 4), reading.p_redundant < 0.01
    (0.0061, True)

    References
    ----------
    Men et al. (2024), ShortGPT, eq. (1) (Block Influence).
    """
    check_level(ci)
    if threshold is not None and not 0.0 < threshold <= 2.0:
        raise InputError(f"threshold is {threshold!r}; a cosine distance lies in (0, 2]")
    if weighting not in ("sample", "token"):
        raise InputError(f"weighting is {weighting!r}; use 'sample' or 'token'")
    summary = summary_of(pair, measure="geometric")
    n, n_undefined = int(summary.n_defined.sum()), int((summary.n_tokens - summary.n_defined).sum())
    notes = (*zero_norm_diagnostics(summary), *state_diagnostics(pair))
    method = f"mean over {'tokens' if weighting == 'token' else 'samples'}"
    if n == 0:
        return Reading(
            estimate=Estimate(
                value=None,
                unit=SPEC.unit,
                kind="estimate",
                n=0,
                method=method,
                diagnostics=notes,
            )
        )
    both: dict[Literal["sample", "token"], Estimate] = {}
    kinds: tuple[Literal["sample", "token"], ...] = ("sample", "token")
    means = {
        kind: cluster_mean(
            summary.rho_sum,
            summary.n_defined,
            groups=summary.groups,
            weighting=kind,
            level=ci,
            support=_SUPPORT,
        )
        for kind in kinds
    }
    for kind, mean in means.items():
        both[kind] = mean_estimate(
            mean,
            unit=SPEC.unit,
            n=n,
            method=f"mean over {kind}s",
            support=_SUPPORT,
            ci=ci,
            diagnostics=notes,
            params={"weighting": kind, "n_undefined": n_undefined, "n_samples": mean.n_samples},
        )
    other = kinds[1] if weighting == "sample" else kinds[0]
    extras = {f"{other}_weighted": both[other]}
    if ci is not None:
        certified = certified_mean(means["sample"], unit=SPEC.unit, n=n, support=_SUPPORT, level=ci)
        if certified is not None:
            extras["certified"] = certified
    if summary.sq_dist_sum is not None:
        extras["squared_distance"] = mean_estimate(
            cluster_mean(
                summary.sq_dist_sum,
                summary.n_tokens,
                groups=summary.groups,
                weighting=weighting,
                level=ci,
                support=(0.0, float("inf")),
            ),
            unit="squared norm",
            n=int(summary.n_tokens.sum()),
            method=method,
            support=(0.0, float("inf")),
            ci=ci,
        )
    below = above = None
    if threshold is not None:
        below, above = p_values(means[weighting], threshold, _SUPPORT)
    return Reading(estimate=both[weighting], extras=extras, p_redundant=below, p_needed=above)
