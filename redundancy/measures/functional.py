"""Functional redundancy: how differently two layers would predict a target."""

from __future__ import annotations

import math
from dataclasses import replace

from estimators import Diagnostic, Estimate, InputError, Interval
from estimators._arrays import IntArray, group_codes
from estimators.intervals import cluster_mean
from probes._split import grouped_folds
from probes._target import Target, read_target
from redundancy.measures._functional_extras import extras_of, findings
from redundancy.measures._functional_probes import (
    KINDS,
    LayerProbes,
    Probed,
    compare_layers,
    probe_layer,
)
from redundancy.measures._grouped import check_level, group_diagnostics
from redundancy.measures._probed import nothing_to_probe, states_and_target, without
from redundancy.measures._spec import Column, MeasureSpec, Reading
from redundancy.pairs import LayerPair

__all__ = ["SPEC", "check_options", "measure", "measure_probed"]

SPEC = MeasureSpec(
    title="mean squared difference of what probes on two layers predict of the target",
    symbol="F",
    unit="squared units of Z",
    needs=frozenset({"states", "target"}),
    redundant_when="below",
    default_threshold=None,
    paper="Definition 3",
    columns=(
        Column("share", "F/tr Cov Z"),
        Column("plug_in", "plug-in"),
        Column("gain", "gain"),
        Column("r2_upper", "R² upper"),
        Column("transfer", "transfer"),
    ),
)

_FAMILY = Diagnostic(
    code="probe-family",
    severity="info",
    message="F is that of linear probes on these states; without a restriction to a family it is 0 "
    "for every invertible layer, and for states of the whole sequence whenever the target is the "
    "model's own output, so a small F does not show that the layer can be skipped",
)


def measure(
    pair: LayerPair,
    *,
    threshold: float | None = None,
    ci: float | None = 0.95,
    seed: int = 0,
    folds: int = 5,
    regularisation: float | str = "auto",
    kind: str = "linear",
) -> Reading:
    r"""Mean squared difference between what the two layers predict of the target Z.

    .. math:: F = E\|E[Z|X_l] - E[Z|X_{l-1}]\|^2 \in [0, \mathrm{tr\,Cov}(Z)]

    with the best linear predictions in place of the conditional means. Classes are one-hot: F is
    then the mean squared distance of two vectors of class probabilities, at most
    :math:`1 - \sum_c p_c^2`. Estimated by split probes: the differences of two pairs of probes,
    each fitted on its own two fifths of the groups, are multiplied on the remaining fifth and
    averaged over all such choices, so that the probes' noise cancels instead of adding up. The
    value may fall below 0, where F is near it; nothing is clipped.

    When it lies: it sees what a linear probe sees. Two layers can differ in what a deeper reader
    would find, and layers that are linear images of each other have F = 0 although the layers
    above cannot read one for the other: ``transfer``, one probe on both layers, is closer to
    skipping. With fewer than 1.25 samples per coordinate to fit on, F is that of probes on the
    leading principal components of each layer (the diagnostic ``projected`` says how many). Where
    neither layer knows anything of the target, F is 0 for want of anything to lose.

    Parameters
    ----------
    pair : LayerPair
        With states of both layers, and a target: integers or words are classes, real numbers of
        shape (n,) or (n, k) values (or the model's own output distribution).
    threshold : float, optional
        Squared units of Z below which the pair counts as redundant; 0.05 of ``trivial_cap`` is a
        start.
    ci : float or None
        Level of the intervals.
    seed : int
        Of the folds.
    folds : int
        Odd, at least 5; (folds - 1) / 2 of them fit a probe. 7 costs 3.5 times as much as 5 and
        helps where samples are few for the dimension.
    regularisation : "auto", "none", "cv" or float
        ``"none"`` is least squares; ``"auto"`` too, on as many principal components as a third of
        the samples to fit on, where these are fewer than 1.25 per coordinate. ``"cv"`` (a penalty
        chosen for each probe inside its own folds) and a number shrink probes and bias F.
    kind : {"linear", "mlp"}
        Family of probes. MLPs, stopped early, keep the bias of their own smoothness; their
        interval holds the probes fixed, so no layer is called redundant on it.

    Returns
    -------
    Reading
        The headline's interval counts the probes' variance too (infinitesimal jackknife over
        groups). At F = 0 the statistic is degenerate: an interval that would reach below 0 starts
        there, and only its upper end is a statement. Extras: ``clipped``, ``share`` (of
        tr Cov(Z)), ``plug_in`` (E1, biased upwards by the probes' variance), ``one_step`` (E4,
        biased downwards by as much; a diagnostic, with linear probes only), ``gain`` (E3, the
        difference of the errors, equal to F only if the target depends on the lower layer through
        the upper), ``trivial_cap`` (tr Cov(Z), which F never exceeds), ``r2_upper``, ``r2_lower``,
        ``theorem1`` (with the probe's Lipschitz constant), ``theorem2_lower`` and
        ``theorem2_upper`` (with the probes' whole error as eta, valid but
        wide), ``theorem2_upper_variance`` (with their variance only), ``transfer`` and
        ``transfer_bound`` (Lipschitz, for layers of the same width).

    Raises
    ------
    InputError
        If states or target are missing or not finite, or an option is not one.

    Examples
    --------
    >>> from redundancy.synthetic import GaussianChain
    >>> chain = GaussianChain.random(d=4, k=2, seed=0)
    >>> draw = chain.sample(3000, seed=1)
    >>> reading = measure(LayerPair(0, 1, draw.x_lower, draw.x_upper, target=draw.target))
    >>> chain.functional in reading.estimate.ci
    True
    >>> reading.estimate.value < reading.extras["plug_in"].value
    True

    References
    ----------
    Definition 3 and Theorem 2 of the paper. Efron (1982), The Jackknife, the Bootstrap and Other
    Resampling Plans, ch. 6 (infinitesimal jackknife).
    """
    check_options(threshold, ci, folds, kind)
    x_lower, x_upper, given = states_and_target(pair, "functional")
    stopped = nothing_to_probe(pair, given, 2 * folds)
    if stopped is not None:
        return without(pair, stopped, SPEC, "split-probe product", seed)
    try:
        target = read_target(given, pair.n)
    except InputError as error:
        raise InputError(f"layers {pair.label}: {error}") from error
    codes, _ = group_codes(pair.groups, pair.n)
    fold_of = grouped_folds(pair.n, folds, groups=codes, labels=target.codes, seed=seed)
    upper, lower = (
        probe_layer(
            x,
            target,
            fold_of,
            folds,
            kind=kind,
            regularisation=regularisation,
            groups=codes,
            seed=seed,
        )
        for x in (x_upper, x_lower)
    )
    return measure_probed(pair, upper, lower, target, threshold=threshold, ci=ci, seed=seed)


