"""Results that a run wrote down, computed again from the activations it was made of."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from estimators import Estimate, InputError
from redundancy import registry
from redundancy.certify import verdicts
from redundancy.crosschecking._result import Check, compare, skipped
from redundancy.results import PairResult, Results
from redundancy.run import estimate
from redundancy.store import ActivationStore, open_source

__all__ = ["recomputed", "sample_results", "store_of"]

# Other releases of NumPy or BLAS add up in another order; a wrong result is off by more.
_ROUNDING = 1e-6


def sample_results(results: Results, samples: int, seed: int) -> list[PairResult]:
    """Draw `samples` results of every measure."""
    rng = np.random.default_rng(seed)
    chosen: list[PairResult] = []
    for name in results.measures:
        rows = results.select(name)
        picks = rng.choice(len(rows), min(samples, len(rows)), replace=False)
        chosen += [rows[int(i)] for i in sorted(picks)]
    return chosen


def store_of(
    results: Results,
    acts: ActivationStore | Mapping[Any, Any] | str | Path | None,
    home: Path | None,
) -> ActivationStore:
    """Open the activations that a run was made of, and make sure that they are the same.

    Raises
    ------
    InputError
        If they are not found, or have changed since.
    """
    told: Mapping[str, Any] = {}
    if results.record is not None:
        told = results.record.provenance.get("store") or {}
    if acts is None:
        acts = _find(told.get("path"), home)
    store = (
        acts
        if isinstance(acts, ActivationStore)
        else ActivationStore.from_arrays(acts)
        if isinstance(acts, Mapping)
        else open_source(acts)
    )
    before, now = told.get("sha256"), store.info.get("sha256")
    if before is not None and now is not None and before != now:
        raise InputError(
            f"the activations at {store.handle} are not those of the run (SHA-256 {now[:12]}…, the "
            f"record says {before[:12]}…); name the ones it was made of (--acts)"
        )
    return store


def _find(path: Any, home: Path | None) -> str | Path:
    if not isinstance(path, str):
        raise InputError(
            "the record does not say where its activations are (they were in memory); name them "
            "(--acts, in Python acts=)"
        )
    if "://" in path:
        return path
    tried = [Path(path)]
    if home is not None:
        # A run folder that was moved or copied as a whole.
        tried += [home / path, home / Path(path).name]
    for candidate in tried:
        if candidate.exists():
            return candidate
    raise InputError(
        f"the record says that its activations are at {path}, and there is nothing there; say "
        "where they are now (--acts, in Python acts=)"
    )


def recomputed(result: PairResult, results: Results, store: ActivationStore) -> Iterator[Check]:
    """Compare value, interval, p-values and by-products of one result with what comes out now.

    What agrees beside the value is not listed: a run has hundreds of by-products.
    """
    where = (result.pair, result.modality)
    try:
        options, settings = _options(results, result.measure)
        again = estimate(
            store,
            result.measure,
            pairs=[result.pair],
            layers=result.pair,
            modality=result.modality,
            epsilon=settings.get("epsilon"),
            ci=result.estimate.ci.level if result.estimate.ci else settings.get("ci", 0.95),
            target=settings.get("target"),
            seed=settings.get("seed") or 0,
            jobs=1,
            **options,
        )[0]
    except InputError as error:
        yield skipped(where, result.measure, "record", "estimate", str(error))
        return
    if result.estimate.unit == "bits":
        again = again.to("bits")
    rows = [_values(where, result.measure, again.estimate, result.estimate)]
    for name in sorted({*again.extras, *result.extras}):
        now, then = again.extras.get(name), result.extras.get(name)
        title = f"{result.measure}, {name}"
        if now is None or then is None:
            what = "recomputed" if now is None else "recorded"
            yield skipped(where, title, "record", "estimate", f"it was not {what}")
        else:
            rows.append(_values(where, title, now, then))
    yield rows[0][0]
    yield from (c for c in (*rows[0][1:], *itertools.chain(*rows[1:])) if c.outcome != "agrees")
    for name in ("p_redundant", "p_needed"):
        now, then = getattr(again, name), getattr(result, name)
        if result.verdict is None or then is None:
            continue
        check = _compared(where, f"{result.measure}, {name}", now, then, "probability")
        if check.outcome != "agrees":
            yield check
    yield from _verdict(where, result, results)


def _values(where: Any, title: str, ours: Estimate, recorded: Estimate) -> list[Check]:
    """Compare value, n and the ends of the interval, in this order."""
    rows = [
        _compared(where, title, ours.value, recorded.value, recorded.unit),
        _compared(where, f"{title}, n", float(ours.n), float(recorded.n), "samples"),
    ]
    if ours.ci is not None and recorded.ci is not None:
        ends = ("lower", "upper")
        for end, now, then in zip(ends, _ends(ours), _ends(recorded), strict=True):
            rows.append(_compared(where, f"{title}, {end} end", now, then, recorded.unit))
    return rows


def _ends(estimate: Estimate) -> tuple[float, float]:
    return (math.nan, math.nan) if estimate.ci is None else (estimate.ci.low, estimate.ci.high)


def _compared(
    where: Any, quantity: str, ours: float | None, theirs: float | None, unit: str
) -> Check:
    return compare(
        where,
        quantity,
        "record",
        "estimate",
        ours=ours,
        theirs=theirs,
        unit=unit,
        tolerance=_ROUNDING,
    )


def _verdict(where: Any, result: PairResult, results: Results) -> Iterator[Check]:
    """Derive the verdict from the p-values of its family once more."""
    if result.verdict is None or result.estimate.ci is None:
        return
    family = results.select(result.measure, result.modality)
    level = result.estimate.ci.level
    judged = {r.pair: j for r, j in zip(family, verdicts(list(family), level=level), strict=True)}
    if judged[result.pair].verdict == result.verdict:
        return
    yield replace(
        skipped(where, f"{result.measure}, verdict", "record", "verdicts", ""),
        outcome="disagrees",
        why=f"the record says {result.verdict!r}, its p-values say {judged[result.pair].verdict!r}",
    )


def _options(results: Results, measure: str) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return what the run gave to this measure, and the run's own settings."""
    record = results.record
    settings: Mapping[str, Any] = {} if record is None else record.run.options
    parameters = inspect.signature(registry.load("measures", measure).measure).parameters
    own = {"pair", "threshold", "ci", "seed"}
    return {k: v for k, v in settings.items() if k in parameters and k not in own}, settings
