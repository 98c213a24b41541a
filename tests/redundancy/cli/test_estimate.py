"""`redundancy estimate` as a user types it: table, JSON, exit codes, sentences."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from redundancy.cli._app import app

runner = CliRunner()
N_GROUPS, PER_GROUP, DIM = 40, 5, 8


def run(*arguments: object):
    return runner.invoke(app, [str(a) for a in arguments])


@pytest.fixture
def states():
    rng = np.random.default_rng(0)
    x = {0: rng.normal(size=(N_GROUPS * PER_GROUP, DIM))}
    for layer, step in ((1, 0.02), (2, 0.02), (3, 1.0)):
        x[layer] = x[layer - 1] + step * rng.normal(size=x[0].shape)
    return x


@pytest.fixture
def acts(tmp_path, states):
    path = tmp_path / "acts.npz"
    groups = np.arange(N_GROUPS * PER_GROUP) // PER_GROUP
    np.savez(path, **{f"layer_{k}": v for k, v in states.items()}, groups=groups)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_has_a_row_per_pair_with_interval_and_verdict(acts, here):
    done = run("estimate", acts, "--measure", "geometric", "--out", "run")
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines() if "→" in line][:3]
    assert [row[0] for row in rows] == ["0→1", "1→2", "2→3"]
    assert [row[-1] for row in rows] == ["redundant", "redundant", "needed"]
    assert "95% CI" in done.stdout
    assert "cosine distance · redundant: interval below ε = 0.05" in done.stdout
    assert "Holm over 3 pairs" in done.stdout
    assert {p.name for p in (here / "run").iterdir()} == {
        "record.json", "pairs.jsonl", "report.html",
    }  # fmt: skip


def test_json_is_one_document_and_nothing_else(acts, here):
    done = run("estimate", acts, "-m", "geometric", "-m", "proximal", "--json", "--out", "run")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    assert document["status"] == "complete"
    assert [r["measure"] for r in document["results"]] == ["geometric"] * 3 + ["proximal"] * 3
    first = document["results"][0]["estimate"]
    assert {"value", "unit", "kind", "ci", "n", "n_groups", "status"} <= set(first)
    assert first["n_groups"] == N_GROUPS
    assert document["provenance"]["store"]["n"] == N_GROUPS


def test_without_out_the_run_lands_under_runs(acts, here):
    done = run("estimate", acts, "-m", "geometric", "-q")
    assert done.exit_code == 0
    (folder,) = (here / "runs").iterdir()
    assert (folder / "report.html").exists()


def test_informational_in_bits(acts, here):
    done = run("estimate", acts, "--states", 4, "--unit", "bits", "--json", "--out", "run")
    assert done.exit_code in (0, 2), done.output
    document = json.loads(done.stdout)
    assert {r["estimate"]["unit"] for r in document["results"]} == {"bits"}


def test_a_resumed_run_computes_only_what_is_missing(acts, here):
    whole = run("estimate", acts, "-m", "geometric", "--out", "run", "--json")
    journal = here / "run" / "pairs.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(lines[:1]) + "\n" + lines[1][:30])
    again = run("estimate", acts, "-m", "geometric", "--out", "run", "--resume")
    assert again.exit_code == 0, again.output
    assert "2 pairs new, 1 resumed" in again.stdout
    final = json.loads((here / "run" / "record.json").read_text())
    assert final["results"] == json.loads(whole.stdout)["results"]


def test_a_folder_in_use_is_left_alone(acts, here):
    (here / "out").mkdir()
    (here / "out" / "mine.txt").write_text("keep")
    done = run("estimate", acts, "-m", "geometric", "--out", "out")
    assert done.exit_code == 2
    assert "is not empty; add --resume" in done.stderr
    done = run("estimate", acts, "-m", "geometric", "--out", "out", "--fresh")
    assert done.exit_code == 2
    assert (here / "out" / "mine.txt").read_text() == "keep"


def spoil(states, kind: str) -> dict[str, np.ndarray]:
    arrays = {f"layer_{k}": v.copy() for k, v in states.items()}
    if kind == "nan":
        arrays["layer_2"][3, 1] = np.nan
        arrays["layer_2"][7, 0] = np.inf
    elif kind == "unequal":
        arrays["layer_1"] = arrays["layer_1"][:-3]
    elif kind == "one group":
        arrays["groups"] = np.zeros(N_GROUPS * PER_GROUP, dtype=int)
    elif kind == "one sample":
        arrays = {k: v[:1] for k, v in arrays.items()}
    elif kind == "constant":
        arrays = {k: np.ones_like(v) for k, v in arrays.items()}
    elif kind == "groups of wrong length":
        arrays["groups"] = np.zeros(3, dtype=int)
    elif kind == "one layer":
        arrays = {"layer_0": arrays["layer_0"]}
    return arrays


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nan", ["layer 2", "2"]),
        ("unequal", ["layer"]),
        ("one group", ["one group"]),
        ("one sample", ["one"]),
        ("constant", ["same state"]),
        ("groups of wrong length", ["groups", "3"]),
        ("one layer", ["two layers", "layer 0"]),
    ],
)
def test_bad_arrays_get_one_sentence_and_exit_code_2(states, here, kind, words):
    np.savez(here / "bad.npz", **spoil(states, kind))
    done = run("estimate", "bad.npz", "-m", "geometric", "--out", "run", "-q")
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    for word in words:
        assert word in errors[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "geometrc"], "no measure named 'geometrc'"),
        (["-m", "geometric", "--epsilon", "-1"], "must be above 0"),
        (["-m", "geometric", "--epsilon", "2.5"], "at most 2"),
        (["-m", "geometric", "--epsilon", "nan"], "must be above 0"),
        (["-m", "proximal", "--epsilon", "1.5"], "at most 1"),
        (["-m", "geometric", "--layers", "0-9"], "layer 4 is not in this source"),
        (["-m", "geometric", "--layers", "abc"], "cannot be read"),
        (["-m", "geometric", "--layers", "3-1"], "runs backwards"),
        (["-m", "geometric", "--modality", "vison"], "no modality named 'vison'"),
        (["-m", "geometric", "--ci", "95"], "confidence level"),
        (["-m", "geometric", "--unit", "trits"], "use nats or bits"),
        (["-m", "geometric", "--engine", "dusk"], "no engine named 'dusk'"),
        (["-m", "geometric", "--option", "weightin=token"], "Did you mean 'weighting'"),
        (["-m", "geometric", "--option", "weighting"], "write name=value"),
        (["-m", "geometric", "--jobs", "0"], "jobs is 0"),
    ],
)
def test_bad_options_get_one_sentence_and_exit_code_2(acts, here, arguments, words):
    done = run("estimate", acts, *arguments, "--out", "run", "-q")
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x93NUMPY\x01\x00"])
@pytest.mark.parametrize("suffix", ["npz", "npy", "safetensors", "txt"])
def test_files_that_cannot_be_read_are_named(here, content, suffix):
    path = here / f"broken.{suffix}"
    path.write_bytes(content)
    done = run("estimate", path, "-q")
    assert done.exit_code == 2, done.output
    assert path.name in done.stderr
    assert "Traceback" not in done.output


def test_a_missing_source_is_named(here):
    done = run("estimate", "nowhere", "-q")
    assert done.exit_code == 2
    assert "nowhere" in done.stderr


def test_strict_asks_for_every_pair(states, here):
    arrays = {f"layer_{k}": v for k, v in states.items()}
    arrays["layer_3"] = np.zeros_like(arrays["layer_3"])
    np.savez(here / "some.npz", **arrays)
    relaxed = run("estimate", "some.npz", "-m", "geometric", "--out", "a", "-q")
    assert relaxed.exit_code == 0, relaxed.output
    strict = run("estimate", "some.npz", "-m", "geometric", "--out", "b", "-q", "--strict")
    assert strict.exit_code == 3
    assert "2→3" in strict.stderr


def test_zero_vectors_are_counted_not_averaged(states, here):
    arrays = {f"layer_{k}": v.copy() for k, v in states.items()}
    arrays["layer_1"][:10] = 0
    np.savez(here / "zeros.npz", **arrays)
    done = run("estimate", "zeros.npz", "-m", "geometric", "--out", "run")
    assert done.exit_code == 0
    assert "10 of 200 tokens have a zero vector" in done.stdout
    document = json.loads((here / "run" / "record.json").read_text())
    assert document["results"][0]["estimate"]["n"] == 190


def test_narrow_and_colourless_terminals_lose_nothing(acts, here):
    done = runner.invoke(
        app,
        ["estimate", str(acts), "-m", "geometric", "--out", "run"],
        env={"NO_COLOR": "1", "COLUMNS": "60"},
    )
    assert "redundant" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pairs", "dusk"], "no choice of pairs named 'dusk'"),
        (["--option", "k=3"], "no option of geometric named 'k'"),
        (["--epsilon", "0"], "the threshold of geometric is 0"),
        (["--target", "label"], "have no 'label'"),
        (["--memory", "1MB"], "and memory is"),
        (["--engine", "dusk"], "no engine named 'dusk'"),
        (["--jobs", "0"], "jobs is 0"),
    ],
)
def test_bad_input_costs_no_earlier_run_and_leaves_none(here, acts, words, said):
    assert run("estimate", acts, "-m", "geometric", "-o", "run", "-q").exit_code == 0
    before = {path: path.read_bytes() for path in (here / "run").iterdir()}
    for out in (["-o", "run", "--fresh"], ["-o", "new/one"]):
        done = run("estimate", acts, "-m", "geometric", "-q", *out, *words)
        assert done.exit_code == 2, done.output
        assert said in done.stderr
    assert {path: path.read_bytes() for path in (here / "run").iterdir()} == before
    assert not (here / "new").exists()
