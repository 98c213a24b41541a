"""Several runs on one page."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import re

import msgspec
import pytest

from estimators import InputError
from redundancy.report.comparison import names_of, render_comparison
from redundancy.results import Results
from tests.redundancy.report.records import run
from tests.redundancy.report.test_html import HOSTILE, Outline

SOME = ("geometric", "cka")


@pytest.fixture(scope="module")
def page():
    return render_comparison(
        [
            run(6, dataset="scenes", measures=SOME),
            run(6, dataset="charts", seed=1, measures=("geometric",)),
            run(6, dataset=HOSTILE, seed=2, measures=SOME),
        ]
    )


def attached(page: str) -> dict[str, bytes]:
    found = re.findall(r'download="([^"]+)" href="data:[^,]+,([^"]+)"', page)
    data = {name: base64.b64decode(text) for name, text in found}
    return {
        name.removesuffix(".gz"): gzip.decompress(b) if name.endswith(".gz") else b
        for name, b in data.items()
    }


def test_the_page_is_well_formed_escaped_and_offline(page):
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert "<script" not in page
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(link.startswith(("data:", "#")) for link in links)


def test_runs_stand_side_by_side_in_tables_and_rulers(page):
    head = re.search(r"<thead><tr><th[^>]*>layers</th>(.*?)</tr>", page)[1]
    assert re.findall(r">([^<]+)</th>", head)[:2] == ["scenes", "charts"]
    assert page.count('class="ruler') == 4  # two measures by two modalities


def test_a_measure_that_one_run_lacks_leaves_a_dash(page):
    rows = [row for row in re.findall(r"<tr>(.*?)</tr>", page) if ">0→1<" in row]
    assert any("<td>–</td>" in row for row in rows)


def test_options_that_differ_are_said(page):
    assert "Not the same question" in page
    assert (
        "measure (scenes: [&#34;geometric&#34;,&#34;cka&#34;], charts: [&#34;geometric&#34;]"
        in page
    )
    same = render_comparison([run(4, dataset=d, measures=("cka",)) for d in ("a", "b")])
    assert "Not the same question" not in same


def test_the_numbers_travel_with_the_page(page):
    data = attached(page)
    assert set(data) == {"comparison.json", "comparison.csv"}
    rows = list(csv.DictReader(io.StringIO(data["comparison.csv"].decode())))
    document = json.loads(data["comparison.json"])
    assert len(rows) == sum(len(r["results"]) for r in document) == 24 + 12 + 24
    assert {row["run"] for row in rows} == {r["name"] for r in document}
    assert float(rows[0]["value"]) == document[0]["results"][0]["value"]


def test_the_record_of_a_report_can_be_read_again(tmp_path):
    from redundancy.report.html import render

    record = run(4, measures=("cka",))
    (tmp_path / "record.json").write_bytes(attached(render(record))["record.json"])
    again = Results.load(tmp_path)
    assert [r.to_record() for r in again] == record.results


@pytest.mark.slow
def test_three_runs_of_sixty_layers_stay_under_a_megabyte():
    records = [run(60, dataset=d, seed=i) for i, d in enumerate(("coco", "gqa", "textvqa"))]
    assert len(render_comparison(records).encode()) < 1_000_000


def test_one_run_or_the_same_run_twice_is_no_comparison():
    record = run(3, measures=("cka",))
    with pytest.raises(InputError, match="needs at least two runs"):
        render_comparison([record])
    with pytest.raises(InputError, match=f"run {record.run.id} is named twice"):
        render_comparison([record, record])


def test_runs_that_only_differ_in_number_are_told_apart_by_it():
    first, second = (run(3, measures=("cka",)) for _ in range(2))
    assert names_of([first, second]) == [f"run {r.run.id}" for r in (first, second)]
    other = msgspec.structs.replace(first, provenance={"store": {"model": "x" * 80}})
    assert all(len(name) < 90 for name in names_of([first, other]))
