"""The ruler of verdicts as the page shows it: a table whose cells are coloured and lettered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from redundancy.report.plots.ruler import VERDICT_LETTERS, plan_cells, ruler_rows
from redundancy.results import Results

__all__ = ["ruler", "ruler_columns", "ruler_headings", "ruler_row"]

# More columns than these are no ruler; then only neighbours are shown.
_WIDEST = 130
_PLAN_LETTERS = {"runs": "", "no vision": "s", "dropped": "d"}
Pair = tuple[int, int]


def ruler(results: Results, plan: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the ruler of a run, or None where there is no verdict.

    Parameters
    ----------
    results : Results
        Measures without a threshold have no verdict, and no row.
    plan : mapping or None
        Its row says which layers skip; layer l stands with the pair (l, l + 1).
    """
    rows = ruler_rows(results)
    if not rows:
        return None
    columns = ruler_columns([pair for _, _, verdicts in rows for pair in verdicts])
    cells = plan_cells(plan)
    skips = [cells[a] if b == a + 1 and a < len(cells) else "" for a, b in columns]
    counts = Counter(v for _, _, verdicts in rows for v in verdicts.values())
    return {
        "columns": ruler_headings(columns),
        "rows": [
            {"label": f"{measure} · {modality}", "cells": ruler_row(verdicts, columns)}
            for measure, modality, verdicts in rows
        ],
        "plan": [{"letter": _PLAN_LETTERS.get(text, ""), "word": text} for text in skips]
        if any(text not in ("", "runs") for text in skips)
        else None,
        "counts": [(verdict, counts[verdict]) for verdict in VERDICT_LETTERS if counts[verdict]],
    }


def ruler_columns(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the distinct pairs in order; only neighbours where there are too many."""
    found = sorted(set(pairs), key=lambda pair: (pair[1], pair[0]))
    if len(found) > _WIDEST:
        uppers = {a for a, _ in found} | {b for _, b in found}
        order = sorted(uppers)
        near = set(pairwise(order))
        found = [pair for pair in found if pair in near]
    return found


def ruler_row(verdicts: Mapping[Pair, str], columns: Sequence[Pair]) -> list[dict[str, str]]:
    """Return the cells of one row."""
    return [
        {"word": word, "letter": VERDICT_LETTERS.get(word, ""), "class": _CLASSES.get(word, "")}
        for word in (verdicts.get(pair, "") for pair in columns)
    ]


_CLASSES = {"redundant": "r", "needed": "n", "undecided": "u", "no estimate": "o"}


def ruler_headings(columns: Sequence[Pair]) -> list[str]:
    """Return what stands above the columns."""
    if len(columns) <= 12 or any(b != a + 1 for a, b in columns):
        return [f"{a}→{b}" for a, b in columns]
    # Of many neighbours only the upper layer is named, so that sixty fit side by side.
    return [str(b) for _, b in columns]
