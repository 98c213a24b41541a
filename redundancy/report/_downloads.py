"""The data behind a page, as links that carry it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import msgspec

from redundancy.record import estimate_to_record
from redundancy.report.page import download
from redundancy.results import PairResult, Results
from vlm._seal import seal

__all__ = ["comparison_downloads", "record_downloads", "results_csv"]

_HEADER = (
    "measure", "modality", "lower", "upper", "value", "ci_low", "ci_high", "unit", "kind", "n",
    "n_groups", "threshold", "p_adjusted", "verdict",
)  # fmt: skip


def record_downloads(results: Results) -> list[dict[str, str]]:
    """Return links with the whole record, which the tool reads again, and the results as CSV."""
    found = [download("record.json", "application/json", seal(msgspec.json.encode(results.record)))]
    if len(results):
        found.append(download("results.csv", "text/csv", results_csv({"": results}).encode()))
    return found


def comparison_downloads(runs: Mapping[str, Results]) -> list[dict[str, str]]:
    """Return links with the headline numbers of all runs; their by-products are in the records."""
    document = [
        {
            "name": name,
            "run": None if results.record is None else results.record.run,
            "provenance": {} if results.record is None else results.record.provenance,
            "results": [_headline(r) for r in results],
        }
        for name, results in runs.items()
    ]
    return [
        download("comparison.json", "application/json", msgspec.json.encode(document)),
        download("comparison.csv", "text/csv", results_csv(runs).encode()),
    ]


def results_csv(runs: Mapping[str, Results]) -> str:
    """Return one line per result; with several runs their name comes first."""
    out = io.StringIO()
    writer = csv.writer(out)
    named = len(runs) > 1
    writer.writerow(("run", *_HEADER) if named else _HEADER)
    for name, results in runs.items():
        for r in results:
            writer.writerow((name, *_cells(r)) if named else _cells(r))
    return out.getvalue()


def _cells(r: PairResult) -> tuple[Any, ...]:
    ci = r.estimate.ci
    return (
        r.measure, r.modality, *r.pair, r.estimate.value, ci.low if ci else None,
        ci.high if ci else None, r.estimate.unit, r.estimate.kind, r.estimate.n,
        r.estimate.n_groups, r.threshold, r.p_adjusted, r.verdict,
    )  # fmt: skip


def _headline(r: PairResult) -> dict[str, Any]:
    e = estimate_to_record(r.estimate)
    return {
        "pair": r.pair,
        "modality": r.modality,
        "measure": r.measure,
        "value": e.value,
        "ci": e.ci,
        "unit": e.unit,
        "kind": e.kind,
        "n": e.n,
        "n_groups": e.n_groups,
        "status": e.status,
        "method": e.method,
        "diagnostics": [d.code for d in e.diagnostics],
        "threshold": r.threshold,
        "p_adjusted": r.p_adjusted,
        "verdict": r.verdict,
    }