def measure_probed(
    pair: LayerPair,
    upper: LayerProbes,
    lower: LayerProbes,
    target: Target,
    *,
    threshold: float | None = None,
    ci: float | None = 0.95,
    seed: int = 0,
) -> Reading:
    """Return the reading of a pair whose layers are probed already, on the same folds."""
    x_lower, x_upper, _ = states_and_target(pair, "functional")
    codes, n_groups = group_codes(pair.groups, pair.n)
    probed = compare_layers(upper, lower, x_upper, x_lower, target, codes, ci=ci, seed=seed)
    folds = len(upper.folds)
    return _reading(pair, probed, target, codes, n_groups, threshold, ci, seed, folds)


def check_options(
    threshold: float | None, ci: float | None, folds: int, kind: str = "linear"
) -> None:
    """Raise InputError if an option is none."""
    check_level(ci)
    if threshold is not None and not 0.0 < threshold < math.inf:
        raise InputError(f"threshold is {threshold!r}; give squared units of Z, above 0")
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 5 or folds % 2 == 0:
        raise InputError(f"folds is {folds!r}; use an odd number, 5 or more")
    if kind not in KINDS:
        raise InputError(f"kind is {kind!r}; use {' or '.join(map(repr, KINDS))}")


def _reading(
    pair: LayerPair,
    probed: Probed,
    target: Target,
    codes: IntArray | None,
    n_groups: int | None,
    threshold: float | None,
    ci: float | None,
    seed: int,
    folds: int,
) -> Reading:
    rows, cap = probed.rows, target.tr_cov
    units = pair.n if n_groups is None else n_groups
    value = rows.value
    linear = probed.kind == "linear"
    se = None if ci is None or not linear else rows.se(codes)
    interval = None
    if ci is not None and se is not None:
        interval = _interval(value, se, units, ci)
    elif ci is not None:
        fixed = cluster_mean(rows.product, groups=codes, weighting="token", level=ci)
        interval = fixed.interval and replace(
            fixed.interval, method=f"{fixed.interval.method}, probes held fixed"
        )
        se = fixed.se
    family = (
        _FAMILY
        if linear
        else replace(_FAMILY, message=_FAMILY.message.replace("linear probes", "MLP probes"))
    )
    notes = (*group_diagnostics(units, pair.n), *findings(pair, probed, cap), family)
    headline = Estimate(
        value=value,
        unit=SPEC.unit,
        kind="estimate",
        n=pair.n,
        n_groups=n_groups,
        method=f"split-probe product (E2), {folds} folds, {probed.kind} probes",
        ci=interval,
        params={
            "target": target.kind,
            "family": probed.kind,
            "state": f"{pair.modality} token",
            "folds": folds,
            "fitted_on": probed.per_fit,
            "penalties": probed.penalties,
            "components": probed.components,
            "se": se,
        },
        seed=seed,
        diagnostics=notes,
    )
    p_redundant = p_needed = None
    if threshold is not None and se is not None:
        p_redundant, p_needed = _p_values(value, se, units, threshold)
        if probed.shrunk or not linear:
            p_redundant = 1.0  # shrunk probes differ less, stopped ones as a rule too
    return Reading(
        estimate=headline,
        extras=extras_of(headline, probed, target, codes, ci),
        p_redundant=p_redundant,
        p_needed=p_needed,
    )


def _interval(value: float, se: float, units: int, level: float) -> Interval:
    from scipy.special import stdtrit

    reach = float(stdtrit(units - 1, 0.5 + level / 2)) * se
    method = f"infinitesimal jackknife over {units} groups, probes' noise included"
    if value - reach > 0.0:
        return Interval(low=value - reach, high=value + reach, level=level, method=method)
    # The upper end keeps the two-sided quantile, since the data chose between the two forms.
    return Interval(
        low=min(value, 0.0),
        high=max(value + reach, 0.0),
        level=level,
        method=f"{method}; one-sided, since the estimate is degenerate at 0",
    )


def _p_values(value: float, se: float, units: int, threshold: float) -> tuple[float, float]:
    from scipy.special import stdtr

    if se <= 0.0:
        return 1.0, 1.0  # no spread is no evidence
    p = float(stdtr(units - 1, (value - threshold) / se))
    return p, 1.0 - p
