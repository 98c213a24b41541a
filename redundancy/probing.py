"""Probe every layer of a store: what can be read from it, and what each layer changes of that."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal

from numpy.typing import NDArray

from estimators import Diagnostic, Estimate, InputError
from estimators._arrays import FloatArray, check_ci, group_codes
from estimators._resample import shuffle_labels
from probes._base import states
from probes._crossfit import resolve
from probes._split import grouped_folds
from probes._target import read_target
from redundancy._probe_findings import findings
from redundancy._probe_layer import FAILURES, Job, Layer, one_line, rearranged
from redundancy._probe_report import (
    Calibration,
    LayerScore,
    PairScore,
    PlantedScore,
    ProbeReport,
)
from redundancy._probe_rows import Rows, only_modality, target_values
from redundancy.engine import default_jobs
from redundancy.measures import functional
from redundancy.measures._probed import nothing_to_probe, without
from redundancy.measures._spec import Reading
from redundancy.pairs import LayerPair
from redundancy.store import ActivationStore

__all__ = ["Calibration", "LayerScore", "PairScore", "PlantedScore", "ProbeReport", "probe_store"]

Item = LayerScore | PairScore | PlantedScore

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
    >>> rng = np.random.default_rng(0)
    >>> z = rng.integers(0, 2, size=200)
    >>> x = rng.normal(size=(200, 6)); y = x.copy(); y[:, 0] += 4 * z
    >>> report = probe_store(ActivationStore.from_arrays({0: x, 1: y}, target=z))
    >>> report.best().layer, bool(report.of(0, "linear").score.value < 0.7)
    (1, True)
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
    given = values[rows.first]
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
    run = _Run(
        job,
        {
            number: Layer(job, number, lambda n=number: rows.pooled(_states(store, n, word)))  # type: ignore[misc]
            for number in chosen
        },
        _Pairs(job, given, rows.groups, word, threshold) if pairs else None,
        done,
        progress,
    )
    run.go(_jobs(jobs, rows.n * store.dim(word), kinds))
    shares = z.z.mean(0)
    scores = tuple(run.scores[number, kind] for number in chosen for kind in kinds)
    return ProbeReport(
        target=named,
        target_kind=z.kind,
        classes=() if z.classes is None else tuple(str(c) for c in z.classes),
        baseline=float(shares.max()) if z.kind == "classes" else 0.0,
        modality=word,
        state="mean over the tokens of a sample" if pool == "mean" else "one token",
        layers=tuple(chosen),
        kinds=kinds,
        scores=scores,
        pairs=tuple(run.pairs[pair] for pair in pairwise(chosen)) if pairs else (),
        planted=run.planted.scores if run.planted is not None else {},
        n=rows.n,
        n_groups=n_groups,
        settings={
            "folds": folds,
            "ci": ci,
            "seed": seed,
            "pool": pool,
            "threshold": threshold,
            "dim": store.dim(word),
            "trivial_cap": z.tr_cov,
            "shuffled": scheme if controls else None,
        },
        diagnostics=findings(scores, run.planted.scores if run.planted else {}, z),
    )


class _Run:
    """Goes through the layers from below, two of them in memory at a time."""

    def __init__(
        self,
        job: Job,
        layers: Mapping[int, Layer],
        compare: _Pairs | None,
        done: Iterable[Item],
        progress: Callable[[int, int, Item | None], None] | None,
    ) -> None:
        self.job, self.layers, self.compare = job, dict(layers), compare
        self.scores: dict[tuple[int, str], LayerScore] = {}
        self.pairs: dict[tuple[int, int], PairScore] = {}
        self.planted: PlantedScore | None = None
        self._progress = progress
        numbers = list(layers)
        wanted = {(number, kind) for number in numbers for kind in job.kinds}
        neighbours = set(pairwise(numbers)) if compare is not None else set()
        for item in done:
            if isinstance(item, PlantedScore):
                self.planted = item
            elif isinstance(item, PairScore) and (item.lower, item.upper) in neighbours:
                self.pairs[item.lower, item.upper] = item
            elif isinstance(item, LayerScore) and (item.layer, item.kind) in wanted:
                self.scores[item.layer, item.kind] = item
        self._neighbours = neighbours
        self._plant = job.shuffled is not None
        self._total = len(wanted) + len(neighbours) + int(self._plant)

    def go(self, jobs: int) -> None:
        """Fill `scores`, `pairs` and `planted`; layers are scored by `jobs` threads."""
        if self._n_done():
            self._tell(None)
        lower: Layer | None = None
        with _threads(jobs) as submit:
            waiting: deque[tuple[Layer, Future[dict[str, LayerScore]]]] = deque()
            while self.layers or waiting:
                while self.layers and len(waiting) < jobs:
                    number = next(iter(self.layers))
                    layer = self.layers.pop(number)
                    waiting.append((layer, submit(self._score, layer)))
                layer, future = waiting.popleft()
                for kind, score in future.result().items():
                    self.scores[layer.number, kind] = score
                    self._tell(score)
                del future
                if self._plant and self.planted is None:
                    self._plant_in(layer)
                if self.compare is not None and lower is not None:
                    pair = lower.number, layer.number
                    if pair not in self.pairs:
                        self.pairs[pair] = self.compare.of(lower, layer)
                        self._tell(self.pairs[pair])
                lower = layer if self.compare is not None else None

    def _score(self, layer: Layer) -> dict[str, LayerScore]:
        missing = [kind for kind in self.job.kinds if (layer.number, kind) not in self.scores]
        found = layer.scores(missing) if missing else {}
        if self.compare is not None and any(
            layer.number in pair and pair not in self.pairs for pair in self._neighbours
        ):
            layer.ready()
        return found

    def _plant_in(self, layer: Layer) -> None:
        try:
            self.planted = PlantedScore(layer=layer.number, scores=self.job.plant(layer.x))
        except FAILURES:
            return  # the next layer may do
        self._tell(self.planted)

    def _n_done(self) -> int:
        return len(self.scores) + len(self.pairs) + int(self.planted is not None)

    def _tell(self, item: Item | None) -> None:
        if self._progress is not None:
            self._progress(self._n_done(), self._total, item)


class _Pairs:
    """Compares neighbouring layers."""

    def __init__(
        self,
        job: Job,
        given: NDArray[Any],
        groups: NDArray[Any] | None,
        word: str,
        threshold: float | None,
    ) -> None:
        self.job, self.given, self.groups = job, given, groups
        self.word, self.threshold = word, threshold

    def of(self, lower: Layer, upper: Layer) -> PairScore:
        """Functional redundancy and gain; no estimate, with the reason, where that fails."""
        gain: Estimate | None = None
        try:
            reading = self._functional(lower, upper)
        except FAILURES as error:
            reading = self._nothing(one_line(error))
        if self.job.soft:
            try:
                gain = lower.gain(upper)
            except FAILURES as error:
                gain = self._nothing(one_line(error), "nats").estimate
        return PairScore(lower=lower.number, upper=upper.number, reading=reading, gain=gain)

    def _functional(self, lower: Layer, upper: Layer) -> Reading:
        job = self.job
        pair = LayerPair(
            lower.number, upper.number, lower.x, upper.x, self.word, self.groups, self.given
        )
        stopped = nothing_to_probe(pair, self.given, 2 * job.folds)
        if stopped is not None:
            return without(pair, stopped, functional.SPEC, "split-probe product", job.seed)
        return functional.measure_probed(
            pair,
            upper.probes,
            lower.probes,
            job.target,
            threshold=self.threshold,
            ci=job.ci,
            seed=job.seed,
        )

    def _nothing(self, reason: str, unit: str = functional.SPEC.unit) -> Reading:
        return Reading(
            estimate=Estimate(
                value=None,
                unit=unit,
                kind="estimate",
                n=len(self.job.target.z),
                n_groups=self.job.n_groups,
                method="failed",
                seed=self.job.seed,
                diagnostics=(Diagnostic(code="failed", severity="error", message=reason),),
            )
        )


def _jobs(jobs: int | None, size: int, kinds: Sequence[str]) -> int:
    if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1):
        raise InputError(f"jobs is {jobs!r}; use an integer of at least 1")
    if "mlp" in kinds:
        return 1  # torch draws from one generator for the whole process
    if jobs is not None:
        return jobs
    return min(2, default_jobs()) if size >= _LARGE else 1


@contextmanager
def _threads(jobs: int) -> Iterator[Callable[..., Future[Any]]]:
    """Yield what starts a task; threads share the cores that matrix products would take."""
    if jobs == 1:
        yield _at_once
        return
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships none

    pool = ThreadPoolExecutor(jobs)
    try:
        with threadpool_limits(max(1, default_jobs() // jobs), user_api="blas"):
            yield pool.submit
    finally:
        pool.shutdown(cancel_futures=True)


def _at_once(task: Callable[..., Any], *arguments: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(task(*arguments))
    return future


def _states(store: ActivationStore, number: int, word: str) -> FloatArray:
    return states(store.states(number, word), f"layer {number}")


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))
