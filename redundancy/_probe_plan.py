"""What a probe run is going to do: all input is checked before anything is fitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from estimators import InputError
from estimators._arrays import check_ci, group_codes
from estimators._resample import shuffle_labels
from probes._crossfit import resolve
from probes._split import grouped_folds
from probes._target import read_target
from redundancy._probe_layer import Job, rearranged
from redundancy._probe_rows import Rows, only_modality, target_values
from redundancy.measures import functional
from redundancy.store import ActivationStore

__all__ = ["Plan", "plan_probes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `probe_store` is going to do; all input has been checked."""

    job: Job
    rows: Rows
    modality: str
    layers: tuple[int, ...]
    name: str
    given: NDArray[Any]
    scheme: str | None


def plan_probes(
    store: ActivationStore,
    target: str | Any = None,
    *,
    kinds: Sequence[str] = ("linear",),
    modality: str | None = None,
    layers: Iterable[int] | None = None,
    pool: str = "mean",
    folds: int = 5,
    ci: float | None = 0.95,
    threshold: float | None = None,
    controls: bool = True,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """Check the input of `probe_store` without fitting anything.

    Raises
    ------
    InputError
        As `probe_store`.
    """
    word = modality or only_modality(store)
    chosen = sorted(set(store.layers if layers is None else layers))
    absent = [layer for layer in chosen if layer not in store.layers]
    if absent:
        raise InputError(f"the store has no layer {absent[0]}; it has {_listed(store.layers)}")
    if pool not in ("mean", "token"):
        raise InputError(f"pool is {pool!r}; use 'mean' or 'token'")
    kinds = tuple(dict.fromkeys(kinds))
    if not kinds:
        raise InputError("no kind of probe was named; use 'linear', 'ridge', 'logistic' or 'mlp'")
    check_ci(ci)
    functional.check_options(threshold, ci, folds)
    named, values = target_values(store, target, word)
    rows = Rows.of(store, word, pool)
    given = rows.target(values)
    z = read_target(given, rows.n)
    for kind in kinds:
        resolve(kind, z)
    codes, n_groups = group_codes(rows.groups, rows.n)
    mixed, scheme = shuffle_labels(given, codes, seed=seed + 1)
    job = Job(
        target=z,
        codes=codes,
        n_groups=n_groups,
        fold_of=grouped_folds(rows.n, folds, groups=codes, labels=z.codes, seed=seed),
        folds=folds,
        kinds=kinds,
        ci=ci,
        seed=seed,
        options=dict(options or {}),
        shuffled=rearranged(z, mixed) if controls else None,
    )
    return Plan(
        job=job,
        rows=rows,
        modality=word,
        layers=tuple(chosen),
        name=named,
        given=given,
        scheme=scheme if controls else None,
    )


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))
