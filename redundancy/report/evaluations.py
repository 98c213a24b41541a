"""How a model did with and without a plan, as the terminal and the page both write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from redundancy.record import EstimateRecord, EvaluationRecord, SweepRecord
from redundancy.report.numbers import MISSING, count, duration, number, size
from redundancy.report.tables import folded

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["SWEEP_TITLES", "evaluation_row", "evaluations_table", "share", "sweep_blocks"]

SWEEP_TITLES = {
    "late": "Late entry: the first layers run without vision tokens",
    "exit": "Early exit: the last layers run without vision tokens",
    "drop": "Dropped layers, one at a time",
    "single": "Vision tokens left out of one layer at a time",
}


def share(estimate: EstimateRecord | None) -> str:
    """Return a share as a percentage with its interval."""
    if estimate is None or estimate.value is None:
        return MISSING
    text = f"{100 * estimate.value:.1f}%"
    ci = estimate.ci
    if ci is not None and ci.low is not None and ci.high is not None:
        text += f" ({100 * ci.low:.1f} – {100 * ci.high:.1f})"
    return text


def evaluation_row(r: EvaluationRecord, base: EvaluationRecord | None = None) -> dict[str, Any]:
    """Return an evaluation in words; `base` is the full model that changes are relative to."""

    def relative(name: str, text: Callable[[float], str]) -> str:
        value = getattr(r, name)
        if value is None:
            return MISSING
        whole = getattr(base, name) if base is not None else None
        if not whole or r is base:
            return text(value)
        return f"{text(value)} ({100 * (value / whole - 1):+.1f}%)"

    return {
        "name": r.name,
        "n": f"{r.n:,}",
        "accuracy": share(r.accuracy),
        "change": share(r.accuracy_change),
        "nll": MISSING if r.nll is None else number(r.nll.value, 3),
        "agreement": share(r.agreement),
        "prefill": relative("prefill_s", duration),
        "flops": relative("prefill_flops", lambda v: f"{v:.3g}"),
        "kv": relative("kv_bytes", size),
        "by_task": {task: f"{100 * v:.1f}%" for task, v in r.by_task.items()},
    }


def evaluations_table(
    records: Sequence[EvaluationRecord], *, width: int = 160
) -> Iterator[RenderableType]:
    """Yield the table with a column per model; the first is the full model."""
    rows = [evaluation_row(r, records[0]) for r in records]
    narrow = width < 80
    lines = {
        "accuracy": "accuracy",
        "change": "change" if narrow else "change of accuracy, paired",
        "agreement": "same answer" if narrow else "same answer as full model",
        "prefill": "prefill" if narrow else "prefill, per sample",
        "flops": "FLOPs" if narrow else "FLOPs of prefill",
        "kv": "KV cache" if narrow else "KV cache, per sample",
    }
    shown = [key for key in lines if any(row[key] != MISSING for row in rows)]
    yield from folded(
        ("", [lines[key] for key in shown]),
        [[(str(row["name"]), [row[key] for key in shown])] for row in rows],
        width=width,
    )


def sweep_blocks(sweep: SweepRecord, *, width: int = 160) -> Iterator[RenderableType]:
    """Yield a sweep as the terminal shows it: title and one row per layer."""
    from rich.text import Text

    yield Text(SWEEP_TITLES[sweep.kind], style="bold")
    points = sorted(sweep.points, key=lambda p: p.layer)
    rows = [evaluation_row(p.evaluation) for p in points]
    plan = [p.layer == sweep.chosen for p in points]
    same = "same answer" if width < 80 else "same answer as full model"
    groups = [
        [("accuracy", [r["accuracy"] for r in rows])],
        [(same, [r["agreement"] for r in rows])],
        [("FLOPs of prefill", [r["flops"] for r in rows])],
    ]
    key = [
        f"{p.layer} ← plan" if is_plan else str(p.layer)
        for p, is_plan in zip(points, plan, strict=True)
    ]
    styles = ["green" if is_plan else "" for is_plan in plan]
    yield from folded(("layer", key), groups, width=width, styles=styles)
    n = sweep.points[0].evaluation.n if sweep.points else 0
    chance = "" if sweep.chance is None else f" · chance {100 * sweep.chance:.1f}%"
    yield Text(f"{count(n, 'sample')} per row · 95% intervals by image{chance}", style="dim")
