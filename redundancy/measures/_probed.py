"""What the measures that fit probes share: their ingredients, and when there is nothing to fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import Diagnostic, Estimate, InputError
from redundancy.measures._grouped import FEW_GROUPS, state_diagnostics
from redundancy.measures._spec import MeasureSpec, Reading
from redundancy.pairs import LayerPair
from redundancy.summary import check_finite

__all__ = ["nothing_to_probe", "states_and_target", "without"]


def states_and_target(
    pair: LayerPair, measure: str
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """States of the lower and the upper layer and the target, or a sentence on what is missing.

    Raises
    ------
    InputError
        If something is missing, or a state is not finite.
    """
    if pair.x_lower is None or pair.x_upper is None:
        raise InputError(
            f"layers {pair.label} carry no token states, which the {measure} measure needs; "
            "extract with --tokens"
        )
    if pair.target is None:
        raise InputError(
            f"layers {pair.label} carry no target, and the {measure} measure is about a target; "
            "give one value per token (target=, or an answer per sample when extracting)"
        )
    for layer, x in ((pair.lower, pair.x_lower), (pair.upper, pair.x_upper)):
        check_finite(x, f"layer {layer} of layers {pair.label}")
    return pair.x_lower, pair.x_upper, pair.target


def nothing_to_probe(pair: LayerPair, target: NDArray[Any], min_groups: int) -> Diagnostic | None:
    """Say why no probe can be fitted, if none can."""
    constant = state_diagnostics(pair)
    if constant:
        return replace(
            constant[0],
            severity="error",
            message=f"{constant[0].message}; a constant predicts nothing",
        )
    if len(target) and bool(np.all(target == target[0])):
        return Diagnostic(
            code="constant-target",
            severity="error",
            message="the target has the same value for all tokens, so there is nothing to "
            "predict; give a target that varies",
        )
    if pair.n_groups < min_groups:
        what = "tokens" if pair.groups is None else "groups (images)"
        return Diagnostic(
            code="few-groups",
            severity="error",
            message=f"{pair.n_groups} {what} cannot be split into {min_groups // 2} folds of at "
            f"least 2; collect at least {max(FEW_GROUPS, min_groups)}",
        )
    return None


def without(
    pair: LayerPair, reason: Diagnostic, spec: MeasureSpec, method: str, seed: int
) -> Reading:
    """Return a reading without estimate that says why."""
    nothing = Estimate(
        value=None,
        unit=spec.unit,
        kind="estimate",
        n=pair.n,
        method=f"{method}, not run",
        seed=seed,
        diagnostics=(reason,),
    )
    return Reading(estimate=nothing, extras={c.key: nothing for c in spec.columns})
