"""Usable information about a target that the upper layer adds to the lower."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from estimators import Estimate, InputError
from estimators._arrays import FloatArray, group_codes
from estimators.intervals import cluster_mean
from probes._base import states
from probes._crossfit import prior_log_proba
from probes._split import grouped_folds
from probes._target import read_target
from probes.v_information import conditional_losses
from redundancy.measures._grouped import check_level, group_diagnostics, p_values
from redundancy.measures._probed import nothing_to_probe, states_and_target, without
from redundancy.measures._spec import Column, MeasureSpec, Reading
from redundancy.pairs import LayerPair

__all__ = ["SPEC", "measure"]

SPEC = MeasureSpec(
    title="usable information about the target that the upper layer adds to the lower",
    symbol="I_V(b→Z|a)",
    unit="nats",
    needs=frozenset({"states", "target"}),
    redundant_when="below",
    default_threshold=0.05,
    paper="not in the paper: Xu et al. 2020, Hewitt et al. 2021",
    columns=(
        Column("upper", "I_V(b→Z)"),
        Column("lower", "I_V(a→Z)"),
        Column("lost", "I_V(a→Z|b)"),
    ),
)


def measure(
    pair: LayerPair,
    *,
    threshold: float | None = None,
    ci: float | None = 0.95,
    seed: int = 0,
    folds: int = 5,
    kind: str = "linear",
) -> Reading:
    r"""What probes can use of the upper layer beyond what they can use of the lower.

    .. math:: I_V(X_l \to Z | X_{l-1}) = H_V(Z|X_{l-1}) - H_V(Z|X_{l-1}, X_l)

    with mean log losses, on samples not fitted on, of probes on the lower layer and on both. The
    layer is redundant for the target if it makes nothing of it easier to read.

    When it lies: the probe of both layers has twice the coefficients to learn, so with few samples
    the value is too low, may be negative, and calls layers redundant that are not: hold it against
    ``upper`` and ``lower``, and against ``lost``, what only the lower layer offers. A layer that
    adds nothing for this target may serve another one. Intervals hold the probes fixed.

    Parameters
    ----------
    pair : LayerPair
        With states of both layers and a target of classes or distributions over classes.
    threshold : float, optional
        Nats below which the pair counts as redundant.
    ci : float or None
        Level of the intervals.
    seed : int
        Of the folds, and of an MLP.
    folds : int
        At least 3.
    kind : {"linear", "mlp"}
        Family of probes.

    Returns
    -------
    Reading
        In nats. Extras: ``upper``, ``lower`` (usable information of each layer alone), ``lost``
        (of the lower layer given the upper), ``gain`` (upper minus lower, paired), ``entropy``.

    Raises
    ------
    InputError
        If states or target are missing, not finite, or the target holds other real numbers.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(600, 3))
    >>> z = (3 * x[:, 0] + rng.logistic(size=600) > 0).astype(int)
    >>> noise = rng.normal(size=(600, 3))
    >>> copy = measure(LayerPair(0, 1, x, x + 0.01 * noise, target=z))
    >>> new = measure(LayerPair(0, 1, noise, x, target=z))
    >>> copy.estimate.value < 0.05 < 0.1 < new.estimate.value
    True

    References
    ----------
    Xu, Zhao, Song, Stewart, Ermon 2020; Hewitt, Ethayarajh, Liang, Manning 2021.
    """
    check_level(ci)
    if threshold is not None and not 0.0 < threshold < math.inf:
        raise InputError(f"threshold is {threshold!r}; give nats above 0, e.g. 0.05")
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 3:
        raise InputError(f"folds is {folds!r}; use at least 3")
    x_lower, x_upper, given = states_and_target(pair, "v_information")
    method = f"held-out log losses of {kind} probes, {folds} folds"
    stopped = nothing_to_probe(pair, given, 2 * folds)
    if stopped is not None:
        return without(pair, stopped, SPEC, method, seed)
    try:
        target = read_target(given, pair.n)
    except InputError as error:
        raise InputError(f"layers {pair.label}: {error}") from error
    if target.kind == "values" and not (target.k > 1 and target.distribution):
        raise InputError(
            f"layers {pair.label}: the target holds real numbers, and usable information is about "
            "classes or distributions over them; use the functional measure for values"
        )
    codes, n_groups = group_codes(pair.groups, pair.n)
    fold_of = grouped_folds(pair.n, folds, groups=codes, labels=target.codes, seed=seed)
    upper, lower = states(x_upper, "upper"), states(x_lower, "lower")
    loss = conditional_losses(upper, lower, target, fold_of, folds, kind, codes, seed)
    loss["nothing"] = -np.einsum("ij,ij->i", target.z, prior_log_proba(target, fold_of, folds))

    def estimate(values: FloatArray, how: str, **changes: Any) -> Estimate:
        mean = cluster_mean(values, groups=codes, weighting="token", level=ci)
        made = Estimate(
            value=mean.value,
            unit="nats",
            kind="estimate",
            n=pair.n,
            n_groups=n_groups,
            method=how,
            ci=mean.interval,
            seed=seed,
        )
        return replace(made, **changes)

    units = pair.n if n_groups is None else n_groups
    headline = estimate(
        loss["lower"] - loss["both"],
        method,
        params={"family": kind, "folds": folds}
        | {f"log_loss_{name}": float(values.mean()) for name, values in loss.items()},
        diagnostics=group_diagnostics(units, pair.n),
    )
    below = above = None
    if threshold is not None:
        mean = cluster_mean(loss["lower"] - loss["both"], groups=codes, weighting="token", level=ci)
        below, above = p_values(mean, threshold, (-math.inf, math.inf))
    return Reading(
        estimate=headline,
        extras={
            "upper": estimate(loss["nothing"] - loss["upper"], "entropy minus log loss, upper"),
            "lower": estimate(loss["nothing"] - loss["lower"], "entropy minus log loss, lower"),
            "lost": estimate(loss["upper"] - loss["both"], "log loss of upper minus both"),
            "gain": estimate(loss["lower"] - loss["upper"], "log loss of lower minus upper"),
            "entropy": estimate(loss["nothing"], "log loss of the class shares"),
        },
        p_redundant=below,
        p_needed=above,
    )
