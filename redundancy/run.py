"""`estimate`: which pairs, which measure, and the verdict over all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from estimators import Diagnostic, Estimate
from redundancy import registry
from redundancy._memory import parse_bytes
from redundancy._tasks import (
    Key,
    Task,
    in_line,
    jobs_for,
    jobs_within,
    parse_layers,
    plan_tasks,
)
from redundancy.certify import verdicts
from redundancy.engine import default_jobs, submit
from redundancy.measures._spec import MeasureSpec, Reading
from redundancy.pairs import LayerPair
from redundancy.results import PairResult, Results
from redundancy.store import ActivationStore, open_source
from redundancy.store._datasets import is_dataset

if TYPE_CHECKING:
    from redundancy.record import RunRecord

__all__ = ["Key", "Task", "estimate", "parse_layers", "plan_tasks"]


def estimate(
    source: ActivationStore | Mapping[Any, Any] | str | Path,
    measure: str | Sequence[str] = "informational",
    *,
    layers: str | Iterable[int] | None = None,
    modality: str | None = None,
    pairs: str | Iterable[tuple[int, int]] = "adjacent",
    target: str | None = None,
    epsilon: float | None = None,
    ci: float | None = 0.95,
    seed: int = 0,
    engine: str = "local",
    jobs: int | None = None,
    memory: str | int | None = None,
    done: Mapping[Key, PairResult] | None = None,
    on_result: Callable[[PairResult, int, int], None] | None = None,
    on_plan: Callable[[list[Key], int], None] | None = None,
    record: RunRecord | None = None,
    **options: Any,
) -> Results:
    """Estimate the redundancy between pairs of layers, with intervals and verdicts.

    Parameters
    ----------
    source : ActivationStore, mapping of layer to array, datasets.Dataset, or path
        Where the states are: a store, ``{layer: array of shape (n, d)}``, a data set with a column
        of vectors per layer, or the path of a store, of a saved data set, or of an ``.npz``,
        ``.npy`` or ``.safetensors`` file.
    measure : str or sequence of str
        One or several of ``names("measures")``.
    layers : str or iterable of int, optional
        Layers to use, e.g. ``"0-31"`` or ``"0,4,8"``; all by default.
    modality : str, optional
        ``"vision"``, ``"text"``, ...; all that the source has by default.
    pairs : {"adjacent", "first", "all"} or iterable of (int, int)
        Which of the chosen layers to compare: neighbours, each with the first, or every pair.
    target : str, optional
        A column of the store's samples, e.g. ``"answer"``: what measures that need a target
        (``pid``, ``functional``, ``v_information``) are about.
    epsilon : float, optional
        Threshold of the verdict, 1 - epsilon for measures that are redundant above it
        (``proximal``, ``cka``); each measure has its own default.
    ci : float or None
        Level of the intervals; None skips them, and with them the verdicts.
    seed : int
        Seed of everything random.
    engine : str
        ``"local"``, ``"dask"`` or ``"ray"`` on this machine; ``"dask:tcp://host:port"`` or
        ``"ray:host:port"`` for a cluster that is there. Results are the same to the last bit.
    jobs : int, optional
        Worker processes; by default one for small work and one per core for large.
    memory : str or int, optional
        What all local processes together may take, e.g. ``"4GB"``: fewer work at a time where more
        would not fit. Results do not depend on it.
    done : mapping, optional
        Results of an earlier, interrupted run; their pairs are not computed again.
    on_result : callable, optional
        Called with each new result, the number finished and the number in all.
    on_plan : callable, optional
        Called once before work begins: measure, modality, lower and upper layer of each result to
        come, neighbours beside each other, and how many are made at a time. Not called for a
        cluster elsewhere, whose size is its own matter.
    record : RunRecord, optional
        Carried by the returned `Results`, and written by its `save`.
    **options
        Options of the measure, e.g. ``t=0.05`` for ``proximal``.

    Returns
    -------
    Results

    Raises
    ------
    InputError
        If the source cannot be read, a measure, layer, modality or option is unknown, or a pair
        does not fit into `memory`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(100, 4))
    >>> results = estimate({0: x, 1: 2 * x}, "geometric", epsilon=0.1)
    >>> results[0].estimate.value, results[0].verdict
    (0.0, 'redundant')
    """
    store = _as_store(source)
    if target is not None:
        store = store.with_target(target)
    measures = (measure,) if isinstance(measure, str) else tuple(measure)
    tasks = plan_tasks(
        store,
        measures,
        layers=layers,
        modality=modality,
        pairs=pairs,
        epsilon=epsilon,
        ci=ci,
        seed=seed,
        options=options,
    )
    finished: dict[Key, PairResult] = {
        task.key: done[task.key] for task in tasks if done and task.key in done
    }
    waiting = [task for task in tasks if task.key not in finished]
    if jobs is None:
        jobs = jobs_for(store, waiting) if engine == "local" else default_jobs()
    if memory is not None:
        jobs = jobs_within(parse_bytes(memory), store, waiting, jobs)
    waiting = in_line(waiting)
    jobs = min(jobs, max(len(waiting), 1))
    if on_plan is not None and ":" not in engine:
        on_plan([task.key for task in waiting], jobs)
    try:
        for outcome in submit(run_task, waiting, engine=engine, jobs=jobs):
            task = waiting[outcome.index]
            reading = outcome.answer or _failed(task, outcome.failure or "unknown reason")
            result = _result(task, reading)
            finished[task.key] = result
            if on_result is not None:
                on_result(result, len(finished), len(tasks))
    finally:
        _opened.cache_clear()
    return Results(with_verdicts([finished[task.key] for task in tasks], level=ci), record)


def run_task(task: Task) -> Reading:
    """Measure one pair; a module-level function, so that it can travel to a worker."""
    module = registry.load("measures", task.measure)
    spec: MeasureSpec = module.SPEC
    store = task.source
    if not isinstance(store, ActivationStore):
        store = _opened(store, task.target, task.run)
    # Without stored sums they are made from the states, which then also tell constant input.
    states = (
        bool({"states", "target"} & set(spec.needs))
        or store.summary(task.lower, task.upper, task.modality) is None
    )
    pair: LayerPair = store.pair(
        task.lower, task.upper, task.modality, states=states, stream=spec.streams
    )
    return cast(
        Reading,
        module.measure(pair, threshold=task.threshold, ci=task.ci, seed=task.seed, **task.options),
    )


@functools.lru_cache(maxsize=1)
def _opened(path: str, target: str | None, run: str) -> ActivationStore:
    """The store of a run, opened once per worker: what is found out serves all its tasks."""
    store = ActivationStore.open(path)
    return store if target is None else store.with_target(target)


def with_verdicts(results: Sequence[PairResult], *, level: float | None) -> list[PairResult]:
    """Return the results with verdicts; each measure and modality is one family of tests."""
    judged = list(results)
    families: dict[tuple[str, str], list[int]] = {}
    for i, result in enumerate(results):
        families.setdefault((result.measure, result.modality), []).append(i)
    for family in families.values():
        for i, judgement in zip(
            family, verdicts([results[i] for i in family], level=level), strict=True
        ):
            judged[i] = replace(
                results[i], verdict=judgement.verdict, p_adjusted=judgement.p_adjusted
            )
    return judged


def _as_store(source: ActivationStore | Mapping[Any, Any] | str | Path) -> ActivationStore:
    if isinstance(source, ActivationStore):
        return source
    if isinstance(source, Mapping) and not is_dataset(source):  # splits by name are a mapping too
        return ActivationStore.from_arrays(source)
    return open_source(source)


def _failed(task: Task, reason: str) -> Reading:
    message = f"no estimate could be made for layers {task.lower}→{task.upper}: {reason}"
    return Reading(
        estimate=Estimate(
            value=None,
            unit=registry.load("measures", task.measure).SPEC.unit,
            kind="estimate",
            n=0,
            method=task.measure,
            seed=task.seed,
            diagnostics=(Diagnostic(code="failed", severity="error", message=message),),
        )
    )


def _result(task: Task, reading: Reading) -> PairResult:
    return PairResult(
        pair=(task.lower, task.upper),
        measure=task.measure,
        modality=task.modality,
        estimate=reading.estimate,
        extras=reading.extras,
        threshold=task.threshold,
        p_redundant=reading.p_redundant,
        p_needed=reading.p_needed,
    )
