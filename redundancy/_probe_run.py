"""Going through the layers of a store from below, some of them at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from estimators import Diagnostic, Estimate
from redundancy._probe_layer import FAILURES, Job, Layer, one_line
from redundancy._probe_report import LayerScore, PairScore, PlantedScore
from redundancy.engine import default_jobs
from redundancy.measures import functional
from redundancy.measures._probed import nothing_to_probe, without
from redundancy.measures._spec import Reading
from redundancy.pairs import LayerPair

__all__ = ["Item", "Pairs", "Run"]

Item = LayerScore | PairScore | PlantedScore


class Run:
    """Goes through the layers from below, two of them in memory at a time."""

    def __init__(
        self,
        job: Job,
        layers: Mapping[int, Layer],
        compare: Pairs | None,
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


class Pairs:
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
