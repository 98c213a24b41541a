"""The evidence page says what its data says, and its words do not outrun its tables."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from estimators import InputError
from redundancy.validation.analysis import analyse
from redundancy.validation.evidence import fill, gather, main, tables, trained
from redundancy.validation.figure import figure_data, plot_associations
from redundancy.validation.paper import analyse_paper
from redundancy.validation.records import AnalysisRecord, write
from redundancy.validation.resplits import compare_orderings
from tests.redundancy.validation.synthetic import make_study

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def evidence() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / "data" / "evidence.json").read_text("utf-8"))
    return found


def test_the_page_shows_the_tables_of_its_data(evidence: dict[str, Any]) -> None:
    page = (DOCS / "evidence.md").read_text("utf-8")
    assert fill(page, tables(evidence)) == page
    assert page.count("<!-- table:") == page.count("<!-- end -->") >= 10
    for picture in re.findall(r"\]\((evidence-\w+\.png)\)", page):
        assert (DOCS / picture).stat().st_size > 5000


def test_the_published_analysis_is_what_the_tables_give_today(evidence: dict[str, Any]) -> None:
    kept = msgspec.convert(evidence["paper"], AnalysisRecord)
    again = analyse_paper(draws=100)
    for before, now in zip(kept.associations, again.associations, strict=True):
        assert (before.measure, before.target) == (now.measure, now.target)
        assert before.mean == pytest.approx(now.mean, rel=1e-3, abs=1e-4)


def test_the_models_are_as_many_as_asked_for(evidence: dict[str, Any]) -> None:
    models = msgspec.convert(evidence["models"], AnalysisRecord).models
    assert len({m.cluster for m in models}) >= 5
    assert {m.n_layers for m in models} == {6, 8}
    recipes = {row["recipe"] for row in evidence["facts"]["training"]}
    assert recipes >= {"pretrained", "scratch"}


def test_certified_plans_held_in_nine_of_ten_divisions(evidence: dict[str, Any]) -> None:
    for key in ("models", "bundled"):
        for outcome in msgspec.convert(evidence[key], AnalysisRecord).orderings:
            assert outcome.resplits >= 200
            assert outcome.broken <= outcome.delta, (key, outcome.ordering)


def test_the_simulated_guarantee_held(evidence: dict[str, Any]) -> None:
    rows = evidence["facts"]["simulation"]
    assert len({row["losses"] for row in rows}) == 4
    assert all(row["wrong"] <= 0.1 for row in rows)


def test_a_page_is_made_from_analyses(tmp_path: Path) -> None:
    studies = [make_study(seed, n_images=200) for seed in range(2)]
    found = msgspec.structs.replace(
        analyse(studies, draws=100), orderings=compare_orderings(studies, resplits=3)
    )
    write(found, tmp_path / "v.json")
    (tmp_path / "data").mkdir()
    marks = "".join(
        f"<!-- table: {name} -->\n<!-- end -->\n"
        for name in ("models-hide", "models-summary", "models-orderings")
    )
    (tmp_path / "evidence.md").write_text(f"before\n{marks}after\n")
    assert main([str(tmp_path), "--analysis", f"models={tmp_path / 'v.json'}"]) == 0
    page = (tmp_path / "evidence.md").read_text()
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "| `good` |" in page
    assert "predicts the opposite" in page
    assert (tmp_path / "evidence-models.png").read_bytes()[:4] == b"\x89PNG"
    # Made again from its own data, nothing changes.
    assert main([str(tmp_path)]) == 0
    assert (tmp_path / "evidence.md").read_text() == page


def test_what_cannot_be_made_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="wants a table 'x'"):
        fill("<!-- table: x -->\n<!-- end -->", {"y": ""})
    with pytest.raises(InputError, match="no trained models"):
        trained(tmp_path)
    assert main([str(tmp_path), "--analysis", f"models={tmp_path / 'v.json'}"]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_the_figure_shows_every_row_with_a_correlation() -> None:
    record = analyse([make_study(0), make_study(1)], draws=100)
    rows = figure_data(record)
    with_mean = [r for r in record.associations if r.kind == "changed" and r.mean is not None]
    assert len(rows) == len(with_mean)
    assert all(r["low"] is None or r["low"] <= r["high"] for r in rows)
    figure = plot_associations(record)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["hide", "late", "exit", "drop"]
    assert gather({"models": record}, {})["facts"] == {}
