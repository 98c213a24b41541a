"""How a model did with and without a plan, as the terminal and the page both write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from redundancy.record import EstimateRecord, EvaluationRecord, SweepRecord
from redundancy.report.numbers import MISSING, count, duration, size

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

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
        "agreement": share(r.agreement),
        "prefill": relative("prefill_s", duration),
        "flops": relative("prefill_flops", lambda v: f"{v:.3g}"),
        "kv": relative("kv_bytes", size),
        "by_task": {task: f"{100 * v:.1f}%" for task, v in r.by_task.items()},
    }


def evaluations_table(records: Sequence[EvaluationRecord]) -> Table:
    """Return the table with a column per model; the first is the full model."""
    from rich.table import Table
    from rich.text import Text

    rows = [evaluation_row(r, records[0]) for r in records]
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("")
    for row in rows:
        table.add_column(row["name"], justify="right")
    lines = {
        "accuracy": "accuracy",
        "agreement": "same answer as full model",
        "prefill": "prefill, per sample",
        "flops": "FLOPs of prefill",
        "kv": "KV cache, per sample",
    }
    for key, title in lines.items():
        if any(row[key] != MISSING for row in rows):
            table.add_row(Text(title), *(Text(row[key]) for row in rows))
    return table


def sweep_blocks(sweep: SweepRecord) -> Iterator[RenderableType]:
    """Yield a sweep as the terminal shows it: title and one row per layer."""
    from rich.table import Table
    from rich.text import Text

    yield Text(SWEEP_TITLES[sweep.kind], style="bold")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 1))
    for header in ("layer", "accuracy", "same answer as full model", "FLOPs of prefill", ""):
        table.add_column(header, justify="right" if header else "left", no_wrap=True)
    for point in sorted(sweep.points, key=lambda p: p.layer):
        row = evaluation_row(point.evaluation)
        mark = "← the plan" if point.layer == sweep.chosen else ""
        table.add_row(
            *(Text(t) for t in (str(point.layer), row["accuracy"], row["agreement"], row["flops"])),
            Text(mark, style="green"),
        )
    yield table
    n = sweep.points[0].evaluation.n if sweep.points else 0
    chance = "" if sweep.chance is None else f" · chance {100 * sweep.chance:.1f}%"
    yield Text(f"{count(n, 'sample')} per row · 95% intervals by image{chance}", style="dim")
