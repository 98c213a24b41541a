"""One model: what its layers read on some images, and what intervening costs on others."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from estimators import Estimate, InputError
from redundancy import choosing, registry
from redundancy.evaluation import share_estimate
from redundancy.extraction import extract
from redundancy.record import estimate_to_record, plain
from redundancy.results import PairResult, Results
from redundancy.run import estimate
from redundancy.store import ActivationStore
from redundancy.validation.interventions import Trial, try_plans
from redundancy.validation.orderings import TITLES, orderings
from redundancy.validation.records import (
    SCHEMA_VERSION,
    OrderingRecord,
    ReadingCurve,
    StudyRecord,
)

if TYPE_CHECKING:
    from vlm.plan import SkipPlan

__all__ = ["MEASURES", "curves", "losses", "study"]

MEASURES = (
    "geometric",
    "proximal",
    "cka",
    "informational",
    "functional",
    "var",
    "vision_effect",
)
Floats = NDArray[np.float64]
Progress = Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]]


def study(
    model: Any,
    processor: Any,
    measured: Iterable[Mapping[str, Any]],
    tested: Iterable[Mapping[str, Any]],
    *,
    name: str,
    store_path: str | Path,
    describe: Mapping[str, Any] | None = None,
    measures: Sequence[str] = MEASURES,
    target: str | None = "answer",
    tokens: int = 8,
    batch_size: int = 16,
    max_new_tokens: int = 16,
    seed: int = 0,
    progress: Progress,
) -> StudyRecord:
    """Read every layer on the measured images, intervene on every layer on the tested ones.

    Parameters
    ----------
    model, processor
        As from `vlm.model.load`.
    measured, tested : iterable of mapping
        Rows as of `vlm.data.read_rows`, with answers. No image may be in both.
    name : str
        What to call the model.
    store_path : path
        A new folder for the activations.
    describe : mapping, optional
        What is known of the model; ``cluster`` names what it shares with others (its seed).
    measures : sequence of str
        Of `registry.names("measures")`, those that speak of vision states.
    target : str or None
        Column that measures with a target are about; None leaves those measures out.
    tokens : int
        Token states kept per sample, for the measures that need states.
    batch_size, max_new_tokens : int
        As for `vlm.evaluate.evaluate`.
    seed : int
        Of everything random.
    progress : callable
        ``progress(title)`` is a context manager that yields ``update(done, total)``.

    Raises
    ------
    InputError
        If an image is measured and tested, or a measure is unknown.
    """
    from vlm.data import rows_of
    from vlm.evaluate import plans_of

    read, asked = list(rows_of(measured)), list(rows_of(tested))
    shared = {str(row["group"]) for row in read} & {str(row["group"]) for row in asked}
    if shared:
        raise InputError(
            f"{len(shared)} images are both measured and tested (e.g. {min(shared)!r}); a reading "
            "that predicts losses on its own images proves nothing: divide the data by image"
        )
    with progress(f"{name}: capturing") as update:
        store = extract(
            model,
            processor,
            read,
            out=store_path,
            tokens=tokens,
            batch_size=batch_size,
            seed=seed,
            vision_effect=True,
            progress=update,
            max_new_tokens=max_new_tokens,
        )
    with progress(f"{name}: estimating") as update:
        found = _estimate(store, measures, target, seed, update)
    n = store.n_layers
    by_kind: dict[str, list[SkipPlan]] = {
        kind: plans_of(kind, n) for kind in ("late", "exit", "drop", "single")
    }
    orders = orderings(found, n)
    ordered = list(dict.fromkeys(p for seqs in orders.values() for seq in seqs for p in seq))
    wanted = [p for plans in by_kind.values() for p in plans if not p.is_noop]
    with progress(f"{name}: intervening") as update:
        trial = try_plans(
            model,
            processor,
            asked,
            [*wanted, *ordered],
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            progress=update,
        )
    # Asking the model itself, on the measured images: the reading that any measure has to beat.
    with progress(f"{name}: asking directly") as update:
        direct = try_plans(
            model,
            processor,
            _one_per_image(read),
            by_kind["single"],
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            progress=update,
        )
    images, codes = np.unique(np.asarray(trial.groups), return_inverse=True)
    accuracy = share_estimate(trial.full.correct, trial.groups)
    full = float(trial.full.flops.sum())
    return StudyRecord(
        schema_version=SCHEMA_VERSION,
        name=name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seed=seed,
        n_layers=n,
        model=cast(dict[str, Any], plain(describe or {})),
        settings={
            "measures": list(measures),
            "target": target,
            "tokens": tokens,
            "batch_size": batch_size,
            "max_new_tokens": max_new_tokens,
        },
        measured={"n": len(read), "images": len({str(row["group"]) for row in read})},
        tested={"n": len(asked), "images": len(images)},
        accuracy=None if accuracy is None else estimate_to_record(accuracy),
        readings={**curves(found, n), "direct": _direct(direct, by_kind["single"])},
        images=images.tolist(),
        losses={
            target_: {kind: _rounded(table) for kind, table in kinds.items()}
            for target_, kinds in losses(trial, by_kind, codes).items()
        },
        plans=[plan.describe() for plan in ordered],
        saved=[1.0 - float(trial.plans[plan].flops.sum()) / full for plan in ordered],
        changed=_rounded(np.array([_by_image(trial.plans[p].changed, codes) for p in ordered])),
        orderings={
            key: OrderingRecord(
                title=TITLES[key],
                sequences=[[ordered.index(plan) for plan in seq] for seq in seqs],
            )
            for key, seqs in orders.items()
        },
    )


def losses(
    trial: Trial, by_kind: Mapping[str, Sequence[SkipPlan]], codes: NDArray[np.intp]
) -> dict[str, dict[str, Floats]]:
    """Marginal loss of each layer by target and kind: arrays of shape (images, layers).

    Late entry after layer l is held against late entry before it, early exit before layer l
    against exit after it: what this layer adds, not what all up to it cost together.
    """

    def of(plan: SkipPlan, kind: str) -> Floats:
        behaviour = trial.full if plan.is_noop else trial.plans[plan]
        values = getattr(behaviour, kind)
        if kind == "nll":
            values = values - trial.full.nll
        return _by_image(values, codes)

    out: dict[str, dict[str, Floats]] = {}
    for kind in ("changed", "nll", "kl"):
        late = np.array([of(plan, kind) for plan in by_kind["late"]])
        leave = np.array([of(plan, kind) for plan in by_kind["exit"]])
        for target, table in {
            "hide": np.array([of(plan, kind) for plan in by_kind["single"]]),
            "late": np.diff(late, axis=0),
            "exit": -np.diff(leave, axis=0),
            "drop": np.array([of(plan, kind) for plan in by_kind["drop"]]),
        }.items():
            out.setdefault(target, {})[kind] = table.T
    return out


def curves(found: Results, n_layers: int) -> dict[str, ReadingCurve]:
    """Readings by layer; layer l (from 0) maps state l to state l + 1."""
    out: dict[str, ReadingCurve] = {}
    for measure in found.measures:
        spec = registry.load("measures", measure).SPEC
        harm_when: Literal["high", "low"] = "high" if spec.redundant_when == "below" else "low"
        for modality in found.modalities:
            pairs = {r.pair: r for r in found.select(measure=measure, modality=modality)}
            steps = [pairs.get((layer, layer + 1)) for layer in range(n_layers)]
            if any(steps):
                key = measure if modality == "vision" else f"{measure}_{modality}"
                where = "" if modality == "vision" else f", {modality} states"
                out[key] = _curve(steps, f"{spec.title}{where}", harm_when)
    first = {
        r.pair[1]: r for r in found.select(measure="geometric", modality="vision") if r.pair[0] == 0
    }
    if len(first) == n_layers > 1:
        whole = [first[layer + 1] for layer in range(n_layers)]
        out["from_first"] = _curve(
            whole, "mean cosine distance D[0, L] of vision states to those that entered", "high"
        )
        values = np.diff([0.0, *(float(r.estimate) for r in whole)])
        out["from_first_step"] = ReadingCurve(
            title="what the layer adds to D[0, L]",
            unit="cosine distance",
            harm_when="high",
            values=values.tolist(),
            # Differences of dependent means: their errors are not known, and taken as nothing.
            se=[None] * n_layers,
        )
    effect = found.select(measure="vision_effect", modality="vision")
    texts = [r.extras.get("text") for r in effect]
    if len(effect) == n_layers and all(e is not None for e in texts):
        out["vision_effect_text"] = ReadingCurve(
            title="vision effect on all text tokens together",
            unit="relative change",
            harm_when="high",
            values=[_value(e) for e in texts],
            se=[_se(e) for e in texts],
        )
    out["depth"] = ReadingCurve(
        title="the layer's number, as if deeper were always safer",
        unit="layer",
        harm_when="low",
        values=[float(layer) for layer in range(n_layers)],
        se=[None] * n_layers,
    )
    return out


def _estimate(
    store: ActivationStore,
    measures: Sequence[str],
    target: str | None,
    seed: int,
    update: Callable[[int, int | None], None],
) -> Results:
    """Every measure on neighbours, and the distances that planning reads besides."""
    found = list(choosing.readings(store, seed=seed))
    have = {(r.measure, r.modality) for r in found}
    for i, measure in enumerate(measures):
        update(i, len(measures))
        if (measure, "vision") in have:
            continue
        needs_target = "target" in registry.load("measures", measure).SPEC.needs
        if needs_target and target is None:
            continue
        found += estimate(
            store,
            measure,
            modality="vision",
            target=target if needs_target else None,
            seed=seed,
        )
    return Results(found)


def _curve(
    results: Sequence[PairResult | None], title: str, harm_when: Literal["high", "low"]
) -> ReadingCurve:
    known = [r for r in results if r is not None]
    estimates = [None if r is None or not r.estimate.trustworthy else r.estimate for r in results]
    return ReadingCurve(
        title=title,
        unit=known[0].estimate.unit,
        harm_when=harm_when,
        values=[_value(e) for e in estimates],
        se=[_se(e) for e in estimates],
        verdicts=[None if r is None else r.verdict for r in results],
        threshold=known[0].threshold,
    )


def _direct(trial: Trial, plans: Sequence[SkipPlan]) -> ReadingCurve:
    n = len(trial.groups)
    kl = [trial.plans[plan].kl for plan in plans]
    return ReadingCurve(
        title="KL of the answer when vision is hidden from the layer alone, asked directly",
        unit="nats",
        harm_when="high",
        values=[float(v.mean()) for v in kl],
        se=[float(v.std(ddof=1)) / n**0.5 if n > 1 else None for v in kl],
    )


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None or estimate.value is None else float(estimate)


def _se(estimate: Estimate | None) -> float | None:
    """Standard error that a reading's interval stands for, as if it were a normal one."""
    from scipy.stats import norm

    if estimate is None or estimate.ci is None:
        return None
    ci = estimate.ci
    width = (ci.high - ci.low) / (2 * float(norm.ppf(0.5 + ci.level / 2)))
    return width if np.isfinite(width) else None


def _one_per_image(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One question of each image, of its first, second, ... in turn, so that all kinds occur."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row["group"]), []).append(row)
    return [questions[i % len(questions)] for i, questions in enumerate(groups.values())]


def _by_image(values: Floats, codes: NDArray[np.intp]) -> Floats:
    """Mean of each image's known values; NaN for an image without any."""
    known = ~np.isnan(values)
    n = int(codes.max()) + 1
    total = np.bincount(codes[known], weights=values[known], minlength=n)
    count = np.bincount(codes[known], minlength=n)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _rounded(table: Floats) -> list[list[Any]]:
    """Plain numbers of six digits: what a loss per image is known to, at a tenth of the size."""
    return [[None if v != v else float(f"{v:.6g}") for v in row] for row in table]
