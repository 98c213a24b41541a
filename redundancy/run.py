"""`estimate`: which pairs, which measure, and the verdict over all of them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from estimators import Diagnostic, Estimate, InputError
from redundancy import registry
from redundancy.certify import verdicts
from redundancy.engine import default_jobs, submit
from redundancy.measures._spec import MeasureSpec, Reading
from redundancy.pairs import LayerPair
from redundancy.results import PairResult, Results
from redundancy.store import ActivationStore, open_source

if TYPE_CHECKING:
    from redundancy.record import RunRecord

__all__ = ["Key", "Task", "estimate", "parse_layers", "plan_tasks"]

Key = tuple[str, str, int, int]
"""Measure, modality, lower layer, upper layer: what names a result within a run."""

# Below this many state values in all, starting worker processes costs more than it saves.
_WORTH_PROCESSES = 2e8


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One measure on one pair; a stored pair travels as the store's path, not as arrays."""

    measure: str
    modality: str
    lower: int
    upper: int
    threshold: float | None
    ci: float | None
    seed: int
    options: Mapping[str, Any]
    source: str | ActivationStore

    @property
    def key(self) -> Key:
        """What names this task's result within a run."""
        return (self.measure, self.modality, self.lower, self.upper)


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
    done: Mapping[Key, PairResult] | None = None,
    on_result: Callable[[PairResult, int, int], None] | None = None,
    record: RunRecord | None = None,
    **options: Any,
) -> Results:
    """Estimate the redundancy between pairs of layers, with intervals and verdicts.

    Parameters
    ----------
    source : ActivationStore, mapping of layer to array, or path
        Where the states are: a store, ``{layer: array of shape (n, d)}``, or the path of a store or
        of an ``.npz``, ``.npy`` or ``.safetensors`` file.
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
        ``"local"``, ``"dask"`` or ``"dask:tcp://host:port"``.
    jobs : int, optional
        Worker processes; by default one for small work and one per core for large.
    done : mapping, optional
        Results of an earlier, interrupted run; their pairs are not computed again.
    on_result : callable, optional
        Called with each new result, the number finished and the number in all.
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
        If the source cannot be read, or a measure, layer, modality or option is unknown.

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
        jobs = _jobs_for(store, waiting)
    for outcome in submit(run_task, waiting, engine=engine, jobs=jobs):
        task = waiting[outcome.index]
        reading = outcome.answer or _failed(task, outcome.failure or "unknown reason")
        result = _result(task, reading)
        finished[task.key] = result
        if on_result is not None:
            on_result(result, len(finished), len(tasks))
    return Results(with_verdicts([finished[task.key] for task in tasks], level=ci), record)


def plan_tasks(
    store: ActivationStore,
    measures: Sequence[str],
    *,
    layers: str | Iterable[int] | None = None,
    modality: str | None = None,
    pairs: str | Iterable[tuple[int, int]] = "adjacent",
    epsilon: float | None = None,
    ci: float | None = 0.95,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> list[Task]:
    """Return the tasks of a run in the order of its results; all names are checked here."""
    chosen = _choose_layers(store, layers)
    wanted = _choose_pairs(chosen, pairs)
    modalities = tuple(store.modalities)
    if modality is not None:
        if modality not in modalities:
            raise InputError(registry.unknown("modality", modality, modalities))
        modalities = (modality,)
    if ci is not None and not 0 < ci < 1:
        raise InputError(f"ci is {ci}; a confidence level lies strictly between 0 and 1, e.g. 0.95")
    loaded = {name: registry.load("measures", name) for name in measures}
    accepted = {name: _options_of(module.measure) for name, module in loaded.items()}
    for option in options or {}:
        if not any(option in names for names in accepted.values()):
            have = tuple(sorted(set().union(*accepted.values())))
            what = f"option of {', '.join(measures)}"
            raise InputError(registry.unknown(what, option, have))
    tasks = []
    for name in measures:
        spec: MeasureSpec = loaded[name].SPEC
        threshold = spec.default_threshold
        if epsilon is not None:
            # Definition 2: a share or a similarity is redundant above 1 - epsilon.
            threshold = epsilon if spec.redundant_when == "below" else 1.0 - epsilon
        check_threshold(name, spec, threshold)
        mine = {k: v for k, v in (options or {}).items() if k in accepted[name]}
        for mode in modalities:
            if "attention" in spec.needs and mode != "vision" and len(modalities) > 1:
                # Attention on the image is one number per block, whatever the tokens asked for.
                continue
            for lower, upper in wanted:
                tasks.append(
                    Task(
                        measure=name,
                        modality=mode,
                        lower=lower,
                        upper=upper,
                        threshold=threshold,
                        ci=ci,
                        seed=seed,
                        options=mine,
                        source=store.handle if store.handle is not None else store,
                    )
                )
    return tasks


def check_threshold(name: str, spec: MeasureSpec, threshold: float | None) -> None:
    """Raise InputError if no verdict could ever come of the threshold."""
    if threshold is None:
        return
    high = {"cosine distance": 2.0, "probability": 1.0, "similarity": 1.0}.get(spec.unit)
    # NaN compares false with everything, so it is refused here too.
    if not threshold > 0 or (high is not None and threshold > high):
        range_ = "above 0" if high is None else f"above 0 and at most {high:g}"
        raise InputError(
            f"the threshold of {name} is {threshold:g}; it must be {range_} ({spec.unit})"
        )


def run_task(task: Task) -> Reading:
    """Measure one pair; a module-level function, so that it can travel to a worker."""
    module = registry.load("measures", task.measure)
    spec: MeasureSpec = module.SPEC
    store = task.source
    if not isinstance(store, ActivationStore):
        store = ActivationStore.open(store)
    # Without stored sums they are made from the states, which then also tell constant input.
    states = (
        bool({"states", "target"} & set(spec.needs))
        or store.summary(task.lower, task.upper, task.modality) is None
    )
    pair: LayerPair = store.pair(task.lower, task.upper, task.modality, states=states)
    return cast(
        Reading,
        module.measure(pair, threshold=task.threshold, ci=task.ci, seed=task.seed, **task.options),
    )


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


def parse_layers(text: str) -> list[int]:
    """Turn ``"0-3,8"`` into ``[0, 1, 2, 3, 8]``.

    Examples
    --------
    >>> parse_layers("0-3,8")
    [0, 1, 2, 3, 8]
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low = int(first)
            high = int(last) if dash else low
        except ValueError:
            raise InputError(
                f"layers {text!r} cannot be read; write numbers and ranges such as 0-31 or 0,4,8"
            ) from None
        if high < low:
            raise InputError(f"layers {text!r}: the range {part.strip()} runs backwards")
        if high - low > 100_000:
            raise InputError(f"layers {text!r}: no model has that many layers")
        found.update(range(low, high + 1))
    return sorted(found)


