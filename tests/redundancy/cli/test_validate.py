"""`redundancy validate`: published tables, several models end to end, and plain refusals."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from redundancy.cli._app import app
from redundancy.validation.records import read_analysis, write
from tests.redundancy.validation.synthetic import make_study

runner = CliRunner()


def run(*arguments):
    return runner.invoke(app, ["validate", *map(str, arguments)])


@pytest.fixture
def studies(tmp_path):
    paths = []
    for seed in range(3):
        paths.append(tmp_path / f"study-{seed}.json")
        write(make_study(seed), paths[-1])
    return paths


def test_the_papers_tables_as_json():
    done = run("--paper", "--draws", 200, "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["source"] == "the paper's Tables 1 and 2"
    assert {r["measure"] for r in found["associations"]} >= {"rho", "p_lt_0.05", "VAR"}


def test_studies_are_pooled_and_kept(studies, tmp_path):
    out = tmp_path / "out"
    done = run(*studies, "-o", out, "--draws", 200, "--resplits", 5, "--quiet")
    assert done.exit_code == 0, done.output
    assert "3 models in 3 clusters" in done.stdout
    assert "no evidence: noise" in done.stdout
    record = read_analysis(out / "validation.json")
    assert [m.name for m in record.models] == ["model 0", "model 1", "model 2"]
    assert record.orderings[0].ordering == "readings"
    assert record.provenance["redundancy"]
    # With other settings the finished studies still hold.
    again = run(*studies[:1], "-o", out, "--resume", "--alpha", 0.1, "--draws", 200, "--quiet")
    assert again.exit_code == 0, again.output
    assert read_analysis(out / "validation.json").alpha == 0.1
    assert "answers changed / nats (KL) by layer" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--paper", "./x"], "leave models and --data out"),
        (["./nothing"], "there is no model folder ./nothing"),
        (["nothing"], "there is no folder nothing; name a model's folder, or, for a model of the"),
        ([".", ".", "--data", "x.jsonl"], "two studies are called"),
        (["--alpha", 2], "alpha is 2.0"),
        (["--delta", 0], "--delta is 0.0"),
        (["--ci", 1], "level is 1.0"),
        (["--images", 5], "5 images are too few"),
        (["--measure", "geomtric"], "Did you mean 'geometric'?"),
        (["none.json"], "there is no file none.json"),
    ],
)
def test_bad_input_costs_nothing_and_leaves_nothing(arguments, message, tmp_path):
    done = run(*arguments, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


def test_too_few_images_are_said_before_an_earlier_run_is_touched(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "is it red?", "answer": "no"}\n' * 3)
    out = tmp_path / "out"
    out.mkdir()
    write(make_study(0), tmp_path / "study.json")
    given = ("-o", out, "--draws", 200, "--resplits", 5, "--quiet")
    assert run(tmp_path / "study.json", *given).exit_code == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    done = run(tmp_path, "--data", rows, *given, "--fresh")
    assert done.exit_code == 2, done.output
    assert "too few" in done.output
    assert {path: path.read_bytes() for path in out.iterdir()} == before
