"""The four commands of the README, on the bundled model and a data set written to disk."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from redundancy.cli._app import app
from redundancy.demo import model as bundled
from redundancy.demo import scenes
from redundancy.demo.run import Sizes
from redundancy.demo.run import run as run_demo
from redundancy.provenance import new_record
from redundancy.run_folder import RunFolder
from vlm.plan import SkipPlan

runner = CliRunner()


def run(*arguments: object):
    return runner.invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole-path")
    scenes.write_dataset(folder / "measured", "held_out", 40, seed=100)
    scenes.write_dataset(folder / "certifying", "held_out", 60, seed=101)
    return folder


@pytest.fixture(scope="module")
def acts(home) -> Path:
    done = run(
        "extract", bundled.checkpoint(), "--data", home / "measured" / "data.jsonl",
        "--out", home / "acts", "--tokens", 4, "--vision-effect", "--batch-size", 50, "-q",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return home / "acts"


def test_extraction_leaves_a_sound_store(acts):
    done = run("doctor", acts, "--json")
    assert done.exit_code == 0, done.output
    done = run("estimate", acts, "-m", "geometric", "-m", "var", "--json", "-q", "--out",
               acts.parent / "first")  # fmt: skip
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    found = {(r["measure"], r["modality"]) for r in document["results"]}
    assert found == {("geometric", "vision"), ("geometric", "text"), ("var", "vision")}
    assert len(document["results"]) == 3 * bundled.N_LAYERS
    assert all(r["estimate"]["n_groups"] == 40 for r in document["results"])


def test_extraction_refuses_a_store_made_otherwise(home, acts):
    before = sorted((p.name, p.stat().st_mtime_ns) for p in acts.iterdir())
    done = run(
        "extract", bundled.checkpoint(), "--data", home / "measured" / "data.jsonl",
        "--out", acts, "--tokens", 2, "--vision-effect", "--resume", "-q",
    )  # fmt: skip
    assert done.exit_code == 2
    assert "tokens" in done.stderr
    done = run(
        "extract", bundled.checkpoint(), "--data", home / "measured" / "data.jsonl",
        "--out", acts, "-q",
    )  # fmt: skip
    assert done.exit_code == 2
    assert "--resume" in done.stderr
    assert sorted((p.name, p.stat().st_mtime_ns) for p in acts.iterdir()) == before


def test_a_plan_is_proposed_certified_and_applied(home, acts):
    path = home / "plan.json"
    proposed = run("plan", acts, "-o", path, "-q")
    assert proposed.exit_code == 0, proposed.output
    assert "guarantee nothing" in proposed.stdout or "skips nothing" in proposed.stdout
    assert run("plan", acts, "-o", path, "-q").exit_code == 2
    done = run(
        "plan", acts, "-o", path, "--fresh", "--model", bundled.checkpoint(),
        "--data", home / "certifying" / "data.jsonl", "--alpha", 0.1, "--delta", 0.1,
        "--max-plans", 3, "--batch-size", 50, "--json", "-q",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    certificate = document["certificate"]
    assert certificate["n_groups"] == 60
    plan = SkipPlan.load(path)
    assert plan.model_type == "llava"
    assert plan.evidence["certificate"]["alpha"] == 0.1
    assert plan.is_noop == (certificate["chosen"] is None)
    skipped = run(
        "skip", bundled.checkpoint(), "--plan", path, "--data",
        home / "measured" / "data.jsonl", "--batch-size", 50, "--repeats", 1,
        "--out", home / "skipped", "--json", "-q",
    )  # fmt: skip
    assert skipped.exit_code == 0, skipped.output
    full, changed = json.loads(skipped.stdout)["evaluations"]
    assert full["accuracy"]["value"] > 0.9
    assert full["n"] == changed["n"] == 200
    if not plan.is_noop:
        assert changed["prefill_flops"] < full["prefill_flops"]
        assert changed["kv_bytes"] < full["kv_bytes"]
    assert changed["agreement"]["value"] >= 1 - 2 * 0.1
    assert (home / "skipped" / "report.html").exists()


def test_images_that_proposed_a_plan_cannot_certify_it(home, acts):
    done = run(
        "plan", acts, "-o", home / "never.json", "--model", bundled.checkpoint(),
        "--data", home / "measured" / "data.jsonl", "--max-plans", 1, "-q",
    )  # fmt: skip
    assert done.exit_code == 2
    assert not (home / "never.json").exists()


def test_a_plan_for_another_model_is_refused(home):
    SkipPlan(32, vision_entry=4).save(home / "other.json")
    done = run(
        "skip", bundled.checkpoint(), "--plan", home / "other.json", "--data",
        home / "measured" / "data.jsonl", "--out", home / "never", "-q",
    )  # fmt: skip
    assert done.exit_code == 2
    assert "32 decoder layers, this one has 8" in done.stderr
    assert not (home / "never").exists()


@contextmanager
def silent(_: str):
    yield lambda done, total: None


def test_the_demo_fills_its_record_and_a_report(tmp_path):
    from redundancy.report.html import render

    folder = RunFolder.prepare(tmp_path / "demo")
    begun = new_record(command="demo", seed=0, status="running")
    folder.write(begun)
    record, results = run_demo(
        folder, begun, progress=silent, sizes=Sizes(measure=40, certify=100, test=20)
    )
    assert record.status == "complete"
    assert [s.kind for s in record.sweeps] == ["late", "exit"]
    assert all(len(s.points) == bundled.N_LAYERS + 1 for s in record.sweeps)
    late, leaving = record.sweeps
    # No skip at all is the full model, at either end.
    assert late.points[0].evaluation.agreement.value == 1.0
    assert leaving.points[-1].evaluation.agreement.value == 1.0
    # Without the image at any layer both ends are the same model, no better than guessing.
    blind = late.points[-1].evaluation.accuracy.value
    assert blind == leaving.points[0].evaluation.accuracy.value
    assert blind < late.chance + 0.05
    assert {"geometric", "proximal", "informational", "var"} <= set(results.measures)
    assert set(record.distances) == {"vision", "text"}
    assert len(record.evaluations) == 2
    assert SkipPlan.load(tmp_path / "demo" / "plan.json").n_layers == bundled.N_LAYERS
    assert len(render(record).encode()) < 2**20
