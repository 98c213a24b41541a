"""What stands beside F: the biased estimates, the bounds, the transfer, and what is wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from estimators import Diagnostic, Estimate
from estimators._arrays import FloatArray, IntArray
from estimators.intervals import cluster_mean
from probes._target import Target
from redundancy.measures._functional_probes import Probed
from redundancy.pairs import LayerPair
from redundancy.theory.theorem2 import probe_error_bound, theorem2_reverse

__all__ = ["extras_of", "findings"]


def extras_of(
    headline: Estimate,
    probed: Probed,
    target: Target,
    codes: IntArray | None,
    ci: float | None,
) -> dict[str, Estimate]:
    """Return the by-products of a comparison, each an estimate in its own right."""
    rows, cap = probed.rows, target.tr_cov

    def plain(value: float | None, method: str, **changes: Any) -> Estimate:
        if value is not None and not math.isfinite(value):
            value, method = None, f"{method}: not finite, the states are too large to be squared"
        base = replace(headline, value=value, ci=None, method=method, params={}, diagnostics=())
        return replace(base, **changes)

    def average(values: FloatArray, method: str) -> Estimate:
        if not bool(np.isfinite(values).all()):
            return plain(math.nan, method)
        mean = cluster_mean(values, groups=codes, weighting="token", level=ci)
        return plain(mean.value, method, ci=mean.interval)

    value = float(headline)
    mse = {name: float(getattr(rows, f"error_{name}").mean()) for name in ("upper", "lower")}
    plug_in = float(rows.plug_in.mean())

    def bounds(eta_upper: float, eta_lower: float) -> Any:
        return theorem2_reverse(
            plugin=plug_in, eta_l=eta_upper, eta_lm1=eta_lower, tr_cov_z=cap, inputs="estimate"
        )

    wide = bounds(*(probe_error_bound(mse=mse[name]).value for name in ("upper", "lower")))
    narrow = bounds(float(rows.spread_upper.mean()), float(rows.spread_lower.mean()))
    scaled = headline.ci and replace(
        headline.ci, low=headline.ci.low / cap, high=headline.ci.high / cap
    )
    none = "the layers differ in width, so no probe fits both"
    return {
        "clipped": plain(
            min(max(value, 0.0), cap),
            "split-probe product, clipped to [0, tr Cov(Z)]: biased where it was clipped",
            ci=None,
        ),
        "share": plain(value / cap, "split-probe product over tr Cov(Z)", ci=scaled, unit="share"),
        "plug_in": average(
            rows.plug_in, "plug-in (E1), biased upwards by the probes' variance; interval without"
        ),
        "one_step": plain(None, "one-step (E4), for linear probes with an interval only")
        if not np.isfinite(rows.one_step).all()
        else average(
            rows.one_step,
            "one-step (E4), biased downwards about as much as the plug-in upwards; diagnostic only",
        ),
        "gain": average(
            rows.error_lower - rows.error_upper,
            "explained gain (E3): error of the lower layer's probes minus the upper's",
        ),
        "trivial_cap": plain(cap, "tr Cov(Z), which F never exceeds"),
        "r2_upper": plain(1.0 - mse["upper"] / cap, "on samples not fitted on", unit="share"),
        "r2_lower": plain(1.0 - mse["lower"] / cap, "on samples not fitted on", unit="share"),
        "theorem1": plain(
            probed.transfer_bound,
            "Theorem 1 with the probe's Lipschitz constant for alpha, and beta = 0 (the target "
            "depends on the lower layer through the upper): an estimate of a bound, not a bound",
        )
        if probed.transfer_bound is not None
        else plain(None, none),
        "theorem2_lower": plain(wide.forms["lower"], "Theorem 2 reversed, eta <= MSE"),
        "theorem2_upper": plain(wide.value, "Theorem 2 reversed, eta <= MSE"),
        "theorem2_upper_variance": plain(
            narrow.value,
            "Theorem 2 reversed with the variance part of eta only, so possibly too low",
        ),
        "transfer": plain(None, none)
        if probed.transfer is None
        else average(probed.transfer, "the upper layer's probe on both layers"),
        "transfer_bound": plain(
            probed.transfer_bound, "squared Lipschitz constant times E|X - X'|^2"
        )
        if probed.transfer_bound is not None
        else plain(None, none),
    }


def findings(pair: LayerPair, probed: Probed, cap: float) -> tuple[Diagnostic, ...]:
    """Return what makes F less than it seems."""
    found = []
    if probed.components is not None:
        found.append(
            Diagnostic(
                code="projected",
                severity="warning",
                message=f"{probed.per_fit:,} samples to fit a probe on are too few for "
                f"{probed.dim:,} coordinates, so F is that of probes on the {probed.components:,} "
                "leading principal components of each layer; what other directions hold is not "
                "seen: save more tokens to see it",
            )
        )
    if probed.shrunk:
        found.append(
            Diagnostic(
                code="regularised",
                severity="warning",
                message=f"each probe is fitted on {probed.per_fit:,} samples of {probed.dim:,} "
                "coordinates and was shrunk; F is that of the shrunk probes, as a rule below the "
                "truth, so no layer is called redundant on it: use regularisation='auto'",
            )
        )
    if min(float(probed.rows.error_upper.mean()), float(probed.rows.error_lower.mean())) >= cap:
        found.append(
            Diagnostic(
                code="no-signal",
                severity="warning",
                message="neither layer's probe predicts the target better than its mean, on "
                f"{probed.per_fit:,} samples to learn from; a small F then means that nothing "
                "was found, not that the layers agree: save more tokens or take another target",
            )
        )
    if not probed.kept_class:
        found.append(
            Diagnostic(
                code="rare-class",
                severity="warning",
                message="a class of the target does not occur in every fold, so some probes have "
                "not seen it; merge or leave out rare classes",
            )
        )
    x, y = pair.x_lower, pair.x_upper
    if x is not None and y is not None and x.shape == y.shape and np.array_equal(x, y):
        found.append(
            Diagnostic(
                code="identical-layers",
                severity="info",
                message="both layers hold the same states, so F is exactly 0",
            )
        )
    return tuple(found)
