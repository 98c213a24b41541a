"""What a validation study keeps: one record per model, and one for the analysis of several."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from estimators import InputError
from redundancy._files import read_sealed, write_sealed
from redundancy.record import EstimateRecord

__all__ = [
    "KINDS",
    "TARGETS",
    "AnalysisRecord",
    "AssociationRecord",
    "ModelRecord",
    "OrderingOutcome",
    "OrderingRecord",
    "ReadingCurve",
    "StudyRecord",
    "read_analysis",
    "read_study",
    "write",
]

SCHEMA_VERSION = 1
MAX_BYTES = 64 * 2**20

TARGETS: dict[str, str] = {
    "hide": "vision hidden from this layer alone",
    "late": "vision entering one layer later, after this one",
    "exit": "vision leaving one layer earlier, before this one",
    "drop": "this layer left out altogether",
}
"""What is done to one layer; the loss of each is marginal: against the plan one step milder."""

KINDS: dict[str, str] = {
    "changed": "share of answers that change",
    "nll": "nats more for the right answer",
    "kl": "nats between the distributions of the answer, full model to plan",
}


class ReadingCurve(msgspec.Struct, frozen=True, kw_only=True):
    """One measure, layer by layer.

    `harm_when` is the side on which the measure says that skipping harms: "high" or "low". `se` are
    standard errors where the reading has an interval, `verdicts` those at `threshold`.
    """

    title: str
    unit: str
    harm_when: Literal["high", "low"]
    values: list[float | None]
    se: list[float | None]
    verdicts: list[str | None] = []
    threshold: float | None = None


class OrderingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Plans of one ordering, safest first, as indices into the study's plans.

    Several sequences share the risk that may go wrong between them.
    """

    title: str
    sequences: list[list[int]]


class StudyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one model's layers read, and what intervening on them cost.

    `losses` has, by target and kind, one row per image and one column per layer. `plans` describes
    every plan tried for the orderings, `changed` holds one row per plan and one column per image (a
    share of the image's answers), `saved` the share of the prompt's arithmetic each plan saves.
    """

    schema_version: int
    name: str
    created: str
    seed: int
    n_layers: int
    model: dict[str, Any]
    settings: dict[str, Any]
    measured: dict[str, int]
    tested: dict[str, int]
    accuracy: EstimateRecord | None
    readings: dict[str, ReadingCurve]
    images: list[str]
    losses: dict[str, dict[str, list[list[float | None]]]]
    plans: list[str] = []
    saved: list[float] = []
    changed: list[list[float]] = []
    orderings: dict[str, OrderingRecord] = {}


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One model of an analysis: what tells it from others, and what it can do."""

    name: str
    cluster: str
    n_layers: int
    accuracy: float | None
    n_images: int


class AssociationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How well one measure ranks the layers by one loss.

    `by_model` are the models' own Spearman correlations (null where readings or losses are all
    equal). `mean` is their mean; `images_ci` resamples images and draws readings anew from their
    intervals, with the models as they are; `clusters_ci` is the t interval over clusters (seeds),
    `clusters_bootstrap` the percentiles of resampled clusters. `p` shuffles layers within models,
    `p_adjusted` corrects it over the measures (Holm). `beyond_depth` is the mean partial
    correlation with the layers' order held fixed. `auc` is the area under the curve against "costs
    more than alpha"; `verdicts` counts layers by verdict: [harmless, harmful].
    """

    measure: str
    target: str
    kind: str
    n_models: int
    by_model: list[float | None]
    mean: float | None
    kendall: float | None = None
    images_ci: tuple[float, float] | None = None
    clusters_ci: tuple[float, float] | None = None
    clusters_bootstrap: tuple[float, float] | None = None
    p: float | None = None
    p_adjusted: float | None = None
    beyond_depth: float | None = None
    beyond_depth_ci: tuple[float, float] | None = None
    auc: float | None = None
    auc_ci: tuple[float, float] | None = None
    n_auc_models: int = 0
    verdicts: dict[str, tuple[int, int]] = {}
    auc_verdicts: float | None = None
    control: bool = False


class OrderingOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one ordering of plans let certificates save, on average over divisions of the images.

    `saved` is the share of the prompt's arithmetic; `ahead` by how much this package's ordering
    saves more (below zero: less), and `models_behind` for how many models it saves less.
    `none_certified` is the share of divisions without any certificate, `broken` that where a
    certified plan changed more than alpha of the answers on the images that took no part (noise of
    that test included), `broken_worst` the largest of any model.
    """

    ordering: str
    title: str
    alpha: float
    delta: float
    resplits: int
    by_model: dict[str, float]
    saved: float
    saved_ci: tuple[float, float] | None
    ahead: float
    ahead_ci: tuple[float, float] | None
    models_behind: int
    none_certified: float
    broken: float
    broken_worst: float


class AnalysisRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer: every measure against every loss, and the orderings side by side."""

    schema_version: int
    created: str
    source: str
    alpha: float
    level: float
    draws: int
    seed: int
    models: list[ModelRecord]
    associations: list[AssociationRecord]
    readings: dict[str, str]
    targets: dict[str, str]
    provenance: dict[str, Any] = {}
    notes: list[str] = []
    orderings: list[OrderingOutcome] = []


def write(record: msgspec.Struct, path: str | Path) -> None:
    """Write a record, sealed, so that it appears whole or not at all."""
    write_sealed(path, record)


def read_study(path: str | Path) -> StudyRecord:
    """Read a study that `write` wrote; InputError if it is damaged or of a newer schema."""
    record: StudyRecord = _read(path, StudyRecord)
    return record


def read_analysis(path: str | Path) -> AnalysisRecord:
    """Read an analysis that `write` wrote; InputError if it is damaged or of a newer schema."""
    record: AnalysisRecord = _read(path, AnalysisRecord)
    return record


def _read(path: str | Path, type_: Any) -> Any:
    file = Path(path)
    if not file.exists():
        raise InputError(f"there is no file {file}; name what `redundancy validate` wrote")
    version = read_sealed(file, _Version, max_bytes=MAX_BYTES).schema_version
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{file} has schema version {version}; this release reads {SCHEMA_VERSION}: install "
            "the release of redundancy that wrote it"
        )
    return read_sealed(file, type_, max_bytes=MAX_BYTES)


class _Version(msgspec.Struct):
    schema_version: int
