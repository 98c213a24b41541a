"""Probe every layer of a store: what can be read from it, and what each layer changes of that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from estimators import InputError
from estimators._arrays import FloatArray
from probes._base import states
from redundancy._probe_findings import findings, rare_classes
from redundancy._probe_layer import Layer
from redundancy._probe_plan import plan_probes
from redundancy._probe_report import (
    Calibration,
    LayerScore,
    PairScore,
    PlantedScore,
    ProbeReport,
)
from redundancy._probe_run import Item, Pairs, Run
from redundancy.engine import default_jobs
from redundancy.store import ActivationStore

__all__ = [
    "Calibration",
    "LayerScore",
    "PairScore",
    "PlantedScore",
    "ProbeReport",
    "plan_probes",
    "probe_store",
]

_LARGE = 2**23  # values of a layer, from which two layers at a time are worth their memory


def probe_store(
    store: ActivationStore,
    target: str | Any = None,
    *,
    kinds: Sequence[str] = ("linear",),
    modality: str | None = None,
    layers: Iterable[int] | None = None,
    pool: Literal["mean", "token"] = "mean",
    folds: int = 5,
    ci: float | None = 0.95,
    threshold: float | None = None,
    controls: bool = True,
    pairs: bool = True,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    done: Iterable[Item] = (),
    progress: Callable[[int, int, Item | None], None] | None = None,
) -> ProbeReport:
    """Fit probes to every layer of a store, on the same folds, and compare neighbouring layers.

    Folds keep images together; penalties are chosen inside the training folds; every score is on
    samples that the probe has not seen. Beside each score stands that of the same probe on targets
    shuffled over images, and beside all of them that of states into which the target was written:
    a probe that fails the first overfits, one that fails the second is too weak to be believed.

    When it lies: a score says what can be read, not what the model reads. Layers are compared on
    the same samples, so their intervals are dependent, and two that overlap may still differ: look
    at the gain of the pair. The best layer is chosen on the data it is scored on.

    Parameters
    ----------
    store : ActivationStore
        With states.
    target : str or array_like, optional
        A column of the store's samples (``"answer"``), or one value per token; by default the
        store's own target.
    kinds : sequence of {"linear", "ridge", "logistic", "mlp"}
        ``"linear"`` is logistic for classes and ridge for values.
    modality : str, optional
        May be left out where there is only one.
    layers : iterable of int, optional
        All by default.
    pool : {"mean", "token"}
        One row per sample, the mean of its tokens, or one row per token.
    folds : int
        Odd, 5 or more.
    ci : float or None
        Level of the intervals.
    threshold : float, optional
        For functional redundancy, in squared units of the target.
    controls : bool
        Whether to fit the controls, which doubles the time.
    pairs : bool
        Whether to compare neighbouring layers: functional redundancy, and the usable information
        that the upper layer adds to the lower (classes and distributions only).
    seed : int
        Of folds, controls and MLPs.
    options : mapping, optional
        Further options of `probes.mlp.MLPProbe`.
    jobs : int, optional
        Layers probed at a time; by default two where states are large and cores are free. Each
        takes memory of its own: 1 GB at 10,000 rows of 4,096 coordinates.
    done : iterable of LayerScore, PairScore or PlantedScore
        What an interrupted run with the same settings found; it is not made again.
    progress : callable, optional
        Called with steps done, steps in all, and what was found, as soon as it is found; None in
        place of what was `done`.

    Returns
    -------
    ProbeReport

    Raises
    ------
    InputError
        If there is no target, it has one class, groups are fewer than folds, or an option is none.
        A layer that fails by itself has a score without value that says why, and so do its pairs.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.integers(0, 2, size=200)
    >>> x = rng.normal(size=(200, 6)); y = x.copy(); y[:, 0] += 4 * z
    >>> report = probe_store(ActivationStore.from_arrays({0: x, 1: y}, target=z))
    >>> report.best().layer, bool(report.of(0, "linear").score.value < 0.7)
    (1, True)
    """
    plan = plan_probes(
        store,
        target,
        kinds=kinds,
        modality=modality,
        layers=layers,
        pool=pool,
        folds=folds,
        ci=ci,
        threshold=threshold,
        controls=controls,
        seed=seed,
        options=options,
    )
    job, rows, word, chosen = plan.job, plan.rows, plan.modality, plan.layers
    n_jobs = _jobs(jobs, rows.n * store.dim(word), job.kinds)
    run = Run(
        job,
        {
            number: Layer(job, number, lambda n=number: rows.pooled(_states(store, n, word)))  # type: ignore[misc]
            for number in chosen
        },
        Pairs(job, plan.given, rows.groups, word, threshold) if pairs else None,
        done,
        progress,
    )
    run.go(n_jobs)
    z = job.target
    shares = job.target.z.mean(0)
    scores = tuple(run.scores[number, kind] for number in chosen for kind in job.kinds)
    return ProbeReport(
        target=plan.name,
        target_kind=z.kind,
        classes=() if z.classes is None else tuple(str(c) for c in z.classes),
        baseline=float(shares.max()) if z.kind == "classes" else 0.0,
        modality=word,
        state="mean over the tokens of a sample" if pool == "mean" else "one token",
        layers=chosen,
        kinds=job.kinds,
        scores=scores,
        pairs=tuple(run.pairs[pair] for pair in pairwise(chosen)) if pairs else (),
        planted=run.planted.scores if run.planted is not None else {},
        n=rows.n,
        n_groups=job.n_groups,
        settings={
            "folds": folds,
            "ci": ci,
            "seed": seed,
            "pool": pool,
            "threshold": threshold,
            "dim": store.dim(word),
            "trivial_cap": z.tr_cov,
            "shuffled": plan.scheme,
        },
        diagnostics=(
            *rare_classes(z, job.fold_of, folds),
            *findings(scores, run.planted.scores if run.planted else {}, z),
        ),
    )


def _jobs(jobs: int | None, size: int, kinds: Sequence[str]) -> int:
    if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1):
        raise InputError(f"jobs is {jobs!r}; use an integer of at least 1")
    if "mlp" in kinds:
        return 1  # torch draws from one generator for the whole process
    if jobs is not None:
        return jobs
    return min(2, default_jobs()) if size >= _LARGE else 1


def _states(store: ActivationStore, number: int, word: str) -> FloatArray:
    return states(store.states(number, word), f"layer {number}")