def _as_store(source: ActivationStore | Mapping[Any, Any] | str | Path) -> ActivationStore:
    if isinstance(source, ActivationStore):
        return source
    if isinstance(source, Mapping):
        return ActivationStore.from_arrays(source)
    return open_source(source)


def _choose_layers(store: ActivationStore, layers: str | Iterable[int] | None) -> list[int]:
    have = list(store.layers)
    if layers is None:
        return have
    chosen = parse_layers(layers) if isinstance(layers, str) else sorted(set(layers))
    missing = [layer for layer in chosen if layer not in have]
    if missing:
        raise InputError(
            f"layer {missing[0]} is not in this source, which has layers {_ranges(have)}"
        )
    return chosen


def _ranges(layers: Sequence[int]) -> str:
    if len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]} to {layers[-1]}"
    return ", ".join(map(str, layers))


def _choose_pairs(
    layers: Sequence[int], pairs: str | Iterable[tuple[int, int]]
) -> list[tuple[int, int]]:
    if len(layers) < 2:
        raise InputError(
            f"redundancy compares two layers, and only layer {_ranges(layers)} was given; name at "
            "least two"
        )
    if isinstance(pairs, str):
        kinds = {
            "adjacent": lambda: list(itertools.pairwise(layers)),
            "first": lambda: [(layers[0], layer) for layer in layers[1:]],
            "all": lambda: [(a, b) for i, a in enumerate(layers) for b in layers[i + 1 :]],
        }
        if pairs not in kinds:
            raise InputError(registry.unknown("choice of pairs", pairs, tuple(kinds)))
        return kinds[pairs]()
    chosen = [(int(a), int(b)) for a, b in pairs]
    for a, b in chosen:
        if a not in layers or b not in layers or a >= b:
            raise InputError(
                f"the pair ({a}, {b}) is not two layers, lower first, out of {_ranges(layers)}"
            )
    return chosen


def _options_of(function: Callable[..., Any]) -> frozenset[str]:
    own = {"threshold", "ci", "seed"}
    parameters = inspect.signature(function).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in own)


def _jobs_for(store: ActivationStore, tasks: Sequence[Task]) -> int:
    heavy = {t.measure for t in tasks}
    heavy = {m for m in heavy if "states" in registry.load("measures", m).SPEC.needs}
    values = sum(
        store.n_tokens(t.modality) * store.dim(t.modality) for t in tasks if t.measure in heavy
    )
    return default_jobs() if values >= _WORTH_PROCESSES else 1


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
