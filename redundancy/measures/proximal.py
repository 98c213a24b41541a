"""Proximal redundancy: the share of tokens that hardly move between two layers."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from estimators import Diagnostic, Estimate, InputError
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
from redundancy.pairs import LayerPair, PairSummary
from redundancy.summary import cosine_distances

__all__ = ["SPEC", "measure"]

SPEC = MeasureSpec(
    title="share of tokens whose cosine distance between two layers is below t",
    symbol="P[ρ < t]",
    unit="probability",
    needs=frozenset({"summary"}),
    streams=True,
    working_set=lambda n, d: 2**28 + 128 * n,
    redundant_when="above",
    default_threshold=0.95,
    paper="Definition 2, eq. (2)",
    columns=(Column("certified", "certified CI", as_interval=True),),
)

_SUPPORT = (0.0, 1.0)


def measure(
    pair: LayerPair,
    *,
    threshold: float | None = None,
    ci: float | None = 0.95,
    seed: int = 0,
    t: float = 0.05,
    weighting: Literal["sample", "token"] = "sample",
) -> Reading:
    r"""Probability that a token moves by less than t in cosine distance.

    .. math:: P[\rho < t], \qquad \rho(x, y) = 1 - \frac{\langle x, y \rangle}{|x||y|}

    Strictly below, as in Definition 2; the pair is proximally redundant when this exceeds
    1 - epsilon. By Markov, a mean distance E rho gives at least 1 - E rho / t.

    When it lies: as the geometric measure does, and it is blind to how far the few tokens move
    that do. Its interval is over groups: tokens of one image move together, and an exact binomial
    interval over pooled tokens (60 images of 576) covered 23% where it promised 95%.

    Parameters
    ----------
    pair : LayerPair
        With counts below t over all tokens, or with states.
    threshold : float, optional
        Probability in (0, 1) above which the pair counts as redundant: 1 - epsilon.
    ci : float or None
        Level of the intervals.
    seed : int
        Not used; nothing here is random.
    t : float
        Cosine distance in (0, 2]. Where only sums were kept it must be one of the distances at
        which tokens were counted.
    weighting : {"sample", "token"}
        Whether every sample or every token counts alike; the other one is among the extras.

    Returns
    -------
    Reading
        A probability with a cluster-t interval over groups; extras ``token_weighted`` or
        ``sample_weighted``, ``certified`` (valid at every number of groups), and ``at_most_t``
        (P[rho <= t], from states).

    Raises
    ------
    InputError
        If t was not counted and no states are at hand, or an argument leaves its range.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(200, 8))
    >>> reading = measure(LayerPair(0, 1, x, x + 0.1), threshold=0.5)
    >>> reading.estimate.value, reading.p_redundant < 0.01
    (1.0, True)
    """
    check_level(ci)
    if not 0.0 < t <= 2.0:
        raise InputError(f"t is {t!r}; a cosine distance lies in (0, 2]")
    if threshold is not None and not 0.0 < threshold < 1.0:
        raise InputError(
            f"threshold is {threshold!r}; give the probability in (0, 1) that must be exceeded, "
            "e.g. 0.95"
        )
    if weighting not in ("sample", "token"):
        raise InputError(f"weighting is {weighting!r}; use 'sample' or 'token'")
    summary = _counted(pair, t)
    if summary is None or summary.below is None:
        return _absent(
            Diagnostic(
                code="not-counted",
                severity="error",
                message=(
                    f"tokens were not counted for layers {pair.label} while streaming, which is "
                    "done for neighbours and pairs with layer 0; keep token states "
                    "(extract --tokens) to compare any two layers"
                ),
            )
        )
    n = int(summary.n_defined.sum())
    notes = (*zero_norm_diagnostics(summary), *state_diagnostics(pair))
    if n == 0:
        return _absent(*notes)
    column = int(np.flatnonzero(np.isclose(summary.thresholds, t, rtol=1e-9, atol=0.0))[0])
    kinds: tuple[Literal["sample", "token"], ...] = ("sample", "token")
    means = {
        kind: cluster_mean(
            summary.below[:, column],
            summary.n_defined,
            groups=summary.groups,
            weighting=kind,
            level=ci,
            support=_SUPPORT,
        )
        for kind in kinds
    }
    estimates = {
        kind: mean_estimate(
            mean,
            unit=SPEC.unit,
            n=n,
            method=f"share below t, mean over {kind}s",
            support=_SUPPORT,
            ci=ci,
            diagnostics=notes,
            params={
                "t": t,
                "event": "rho < t",
                "weighting": kind,
                "n_undefined": int((summary.n_tokens - summary.n_defined).sum()),
                "n_samples": mean.n_samples,
            },
        )
        for kind, mean in means.items()
    }
    other = kinds[1] if weighting == "sample" else kinds[0]
    extras = {f"{other}_weighted": estimates[other]}
    if ci is not None:
        certified = certified_mean(means["sample"], unit=SPEC.unit, n=n, support=_SUPPORT, level=ci)
        if certified is not None:
            extras["certified"] = certified
    closed = _at_most(pair, t, ci, weighting)
    if closed is not None:
        extras["at_most_t"] = closed
    below = above = None
    if threshold is not None:
        below, above = p_values(means[weighting], threshold, _SUPPORT)
    return Reading(estimate=estimates[weighting], extras=extras, p_redundant=above, p_needed=below)


def _counted(pair: LayerPair, t: float) -> PairSummary | None:
    """Return sums that count tokens below t; None if the source kept none for this pair."""
    kept = pair.summary
    if kept is not None and kept.below is not None:
        if np.isclose(kept.thresholds, t, rtol=1e-9, atol=0.0).any():
            return kept
        if pair.x_lower is None:
            known = ", ".join(f"{value:g}" for value in kept.thresholds)
            raise InputError(
                f"tokens were counted at the distances {known} while streaming, not at t = {t:g}; "
                "use one of those, or keep token states (extract --tokens)"
            )
    if kept is not None and pair.x_lower is None:
        return None
    bare = LayerPair(pair.lower, pair.upper, pair.x_lower, pair.x_upper, pair.modality, pair.groups)
    return summary_of(bare, (t,), measure="proximal")


def _absent(*diagnostics: Diagnostic) -> Reading:
    return Reading(
        estimate=Estimate(
            value=None,
            unit=SPEC.unit,
            kind="estimate",
            n=0,
            method="share below t",
            diagnostics=diagnostics,
        )
    )


def _at_most(
    pair: LayerPair, t: float, ci: float | None, weighting: Literal["sample", "token"]
) -> Estimate | None:
    """P[rho <= t], the closed event of Theorems 3 and 4; only states tell it from the open one."""
    if pair.x_lower is None or pair.x_upper is None:
        return None
    rho = cosine_distances(pair.x_lower, pair.x_upper, name=f"layers {pair.label}")
    defined = ~np.isnan(rho)
    if not defined.any():
        return None
    groups: NDArray[Any] = np.arange(len(rho)) if pair.groups is None else np.asarray(pair.groups)
    _, codes = np.unique(groups[defined], return_inverse=True)
    count = np.bincount(codes)
    inside = np.bincount(codes, weights=(rho[defined] <= t).astype(np.float64))
    mean = cluster_mean(inside, count, weighting=weighting, level=ci, support=_SUPPORT)
    return mean_estimate(
        mean,
        unit=SPEC.unit,
        n=int(defined.sum()),
        method=f"share at most t, mean over {weighting}s",
        support=_SUPPORT,
        ci=ci,
        params={"t": t, "event": "rho <= t", "weighting": weighting},
    )
