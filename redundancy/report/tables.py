"""Terminal tables: one row per pair, diagnostics beside the number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from redundancy import registry
from redundancy.measures._spec import Column, MeasureSpec
from redundancy.report.numbers import MISSING, count, decimals_for, interval, number
from redundancy.results import PairResult, Results

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["STYLES", "extra_text", "marks_of", "results_blocks", "verdict_legend", "warning_marks"]

STYLES = {
    "redundant": "green",
    "needed": "yellow",
    "undecided": "default",
    "no estimate": "red",
}
"""Colours of the verdicts; the word always stands beside the colour."""


def results_blocks(results: Results) -> Iterator[RenderableType]:
    """Yield what is printed for a run: per measure and modality a heading, a table and a legend."""
    from rich.text import Text

    marks = warning_marks(results)
    blocks = [
        (measure, modality, results.select(measure, modality))
        for measure in results.measures
        for modality in results.modalities
    ]
    blocks = [block for block in blocks if len(block[2])]
    for measure, modality, rows in blocks:
        spec: MeasureSpec = registry.load("measures", measure).SPEC
        yield Text(f"{measure} · {modality} · {spec.title}", style="bold")
        yield results_table(rows, spec, marks)
        yield Text(verdict_legend(rows, spec), style="dim")
        yield Text("")
    for warning, mark in zip(results.warnings, marks.values(), strict=True):
        labels = [f"{a}→{b}" for a, b in warning.pairs]
        where = labels[0] + (f" and {len(labels) - 1} more" if len(labels) > 1 else "")
        yield Text(f"{mark} {where}: {warning.text}")


def warning_marks(results: Results) -> dict[str, str]:
    """Number the warnings of a run: code to W1, W2, ..."""
    return {w.code: f"W{i}" for i, w in enumerate(results.warnings, start=1)}


def results_table(rows: Sequence[PairResult], spec: MeasureSpec, marks: dict[str, str]) -> Table:
    """Return the table of one measure and one modality."""
    from rich.table import Table
    from rich.text import Text

    level = next((r.estimate.ci.level for r in rows if r.estimate.ci is not None), None)
    columns = [c for c in spec.columns if any(c.key in r.extras for r in rows)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 1), show_edge=False)
    table.add_column("layers", no_wrap=True)
    table.add_column(spec.symbol, justify="right", no_wrap=True)
    if level is not None:
        table.add_column(f"{100 * level:g}% CI", justify="right", no_wrap=True)
    for column in columns:
        table.add_column(column.header, justify="right", no_wrap=True)
    has_verdict = any(r.verdict for r in rows)
    if has_verdict:
        table.add_column("verdict", no_wrap=True)
    table.add_column("", no_wrap=True)

    decimals = decimals_for(r.estimate.value for r in rows)
    places = {c.key: decimals_for(_value(r, c.key) for r in rows) for c in columns}
    for r in rows:
        ci = r.estimate.ci
        cells = [Text(r.label), Text(number(r.estimate.value, decimals))]
        if level is not None:
            cells.append(Text(MISSING if ci is None else interval(ci.low, ci.high, decimals)))
        cells += [Text(extra_text(r, c, places[c.key])) for c in columns]
        if has_verdict:
            word = r.verdict or ""
            cells.append(Text(word, style=STYLES.get(word, "")))
        cells.append(Text(" ".join(marks_of(r, marks)), style="red"))
        table.add_row(*cells)
    return table


def verdict_legend(rows: Sequence[PairResult], spec: MeasureSpec) -> str:
    """Return the line under a table: unit, and what the verdicts mean."""
    unit = rows[0].estimate.unit
    threshold = rows[0].threshold
    if threshold is None or not any(r.verdict for r in rows):
        return unit
    above = spec.redundant_when == "above"
    side, other = ("above", "below") if above else ("below", "above")
    name = "1 - ε" if above else "ε"
    return (
        f"{unit} · redundant: interval {side} {name} = {threshold:g} · needed: interval {other} it · "
        f"Holm over {count(len(rows), 'pair')}"
    )


def extra_text(row: PairResult, column: Column, decimals: int) -> str:
    """Return what a column shows of one result: its value, or its interval."""
    extra = row.extras.get(column.key)
    if extra is None:
        return MISSING
    if not column.as_interval:
        return number(extra.value, decimals)
    return MISSING if extra.ci is None else interval(extra.ci.low, extra.ci.high, decimals)


def _value(row: PairResult, key: str) -> float | None:
    return row.extras[key].value if key in row.extras else None


def marks_of(row: PairResult, marks: dict[str, str]) -> list[str]:
    """Return the marks of the warnings that concern one result."""
    estimates = (row.estimate, *row.extras.values())
    codes = [d.code for e in estimates for d in e.diagnostics]
    return list(dict.fromkeys(marks[code] for code in codes if code in marks))
