"""Run records made up for the tests: every measure, with the by-products that real runs carry."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from estimators import Diagnostic, Estimate, Interval
from redundancy import registry
from redundancy.provenance import new_record
from redundancy.record import (
    DistanceRecord,
    EvaluationRecord,
    RunRecord,
    SweepPoint,
    SweepRecord,
    estimate_to_record,
)
from redundancy.results import PairResult, Results

MEASURES = (
    "geometric", "proximal", "informational", "pid", "functional", "cka", "var", "vision_effect",
)  # fmt: skip
_EXTRAS = {
    "geometric": ("token_weighted", "certified", "squared_distance"),
    "proximal": ("token_weighted", "certified"),
    "informational": ("ratio", "entropy", "quantised_mi", "plug_in", "cross_entropy", "certified",
                      "n_eff", "cos", "d_int", "mi"),
    "pid": ("redundant", "unique_lower", "synergistic", "conditional_entropy", "retained",
            "information_upper", "information_lower", "gap"),
    "functional": ("clipped", "share", "plug_in", "gain", "trivial_cap", "r2_upper", "r2_lower",
                   "theorem2_lower", "theorem2_upper", "transfer"),
    "cka": ("biased",),
    "var": ("sum", "percent", "enrichment"),
    "vision_effect": ("text", "absolute"),
}  # fmt: skip
_WARNINGS = (
    Diagnostic(code="coverage", severity="warning", message="3840 samples from 96 groups fell into "
               "730 states (about 96% of the probability has been seen), fewer than 10 per state, "
               "so the value leans on its bias correction; use fewer states or more samples"),
    Diagnostic(code="upstream-target", severity="info", message="for states of the whole sequence "
               "the layer is a function of the one below, so about a target computed upstream of "
               "both its unique information is exactly 0"),
)  # fmt: skip


def share(value: float, **changes: object) -> Estimate:
    """A share of samples with its interval."""
    return Estimate(
        value=value, unit="probability", kind="estimate", n=50, method="mean",
        ci=Interval(low=max(0.0, value - 0.05), high=min(1.0, value + 0.05), level=0.95,
                    method="cluster t"),
    )  # fmt: skip


def run(
    n_layers: int = 8,
    *,
    dataset: str = "scenes",
    model: str = "made/up",
    seed: int = 0,
    measures: tuple[str, ...] = MEASURES,
    heads: int = 32,
) -> RunRecord:
    """A complete run over `n_layers` blocks, vision and text."""
    rng = np.random.default_rng(seed)
    results = [
        _result(measure, modality, layer, n_layers, rng, heads)
        for measure in measures
        for modality in ("vision", "text")
        if modality == "vision" or measure not in ("var", "vision_effect")
        for layer in range(n_layers)
    ]
    kept = Results(results)
    matrix = DistanceRecord(
        layers=list(range(n_layers + 1)),
        matrix=[[abs(i - j) / n_layers for j in range(n_layers + 1)] for i in range(n_layers + 1)],
    )
    base = new_record(
        command="estimate",
        argv=["redundancy", "estimate", f"acts/{dataset}", "--measure", "geometric"],
        options={"seed": seed, "measure": list(measures), "ci": 0.95},
        seed=seed,
        store={"path": f"acts/{dataset}", "model": model, "dataset": {"name": dataset}, "n": 2048,
               "layers": list(range(n_layers + 1))},
    )  # fmt: skip
    return msgspec.structs.replace(
        base,
        status="complete",
        results=[r.to_record() for r in results],
        warnings=kept.warnings,
        distances={"vision": matrix, "text": matrix},
        cka={"vision": matrix, "text": matrix},
        sweeps=[_sweep("late", n_layers, 2), _sweep("exit", n_layers, n_layers - 2)],
        evaluations=[_evaluation("full model", 0.9, 1.0), _evaluation("with the plan", 0.89, 0.5)],
        plan={"n_layers": n_layers, "vision_entry": 2, "vision_exit": n_layers - 2,
              "description": f"{n_layers} layers: vision tokens enter at layer 2.",
              "evidence": {"saved": 0.5}},
    )  # fmt: skip


def _result(
    measure: str, modality: str, layer: int, n_layers: int, rng: np.random.Generator, heads: int
) -> PairResult:
    spec = registry.load("measures", measure).SPEC
    middle = math.exp(-(((layer + 0.5) / n_layers - 0.4) ** 2) / 0.02)
    value = 0.02 + 0.6 * middle + 0.02 * float(rng.random())
    if spec.redundant_when == "above":
        value = 1.0 - value
    threshold = 0.9 if spec.redundant_when == "above" else 0.1
    side = value < threshold if spec.redundant_when == "below" else value > threshold
    params: dict[str, object] = {"n_states": 128, "n_fit": 2560, "coverage": 0.99323, "n_eff": 1903}
    if measure == "var":
        params["per_head"] = [float(v) for v in np.clip(value + 0.1 * rng.normal(size=heads), 0, 1)]

    def estimate(v: float, unit: str, **changes: object) -> Estimate:
        ci = Interval(low=v - 0.03, high=v + 0.03, level=0.95, method="delete-a-group jackknife")
        given = {
            "value": v,
            "unit": unit,
            "kind": "estimate",
            "n": 2048,
            "n_groups": 512,
            "method": "k-means 128 states, chao-wang-jost",
            "ci": ci,
            "seed": 0,
            "params": {"correction": "chao-wang-jost", "coverage": 0.99, "states": 128},
        }
        return Estimate(**(given | changes))  # type: ignore[arg-type]

    extras = {
        key: estimate(value * (0.3 + 0.7 * float(rng.random())), "nats") for key in _EXTRAS[measure]
    }
    if measure == "functional":
        ends = {"trivial_cap": 1.0, "theorem2_lower": 0.0, "theorem2_upper": 3.0}
        extras |= {key: estimate(v, spec.unit) for key, v in ends.items()}
    if measure == "informational":
        climb = [(n, 1 + 0.2 * math.log(n)) for n in (125, 250, 500, 1000)]
        sweep = [(k, 2.5 - 0.1 * k) for k in (1, 3, 5, 10)]
        extras["mi"] = estimate(3.0, "nats", params={"n_scaling": climb, "k_sweep": sweep})
    if measure == "var":
        extras["enrichment"] = estimate(0.4, "ratio", params={"vision_share": 0.8})
    return PairResult(
        pair=(layer, layer + 1),
        measure=measure,
        modality=modality,
        estimate=estimate(value, spec.unit, params=params, diagnostics=_WARNINGS),
        extras=extras,
        threshold=threshold,
        p_redundant=0.01,
        p_needed=0.99,
        p_adjusted=0.2,
        verdict="redundant" if side else "needed",
    )


def _evaluation(name: str, accuracy: float, cost: float) -> EvaluationRecord:
    return EvaluationRecord(
        name=name, n=800, accuracy=estimate_to_record(share(accuracy)),
        agreement=estimate_to_record(share(accuracy + 0.05)), by_task={"count": 0.9, "colour": 0.8},
        prefill_s=0.01 * cost, prefill_flops=1e9 * cost, kv_bytes=2.0**20 * cost,
    )  # fmt: skip


def _sweep(kind: str, n_layers: int, chosen: int) -> SweepRecord:
    def accuracy(layer: int) -> float:
        depth = layer / n_layers if kind == "late" else 1 - layer / n_layers
        return 0.9 / (1 + math.exp(12 * (depth - 0.4))) + 0.05

    return SweepRecord(
        kind=kind,  # type: ignore[arg-type]
        points=[
            SweepPoint(layer=i, evaluation=_evaluation("sweep", accuracy(i), 1.0))
            for i in range(n_layers + 1)
        ],
        chosen=chosen,
        chance=0.25,
    )
