"""The report: one offline file, everything escaped, nothing missing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest

from estimators import Diagnostic, Estimate, Interval
from redundancy.provenance import new_record
from redundancy.record import (
    DistanceRecord,
    EvaluationRecord,
    SweepPoint,
    SweepRecord,
    estimate_to_record,
)
from redundancy.report.html import render
from redundancy.results import PairResult, Results

HOSTILE = "<script>alert('x')</script>"


def share(value: float) -> Estimate:
    return Estimate(
        value=value,
        unit="probability",
        kind="estimate",
        n=50,
        method="mean",
        ci=Interval(low=value - 0.05, high=min(1, value + 0.05), level=0.95, method="cluster t"),
    )


def record(n_pairs: int = 8):
    results = []
    for modality in ("vision", HOSTILE):
        for layer in range(n_pairs):
            e = Estimate(
                value=0.01 * (layer + 1),
                unit="cosine distance",
                kind="estimate",
                n=100,
                n_groups=20,
                method=f"mean {HOSTILE}",
                ci=Interval(low=0.01 * layer, high=0.01 * (layer + 2), level=0.95, method="t"),
                diagnostics=(
                    Diagnostic(code="few", severity="warning", message=f"careful {HOSTILE}"),
                ),
            )
            results.append(
                PairResult(
                    pair=(layer, layer + 1),
                    measure="geometric",
                    estimate=e,
                    modality=modality,
                    threshold=0.05,
                    verdict="redundant" if layer < 3 else "needed",
                )
            )
    evaluation = EvaluationRecord(
        name=f"full {HOSTILE}",
        n=50,
        accuracy=estimate_to_record(share(0.9)),
        agreement=estimate_to_record(share(1.0)),
        by_task={"count": 0.9},
        prefill_s=0.01,
        prefill_flops=1e9,
        kv_bytes=2**20,
    )
    base = new_record(
        command="estimate", argv=["redundancy", "estimate", HOSTILE], store={"path": HOSTILE}
    )
    return msgspec.structs.replace(
        base,
        results=[r.to_record() for r in results],
        evaluations=[evaluation, evaluation],
        sweeps=[
            SweepRecord(
                kind="late",
                points=[SweepPoint(layer=i, evaluation=evaluation) for i in range(4)],
                chosen=2,
                chance=0.2,
            )
        ],
        distances={"vision": DistanceRecord(layers=[0, 1], matrix=[[0.0, 0.1], [0.1, None]])},
        plan={"n_layers": 8, "description": f"Skip {HOSTILE}"},
    )


class Outline(HTMLParser):
    """Collects the tags, and checks that they close."""

    void = frozenset({"meta", "link", "br", "path", "use", "rect", "image", "circle", "line"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.void:
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)


@pytest.fixture(scope="module")
def page() -> str:
    return render(record())


def test_no_text_of_the_data_becomes_markup(page):
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_page_is_well_formed(page):
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert {"svg", "table", "figure", "main"} <= outline.seen


def test_nothing_is_fetched_from_elsewhere(page):
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_numbers_carry_interval_unit_and_count(page):
    assert "0.010" in page
    assert "cosine distance" in page
    assert "few" not in re.findall(r"<dt>(.*?)</dt>", page)
    assert "careful" in page


def test_sixty_layers_stay_under_a_megabyte():
    assert len(render(record(60)).encode()) < 2**20


def test_an_empty_record_still_makes_a_page():
    assert "Where this comes from" in render(new_record(command="estimate"))


def test_the_data_behind_the_page_travel_with_it(page):
    import base64

    links = dict(re.findall(r'download="([^"]+)" href="data:[^,]+,([^"]+)"', page))
    assert set(links) == {"record.json", "results.csv"}
    rows = base64.b64decode(links["results.csv"]).decode().splitlines()
    assert rows[0].startswith("measure,modality,lower,upper,value,ci_low")
    assert len(rows) == 1 + 16
    again = msgspec.json.decode(base64.b64decode(links["record.json"]))
    assert len(again["results"]) == 16


def test_pictures_use_the_ink_of_the_page(page):
    assert "#010203" not in page
    assert "currentColor" in page


def test_results_draw_themselves():
    from redundancy.report.plots import plot_measure, plot_ruler

    results = Results([PairResult.from_record(r) for r in record().results])
    assert len(plot_measure(results).lines) >= 2
    assert len(plot_ruler(results).patches) == 16
