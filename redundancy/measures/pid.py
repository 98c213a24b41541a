"""Unique information of the upper layer about a target: BROJA on quantised states."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from estimators import Diagnostic, Estimate, InputError, Interval
from estimators._pid_result import PID
from redundancy.measures._grouped import FEW_GROUPS, check_level, state_diagnostics
from redundancy.measures._spec import Column, MeasureSpec, Reading
from redundancy.pairs import LayerPair
from redundancy.summary import check_finite

__all__ = ["SPEC", "measure"]

SPEC = MeasureSpec(
    title="unique information of the upper layer about the target, beyond the lower (BROJA)",
    symbol="Uni(Z: b\\a)",
    unit="nats",
    needs=frozenset({"states", "target"}),
    redundant_when="below",
    default_threshold=0.05,
    paper="Appendix E, Definition 5 and Lemma 5",
    columns=(
        Column("redundant", "Red"),
        Column("unique_lower", "Uni(Z: a\\b)"),
        Column("synergistic", "Syn"),
        Column("conditional_entropy", "H(b|a)"),
        Column("retained", "kept"),
    ),
)

# What of the decomposition's parameters goes into the record.
_SHOWN = (
    "alphabets",
    "samples_per_cell",
    "control",
    "control_scheme",
    "plug_in",
    "quantiser",
    "bias",
)

_UPSTREAM = Diagnostic(
    code="upstream-target",
    severity="info",
    message="for states of the whole sequence the layer is a function of the one below, so about a "
    "target computed upstream of both (a label, the input) its unique information is exactly 0; "
    "what is found above 0 is then an artefact of quantising",
)


def measure(
    pair: LayerPair,
    *,
    threshold: float | None = None,
    ci: float | None = 0.95,
    seed: int = 0,
    n_states: int | None = None,
    quantiser: Literal["prediction", "kmeans", "pq"] = "prediction",
    bias: Literal["auto", "none", "linear", "quadratic"] = "auto",
) -> Reading:
    r"""Unique information of the upper layer about the target Z, beyond the lower layer.

    .. math:: U(Z: X_l \setminus X_{l-1}) = H(Z|X_{l-1}) + \min_Q \{-H_Q(Z|X_l, X_{l-1})\}

    over all Q with the marginals P(z, x_l) and P(z, x_{l-1}): what only the upper layer says of Z.
    It is 0 exactly if the lower layer can imitate the upper one for every decision about Z
    (Blackwell), so it reads informational redundancy as a statement about the target. States are
    symbols of a quantiser fitted on half of the groups; the decomposition is certified to 1e-6
    bits for the distribution of the other half.

    When it lies: it sees what the quantiser keeps (``retained``); what that loses moves from
    redundant to unique and synergistic. Few samples per cell bias unique parts upwards, and
    synergy far more. For a target computed upstream of both layers and states of the whole
    sequence the truth is 0. A value of 0 does not say that a layer can be skipped: the layers
    above expect the states they were trained on.

    Parameters
    ----------
    pair : LayerPair
        With states of both layers and a target, one entry per token; continuous targets are put
        into states.
    threshold : float, optional
        Nats below which the pair counts as redundant.
    ci : float or None
        Level of the intervals (delta method over groups); None also gives no p-values.
    seed : int
        Of the split, the quantiser and the controls.
    n_states : int, optional
        Symbols per layer; by default about two samples per cell, from 2 to 64.
    quantiser : {"prediction", "kmeans", "pq"}
        See :func:`estimators.pid_samples.pid_from_samples`.
    bias : {"auto", "none", "linear", "quadratic"}
        Extrapolation in 1/n.

    Returns
    -------
    Reading
        In nats. Extras: ``redundant``, ``unique_lower``, ``synergistic`` (interval: between the
        shuffle-subtracted and the plug-in value; withheld where samples are too few),
        ``conditional_entropy`` (H of the upper layer's symbol given the lower's: by Lemma 5 the
        unique information if the target were the upper layer itself), ``retained`` (share of the
        probe's information that the quantiser kept, the smaller of the two layers),
        ``information_upper``, ``information_lower``, ``gap`` (of the certificate).

    Raises
    ------
    InputError
        If the pair carries no states or no target, or a state is not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(4000, 3))
    >>> z = (x[:, 0] > 0).astype(int)
    >>> copy = measure(LayerPair(0, 1, x, x + 1e-3 * rng.normal(size=x.shape), target=z))
    >>> other = measure(LayerPair(0, 1, rng.normal(size=x.shape), x, target=z))
    >>> copy.estimate.value < 0.05 < 0.5 < other.estimate.value
    True

    References
    ----------
    Bertschinger, Rauh, Olbrich, Jost, Ay 2014; Banerjee, Rauh, Montufar 2018.
    """
    check_level(ci)
    if threshold is not None and not 0.0 < threshold < math.inf:
        raise InputError(f"threshold is {threshold!r}; give nats above 0, e.g. 0.05")
    x_lower, x_upper, target = _ingredients(pair)
    stopped = _nothing_to_measure(pair, target)
    if stopped is not None:
        return _without(pair, stopped, seed)
    from estimators.pid_samples import pid_from_samples

    try:
        pid = pid_from_samples(
            target,
            x_upper,
            x_lower,
            quantiser=quantiser,
            n_states=n_states,
            groups=pair.groups,
            bias=bias,
            seed=seed,
        )
    except InputError as error:
        raise InputError(f"layers {pair.label}: {error}") from error
    notes = (*pid.diagnostics, *_trivial(pid, x_lower, x_upper), _UPSTREAM)
    units = int(pid.params["n_groups"] or pid.n or 0)
    headline = Estimate(
        value=pid.unique_x,
        unit="nats",
        kind="estimate",
        n=pair.n,
        n_groups=None if pair.groups is None else len(np.unique(pair.groups)),
        method=f"BROJA on {pid.params['quantiser']} states, certified; bias: {pid.params['bias']}",
        ci=None if ci is None else pid.confidence("unique_x", ci),
        params={key: pid.params[key] for key in _SHOWN}
        | {
            "n_evaluated": pid.n,
            "certified": pid.certified,
            "gap": pid.gap,
            "se": dict(pid.se or {}),
            "synergy_bracket": pid.synergy_bracket,
        },
        seed=seed,
        diagnostics=notes,
    )
    p_redundant = p_needed = None
    if threshold is not None and ci is not None and headline.trustworthy:
        p_redundant, p_needed = _p_values(pid, threshold, units)
    return Reading(
        estimate=headline,
        extras=_extras(pid, headline, ci),
        p_redundant=p_redundant,
        p_needed=p_needed,
    )


def _ingredients(pair: LayerPair) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    if pair.x_lower is None or pair.x_upper is None:
        raise InputError(
            f"layers {pair.label} carry no token states, which the pid measure needs; extract with "
            "--tokens"
        )
    if pair.target is None:
        raise InputError(
            f"layers {pair.label} carry no target, and a decomposition is of information about a "
            "target; give one value per token (target=, or an answer per sample when extracting)"
        )
    for layer, x in ((pair.lower, pair.x_lower), (pair.upper, pair.x_upper)):
        check_finite(x, f"layer {layer} of layers {pair.label}")
    return _floats(pair.x_lower), _floats(pair.x_upper), pair.target


def _floats(x: NDArray[Any]) -> NDArray[Any]:
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _nothing_to_measure(pair: LayerPair, target: NDArray[Any]) -> Diagnostic | None:
    constant = state_diagnostics(pair)
    if constant:
        return replace(
            constant[0],
            severity="error",
            message=f"{constant[0].message}; a constant says nothing of a target",
        )
    if len(np.unique(target, axis=0)) == 1:
        return Diagnostic(
            code="constant-target",
            severity="error",
            message="the target has the same value for all tokens, so nothing can be said of it; "
            "give a target that varies",
        )
    if pair.groups is not None and len(np.unique(pair.groups)) < 8:
        return Diagnostic(
            code="few-groups",
            severity="error",
            message=f"{len(np.unique(pair.groups))} groups cannot be split into a part to fit the "
            f"quantiser on and one to evaluate; collect at least {FEW_GROUPS} groups (images)",
        )
    return None


def _without(pair: LayerPair, reason: Diagnostic, seed: int) -> Reading:
    nothing = Estimate(
        value=None,
        unit="nats",
        kind="estimate",
        n=pair.n,
        method="BROJA, not run",
        seed=seed,
        diagnostics=(reason,),
    )
    return Reading(estimate=nothing, extras={c.key: nothing for c in SPEC.columns})


def _trivial(pid: PID, x_lower: NDArray[Any], x_upper: NDArray[Any]) -> tuple[Diagnostic, ...]:
    """Recognise the cases whose answer needs no estimate."""
    found = []
    if x_lower.shape == x_upper.shape and np.array_equal(x_lower, x_upper):
        found.append(
            Diagnostic(
                code="identical-layers",
                severity="info",
                message="both layers hold the same states, so neither has unique information",
            )
        )
    h_z = pid.information_x + pid.params["entropy_given_x"]
    for layer, given in (("upper", "x"), ("lower", "y")):
        if h_z > 0 and pid.params[f"entropy_given_{given}"] < 1e-12:
            found.append(
                Diagnostic(
                    code="target-known",
                    severity="info",
                    message=f"the {layer} layer's symbols determine the target exactly, so the "
                    "synergy is 0 and the other layer has nothing unique",
                )
            )
    return tuple(found)


def _p_values(pid: PID, threshold: float, units: int) -> tuple[float, float]:
    """One-sided t tests with the delta-method error.

    For "needed" the unique information found with a shuffled target counts as bias: unique parts
    are biased upwards.
    """
    from scipy.special import stdtr

    se = max((pid.se or {}).get("unique_x", 0.0), 1e-12)
    bias = max(pid.params["control"]["unique_x"], 0.0)
    above = float(stdtr(units - 1, (pid.unique_x - threshold) / se))
    below = float(stdtr(units - 1, (threshold - (pid.unique_x - bias)) / se))
    return above, max(below, 1.0 - above)


def _extras(pid: PID, headline: Estimate, ci: float | None) -> dict[str, Estimate]:
    from scipy.special import ndtri

    def atom(name: str) -> Estimate:
        value = getattr(pid, name)
        interval = None if ci is None or value is None else pid.confidence(name, ci)
        if name == "synergistic" and pid.synergy_bracket is not None:
            low, high = pid.synergy_bracket
            half = 0.0 if ci is None else float(ndtri(0.5 + 0.5 * ci)) * (pid.se or {})[name]
            interval = Interval(
                low=(low if value is None else min(low, value)) - half,
                high=(high if value is None else max(high, value)) + half,
                level=ci or 0.95,
                method="from the shuffle-subtracted to the plug-in synergy, widened by "
                "standard errors; no stated coverage",
            )
        return replace(headline, value=value, ci=interval, diagnostics=pid.diagnostics)

    def plain(value: float | None, unit: str, method: str) -> Estimate:
        return Estimate(
            value=value, unit=unit, kind="estimate", n=headline.n, method=method, seed=headline.seed
        )

    kept = [pid.params.get(f"retained_{source}") for source in "xy"]
    known = [share for share in kept if share is not None]
    return {
        "redundant": atom("redundant"),
        "unique_lower": atom("unique_y"),
        "synergistic": atom("synergistic"),
        "conditional_entropy": plain(
            pid.params["entropy_x_given_y"], "nats", "plug-in, of the quantised states (Lemma 5)"
        ),
        "retained": plain(
            min(known) if known else None, "share", "I(Z;Q) over the probe's I(Z;X), smaller layer"
        ),
        "information_upper": plain(pid.information_x, "nats", "of the quantised states"),
        "information_lower": plain(pid.information_y, "nats", "of the quantised states"),
        "gap": plain(pid.gap, "nats", "certificate: upper minus lower bound of the program"),
    }
