"""Two or more runs in one report: the same measures of several models or data sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from estimators import InputError
from redundancy import registry
from redundancy._files import write_atomic
from redundancy.measures._spec import MeasureSpec
from redundancy.record import RunRecord
from redundancy.report import plots
from redundancy.report._downloads import comparison_downloads
from redundancy.report._ruler import ruler_columns, ruler_headings, ruler_row
from redundancy.report._sections import in_words, picture
from redundancy.report.html import (
    evaluation_rows,
    saving_of,
    sweep_block,
    warning_rows,
)
from redundancy.report.numbers import MISSING, decimals_for, heading, interval, number
from redundancy.report.page import command_line, render_page
from redundancy.report.plots.ruler import VERDICT_LETTERS
from redundancy.results import PairResult, Results

__all__ = ["names_of", "render_comparison", "write_comparison"]

# Options that change what a number means; where runs differ in one, the page says so.
_TELLING = ("measure", "layers", "pairs", "target", "epsilon", "ci", "unit", "states")


def write_comparison(records: Sequence[RunRecord], path: str | Path) -> None:
    """Write the comparison of `records` to `path`."""
    write_atomic(Path(path), render_comparison(records).encode())


def render_comparison(records: Sequence[RunRecord]) -> str:
    """Return one page that holds several runs against one another.

    Parameters
    ----------
    records : sequence of RunRecord
        At least two, of different runs.

    Raises
    ------
    InputError
        If there are fewer than two, or one is named twice.
    """
    if len(records) < 2:
        raise InputError("a comparison needs at least two runs; name another one")
    ids = [record.run.id for record in records]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"run {twice} is named twice; compare it with another run")
    names = names_of(records)
    runs = {
        name: Results([PairResult.from_record(r) for r in record.results], record)
        for name, record in zip(names, records, strict=True)
    }
    keys = _keys(runs)
    return render_page(
        "comparison.html",
        title=f"{len(records)} runs compared",
        contents=_contents(records, keys),
        runs=[
            {
                "name": name,
                "record": record,
                "command": command_line(record.run.argv),
                "plan": (record.plan or {}).get("description") or "",
                "saving": saving_of(record.plan, record.evaluations) if record.plan else "",
                "evaluations": evaluation_rows(record.evaluations),
                "warnings": warning_rows(runs[name]),
            }
            for name, record in zip(names, records, strict=True)
        ],
        overview=_overview(names, records),
        differences=_differences(names, records),
        downloads=comparison_downloads(runs),
        rulers=_rulers(runs),
        sections=_sections(runs, keys),
        sweeps=[
            sweep_block(sweep, f"{name}.")
            for kind in ("late", "exit", "drop", "single")
            for name, record in zip(names, records, strict=True)
            for sweep in record.sweeps
            if sweep.kind == kind
        ],
    )


def names_of(records: Sequence[RunRecord]) -> list[str]:
    """Return a short name for each run: what tells them apart, model or data before number.

    Examples
    --------
    >>> from redundancy.provenance import new_record
    >>> def run(model, path):
    ...     return new_record(command="estimate", store={"model": model, "path": path})
    >>> names_of([run("llava", "coco"), run("llava", "gqa"), run("qwen", "coco")])
    ['llava · coco', 'llava · gqa', 'qwen · coco']
    """
    columns = [[_part(record, what) for record in records] for what in ("model", "data")]
    telling = [column for column in columns if len(set(column)) > 1]
    joined = [" · ".join(_short(p) for p in parts) for parts in zip(*telling, strict=True)]
    joined = joined or ["" for _ in records]
    counts = Counter(joined)
    return [
        name if name and counts[name] == 1 else f"{name} · run {record.run.id}".lstrip(" ·")
        for name, record in zip(joined, records, strict=True)
    ]


def _part(record: RunRecord, what: str) -> str:
    store = record.provenance.get("store") or {}
    if what == "model":
        return str(store.get("model") or "")
    dataset = store.get("dataset")
    if isinstance(dataset, Mapping):
        dataset = dataset.get("name")
    return str(dataset or store.get("path") or "")


def _short(text: str, most: int = 32) -> str:
    return text if len(text) <= most else "…" + text[-(most - 1) :]


def _keys(runs: Mapping[str, Results]) -> list[tuple[str, str]]:
    """Return the rows of all runs, (measure, modality), measures together."""
    found = dict.fromkeys((r.measure, r.modality) for results in runs.values() for r in results)
    order = list(dict.fromkeys(measure for measure, _ in found))
    return sorted(found, key=lambda key: order.index(key[0]))


def _overview(names: Sequence[str], records: Sequence[RunRecord]) -> dict[str, Any]:
    rows = []
    for name, record in zip(names, records, strict=True):
        store = record.provenance.get("store") or {}
        layers = store.get("layers") or []
        rows.append(
            [
                name,
                str(store.get("model") or MISSING),
                _part(record, "data") or MISSING,
                MISSING if store.get("n") is None else f"{store['n']:,}",
                f"{layers[0]}–{layers[-1]}" if layers else MISSING,
                MISSING if record.run.seed is None else str(record.run.seed),
                record.run.created[:10],
                record.status,
            ]
        )
    head = ["run", "model", "data", "samples", "layers", "seed", "made", "status"]
    return {"head": head, "rows": rows}


def _differences(names: Sequence[str], records: Sequence[RunRecord]) -> list[str]:
    """Say in which options the runs differ, since their numbers are then not the same quantity."""
    lines = []
    for option in _TELLING:
        values = [msgspec.json.encode(r.run.options.get(option)).decode() for r in records]
        if len(set(values)) > 1:
            told = ", ".join(f"{n}: {v}" for n, v in zip(names, values, strict=True))
            lines.append(f"{option} ({told})")
    return lines


def _rulers(runs: Mapping[str, Results]) -> list[dict[str, Any]]:
    """Return a ruler per measure and modality, with a row per run."""
    out = []
    for measure, modality in _keys(runs):
        verdicts = {
            name: {r.pair: str(r.verdict) for r in results.select(measure, modality) if r.verdict}
            for name, results in runs.items()
        }
        columns = ruler_columns([pair for by_pair in verdicts.values() for pair in by_pair])
        if columns:
            out.append(
                {
                    "name": f"{heading(measure)}, {modality}",
                    "columns": ruler_headings(columns),
                    "rows": [
                        {"label": name, "cells": ruler_row(by_pair, columns)}
                        for name, by_pair in verdicts.items()
                        if by_pair
                    ],
                }
            )
    return out


def _sections(runs: Mapping[str, Results], keys: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    depths = {max((r.pair[1] for r in results), default=0) for results in runs.values()}
    out: dict[str, dict[str, Any]] = {}
    for measure, modality in keys:
        spec: MeasureSpec = registry.load("measures", measure).SPEC
        section = out.setdefault(
            measure,
            {
                "id": f"measure-{measure}",
                "name": heading(measure),
                "title": spec.title[:1].upper() + spec.title[1:],
                "paper": spec.paper,
                "pictures": [],
                "tables": [],
            },
        )
        mine = {
            name: rows
            for name, results in runs.items()
            if len(rows := results.select(measure, modality))
        }
        if any(r.estimate.value is not None for rows in mine.values() for r in rows):
            words = "; ".join(f"{name}, {in_words(rows)}" for name, rows in mine.items())
            section["pictures"].append(
                picture(
                    partial(plots.plot_runs, mine, relative=len(depths) > 1),
                    f"{heading(measure)} by layer, {modality} tokens, a line per run. {words}.",
                    title=modality,
                    height=2.6 + 0.22 * len(mine),
                )
            )
        section["tables"].append({"modality": modality, **_table(mine, list(runs))})
    return list(out.values())


def _table(mine: Mapping[str, Results], names: Sequence[str]) -> dict[str, Any]:
    """Return value, interval and verdict of every pair, a column per run."""
    places = decimals_for(r.estimate.value for rows in mine.values() for r in rows)
    cells: dict[tuple[int, int], dict[str, str]] = {}
    for name, rows in mine.items():
        for r in rows:
            ci = r.estimate.ci
            text = number(r.estimate.value, places)
            if ci is not None:
                text += f" ({interval(ci.low, ci.high, places)})"
            if r.verdict:
                text += f" {VERDICT_LETTERS[r.verdict]}"
            cells.setdefault(r.pair, {})[name] = text
    some = next(iter(mine.values()))[0]
    return {
        "head": ["layers", *names],
        "rows": [
            [f"{a}→{b}", *(cells[a, b].get(name, MISSING) for name in names)]
            for a, b in sorted(cells, key=lambda pair: (pair[1], pair[0]))
        ],
        "unit": some.estimate.unit,
    }


def _contents(
    records: Sequence[RunRecord], keys: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    wanted = [
        ("runs", "The runs", True),
        ("skip", "What to skip", any(r.plan or r.evaluations for r in records)),
        ("verdicts", "Verdicts", any(x.verdict for r in records for x in r.results)),
        ("costs", "What skipping costs", any(r.sweeps for r in records)),
        *((f"measure-{m}", heading(m), True) for m in dict.fromkeys(m for m, _ in keys)),
        ("careful", "What to be careful about", True),
        ("provenance", "Where this comes from", True),
    ]
    return [(name, title) for name, title, there in wanted if there]
