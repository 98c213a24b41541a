"""The tasks of a run: which pairs, which measure, in which order, how many at a time."""

from __future__ import annotations

import inspect
import itertools
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from estimators import InputError
from redundancy import registry
from redundancy._memory import workers_within, working_set
from redundancy.engine import default_jobs
from redundancy.measures._spec import MeasureSpec
from redundancy.store import ActivationStore

__all__ = [
    "Key",
    "Task",
    "check_threshold",
    "in_line",
    "jobs_for",
    "jobs_within",
    "parse_layers",
    "plan_tasks",
]

Key = tuple[str, str, int, int]
"""Measure, modality, lower layer, upper layer: what names a result within a run."""

# Below this many state values in all, starting worker processes costs more than it saves.
_WORTH_PROCESSES = 2e8


@dataclass(frozen=True, slots=True)
class Task:
    """One measure on one pair; a stored pair travels as the store's path, not as arrays.

    `target` names the column that the store is opened with. Tasks of the same `run` may share
    what they opened and found out; a store may have grown by the next.
    """

    measure: str
    modality: str
    lower: int
    upper: int
    threshold: float | None
    ci: float | None
    seed: int
    options: Mapping[str, Any]
    source: str | ActivationStore
    target: str | None = None
    run: str = ""

    @property
    def key(self) -> Key:
        """What names this task's result within a run."""
        return (self.measure, self.modality, self.lower, self.upper)


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
    tasks, run, address = [], secrets.token_hex(8), store.address
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
                        source=store if address is None else address[0],
                        target=None if address is None else address[1],
                        run=run,
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


def in_line(tasks: Sequence[Task]) -> list[Task]:
    """Put adjacent pairs beside each other, all measures of a pair together.

    A worker that goes from (0, 1) on to (1, 2) has read layer 1 and knows its factors; and the time
    left can be told from the first pairs, since all measures are among them.

    Examples
    --------
    >>> def task(measure, lower):
    ...     return Task(measure, "text", lower, lower + 1, None, None, 0, {}, "acts")
    >>> tasks = [task(measure, lower) for measure in ("cka", "geometric") for lower in range(3)]
    >>> [(one.measure, one.lower) for one in in_line(tasks)][:3]
    [('cka', 0), ('geometric', 0), ('cka', 1)]
    """
    places: dict[tuple[str, int, int], list[Task]] = {}
    for task in tasks:
        places.setdefault((task.modality, task.lower, task.upper), []).append(task)
    return list(itertools.chain.from_iterable(places.values()))


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


def jobs_for(store: ActivationStore, tasks: Sequence[Task]) -> int:
    """One process for small work, one per core for large."""
    heavy = {t.measure for t in tasks}
    heavy = {m for m in heavy if "states" in registry.load("measures", m).SPEC.needs}
    values = sum(
        store.n_tokens(t.modality) * store.dim(t.modality) for t in tasks if t.measure in heavy
    )
    return default_jobs() if values >= _WORTH_PROCESSES else 1


def jobs_within(memory: int, store: ActivationStore, tasks: Sequence[Task], jobs: int) -> int:
    """As many workers as fit; InputError if one pair is too much."""
    for task in tasks:
        spec: MeasureSpec = registry.load("measures", task.measure).SPEC
        n, d = store.n_tokens(task.modality), store.dim(task.modality)
        need = working_set(spec.working_set, n, d)
        within = workers_within(memory, need, jobs)
        if within < 1:
            raise InputError(
                f"{task.measure} takes about {need / 1e9:.1f} GB for a pair of {n:,} "
                f"{task.modality} tokens of width {d:,}, and memory is {memory / 1e9:.1f} GB; "
                "allow more, or extract fewer tokens (--tokens)"
            )
        jobs = min(jobs, within)
    return jobs
