"""The report: one offline HTML file, made from a run record alone."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from redundancy import registry
from redundancy._files import write_atomic
from redundancy.measures._spec import MeasureSpec
from redundancy.record import EvaluationRecord, RunRecord, SweepRecord
from redundancy.report import plots
from redundancy.report.evaluations import SWEEP_TITLES, evaluation_row
from redundancy.report.implications import implication_lines
from redundancy.report.numbers import MISSING, decimals_for, heading, interval, number
from redundancy.report.page import command_line, download, render_page, svg
from redundancy.report.tables import extra_text, marks_of, verdict_legend, warning_marks
from redundancy.results import PairResult, Results

__all__ = ["render", "write_report"]


def write_report(record: RunRecord, path: str | Path) -> None:
    """Write the report of `record` to `path`."""
    write_atomic(Path(path), render(record).encode())


def render(record: RunRecord) -> str:
    """Return the report of a run as HTML; every text in it is escaped."""
    results = Results([PairResult.from_record(r) for r in record.results], record)
    marks = warning_marks(results)
    return render_page(
        "report.html",
        record=record,
        title=_title(record),
        command=command_line(record.run.argv),
        ruler=_ruler(results),
        sections=[_section(results.select(measure), marks) for measure in results.measures],
        sweeps=[_sweep(sweep) for sweep in record.sweeps],
        evaluations=_evaluations(record.evaluations),
        distances=[
            {
                "modality": name,
                "svg": svg(partial(plots.plot_distances, d), 4.6, 3.8),
            }
            for name, d in record.distances.items()
        ],
        plan=_plan(record.plan),
        follows=implication_lines(results),
        warnings=_warnings(results),
        downloads=_downloads(record, results),
    )


def _title(record: RunRecord) -> str:
    store = record.provenance.get("store") or {}
    return str(store.get("model") or store.get("path") or "activations")


def _ruler(results: Results) -> dict[str, Any] | None:
    if not any(r.verdict for r in results):
        return None
    # Measures without a threshold have no verdict, and no row.
    judged = Results([r for r in results if r.verdict])
    rows = len({(r.measure, r.modality) for r in judged})
    counts: dict[str, int] = {}
    for r in judged:
        counts[str(r.verdict)] = counts.get(str(r.verdict), 0) + 1
    return {
        "svg": svg(partial(plots.plot_ruler, judged), 8.4, 0.7 + 0.3 * rows),
        "counts": counts,
    }


def _section(results: Results, marks: dict[str, str]) -> dict[str, Any]:
    spec: MeasureSpec = registry.load("measures", results.measures[0]).SPEC
    tables = []
    for modality in results.modalities:
        rows = results.select(modality=modality)
        if len(rows):
            tables.append({"modality": modality, **_table(rows, spec, marks)})
    drawable = any(r.estimate.value is not None for r in results)
    return {
        "measure": heading(results.measures[0]),
        "title": spec.title,
        "paper": spec.paper,
        "svg": svg(partial(plots.plot_measure, results), 6.4, 3.2) if drawable else None,
        "tables": tables,
    }


def _table(rows: Results, spec: MeasureSpec, marks: dict[str, str]) -> dict[str, Any]:
    columns = [c for c in spec.columns if any(c.key in r.extras for r in rows)]
    decimals = decimals_for(r.estimate.value for r in rows)
    places = {
        c.key: decimals_for(r.extras[c.key].value for r in rows if c.key in r.extras)
        for c in columns
    }
    body = []
    for r in rows:
        ci = r.estimate.ci
        body.append(
            {
                "label": r.label,
                "value": number(r.estimate.value, decimals),
                "ci": MISSING if ci is None else interval(ci.low, ci.high, decimals),
                "extras": [extra_text(r, c, places[c.key]) for c in columns],
                "n": f"{r.estimate.n:,}",
                "groups": "" if r.estimate.n_groups is None else f"{r.estimate.n_groups:,}",
                "verdict": r.verdict or "",
                "marks": " ".join(marks_of(r, marks)),
            }
        )
    first = rows[0].estimate
    return {
        "symbol": spec.symbol,
        "columns": [c.header for c in columns],
        "rows": body,
        "legend": verdict_legend(rows, spec),
        "method": first.method,
        "ci_method": None if first.ci is None else first.ci.method,
        "kind": first.kind.replace("_", " "),
    }


def _sweep(sweep: SweepRecord) -> dict[str, Any]:
    return {
        "title": SWEEP_TITLES[sweep.kind],
        "svg": svg(partial(plots.plot_sweep, sweep), 4.4, 3.1),
        "rows": [evaluation_row(p.evaluation) | {"layer": p.layer} for p in sweep.points],
    }


def _evaluations(records: list[EvaluationRecord]) -> list[dict[str, Any]]:
    base = records[0] if records else None
    return [evaluation_row(r, base) for r in records]


def _plan(plan: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if plan is None:
        return None
    return {
        "text": plan.get("description") or "",
        "json": json.dumps({k: v for k, v in plan.items() if k != "evidence"}, indent=1),
    }


def _warnings(results: Results) -> list[dict[str, str]]:
    return [
        {
            "mark": f"W{i}",
            "text": w.text,
            "pairs": ", ".join(f"{a}→{b}" for a, b in w.pairs[:12])
            + (f" and {len(w.pairs) - 12} more" if len(w.pairs) > 12 else ""),
        }
        for i, w in enumerate(results.warnings, start=1)
    ]


def _downloads(record: RunRecord, results: Results) -> list[dict[str, str]]:
    """Return the data behind the page as links that carry it, so that one file holds everything."""
    found = [download("record.json", "application/json", msgspec.json.encode(record))]
    if len(results):
        found.append(download("results.csv", "text/csv", _csv(results).encode()))
    return found


def _csv(results: Results) -> str:
    import csv

    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        ["measure", "modality", "lower", "upper", "value", "ci_low", "ci_high", "unit", "kind", "n",
         "n_groups", "threshold", "p_adjusted", "verdict"]
    )  # fmt: skip
    for r in results:
        ci = r.estimate.ci
        writer.writerow(
            [r.measure, r.modality, *r.pair, r.estimate.value, ci.low if ci else None,
             ci.high if ci else None, r.estimate.unit, r.estimate.kind, r.estimate.n,
             r.estimate.n_groups, r.threshold, r.p_adjusted, r.verdict]
        )  # fmt: skip
    return out.getvalue()
