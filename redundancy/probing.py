"""Probe every layer of a store: what can be read from it, and what each layer changes of that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from estimators import Diagnostic, Estimate, InputError
from estimators._arrays import FloatArray, IntArray, group_codes
from estimators.intervals import cluster_mean
from probes._base import states
from probes._crossfit import (
    CrossFit,
    cross_fit,
    prior_log_proba,
    resolve,
    shared_products,
)
from probes._ridge import FoldedRidge
from probes._split import group_permutation, grouped_folds
from probes._target import Target, read_target
from redundancy._probe_report import (
    Calibration,
    LayerScore,
    PairScore,
    ProbeReport,
    calibration,
)
from redundancy.measures import functional
from redundancy.measures._spec import Reading
from redundancy.pairs import LayerPair
from redundancy.store import ActivationStore

__all__ = ["Calibration", "LayerScore", "PairScore", "ProbeReport", "probe_store"]

_MOST_CLASSES = 200  # a larger confusion table is no longer read by anyone


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
    done: Iterable[LayerScore] = (),
    progress: Callable[[int, int, LayerScore | PairScore], None] | None = None,
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
        Whether to estimate functional redundancy of neighbouring layers.
    seed : int
        Of folds, controls and MLPs.
    options : mapping, optional
        Further options of `probes.mlp.MLPProbe`.
    done : iterable of LayerScore
        Scores from an interrupted run with the same settings, which are not made again.
    progress : callable, optional
        Called with steps done, steps in all, and what was found.

    Returns
    -------
    ProbeReport

    Raises
    ------
    InputError
        If there is no target, it has one class, groups are fewer than folds, or an option is none.
        A layer that fails by itself has a score without value that says why.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.integers(0, 2, size=200)
    >>> x = rng.normal(size=(200, 6)); y = x.copy(); y[:, 0] += 4 * z
    >>> report = probe_store(ActivationStore.from_arrays({0: x, 1: y}, target=z))
    >>> report.best().layer, bool(report.of(0, "linear").score.value < 0.7)
    (1, True)
    """
    word = modality or _only_modality(store)
    chosen = sorted(set(store.layers if layers is None else layers))
    if pool not in ("mean", "token"):
        raise InputError(f"pool is {pool!r}; use 'mean' or 'token'")
    if not kinds:
        raise InputError("no kind of probe was named; use 'linear', 'ridge', 'logistic' or 'mlp'")
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 5 or folds % 2 == 0:
        raise InputError(f"folds is {folds!r}; use an odd number, 5 or more")
    named, values = _target(store, target, word)
    rows = _Rows.of(store, word, pool)
    given = values[rows.first]
    z = read_target(given, rows.n)
    for kind in kinds:
        resolve(kind, z)
    codes, n_groups = group_codes(rows.groups, rows.n)
    job = _Job(
        target=z,
        codes=codes,
        n_groups=n_groups,
        fold_of=grouped_folds(rows.n, folds, groups=codes, labels=z.codes, seed=seed),
        folds=folds,
        kinds=tuple(kinds),
        ci=ci,
        seed=seed,
        options=dict(options or {}),
        shuffled=_rearranged(z, group_permutation(codes, rows.n, seed=seed + 1))
        if controls
        else None,
    )
    known = {(s.layer, s.kind): s for s in done}
    steps = len(chosen) * len(kinds) + (len(chosen) - 1 if pairs else 0)
    scores: list[LayerScore] = []
    found: list[PairScore] = []
    planted: dict[str, Estimate] = {}
    below: tuple[int, FloatArray] | None = None

    def tell(item: LayerScore | PairScore) -> None:
        if progress is not None:
            progress(len(scores) + len(found), steps, item)

    for layer in chosen:
        x = rows.pooled(states(store.states(layer, word), f"layer {layer}"))
        missing = [kind for kind in kinds if (layer, kind) not in known]
        fresh = job.score(layer, x, missing) if missing else {}
        for kind in kinds:
            scores.append(fresh[kind] if kind in fresh else known[(layer, kind)])
            tell(scores[-1])
        if controls and not planted:
            planted = job.plant(x)
        if pairs and below is not None:
            lower, x_lower = below
            pair = LayerPair(lower, layer, x_lower, x, word, rows.groups, given)
            reading = _functional(pair, threshold, ci, seed, folds)
            found.append(PairScore(lower=lower, upper=layer, reading=reading))
            tell(found[-1])
        below = (layer, x)
    shares = z.z.mean(0)
    return ProbeReport(
        target=named,
        target_kind=z.kind,
        classes=() if z.classes is None else tuple(str(c) for c in z.classes),
        baseline=float(shares.max()) if z.kind == "classes" else 0.0,
        modality=word,
        state="mean over the tokens of a sample" if pool == "mean" else "one token",
        layers=tuple(chosen),
        kinds=tuple(kinds),
        scores=tuple(scores),
        pairs=tuple(found),
        planted=planted,
        n=rows.n,
        n_groups=n_groups,
        settings={"folds": folds, "ci": ci, "seed": seed, "pool": pool, "threshold": threshold},
        diagnostics=_findings(scores, planted, z),
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """Which tokens make a row."""

    n: int
    first: IntArray
    order: IntArray | None
    counts: IntArray
    groups: NDArray[Any] | None

    @classmethod
    def of(cls, store: ActivationStore, word: str, pool: str) -> _Rows:
        owner = store.token_samples(word)
        if len(owner) == 0:
            raise InputError(
                f"the store keeps no {word} states, and probes need them; extract with --tokens"
            )
        groups = store.groups(word)
        if pool == "token" or len(np.unique(owner)) == len(owner):
            every = np.arange(len(owner))
            return cls(len(owner), every, None, np.ones(len(owner), dtype=np.int64), groups)
        order = np.argsort(owner, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(owner[order]) != 0])
        counts = np.diff(np.r_[starts, len(owner)])
        first = order[starts]
        return cls(len(first), first, order, counts, None if groups is None else groups[first])

    def pooled(self, x: FloatArray) -> FloatArray:
        if self.order is None:
            return x
        starts = np.r_[0, np.cumsum(self.counts)[:-1]]
        sums = np.add.reduceat(x[self.order], starts, axis=0)
        return np.asarray(sums / self.counts[:, None].astype(x.dtype))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What all layers share."""

    target: Target
    codes: IntArray | None
    n_groups: int | None
    fold_of: IntArray
    folds: int
    kinds: tuple[str, ...]
    ci: float | None
    seed: int
    options: dict[str, Any]
    shuffled: Target | None

    def fit(
        self,
        x: FloatArray,
        z: Target,
        kinds: Sequence[str],
        products: FoldedRidge | None = None,
    ) -> dict[str, CrossFit]:
        return cross_fit(
            x,
            z,
            self.fold_of,
            self.folds,
            kinds,
            groups=self.codes,
            seed=self.seed,
            options=self.options,
            products=products,
        )

    def score(self, layer: int, x: FloatArray, kinds: Sequence[str]) -> dict[str, LayerScore]:
        try:
            if bool((x == x[0]).all()):
                raise InputError(
                    f"layer {layer} is constant, all {len(x):,} rows are the same; check that "
                    "these are activations of different inputs"
                )
            linear = any(resolve(kind, self.target) != "mlp" for kind in kinds)
            products = shared_products(x, self.target, self.fold_of, self.folds) if linear else None
            fits = self.fit(x, self.target, kinds, products)
            null = {} if self.shuffled is None else self.fit(x, self.shuffled, kinds, products)
        except InputError as error:
            reason = Diagnostic(code="failed", severity="error", message=str(error))
            return {
                kind: LayerScore(
                    layer=layer,
                    kind=kind,
                    probe=resolve(kind, self.target),
                    score=self.estimate(None, kind, (reason,)),
                )
                for kind in kinds
            }
        return {
            kind: self.layer_score(layer, kind, fit, null.get(kind)) for kind, fit in fits.items()
        }

    def layer_score(
        self, layer: int, kind: str, fit: CrossFit, null: CrossFit | None
    ) -> LayerScore:
        z = self.target
        information = table = reliability = None
        if fit.log_proba is not None:
            prior = prior_log_proba(z, self.fold_of, self.folds)
            gained = np.einsum("ij,ij->i", z.z, fit.log_proba - prior)
            information = self.mean(gained, "nats", f"entropy minus held-out log loss, {fit.kind}")
        if z.codes is not None:
            guess = fit.scores.argmax(1)
            if z.k <= _MOST_CLASSES:
                counts = np.bincount(z.codes * z.k + guess, minlength=z.k**2).reshape(z.k, z.k)
                table = tuple(tuple(int(v) for v in row) for row in counts)
            if fit.log_proba is not None:
                reliability = calibration(fit.log_proba, z.codes)
        notes: tuple[Diagnostic, ...] = ()
        if not fit.converged:
            notes = (
                Diagnostic(
                    code="not-converged",
                    severity="warning",
                    message="a logistic fit used up its iterations, so the score is that of an "
                    "unfinished probe, as a rule a little low",
                ),
            )
        return LayerScore(
            layer=layer,
            kind=kind,
            probe=fit.kind,
            score=self.scored(z, fit, notes),
            control=None
            if null is None or self.shuffled is None
            else self.scored(self.shuffled, null, ()),
            information=information,
            penalties=fit.penalties,
            confusion=table,
            calibration=reliability,
        )

    def scored(self, z: Target, fit: CrossFit, notes: tuple[Diagnostic, ...]) -> Estimate:
        if z.codes is not None:
            right = (fit.scores.argmax(1) == z.codes).astype(np.float64)
            return self.mean(right, "accuracy", f"held-out {fit.kind} probe", (0.0, 1.0), notes)
        predicted = fit.scores if fit.log_proba is None else np.exp(fit.log_proba)
        error = ((z.z - predicted) ** 2).sum(1) / z.tr_cov
        return self.mean(1.0 - error, "R²", f"held-out {fit.kind} probe", (-np.inf, 1.0), notes)

    def mean(
        self,
        values: FloatArray,
        unit: str,
        method: str,
        support: tuple[float, float] = (-np.inf, np.inf),
        notes: tuple[Diagnostic, ...] = (),
    ) -> Estimate:
        mean = cluster_mean(
            values, groups=self.codes, weighting="token", level=self.ci, support=support
        )
        return Estimate(
            value=mean.value,
            unit=unit,
            kind="estimate",
            n=len(values),
            n_groups=self.n_groups,
            method=f"{method}, {self.folds} folds; interval over groups, probes held fixed",
            ci=mean.interval,
            seed=self.seed,
            diagnostics=notes,
        )

    def estimate(self, value: float | None, kind: str, notes: tuple[Diagnostic, ...]) -> Estimate:
        return Estimate(
            value=value,
            unit="accuracy" if self.target.kind == "classes" else "R²",
            kind="estimate",
            n=len(self.target.z),
            n_groups=self.n_groups,
            method=f"held-out {kind} probe",
            seed=self.seed,
            diagnostics=notes,
        )

    def plant(self, x: FloatArray) -> dict[str, Estimate]:
        """Scores on states into which the target was written, at the size of the states."""
        rng = np.random.default_rng(self.seed + 2)
        z = (self.target.z - self.target.z.mean(0)) / np.sqrt(self.target.tr_cov)
        size = float(np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean()))
        directions = rng.normal(size=(self.target.k, x.shape[1])) / np.sqrt(x.shape[1])
        written = np.asarray(x + 3.0 * size * (z @ directions), dtype=x.dtype)
        try:
            fits = self.fit(written, self.target, self.kinds)
        except InputError:
            return {}
        return {kind: self.scored(self.target, fit, ()) for kind, fit in fits.items()}


def _functional(
    pair: LayerPair, threshold: float | None, ci: float | None, seed: int, folds: int
) -> Reading:
    try:
        return functional.measure(pair, threshold=threshold, ci=ci, seed=seed, folds=folds)
    except InputError as error:
        reason = Diagnostic(code="failed", severity="error", message=str(error))
        nothing = Estimate(
            value=None,
            unit=functional.SPEC.unit,
            kind="estimate",
            n=pair.n,
            method="split-probe product, failed",
            seed=seed,
            diagnostics=(reason,),
        )
        return Reading(estimate=nothing)


def _only_modality(store: ActivationStore) -> str:
    if len(store.modalities) != 1:
        raise InputError(
            f"the store has {', '.join(store.modalities)} tokens; say whose states to probe "
            "(modality=)"
        )
    return str(store.modalities[0])


def _target(store: ActivationStore, target: Any, word: str) -> tuple[str, NDArray[Any]]:
    """Name and values per token."""
    if isinstance(target, str):
        values = store.with_target(target).target_of(word)
        name = target
    elif target is None:
        values, name = store.target_of(word), "target"
    else:
        values, name = np.asarray(target), "target"
    if values is None:
        columns = sorted({key for row in store.samples[:100] for key in row})
        raise InputError(
            "there is no target to probe for; name a column of the samples "
            f"({', '.join(columns)}) or give one value per token"
        )
    tokens = store.n_tokens(word)
    if values.ndim == 0 or len(values) != tokens:
        raise InputError(
            f"the target has shape {values.shape} for {tokens:,} {word} tokens; give one value "
            "per token"
        )
    return name, values


def _rearranged(target: Target, rows: IntArray) -> Target:
    return Target(
        kind=target.kind,
        z=target.z[rows],
        classes=target.classes,
        codes=None if target.codes is None else target.codes[rows],
    )


def _findings(
    scores: Sequence[LayerScore], planted: Mapping[str, Estimate], target: Target
) -> tuple[Diagnostic, ...]:
    found = []
    least = 0.8 if target.kind == "classes" else 0.5
    weak = [kind for kind, e in planted.items() if e.value is not None and e.value < least]
    if weak:
        found.append(
            Diagnostic(
                code="weak-probe",
                severity="warning",
                message=f"{' and '.join(weak)} probes do not find a target that was written into "
                "the states, so low scores say little: save more samples",
            )
        )
    share = float(target.z.mean(0).max()) if target.kind == "classes" else 0.0
    leaky = [
        s
        for s in scores
        if s.control is not None and s.control.ci is not None and s.control.ci.low > share + 0.02
    ]
    if leaky:
        found.append(
            Diagnostic(
                code="control",
                severity="error",
                message=f"probes score above chance on shuffled targets (layer {leaky[0].layer}): "
                "either samples of one image are in several groups, and the scores are not about "
                "the target, or every image has the same pattern of targets, which a shuffle of "
                "whole images keeps; read scores against the shuffled ones, not against chance",
            )
        )
    read = [s for s in scores if s.information is not None and s.information.ci is not None]
    for kind in dict.fromkeys(s.kind for s in read):
        of_kind = [s for s in read if s.kind == kind]
        first, last = of_kind[0], max(of_kind, key=lambda s: float(s.information or 0.0))
        if (
            first.information is not None
            and last.information is not None
            and first.information.ci is not None
            and last.information.ci is not None
            and last.information.ci.low > first.information.ci.high
        ):
            found.append(
                Diagnostic(
                    code="information-grows",
                    severity="info",
                    message=f"{kind} probes use more of layer {last.layer} than of layer "
                    f"{first.layer}: usable information may grow, where mutual information of "
                    "whole-sequence states never does",
                )
            )
    return tuple(found)
