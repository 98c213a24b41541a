"""The report: one offline HTML file, made from a run record alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from redundancy._files import write_atomic
from redundancy.record import EvaluationRecord, RunRecord, SweepRecord
from redundancy.report import plots
from redundancy.report._downloads import record_downloads
from redundancy.report._drops import drops
from redundancy.report._ruler import ruler
from redundancy.report._sections import measure_section, picture
from redundancy.report.evaluations import SWEEP_TITLES, evaluation_row, share
from redundancy.report.implications import STATES, arrow_states, implication_lines
from redundancy.report.numbers import MISSING, pair_ranges
from redundancy.report.page import command_line, render_page
from redundancy.report.plots.ruler import VERDICT_LETTERS
from redundancy.report.tables import warning_marks
from redundancy.results import PairResult, Results

__all__ = ["render", "write_report"]


def write_report(record: RunRecord, path: str | Path) -> None:
    """Write the report of `record` to `path`."""
    write_atomic(Path(path), render(record).encode())


def render(record: RunRecord) -> str:
    """Return the report of a run as HTML; every text in it is escaped."""
    results = Results([PairResult.from_record(r) for r in record.results], record)
    marks = warning_marks(results)
    context: dict[str, Any] = {
        "plan": _plan(record),
        "evaluations": evaluation_rows(record.evaluations),
        "by_task": _by_task(record.evaluations),
        "ruler": ruler(results, record.plan),
        "sweeps": [sweep_block(sweep) for sweep in record.sweeps],
        "against": _against(results, record),
        "sections": [
            measure_section(results.select(measure), record, marks) for measure in results.measures
        ],
        "distances": [
            picture(
                partial(plots.plot_distances, matrix),
                f"Matrix of mean cosine distances between all layers, {name} tokens.",
                title=name,
                height=3.6,
            )
            for name, matrix in record.distances.items()
        ],
        "follows": implication_lines(results),
        "implications": _implications(results),
        "warnings": warning_rows(results),
    }
    return render_page(
        "report.html",
        record=record,
        title=title_of(record),
        command=command_line(record.run.argv),
        contents=_contents(context),
        downloads=record_downloads(results),
        **context,
    )


def _contents(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the sections that the page has, in order, as (id, title)."""
    wanted = [
        ("skip", "What to skip", context["plan"] or context["evaluations"]),
        ("verdicts", "Verdicts", context["ruler"]),
        ("costs", "What skipping costs", context["sweeps"]),
        *((s["id"], s["name"], True) for s in context["sections"]),
        ("distances", "All distances", context["distances"]),
        ("follows", "What follows", context["follows"]),
        ("careful", "What to be careful about", context["warnings"]),
        ("provenance", "Where this comes from", True),
    ]
    return [(name, title) for name, title, there in wanted if there]


def title_of(record: RunRecord) -> str:
    """Return what a run is of: its model, or the path of its activations."""
    store = record.provenance.get("store") or {}
    return str(store.get("model") or store.get("path") or "activations")


def sweep_block(sweep: SweepRecord, title: str = "") -> dict[str, Any]:
    """Return the picture and the table of one sweep."""
    rows = [evaluation_row(p.evaluation) | {"layer": p.layer} for p in sweep.points]
    name = SWEEP_TITLES[sweep.kind]
    label = f"{f'{title} {name}'.strip()}: accuracy and agreement by layer; the table below holds "
    label += "the numbers."
    return {
        "picture": picture(partial(plots.plot_sweep, sweep), label, title=title or name),
        "name": f"{title} {name}".strip(),
        "head": ("layer", "accuracy (95% CI)", "same answer", "FLOPs of prefill", "KV cache"),
        "rows": [(r["layer"], r["accuracy"], r["agreement"], r["flops"], r["kv"]) for r in rows],
    }


def evaluation_rows(records: list[EvaluationRecord]) -> list[dict[str, Any]]:
    """Return the columns of the table with and without a plan; the first is the full model."""
    base = records[0] if records else None
    return [evaluation_row(r, base) for r in records]


def _by_task(records: list[EvaluationRecord]) -> dict[str, Any] | None:
    tasks = list(records[0].by_task) if records else []
    if not tasks:
        return None
    rows = [
        [r.name, *(f"{100 * r.by_task[t]:.1f}%" if t in r.by_task else MISSING for t in tasks)]
        for r in records
    ]
    return {"head": ["model", *tasks], "rows": rows}


