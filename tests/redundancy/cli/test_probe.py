"""`redundancy probe`: a row per layer, its control beside it, and sentences for what cannot be."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from redundancy.cli._app import app

runner = CliRunner()


@pytest.fixture
def acts(tmp_path):
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
