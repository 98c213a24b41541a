"""The run record: everything a run was told and found, as versioned plain JSON.

The structures below *are* the format; `json_schema` publishes them. Numbers that JSON cannot hold
are said in words: no estimate is ``value: null`` with ``status: "none"``; an open end of an
interval is ``null``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import numpy as np

from estimators import Diagnostic, Estimate, InputError, Interval
from redundancy._files import read_sealed, write_sealed

__all__ = [
    "SCHEMA_VERSION",
    "DiagnosticRecord",
    "DistanceRecord",
    "EstimateRecord",
    "EvaluationRecord",
    "IntervalRecord",
    "ResultRecord",
    "RunInfo",
    "RunRecord",
    "SweepPoint",
    "SweepRecord",
    "WarningRecord",
    "estimate_from_record",
    "estimate_to_record",
    "json_schema",
    "plain",
    "read_record",
    "write_record",
]

SCHEMA_VERSION = 1
MAX_BYTES = 256 * 2**20


class IntervalRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An `Interval`; a null end is open."""

    level: float
    method: str
    low: float | None
    high: float | None


class DiagnosticRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A `Diagnostic`."""

    code: str
    severity: Literal["info", "warning", "error"]
    message: str


class EstimateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An `Estimate`; status is "ok", "untrusted" (a value not to be believed) or "none"."""

    value: float | None
    unit: str
    kind: Literal["exact", "certified", "bound_under_assumption", "estimate"]
    n: int
    method: str
    status: Literal["ok", "untrusted", "none"]
    ci: IntervalRecord | None = None
    n_groups: int | None = None
    params: dict[str, Any] = {}
    seed: int | None = None
    diagnostics: list[DiagnosticRecord] = []


class ResultRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one measure says of one pair of layers."""

    pair: tuple[int, int]
    modality: str
    measure: str
    estimator: str
    estimate: EstimateRecord
    extras: dict[str, EstimateRecord] = {}
    threshold: float | None = None
    p_redundant: float | None = None
    p_needed: float | None = None
    p_adjusted: float | None = None
    verdict: Literal["redundant", "undecided", "needed", "no estimate"] | None = None
    notes: list[str] = []


class WarningRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One finding, and the pairs it concerns."""

    code: str
    pairs: list[tuple[int, int]]
    text: str


class EvaluationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How a model did on data, with or without a plan.

    Times are medians of runs that alternated with the full model's; `prefill_flops` and `kv_bytes`
    are counted from the model's shapes, per sample. `nll` is what the right answer costs in nats;
    `accuracy_change` and `nll_change` are differences from the full model, paired by sample.
    """

    name: str
    n: int
    n_groups: int | None = None
    plan: dict[str, Any] | None = None
    accuracy: EstimateRecord | None = None
    agreement: EstimateRecord | None = None
    nll: EstimateRecord | None = None
    accuracy_change: EstimateRecord | None = None
    nll_change: EstimateRecord | None = None
    by_task: dict[str, float] = {}
    prefill_s: float | None = None
    decode_s_per_token: float | None = None
    prefill_flops: float | None = None
    kv_bytes: float | None = None


class SweepPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One plan of a sweep, at layer `layer`."""

    layer: int
    evaluation: EvaluationRecord


class SweepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Late entry, early exit, dropped or single layers, one plan after the other."""

    kind: Literal["late", "exit", "drop", "single"]
    points: list[SweepPoint]
    chosen: int | None = None
    chance: float | None = None


class DistanceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A number for every two layers of one modality: mean cosine distance, or CKA."""

    layers: list[int]
    matrix: list[list[float | None]]


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How the run was started, and how long it took."""

    id: str
    created: str
    command: str
    argv: list[str] = []
    options_given: dict[str, Any] = {}
    options: dict[str, Any] = {}
    seed: int | None = None
    duration_s: float | None = None


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run.

    `status` is "running" until the last result is in, so that a killed run can be told from a
    finished one. `sweeps`, `evaluations`, `distances` and `cka` are filled by commands that make
    them.
    """

    schema_version: int
    status: Literal["running", "complete", "failed", "interrupted"]
    run: RunInfo
    provenance: dict[str, Any] = {}
    results: list[ResultRecord] = []
    plan: dict[str, Any] | None = None
    sweeps: list[SweepRecord] = []
    evaluations: list[EvaluationRecord] = []
    distances: dict[str, DistanceRecord] = {}
    cka: dict[str, DistanceRecord] = {}
    warnings: list[WarningRecord] = []


def plain(value: Any) -> Any:
    """Reduce `value` to what JSON can hold: NaN and infinities become None, arrays lists."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Estimate):
        return msgspec.to_builtins(estimate_to_record(value))
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)


def estimate_to_record(estimate: Estimate) -> EstimateRecord:
    """Return the estimate as the record keeps it."""
    ci = estimate.ci
    status: Literal["ok", "untrusted", "none"] = "none"
    if estimate.value is not None:
        status = "ok" if estimate.trustworthy else "untrusted"
    return EstimateRecord(
        value=plain(estimate.value),
        unit=estimate.unit,
        kind=estimate.kind,
        n=int(estimate.n),
        method=estimate.method,
        status=status,
        ci=None
        if ci is None
        else IntervalRecord(
            level=ci.level, method=ci.method, low=plain(ci.low), high=plain(ci.high)
        ),
        n_groups=None if estimate.n_groups is None else int(estimate.n_groups),
        params=cast(dict[str, Any], plain(estimate.params)),
        seed=None if estimate.seed is None else int(estimate.seed),
        diagnostics=[
            DiagnosticRecord(code=d.code, severity=d.severity, message=d.message)
            for d in estimate.diagnostics
        ],
    )


def estimate_from_record(record: EstimateRecord) -> Estimate:
    """Return the `Estimate` that a record describes."""
    ci = record.ci
    return Estimate(
        value=record.value,
        unit=record.unit,
        kind=record.kind,
        n=record.n,
        method=record.method,
        ci=None
        if ci is None
        else Interval(
            low=-math.inf if ci.low is None else ci.low,
            high=math.inf if ci.high is None else ci.high,
            level=ci.level,
            method=ci.method,
        ),
        n_groups=record.n_groups,
        params=record.params,
        seed=record.seed,
        diagnostics=tuple(
            Diagnostic(code=d.code, severity=d.severity, message=d.message)
            for d in record.diagnostics
        ),
    )


def write_record(record: RunRecord, path: str | Path) -> None:
    """Write the record to `path` so that a reader sees the old file or the new one, never half."""
    write_sealed(path, record)


def read_record(path: str | Path) -> RunRecord:
    """Read a record, or the record of a run folder.

    Raises
    ------
    InputError
        If it is missing, damaged, no record, or was written by a newer schema.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "record.json"
    if not file.exists():
        raise InputError(
            f"there is no run record at {file}; name a record.json that `redundancy estimate` or "
            "`redundancy demo` wrote, or the folder it is in"
        )
    version = read_sealed(file, _Version, max_bytes=MAX_BYTES).schema_version
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{file} has schema version {version}; this release reads {SCHEMA_VERSION}: install "
            "the release of redundancy that wrote it"
        )
    record: RunRecord = read_sealed(file, RunRecord, max_bytes=MAX_BYTES)
    return record


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the run record."""
    return msgspec.json.schema(RunRecord)


class _Version(msgspec.Struct):
    schema_version: int
