"""`redundancy probe`: a row per layer, its control beside it, and sentences for what cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from redundancy.cli._app import app

runner = CliRunner()


@pytest.fixture
def acts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, size=300)
    x = rng.normal(size=(300, 6))
    y = x.copy()
    y[:, 0] += 4 * z
    path = tmp_path / "acts.npz"
    np.savez(path, **{"0": x, "1": y, "2": y + 0.01}, target=z)
    return path


def run(*arguments: object):
    return runner.invoke(app, ["probe", *(str(a) for a in arguments), "-q"])


def test_the_layer_that_learned_the_target_scores_and_the_control_does_not(acts):
    done = run(acts, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    scores = {s["layer"]: s for s in document["scores"]}
    assert scores[0]["score"]["value"] < 0.65
    assert scores[1]["score"]["value"] > 0.95
    assert abs(scores[1]["control"]["value"] - 0.5) < 0.15
    changed, kept = (p["estimate"]["value"] for p in document["pairs"])
    assert changed > 0.2 > abs(kept)


def test_the_table_names_score_interval_and_control(acts):
    done = runner.invoke(app, ["probe", str(acts), "-q"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    assert all(word in done.stdout for word in ("layer", "CI", "shuffled", "CI of F"))
    assert "…" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kind", "linaer"], "no kind of probe named 'linaer'"),
        (["--folds", "4"], "odd number"),
        (["--pool", "max"], "use 'mean' or 'token'"),
        (["--layers", "0-9"], "layer"),
        (["--target", "nothing"], "nothing"),
    ],
)
def test_bad_options_get_one_sentence(acts, arguments, words):
    done = run(acts, *arguments)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert "Traceback" not in done.output


def test_the_folder_holds_report_and_data_and_is_not_overwritten(acts, tmp_path):
    assert run(acts, "--out", "here").exit_code == 0
    assert {"report.html", "probes.json", "record.json", "probes.jsonl"} <= {
        p.name for p in (tmp_path / "here").iterdir()
    }
    assert run(acts, "--out", "here").exit_code == 2
    assert run(acts, "--out", "here", "--fresh").exit_code == 0


def test_a_bad_option_leaves_an_earlier_run_as_it_was(acts, tmp_path):
    assert run(acts, "--out", "here").exit_code == 0
    before = (tmp_path / "here" / "probes.json").read_bytes()
    assert run(acts, "--out", "here", "--fresh", "--kind", "linaer").exit_code == 2
    assert run(acts, "--out", "here", "--fresh", "--target", "nothing").exit_code == 2
    assert (tmp_path / "here" / "probes.json").read_bytes() == before


def test_a_run_resumes_only_with_its_own_settings(acts):
    assert run(acts, "--out", "here").exit_code == 0
    other = run(acts, "--out", "here", "--resume", "--seed", "1")
    assert other.exit_code == 2
    assert "seed" in other.stderr


def test_the_report_is_made_again_from_what_was_written(acts, tmp_path):
    assert run(acts, "--out", "here").exit_code == 0
    page = tmp_path / "here" / "report.html"
    before = page.read_text()
    page.unlink()
    done = runner.invoke(app, ["report", "here"])
    assert done.exit_code == 0, done.output
    assert page.read_text() == before


def test_nothing_to_probe_is_an_error_and_one_bad_layer_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    z = np.arange(60) % 2
    x = np.random.default_rng(0).normal(size=(60, 3))
    np.savez("flat.npz", **{"0": np.ones((60, 3)), "1": np.ones((60, 3))}, target=z)
    np.savez("some.npz", **{"0": x, "1": np.ones((60, 3)), "2": x}, target=z)
    none = run("flat.npz")
    assert none.exit_code == 2
    assert "no layer could be probed: layer 0 is constant" in none.stderr
    assert run("some.npz").exit_code == 0
    strict = run("some.npz", "--strict")
    assert strict.exit_code == 3
    assert "1, 0→1, 1→2" in strict.stderr


def test_a_killed_run_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    z = rng.integers(0, 3, size=400)
    np.savez("acts.npz", **{str(i): rng.normal(size=(400, 40)) for i in range(12)}, target=z)
    journal = tmp_path / "here" / "probes.jsonl"
    line = [sys.executable, "-m", "redundancy", "probe", "acts.npz", "--out", "here", "-q"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert json.loads((tmp_path / "here" / "record.json").read_text())["status"] == "running"
    kept = journal.read_bytes().splitlines()[:3]
    with journal.open("ab") as lines:
        lines.write(b'{"layer": 3, "kind": "li')  # what a kill in mid-line leaves
    assert run("acts.npz", "--out", "here", "--resume").exit_code == 0
    whole = journal.read_bytes().splitlines()
    assert whole[:3] == kept
    assert run("acts.npz", "--out", "there").exit_code == 0
    one, other = (
        json.loads((tmp_path / name / "probes.json").read_text()) for name in ("here", "there")
    )
    for key in ("scores", "pairs", "planted", "best", "diagnostics"):
        assert one[key] == other[key]
