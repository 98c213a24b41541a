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

__all__ = [
    "STYLES",
    "extra_text",
    "folded",
    "marks_of",
    "results_blocks",
    "verdict_legend",
    "warning_marks",
]

STYLES = {
    "redundant": "green",
    "needed": "yellow",
    "undecided": "default",
    "no estimate": "red",
}
"""Colours of the verdicts; the word always stands beside the colour."""

_PADDING = (0, 2, 0, 1)


def results_blocks(results: Results, *, width: int = 160) -> Iterator[RenderableType]:
    """Yield what is printed for a run: per measure and modality a heading, a table and a legend.

    Where `width` is too small for all columns the last by-products give way; value, interval and
    verdict never do.
    """
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
        yield results_table(rows, spec, marks, width=width)
        yield Text(verdict_legend(rows, spec), style="dim")
        yield Text("")
    for warning, mark in zip(results.warnings, marks.values(), strict=True):
        labels = [f"{a}→{b}" for a, b in warning.pairs]
        where = labels[0] + (f" and {len(labels) - 1} more" if len(labels) > 1 else "")
        yield Text(f"{mark} {where}: {warning.text}")


def warning_marks(results: Results) -> dict[str, str]:
    """Number the warnings of a run: code to W1, W2, ..."""
    return {w.code: f"W{i}" for i, w in enumerate(results.warnings, start=1)}


def results_table(
    rows: Sequence[PairResult], spec: MeasureSpec, marks: dict[str, str], *, width: int = 160
) -> Table:
    """Return the table of one measure and one modality, in at most `width` characters."""
    from rich.table import Table
    from rich.text import Text

    level = next((r.estimate.ci.level for r in rows if r.estimate.ci is not None), None)
    columns = [c for c in spec.columns if any(c.key in r.extras for r in rows)]
    has_verdict = any(r.verdict for r in rows)
    decimals = decimals_for(r.estimate.value for r in rows)
    texts: dict[str, list[str]] = {
        "layers": [r.label for r in rows],
        spec.symbol: [number(r.estimate.value, decimals) for r in rows],
    }
    if level is not None:
        texts[f"{100 * level:g}% CI"] = [_interval_text(r, decimals) for r in rows]
    ends: dict[str, list[str]] = {}
    if has_verdict:
        ends["verdict"] = [r.verdict or "" for r in rows]
    ends[""] = [" ".join(marks_of(r, marks)) for r in rows]
    room = width - sum(map(_needed, (texts | ends).items()))
    for c in columns:
        places = decimals_for(_value(r, c.key) for r in rows)
        column = [extra_text(r, c, places) for r in rows]
        room -= _needed((c.header, column))
        if room < 0:
            break
        texts[c.header] = column

    table = Table(box=None, pad_edge=False, padding=_PADDING, show_edge=False)
    for i, header in enumerate(texts):
        table.add_column(header, justify="right" if i else "left", no_wrap=True)
    for header in ends:
        table.add_column(header, no_wrap=True)
    for i, r in enumerate(rows):
        cells = [Text(column[i]) for column in texts.values()]
        if has_verdict:
            cells.append(Text(ends["verdict"][i], style=STYLES.get(r.verdict or "", "")))
        cells.append(Text(ends[""][i], style="red"))
        table.add_row(*cells)
    return table


def folded(
    key: tuple[str, Sequence[str]],
    groups: Sequence[Sequence[tuple[str, Sequence[str]]]],
    *,
    width: int = 160,
    styles: Sequence[str] = (),
) -> Iterator[Table]:
    """Yield one table, or where it is too wide several, each with the key of its rows.

    Parameters
    ----------
    key : (header, cells)
        The first column of every table.
    groups : sequence of columns
        Columns (header, cells) that stay together, as a value and its interval.
    width : int
        Characters that a table may take; a group that is wider alone is printed nevertheless.
    styles : sequence of str
        One per row, for its key.

    Examples
    --------
    >>> ab = [[("a", ["1111"])], [("b", ["2222"])]]
    >>> [[str(c.header) for c in t.columns] for t in folded(("key", ["x"]), ab, width=14)]
    [['key', 'a'], ['key', 'b']]
    """
    lines: list[list[tuple[str, Sequence[str]]]] = []
    room = 0
    for group in groups:
        needed = sum(_needed((header, list(cells))) for header, cells in group)
        if not lines or needed > room:
            lines.append([])
            room = width - _needed((key[0], list(key[1])))
        lines[-1] += group
        room -= needed
    for columns in lines:
        yield _key_table(key, columns, styles)


def _key_table(
    key: tuple[str, Sequence[str]],
    columns: Sequence[tuple[str, Sequence[str]]],
    styles: Sequence[str],
) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=_PADDING, show_edge=False)
    table.add_column(key[0], no_wrap=True)
    for header, _ in columns:
        table.add_column(header, justify="right", no_wrap=True)
    for i, name in enumerate(key[1]):
        first = Text(name, style=styles[i] if styles else "")
        table.add_row(first, *(Text(cells[i]) for _, cells in columns))
    return table


def _needed(column: tuple[str, list[str]]) -> int:
    """Return the characters that a column takes, padding included."""
    header, cells = column
    return max(map(len, (header, *cells))) + _PADDING[1] + _PADDING[3]


def _interval_text(row: PairResult, decimals: int) -> str:
    ci = row.estimate.ci
    return MISSING if ci is None else interval(ci.low, ci.high, decimals)


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
        f"{unit} · redundant: interval {side} {name} = {threshold:g} · needed: interval {other} it "
        f"· Holm over {count(len(rows), 'pair')}"
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
