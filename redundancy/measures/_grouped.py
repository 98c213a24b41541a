"""What the measures that are means over tokens share: sums, intervals by group, sound p-values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import Diagnostic, Estimate, InputError, Interval
from estimators.intervals import ClusterMean, binary_kl, kl_interval
from redundancy.pairs import LayerPair, PairSummary
from redundancy.summary import summarise
from vlm.sample import DEFAULT_THRESHOLDS

__all__ = [
    "FEW_GROUPS",
    "certified_mean",
    "check_level",
    "group_diagnostics",
    "mean_estimate",
    "p_values",
    "state_diagnostics",
    "summary_of",
    "with_vision",
    "zero_norm_diagnostics",
]

FEW_GROUPS = 20
"""Below this many groups a t statistic is not relied on alone."""

_RANGE_SHARE = 0.05


def check_level(ci: float | None) -> None:
    """Refuse a level outside (0, 1); None stands for no interval."""
    if ci is not None and not 0.0 < ci < 1.0:
        raise InputError(f"ci is {ci!r}; a confidence level lies strictly between 0 and 1")


def summary_of(
    pair: LayerPair, thresholds: Sequence[float] = DEFAULT_THRESHOLDS, *, measure: str
) -> PairSummary:
    """Return the sums over all tokens if the source kept them, else those of the states at hand."""
    if pair.summary is not None:
        return pair.summary
    if pair.x_lower is None or pair.x_upper is None:
        raise InputError(
            f"layers {pair.label} carry neither states nor sums; {measure} needs one of them: "
            "extract with streaming statistics or with --tokens"
        )
    return summarise(
        pair.x_lower, pair.x_upper, pair.groups, thresholds, name=f"layers {pair.label}"
    )


def zero_norm_diagnostics(summary: PairSummary) -> tuple[Diagnostic, ...]:
    """Say how many tokens have a zero vector, for which no cosine distance exists."""
    n = int(summary.n_tokens.sum())
    undefined = n - int(summary.n_defined.sum())
    if undefined == 0:
        return ()
    everything = undefined == n
    return (
        Diagnostic(
            code="zero-norm",
            severity="error" if everything else "warning",
            message=(
                f"{undefined:,} of {n:,} tokens have a zero vector in one of the layers, where no "
                "cosine distance exists; "
                + (
                    "there is nothing to average: check that the right layers were captured"
                    if everything
                    else "they are counted here and left out of the average"
                )
            ),
        ),
    )


def state_diagnostics(pair: LayerPair) -> tuple[Diagnostic, ...]:
    """Say if all tokens share one state, so that no distance can tell them apart."""
    for name, x in (("lower", pair.x_lower), ("upper", pair.x_upper)):
        if x is not None and len(x) > 1 and bool(np.all(x[1] == x[0])) and _constant(x):
            return (
                Diagnostic(
                    code="constant",
                    severity="error",
                    message=(
                        f"all {len(x):,} tokens have the same state in the {name} layer, so they "
                        "cannot tell how different tokens fare: check that these are activations "
                        "of different inputs"
                    ),
                ),
            )
    return ()


def with_vision(
    summary: PairSummary, values: NDArray[np.float64], what: str
) -> tuple[NDArray[np.bool_], tuple[Diagnostic, ...]]:
    """Which samples have both the captured values and vision tokens, and what was left out."""
    known = np.logical_not(np.isnan(values).reshape(len(values), -1).any(axis=1))
    notes: list[Diagnostic] = []
    if not known.all():
        notes.append(
            Diagnostic(
                code="not-captured",
                severity="warning" if known.any() else "error",
                message=(
                    f"{int((~known).sum()):,} of {len(known):,} samples carry no {what} and are "
                    "left out; extract them again to have it"
                ),
            )
        )
    if summary.vision_share is not None:
        # Nothing to attend to: an exact zero that says nothing of the block.
        blind = known & (summary.vision_share == 0)
        known = known & ~blind
        if blind.any():
            notes.append(
                Diagnostic(
                    code="no-vision",
                    severity="info" if known.any() else "error",
                    message=f"{int(blind.sum()):,} samples without an image are left out",
                )
            )
    return known, tuple(notes)


def _constant(x: NDArray[Any]) -> bool:
    step = max(1, 2**20 // max(1, x.shape[1]))
    return all(bool(np.all(x[i : i + step] == x[0])) for i in range(0, len(x), step))


def group_diagnostics(n_groups: int, n_tokens: int) -> tuple[Diagnostic, ...]:
    """Say if there are too few groups for an interval, or for trusting it."""
    if n_groups < 2:
        return (
            Diagnostic(
                code="one-group",
                severity="error",
                message=(
                    f"all {n_tokens:,} tokens come from one group (image or prompt); how much the "
                    "number would differ for another one cannot be known: capture at least "
                    f"{FEW_GROUPS} images, or pass groups if the rows are not of one image"
                ),
            ),
        )
    if n_groups < FEW_GROUPS:
        return (
            Diagnostic(
                code="few-groups",
                severity="warning",
                message=(
                    f"only {n_groups} groups; an interval over so few may be too short: capture "
                    f"at least {FEW_GROUPS}"
                ),
            ),
        )
    return ()


def mean_estimate(
    mean: ClusterMean,
    *,
    unit: str,
    n: int,
    method: str,
    support: tuple[float, float],
    ci: float | None,
    diagnostics: Iterable[Diagnostic] = (),
    params: Mapping[str, Any] | None = None,
) -> Estimate:
    """Put a mean over groups into an `Estimate`.

    Groups that agree to the last digit give a cluster-t interval of width zero, which no sample
    size justifies; the certified Chernoff interval over the range stands in for it.
    """
    interval: Interval | None = mean.interval
    if ci is not None and mean.se == 0.0 and math.isfinite(support[1] - support[0]):
        interval = kl_interval(
            min(max(mean.value, support[0]), support[1]),
            mean.n_groups,
            lower=support[0],
            upper=support[1],
            level=ci,
        )
    return Estimate(
        value=mean.value,
        unit=unit,
        kind="estimate",
        n=n,
        n_groups=mean.n_groups,
        method=method,
        ci=interval,
        params=params or {},
        diagnostics=(*group_diagnostics(mean.n_groups, n), *diagnostics),
    )


def certified_mean(
    mean: ClusterMean, *, unit: str, n: int, support: tuple[float, float], level: float
) -> Estimate | None:
    """Average the group means, with an interval that holds at every number of groups.

    None with fewer than two groups: one group certifies nothing.
    """
    if mean.n_groups < 2:
        return None
    low, high = support
    shares = mean.totals / mean.weights
    value = float(np.clip(shares.mean(), low, high))
    return Estimate(
        value=value,
        unit=unit,
        kind="certified",
        n=n,
        n_groups=mean.n_groups,
        method="mean of group means, KL-Chernoff interval",
        ci=kl_interval(value, mean.n_groups, lower=low, upper=high, level=level),
        params={"delta": 1.0 - level},
    )


def p_values(
    mean: ClusterMean,
    threshold: float,
    support: tuple[float, float],
    *,
    cautious: bool = False,
) -> tuple[float, float]:
    r"""p-values that speak for "mean below the threshold" and for "mean above it".

    Two tests: skewness-corrected cluster t, sharp but asymptotic, and Chernoff's bound for the
    range, :math:`\exp(-G\, d(\bar y \| y_0))`, which holds at every number of groups and needs no
    variance. With at least 20 groups that differ either may decide, at 95% and 5% of the error
    allowed (:math:`p = \min(p_t / 0.95, p_r / 0.05)`): the correction saturates where much skewness
    meets overwhelming evidence. Otherwise, or if `cautious`, both must: groups that happen to
    agree are not evidence of certainty. Where the range is unbounded there is no such bound, and
    t decides alone, or 1 is returned.

    For a ratio of sums :math:`\sum a_g / \sum b_g` the bound is applied to
    :math:`(a_g - \tau b_g) / \max b`, whose mean is below 0 exactly when the ratio is below the
    threshold :math:`\tau`.
    """
    below, above = mean.p_below(threshold), mean.p_above(threshold)
    enough = mean.n_groups >= FEW_GROUPS and bool(mean.se) and not cautious
    low, high = support
    width = high - low
    if not math.isfinite(width):
        return (below, above) if enough else (1.0, 1.0)
    if mean.n_groups < 2:
        return 1.0, 1.0
    shifted = (mean.totals - threshold * mean.weights) / mean.weights.max()
    null = (threshold - low) / width
    share = min(max(null + float(shifted.mean()) / width, 0.0), 1.0)
    range_p = math.exp(-mean.n_groups * float(binary_kl(share, null)))
    range_below, range_above = (range_p, 1.0) if share < null else (1.0, range_p)
    if enough:
        return _either(below, range_below), _either(above, range_above)
    if not mean.se:
        # Without spread there is no t statistic to be more careful than.
        return range_below, range_above
    return max(below, range_below), max(above, range_above)


def _either(t_p: float, range_p: float) -> float:
    """Combine two valid tests by a weighted union bound."""
    return min(t_p / (1.0 - _RANGE_SHARE), range_p / _RANGE_SHARE, 1.0)
