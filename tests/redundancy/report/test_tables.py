"""Terminal tables: they fit the terminal, and value, interval and verdict are never cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from estimators import Estimate
from redundancy.measures._spec import Column, MeasureSpec
from redundancy.report.tables import results_blocks, results_table, verdict_legend
from redundancy.results import PairResult, Results
from tests.redundancy.report.records import share
from tests.redundancy.report.test_html import record


def printed(blocks, width: int) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False)
    for block in blocks:
        console.print(block)
    return out.getvalue()


def spec(**changes) -> MeasureSpec:
    given = {
        "title": "a share", "symbol": "P", "unit": "probability", "needs": frozenset({"summary"}),
        "redundant_when": "above", "default_threshold": 0.95, "paper": "",
        "columns": (Column("ratio", "a wide header"), Column("other", "another wide header")),
    }  # fmt: skip
    return MeasureSpec(**(given | changes))


def rows() -> list[PairResult]:
    extra = Estimate(value=0.5, unit="ratio", kind="estimate", n=9, method="m")
    return [
        PairResult(
            pair=(i, i + 1),
            measure="proximal",
            estimate=share(0.9),
            threshold=0.95,
            verdict="undecided",
            extras={"ratio": extra, "other": extra},
        )
        for i in range(3)
    ]


@pytest.mark.parametrize("width", [60, 88, 160])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut(width):
    results = Results([PairResult.from_record(r) for r in record().results])
    text = printed(results_blocks(results, width=width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("redundant") >= 6


def test_by_products_give_way_from_the_right():
    wide = printed([results_table(rows(), spec(), {}, width=120)], 120)
    middle = printed([results_table(rows(), spec(), {}, width=70)], 70)
    narrow = printed([results_table(rows(), spec(), {}, width=45)], 45)
    assert "another wide header" in wide
    assert "a wide header" in middle
    assert "another wide header" not in middle
    assert "wide header" not in narrow
    assert all("0.850 – 0.950" in text and "undecided" in text for text in (wide, middle, narrow))


def test_the_legend_names_the_side_that_is_redundant():
    assert "redundant: interval above 1 - ε = 0.95" in verdict_legend(rows(), spec())
    below = verdict_legend(rows(), spec(redundant_when="below"))
    assert "redundant: interval below ε = 0.95 · needed: interval above it" in below
    assert "Holm over 3 pairs" in below