def saving_of(plan: Mapping[str, Any], evaluations: list[EvaluationRecord]) -> str:
    """Say what the plan saves: measured, where it was run, otherwise counted."""
    if len(evaluations) > 1:
        full, changed = evaluations[0], evaluations[-1]
        parts = [
            f"{100 * (1 - after / before):.0f}% of {words}"
            for words, before, after in (
                ("the FLOPs of a prefill", full.prefill_flops, changed.prefill_flops),
                ("the KV cache", full.kv_bytes, changed.kv_bytes),
                ("the prefill's time on this machine", full.prefill_s, changed.prefill_s),
            )
            if before and after is not None
        ]
        if parts:
            return f"It saves {', '.join(parts)}."
    saved = (plan.get("evidence") or {}).get("saved")
    if isinstance(saved, int | float):
        return (
            f"It leaves out {100 * saved:.0f}% of the vision tokens' blocks (counted, not timed)."
        )
    return ""


def warning_rows(results: Results) -> list[dict[str, str]]:
    """Return what to be careful about: each finding with its mark, its measures and its pairs."""
    measures: dict[str, dict[str, None]] = {}
    for r in results:
        for e in (r.estimate, *r.extras.values()):
            for d in e.diagnostics:
                measures.setdefault(d.code, {})[r.measure] = None
    return [
        {
            "mark": f"W{i}",
            "text": w.text,
            "pairs": f"{', '.join(measures[w.code])}, layers {pair_ranges(w.pairs)}",
        }
        for i, w in enumerate(results.warnings, start=1)
    ]


def _plan(record: RunRecord) -> dict[str, Any] | None:
    plan = record.plan
    if plan is None:
        return None
    return {
        "text": plan.get("description") or "",
        "saving": saving_of(plan, record.evaluations),
        "json": json.dumps({k: v for k, v in plan.items() if k != "evidence"}, indent=1),
    }


def _against(results: Results, record: RunRecord) -> dict[str, Any] | None:
    found = drops(results, record.sweeps)
    keys = list(dict.fromkeys(key for drop in found for key in drop.verdicts))
    if not keys:
        return None
    kinds = {"late": "enter at", "exit": "leave at", "drop": "without layer", "single": "hidden at"}
    return {
        "picture": picture(
            partial(plots.plot_verdicts_against_drop, results, record.sweeps),
            "Plans by what each measure said of the layers they skip, over what they cost; the "
            "table below holds the same.",
            "Each mark is one plan of the sweeps above, judged by the worst verdict among the "
            "layers it skips. A measure that is worth something has its circles on the left.",
            width=4.8,
            height=1.3 + 0.32 * len(keys),
        ),
        "head": ["plan", "answers changed (95% CI)", "accuracy", "change of accuracy",
                 *(f"{measure} · {modality}" for measure, modality in keys)],
        "rows": [
            [f"{kinds[drop.kind]} {drop.layer}", _changed(drop.agreement), share(drop.accuracy),
             share(drop.change),
             *(drop.verdicts.get(key, MISSING) for key in keys)]
            for drop in found
        ],
        "letters": VERDICT_LETTERS,
    }  # fmt: skip


def _changed(agreement: Any) -> str:
    from msgspec.structs import replace

    ci = agreement.ci
    if ci is not None and ci.low is not None and ci.high is not None:
        ci = replace(ci, low=1 - ci.high, high=1 - ci.low)
    return share(replace(agreement, value=1 - agreement.value, ci=ci))


def _implications(results: Results) -> dict[str, Any] | None:
    states = arrow_states(results)
    if all(arrow.state in ("never", "not measured") for arrow in states):
        return None
    return {
        "picture": picture(
            partial(plots.plot_implications, results, states=states),
            "Diagram of which notion of redundancy implies which, for these numbers; the table "
            "below holds the same.",
            "Under each notion: for how many pairs it was found. The arrows are those of Figure 1, "
            "corrected.",
            width=4.8,
            height=4.4,
        ),
        "rows": [
            (f"{a.source} → {'safe to skip' if a.target == 'skip' else a.target}", STATES[a.state])
            for a in states
        ],
    }
