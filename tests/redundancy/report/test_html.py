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
from redundancy.results import PairResult
from tests.redundancy.report.records import MEASURES, run, share

HOSTILE = "<script>alert('x')</script>"


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


@pytest.mark.slow
def test_sixty_layers_of_every_measure_stay_under_a_megabyte():
    page = render(run(60))
    # A megabyte is the limit; room is left for measures to come.
    assert len(page.encode()) < 750_000
    # What is too long to look at as it is travels packed.
    assert 'download="record.json.gz"' in page


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


@pytest.fixture(scope="module")
def full() -> str:
    return render(run(6))


def test_every_measure_has_its_section_with_picture_and_tables(full):
    for measure in MEASURES:
        section = full[full.index(f'id="measure-{measure}"') :]
        section = section[: section.index("</section>")]
        assert 'role="img"' in section
        assert section.count("<details") == section.count("<summary>Table") >= 1
    assert full.count("neighbours k") >= 6


def test_the_plan_says_what_it_saves_and_where(full):
    assert "It saves 50% of the FLOPs of a prefill, 50% of the KV cache" in full
    row = re.search(r'<tr class="plan">(.*?)</tr>', full, flags=re.DOTALL)[1]
    assert re.findall(r"<td[^>]*>(.*?)</td>", row) == ["s", "s", "", "", "s", "s"]


def test_without_a_try_the_saving_is_called_counted():
    record = run(4, measures=("cka",))
    page = render(msgspec.structs.replace(record, evaluations=[]))
    assert "It leaves out 50% of the vision tokens&#39; blocks (counted, not timed)." in page


def test_verdicts_stand_beside_what_the_plans_cost(full):
    assert "Did the measures see it coming?" in full
    assert "answers changed (95% CI)" in full
    assert ">enter at 1<" in full


def test_the_arrows_of_figure_1_are_in_words_too(full):
    assert ">geometric → proximal<" in full
    assert "does not follow" in full


def test_a_warning_names_its_measures_and_its_layers(full):
    careful = full[full.index('id="careful"') :]
    assert "geometric, proximal" in careful
    assert "layers 0→1 to 5→6" in careful


def test_links_of_the_contents_lead_somewhere(full):
    targets = re.findall(r'<a href="#([^"]+)"', full)
    assert len(targets) > 10
    assert all(f'id="{target}"' in full for target in targets)
