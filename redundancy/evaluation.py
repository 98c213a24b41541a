"""What a model did with and without a plan, as records with intervals by image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from estimators import Estimate, InputError
from estimators.intervals import cluster_mean
from redundancy.measures._grouped import mean_estimate
from redundancy.record import (
    EvaluationRecord,
    SweepPoint,
    SweepRecord,
    estimate_to_record,
    plain,
)

if TYPE_CHECKING:
    from vlm.evaluate import Evaluation

__all__ = [
    "interleaved_prefill",
    "paired_change",
    "share_estimate",
    "sweep_record",
    "to_record",
]

SweepKind = Literal["late", "exit", "drop", "single"]


def share_estimate(
    values: NDArray[np.float64], groups: Sequence[str], *, ci: float = 0.95
) -> Estimate | None:
    """Return the mean of 0/1 values with an interval over groups; None if no value is known.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        1, 0, or NaN where unknown.
    groups : sequence of str, length n
        What makes samples dependent.
    ci : float
        Level of the interval.

    Examples
    --------
    >>> e = share_estimate(np.array([1, 1, 0, 1.0] * 10), [f"image {i // 2}" for i in range(40)])
    >>> e.value, e.n, e.n_groups
    (0.75, 40, 20)
    """
    return _mean_by_image(values, groups, "probability", (0.0, 1.0), "mean over samples", ci)


def paired_change(
    values: NDArray[np.float64],
    baseline: NDArray[np.float64],
    groups: Sequence[str],
    *,
    unit: str,
    support: tuple[float, float] = (-math.inf, math.inf),
    ci: float = 0.95,
) -> Estimate | None:
    """Return the mean difference of two runs on the same samples; None where no pair is known.

    Pairing takes out what the samples have in common: the interval is that of the difference, by
    image, and usually far narrower than the intervals of the two means suggest.

    Parameters
    ----------
    values, baseline : ndarray of float64, shape (n,)
        NaN where unknown.
    groups : sequence of str, length n
        What makes samples dependent.
    unit : str
    support : tuple of float
        Range of a difference.
    ci : float
        Level of the interval.

    Examples
    --------
    >>> before, after = np.array([1.0, 1, 0, 1] * 10), np.array([1.0, 0, 0, 1] * 10)
    >>> images = [f"image {i}" for i in range(40)]
    >>> e = paired_change(after, before, images, unit="probability", support=(-1.0, 1.0))
    >>> e.value, e.ci.low < -0.25 < e.ci.high
    (-0.25, True)
    """
    method = "mean of paired differences"
    return _mean_by_image(values - baseline, groups, unit, support, method, ci)


def _mean_by_image(
    values: NDArray[np.float64],
    groups: Sequence[str],
    unit: str,
    support: tuple[float, float],
    method: str,
    ci: float,
) -> Estimate | None:
    known = ~np.isnan(values)
    if not known.any():
        return None
    mean = cluster_mean(values[known], groups=np.asarray(groups)[known], level=ci, support=support)
    return mean_estimate(mean, unit=unit, n=int(known.sum()), method=method, support=support, ci=ci)


def to_record(
    evaluation: Evaluation,
    name: str,
    *,
    tasks: Sequence[str] | None = None,
    prefill_s: float | None = None,
    baseline: Evaluation | None = None,
) -> EvaluationRecord:
    """Return an evaluation as the run record keeps it.

    Parameters
    ----------
    evaluation : Evaluation
    name : str
        What the tables call it.
    tasks : sequence of str, optional
        Task of each sample, for accuracy by task.
    prefill_s : float, optional
        Prefill time per sample, measured in alternation with the full model's; the evaluation's
        own single run is used otherwise.
    baseline : Evaluation, optional
        The full model on the same samples, for paired differences.

    Raises
    ------
    InputError
        If the baseline has other samples.
    """
    if baseline is not None and baseline.ids != evaluation.ids:
        raise InputError(
            f"the baseline has {len(baseline)} samples that are not this evaluation's "
            f"{len(evaluation)}; compare runs on the same data"
        )
    groups = evaluation.groups
    nll = _mean_by_image(evaluation.nll, groups, "nats", (0.0, math.inf), "mean over samples", 0.95)
    better = cost = None
    if baseline is not None:
        better = paired_change(
            evaluation.correct,
            baseline.correct,
            groups,
            unit="probability",
            support=(-1.0, 1.0),
        )
        cost = paired_change(evaluation.nll, baseline.nll, groups, unit="nats")
    accuracy = share_estimate(evaluation.correct, evaluation.groups)
    agreement = (
        None if evaluation.agrees is None else share_estimate(evaluation.agrees, evaluation.groups)
    )
    steps = int(evaluation.decode_steps.sum())
    own = float(np.median(evaluation.prefill_seconds))
    return EvaluationRecord(
        name=name,
        n=len(evaluation),
        n_groups=len(set(evaluation.groups)),
        plan=None if evaluation.plan.is_noop else plain(evaluation.plan.to_json()),
        accuracy=None if accuracy is None else estimate_to_record(accuracy),
        agreement=None if agreement is None else estimate_to_record(agreement),
        nll=None if nll is None else estimate_to_record(nll),
        accuracy_change=None if better is None else estimate_to_record(better),
        nll_change=None if cost is None else estimate_to_record(cost),
        by_task=_by_task(evaluation.correct, tasks),
        prefill_s=own if prefill_s is None else prefill_s,
        decode_s_per_token=float(evaluation.decode_seconds.sum()) / steps if steps else None,
        prefill_flops=float(evaluation.prefill_flops.mean()),
        kv_bytes=float(evaluation.kv_bytes.mean()),
    )


def _by_task(correct: NDArray[np.float64], tasks: Sequence[str] | None) -> dict[str, float]:
    if tasks is None:
        return {}
    if len(tasks) != len(correct):
        raise InputError(f"{len(tasks)} tasks were given for {len(correct)} samples")
    names = np.asarray(tasks)
    shares = {task: correct[names == task] for task in dict.fromkeys(tasks)}
    return {
        task: float(np.nanmean(values))
        for task, values in shares.items()
        if not np.isnan(values).all()
    }


def sweep_record(
    kind: SweepKind,
    layers: Sequence[int],
    evaluations: Sequence[Evaluation],
    *,
    chosen: int | None = None,
    chance: float | None = None,
    baseline: Evaluation | None = None,
) -> SweepRecord:
    """Return a sweep as the run record keeps it; `layers` names each evaluation's layer.

    With the full model as `baseline`, every point has its paired differences from it.
    """
    points = [
        SweepPoint(
            layer=layer,
            evaluation=to_record(evaluation, evaluation.plan.describe(), baseline=baseline),
        )
        for layer, evaluation in zip(layers, evaluations, strict=True)
    ]
    return SweepRecord(kind=kind, points=points, chosen=chosen, chance=chance)


def interleaved_prefill(
    run: Callable[[Any], Evaluation], plans: Mapping[str, Any], *, repeats: int = 3
) -> dict[str, float]:
    """Return the median prefill seconds per sample of each plan, measured in alternation.

    Machines slow down and speed up; plans that take turns meet the same weather.
    """
    seconds: dict[str, list[float]] = {name: [] for name in plans}
    for _ in range(repeats):
        for name, plan in plans.items():
            seconds[name].append(float(np.mean(run(plan).prefill_seconds)))
    return {name: float(np.median(values)) for name, values in seconds.items()}
