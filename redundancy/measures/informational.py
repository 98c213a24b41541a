"""Informational redundancy: what one layer adds to the other, in states of a shared quantiser."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from estimators import Diagnostic, Estimate, InputError, Interval
from estimators.intervals import ClusterMean, betting_interval, cluster_mean
from redundancy.measures._grouped import FEW_GROUPS, check_level, p_values
from redundancy.measures._neighbour import neighbour_extras
from redundancy.measures._quantised import Coded, encode, fitting_bytes, tokens_of
from redundancy.measures._spec import Column, MeasureSpec, Reading
from redundancy.pairs import LayerPair

__all__ = ["SPEC", "measure"]

SPEC = MeasureSpec(
    title="conditional entropy of the upper layer given the lower, in a shared quantiser's states",
    symbol="H(b|a)",
    unit="nats",
    needs=frozenset({"states"}),
    streams=True,
    working_set=fitting_bytes,
    redundant_when="below",
    default_threshold=0.2,
    paper="Definition 4 (quantised)",
    columns=(
        Column("ratio", "H(b|a)/H(b)"),
        Column("mi", "I(a;b)"),
        Column("d_int", "d_int"),
        Column("n_eff", "n_eff"),
        Column("cos", "cos"),
    ),
)

Correction = Literal[
    "chao-wang-jost", "chao-shen", "grassberger", "miller-madow", "jackknife", "nsb", "plug-in"
]
_PER_STATE = 10


def measure(
    pair: LayerPair,
    *,
    threshold: float | None = None,
    ci: float | None = 0.95,
    seed: int = 0,
    n_states: int | None = None,
    method: Literal["kmeans", "pq", "signs"] = "kmeans",
    correction: Correction = "chao-wang-jost",
    mi: Literal["route", "none"] | None = "route",
) -> Reading:
    r"""Entropy of the upper layer's state given the lower layer's, under one shared quantiser.

    .. math:: H(Q_l \mid Q_{l-1}), \qquad Q_j = q(X_j / |X_j|)

    The quantiser q is fitted on two fifths of the groups, on the directions of both layers
    together (at most 40 tokens per state); the entropies are of the others, with a bias correction
    (Chao, Wang and Jost by default).

    The unquantised quantity has no meaning to compare with a threshold: for a deterministic layer
    on a full state it is 0 or minus infinity, and it changes under rescaling.

    The verdict does not lean on the corrected value. "Redundant" rests on the held-out
    cross-entropy of a law fitted on the two fifths, which exceeds H(Q_l|Q_{l-1}) on average
    whatever the law; "needed" rests on the plug-in, which falls below it on average.

    When it lies: it sees as much as the quantiser does, so detail within a state is free, and the
    value grows with the number of states (the same for all pairs of a run; compare only those).
    A rotation of all states looks new to a shared quantiser only as far as it leaves their cells.
    Low values do not say that a layer can be skipped.

    Parameters
    ----------
    pair : LayerPair
        With states of the same width in both layers.
    threshold : float, optional
        Nats below which the pair counts as redundant.
    ci : float or None
        Level of the intervals; None also gives no p-values.
    seed : int
        Of the split, the quantiser and the resampling.
    n_states : int, optional
        States of the quantiser; by default a power of two with at least 20 tokens per state in the
        evaluated part, from 4 to 256.
    method : {"kmeans", "pq", "signs"}
        Kind of quantiser.
    correction : str
        Bias correction of the reported entropies.
    mi : {"route", "none"} or None
        Whether to add a mutual information of the unquantised states, by
        :func:`estimators.mutual_information.mutual_information` on at most 2,000 tokens in at most
        32 principal directions per layer.

    Returns
    -------
    Reading
        In nats; withheld (with the reason) where the evaluated part is worth fewer than 10
        independent tokens per occupied state. Extras: ``ratio`` (to H(Q_l)), ``entropy``,
        ``quantised_mi``, ``cross_entropy`` (on average an upper bound), ``certified`` (an upper
        bound that holds with probability `ci`), ``plug_in``, ``mi`` (k-nearest-neighbour or
        parametric, says which), ``d_int`` (TwoNN dimension of the upper layer), ``n_eff``,
        ``cos`` (mean cosine distance of the same tokens).

    Raises
    ------
    InputError
        If the pair carries no states, the widths differ, a state is not finite, or an option is
        unknown.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(600, 3))
    >>> copy = measure(LayerPair(0, 1, x, x), mi="none")
    >>> other = measure(LayerPair(0, 1, x, rng.normal(size=(600, 3))), mi="none")
    >>> copy.estimate.value < 0.05 < 1.0 < other.estimate.value
    True

    References
    ----------
    Chao, Wang and Jost (2013); Cover and Thomas (2006), ch. 2.
    """
    check_level(ci)
    if threshold is not None and not 0.0 < threshold < math.inf:
        raise InputError(f"threshold is {threshold!r}; give nats above 0, e.g. 0.2")
    if mi not in ("route", "none", None):  # a command line says None with the word none
        raise InputError(f"mi is {mi!r}; use 'route' or 'none'")
    tokens = tokens_of(pair)
    if isinstance(tokens, Diagnostic):
        return Reading(estimate=_nothing(pair, tokens))
    coded = encode(tokens, n_states, method, seed)
    if isinstance(coded, Diagnostic):
        return Reading(estimate=_nothing(pair, coded, *tokens.notes))
    entropies = _entropies(coded, correction, ci, seed)
    withheld = _too_few(coded)
    headline = replace(
        entropies["conditional"],
        method=f"{coded.rule}, {correction}",
        n=len(tokens.codes),
        n_groups=int(tokens.codes.max()) + 1 if tokens.grouped else None,
        params={
            **entropies["conditional"].params,
            "n_states": coded.n_states,
            "n_fit": coded.n_fit,
            "n_evaluated": len(coded.upper),
            "n_eff": coded.n_eff,
        },
        diagnostics=(*tokens.notes, *entropies["conditional"].diagnostics),
        seed=seed,
    )
    if withheld is not None:
        headline = replace(headline, value=None, ci=None).with_diagnostics(withheld)
    extras: dict[str, Estimate] = {
        key: entropies[key]
        for key in ("ratio", "entropy", "quantised_mi", "plug_in")
        if key in entropies
    }
    loss, largest = _losses(coded, ci)
    extras.update(_bounds(coded, loss, largest, ci))
    extras["n_eff"] = _plain(coded.n_eff, "tokens", len(coded.lower), "design effect of groups")
    extras.update(
        neighbour_extras(
            tokens.lower,
            tokens.upper,
            tokens.codes,
            coded.rho,
            mi=mi == "route",
            seed=seed,
            kept=tokens.rows,
        )
    )
    p_redundant = p_needed = None
    if threshold is not None and ci is not None and withheld is None:
        # Where no state was ever left for another, the spread of the losses is the fitted law's
        # own and says nothing of the exceptions not seen.
        exceptionless = not (entropies["plug_in"].value or 0.0) > 1e-12
        p_redundant = p_values(loss, threshold, (0.0, largest), cautious=exceptionless)[0]
        p_needed = _p_above(entropies["plug_in"], threshold)
    return Reading(estimate=headline, extras=extras, p_redundant=p_redundant, p_needed=p_needed)


def _too_few(coded: Coded) -> Diagnostic | None:
    occupied = len(np.unique(coded.upper))
    if occupied == 1 or coded.n_eff >= _PER_STATE * occupied:
        return None
    return Diagnostic(
        code="undersampled",
        severity="error",
        message=(
            f"n_eff {coded.n_eff:.0f} < {_PER_STATE} × occupied states ({occupied}): save more "
            "tokens (--tokens) or use fewer states (n_states)"
        ),
    )


def _entropies(
    coded: Coded, correction: Correction, ci: float | None, seed: int
) -> dict[str, Estimate]:
    from estimators.discrete import conditional_entropy, discrete_entropy

    options: dict[str, Any] = {"groups": coded.codes if coded.grouped else None, "seed": seed}
    conditional = conditional_entropy(
        coded.upper, coded.lower, correction=correction, ci=ci, **options
    )
    out = {
        "conditional": conditional,
        "plug_in": conditional_entropy(
            coded.upper, coded.lower, correction="plug-in", ci=ci, **options
        ),
        "entropy": discrete_entropy(coded.upper, correction=correction, ci=ci, **options),
    }
    total, value = out["entropy"].value, conditional.value
    if total is not None and value is not None:
        difference = replace(
            out["entropy"], value=total - value, ci=None, method=f"H(b) - H(b|a), {correction}"
        )
        out["quantised_mi"] = difference
        if total > 0:
            out["ratio"] = replace(
                difference, value=value / total, unit="ratio", method=f"H(b|a) / H(b), {correction}"
            )
    return out


def _losses(coded: Coded, ci: float | None) -> tuple[ClusterMean, float]:
    """Mean held-out loss of the fitted law, by group, and the largest possible one."""
    losses = -np.log(coded.law)
    each = losses[coded.lower, coded.upper]
    size = np.bincount(coded.codes).astype(np.float64)
    sums = np.bincount(coded.codes, weights=each)
    largest = float(losses.max())
    mean = cluster_mean(sums, size, weighting="token", level=ci, support=(0.0, largest))
    return mean, largest


def _bounds(
    coded: Coded, loss: ClusterMean, largest: float, ci: float | None
) -> dict[str, Estimate]:
    n, n_groups = len(coded.lower), loss.n_groups
    out = {
        "cross_entropy": Estimate(
            value=loss.value,
            unit="nats",
            kind="estimate",
            n=n,
            n_groups=n_groups if coded.grouped else None,
            method="held-out cross-entropy of a law fitted on other groups",
            ci=loss.interval,
            params={"n_fit": coded.n_fit, "largest_loss": largest},
        )
    }
    if ci is not None and n_groups >= 2:
        # The upper end of a two-sided interval at 1 - 2 delta is a one-sided bound at 1 - delta.
        top = math.log(coded.n_states)
        if ci > 0.5:
            shares = loss.totals / loss.weights
            reach = betting_interval(shares, upper=largest, level=2.0 * ci - 1.0).high
            top = min(reach, top)
        out["certified"] = Estimate(
            value=top,
            unit="nats",
            kind="certified",
            n=n,
            n_groups=n_groups,
            method="upper bound on H(b|a): betting on held-out cross-entropy by group",
            ci=Interval(low=0.0, high=top, level=ci, method="one-sided"),
            params={"delta": 1.0 - ci, "trivial": math.log(coded.n_states)},
        )
    return out


def _p_above(plug_in: Estimate, threshold: float) -> float:
    """p-value for "H is above": the plug-in is too low on average, so exceeding is evidence."""
    interval, value = plug_in.ci, plug_in.value
    units = plug_in.n if plug_in.n_groups is None else plug_in.n_groups
    if interval is None or value is None or units < FEW_GROUPS:
        return 1.0
    from scipy.special import stdtr, stdtrit

    # Half-sampling uses a t with 49 degrees of freedom; its half-width gives back the error.
    se = (interval.high - value) / float(stdtrit(49, 0.5 + interval.level / 2))
    if not se > 0:
        return 1.0
    return float(stdtr(49, -(value - threshold) / se))


def _plain(value: float, unit: str, n: int, method: str) -> Estimate:
    return Estimate(value=value, unit=unit, kind="estimate", n=n, method=method)


def _nothing(pair: LayerPair, *reasons: Diagnostic) -> Estimate:
    return Estimate(
        value=None,
        unit=SPEC.unit,
        kind="estimate",
        n=pair.n,
        method="quantised conditional entropy",
        diagnostics=reasons,
    )
