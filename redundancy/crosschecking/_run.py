"""`crosscheck`: which pairs, which peers, and where the states are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from estimators import InputError
from redundancy.crosschecking import _estimators
from redundancy.crosschecking._material import Material, material_of
from redundancy.crosschecking._measures import measure_checks
from redundancy.crosschecking._peers import available
from redundancy.crosschecking._recorded import recomputed, sample_results, store_of
from redundancy.crosschecking._result import Check, CrossCheck, skipped
from redundancy.results import Results
from redundancy.store import ActivationStore, open_source

__all__ = ["crosscheck"]

Key = tuple[int, int, str]
Checks = Callable[[Material, int], Iterator[Check]]

_CHECKS: dict[str, tuple[Checks, ...]] = {
    "scikit-learn": (measure_checks, _estimators.sklearn_checks),
    "npeet_plus": (_estimators.npeet_checks,),
    "dit": (_estimators.dit_checks,),
}


def crosscheck(
    source: Results | ActivationStore | Mapping[Any, Any] | str | Path,
    *,
    acts: ActivationStore | Mapping[Any, Any] | str | Path | None = None,
    samples: int = 2,
    tokens: int = 1000,
    peers: Sequence[str] | None = None,
    modality: str | None = None,
    target: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int | None], None] | None = None,
) -> CrossCheck:
    """Recompute a seeded sample of numbers with the tools people already trust.

    Of a run, `samples` results per measure are computed again from the activations and held
    against what was recorded. Then, on the states of those pairs (or of `samples` pairs per
    modality, if activations are given), our estimators and those of scikit-learn, npeet_plus and
    dit are given the same arrays: cosine distances, CKA, nearest-neighbour and discrete
    information, entropies, and the BROJA decomposition.

    Where a peer's number differs by design (its norm, its bias, its absolute value), the size of
    the difference is predicted, and the check fails if it is another.

    Parameters
    ----------
    source : Results, ActivationStore, mapping of layer to array, or path
        A run (its results, its folder, its ``record.json``), or activations.
    acts : ActivationStore, mapping or path, optional
        Where a run's activations are, if not where its record says.
    samples : int
        Results per measure, or pairs per modality.
    tokens : int
        Most tokens that neighbours are searched among.
    peers : sequence of str, optional
        Out of ``"scikit-learn"``, ``"npeet_plus"`` and ``"dit"``; all by default. Those not
        installed are named in the result's `missing`.
    modality : str, optional
        Only this one.
    target : str, optional
        Column of the store's samples that checks with a target are about; a run's own by default.
    seed : int
        Of the sample, the states and the peers.
    progress : callable, optional
        Called with (pairs done, pairs in all).

    Returns
    -------
    CrossCheck

    Raises
    ------
    InputError
        If the source cannot be read, none of the peers is installed, or a run's activations are
        gone or have changed.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(300, 4))
    >>> arrays = {0: x, 1: x + rng.normal(size=x.shape)}
    >>> found = crosscheck(arrays, peers=["scikit-learn"])
    >>> found.agrees, found.counts
    (True, {'agrees': 5, 'differs by design': 1})

    References
    ----------
    Pedregosa et al. 2011 (scikit-learn); Ver Steeg 2000 (NPEET); James, Ellison, Crutchfield 2018
    (dit).
    """
    if samples < 1:
        raise InputError(f"samples is {samples}; check at least one")
    if tokens < 2:
        raise InputError(f"tokens is {tokens}; neighbours need at least 50")
    found = available(peers)
    results, store = _open(source, acts)
    checks: list[Check] = []
    if results is not None:
        if modality is not None:
            results = results.select(modality=modality)
        chosen = sample_results(results, samples, seed)
        if not chosen:
            raise InputError("the run holds no results to check" + _of(modality))
        keys: list[Key] = list(dict.fromkeys((*r.pair, r.modality) for r in chosen))
        steps = len(chosen) + len(keys)
        for number, result in enumerate(chosen, start=1):
            checks += recomputed(result, results, store)
            if progress:
                progress(number, steps)
        if target is None and results.record is not None:
            target = results.record.run.options.get("target")
        # By-products of one pair serve all measures, so a few pairs are enough.
        keys = _sample(keys, 2 * samples, seed)
        done = len(chosen)
    else:
        words = store.modalities if modality is None else (modality,)
        pairs = [store.pair_keys(modality=word) for word in words]
        keys = [key for one in pairs for key in _sample(one, samples, seed)]
        done = 0
    if target is not None:
        store = store.with_target(target)
    for number, key in enumerate(keys, start=1):
        checks += _of_pair(store, key, [n for n, v in found.items() if v], tokens, seed)
        if progress:
            progress(done + number, done + len(keys))
    return CrossCheck(checks, found, seed=seed)


def _of_pair(
    store: ActivationStore, key: Key, peers: Sequence[str], tokens: int, seed: int
) -> Iterator[Check]:
    lower, upper, modality = key
    where = ((lower, upper), modality)
    known = {*store.layers}
    material = None
    if {lower, upper} <= known:
        material = material_of(store, lower, upper, modality, tokens=tokens, seed=seed)
    if material is None:
        why = "the store kept sums only, and peers need states; extract with --tokens"
        yield skipped(where, "all", ", ".join(peers), "", why)
        return
    for peer in peers:
        for check in _CHECKS[peer]:
            made = check(material, seed)
            try:
                yield from made
            except InputError as error:
                yield skipped(where, check.__name__.partition("_")[0], peer, "", str(error))


def _open(
    source: Results | ActivationStore | Mapping[Any, Any] | str | Path,
    acts: ActivationStore | Mapping[Any, Any] | str | Path | None,
) -> tuple[Results | None, ActivationStore]:
    home = None
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix == ".json" or (path / "record.json").exists():
            home = path if path.is_dir() else path.parent
            source = Results.load(path)
        else:
            source = open_source(source)  # as given: a Path would spoil a URL
    if isinstance(source, Results):
        return source, store_of(source, acts, home)
    if acts is not None:
        raise InputError("acts says where a run's activations are, and no run was named")
    if isinstance(source, Mapping):
        source = ActivationStore.from_arrays(source)
    return None, source


def _sample(keys: Sequence[Key], count: int, seed: int) -> list[Key]:
    if len(keys) <= count:
        return list(keys)
    picks = np.random.default_rng(seed).choice(len(keys), count, replace=False)
    return [keys[int(i)] for i in sorted(picks)]


def _of(modality: str | None) -> str:
    return "" if modality is None else f" of modality {modality!r}"
