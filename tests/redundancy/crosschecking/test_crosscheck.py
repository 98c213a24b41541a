"""Agreement with the peers, differences by design, and numbers that were tampered with."""

from __future__ import annotations

import importlib.metadata
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import redundancy as rd
from redundancy.cli._app import app
from redundancy.crosschecking import _estimators, _peers
from redundancy.crosschecking._material import material_of
from redundancy.crosschecking._result import compare
from redundancy.provenance import new_record

WHERE = ((0, 1), "text")


def arrays(n=400, d=5, groups=40, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    y = 0.8 * x + 0.4 * rng.normal(size=(n, d))
    z = np.tanh(y) + 0.3 * rng.normal(size=(n, d))
    labels = (x[:, 0] + 0.5 * rng.normal(size=n) > 0).astype(int)
    return {0: x, 1: y, 2: z}, np.repeat(np.arange(groups), n // groups), labels


@pytest.fixture(scope="module")
def store():
    states, groups, labels = arrays()
    return rd.ActivationStore.from_arrays(states, groups=groups, target=labels)


@pytest.fixture(scope="module")
def checked(store):
    return rd.crosscheck(store, samples=1, tokens=300)


def test_all_three_peers_agree_or_differ_as_predicted(checked):
    assert checked.agrees, checked.disagreements
    assert not checked.missing
    assert {c.peer for c in checked} == {"scikit-learn", "npeet_plus", "dit"}
    assert "not compared" not in checked.counts


def test_what_differs_by_design_says_why_and_by_how_much(checked):
    reasons = {c.why.partition(":")[0] for c in checked if c.outcome == "differs by design"}
    assert {"bias", "norm", "abs and estimator"} <= reasons
    for check in checked:
        if check.outcome == "differs by design":
            assert abs(check.difference - check.expected) <= check.tolerance * max(
                1.0, abs(check.theirs)
            )


def test_the_sample_is_seeded(store, checked):
    # The peers' own noise included: npeet_plus draws it from NumPy's global generator.
    again = rd.crosscheck(store, samples=1, tokens=300, peers=["npeet_plus"])
    before = [c for c in checked if c.peer == "npeet_plus"]
    assert [c.theirs for c in again] == [c.theirs for c in before]


def test_the_global_generator_is_left_as_it_was(store):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    rd.crosscheck(store, samples=1, tokens=100, peers=["npeet_plus"])
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(
    ("name", "quantity"),
    [
        ("ksg_mi", "I(a;b), KSG 1"),
        ("ksg_cmi", "I(a;b|c), KSG"),
        ("kl_entropy", "h(b), cubes"),
        ("ross_mi", "I(b;target)"),
        ("discrete_mi", "I of 8 states, plug-in"),
    ],
)
def test_an_estimator_that_is_off_by_a_hundredth_is_caught(store, monkeypatch, name, quantity):
    honest = getattr(_estimators, name)

    def off(*arguments, **options):
        estimate = honest(*arguments, **options)
        return replace(estimate, value=estimate.value + 0.01)

    monkeypatch.setattr(_estimators, name, off)
    if name == "ross_mi":
        # Predicted from our own number, so only the scikit-learn check can tell.
        quantity = "I(first direction of b;target)"
    found = rd.crosscheck(store, samples=1, tokens=300, peers=["npeet_plus", "scikit-learn"])
    assert quantity in {c.quantity for c in found.disagreements}


def test_a_correction_of_the_wrong_size_is_caught(store, monkeypatch):
    monkeypatch.setattr(_estimators, "_miller_madow", lambda a, b: 0.0)
    found = rd.crosscheck(store, samples=1, tokens=100, peers=["npeet_plus"])
    assert [c.quantity for c in found.disagreements] == ["I of 8 states, corrected"]


def test_a_decomposition_above_the_peers_minimum_is_caught(store, monkeypatch):
    honest = _estimators.broja_pid

    def off(p):
        pid = honest(p)
        return replace(pid, unique_x=pid.unique_x + 0.02)

    monkeypatch.setattr(_estimators, "broja_pid", off)
    found = rd.crosscheck(store, samples=1, tokens=300, peers=["dit"])
    assert any(c.quantity.startswith("U(") for c in found.disagreements)


def test_a_peer_that_stopped_above_the_minimum_is_told_from_a_disagreement(store, monkeypatch):
    from dit.pid import PID_BROJA

    honest = PID_BROJA._measure

    def short(*arguments, **options):
        return {key: value + 0.1 for key, value in honest(*arguments, **options).items()}

    monkeypatch.setattr(PID_BROJA, "_measure", short)
    found = rd.crosscheck(store, samples=1, tokens=300, peers=["dit"])
    late = [c for c in found if c.quantity.startswith("U(")]
    assert len(late) == 2
    assert all(c.outcome == "differs by design" for c in late)
    assert all(c.why.startswith("optimiser") for c in late)


def test_negative_information_is_why_a_clipped_peer_differs():
    rng = np.random.default_rng(1)
    store = rd.ActivationStore.from_arrays({i: rng.normal(size=(300, 2)) for i in range(2)})
    checks = {}
    for seed in range(6):
        material = material_of(store, 0, 1, "text", tokens=250, seed=seed)
        for check in _estimators.sklearn_checks(material, seed):
            assert check.outcome != "disagrees"
            checks.setdefault(check.outcome, check)
    clipped = checks["differs by design"]
    assert clipped.theirs == 0.0 > clipped.ours
    assert clipped.why.startswith("abs")


@pytest.mark.parametrize(
    ("ours", "theirs", "expected", "why", "outcome"),
    [
        (1.0, 1.0, 0.0, "", "agrees"),
        (1.0, 1.1, 0.0, "", "disagrees"),
        (1.0, 1.1, -0.1, "norm", "differs by design"),
        (1.0, 1.1, -0.3, "norm", "disagrees"),
        (None, 1.0, 0.0, "", "disagrees"),
        (None, None, 0.0, "", "agrees"),
        (math.inf, math.inf, 0.0, "", "agrees"),
        (math.nan, 1.0, 0.0, "", "disagrees"),
    ],
)
def test_how_two_numbers_are_judged(ours, theirs, expected, why, outcome):
    check = compare(
        WHERE,
        "I",
        "dit",
        "f",
        ours=ours,
        theirs=theirs,
        expected=expected,
        why=why,
        tolerance=1e-9,
    )
    assert check.outcome == outcome


# Runs.


@pytest.fixture
def run(tmp_path):
    states, groups, _ = arrays()
    path = tmp_path / "states.npz"
    np.savez(path, groups=groups, **{f"layer_{k}": v for k, v in states.items()})
    out = tmp_path / "run"
    out.mkdir()
    source = rd.open_source(path)
    # As the command line records it.
    record = new_record(
        command="estimate", options={"t": 0.3, "ci": 0.95, "seed": 0}, store=source.info
    )
    rd.estimate(source, ["geometric", "proximal"], t=0.3, record=record).save(out / "record.json")
    return out


def corrupt(run, change):
    """Change the results of a record and seal it again, as a program with a bug would."""
    import msgspec

    from redundancy.record import ResultRecord, read_record, write_record

    record = read_record(run)
    rows = msgspec.to_builtins(record.results)
    for row in rows:
        change(row)
    results = msgspec.convert(rows, list[ResultRecord])
    write_record(msgspec.structs.replace(record, results=results), run / "record.json")


def test_a_run_is_computed_again_with_its_own_options(run):
    found = rd.crosscheck(run, samples=2, peers=["scikit-learn"])
    assert found.agrees, found.disagreements
    recorded = [c for c in found if c.peer == "record"]
    assert [c.quantity for c in recorded] == ["geometric"] * 2 + ["proximal"] * 2


@pytest.mark.parametrize(
    ("change", "quantity"),
    [
        (lambda r: r["estimate"].update(value=r["estimate"]["value"] * 1.001), "geometric"),
        (lambda r: r["estimate"]["ci"].update(low=0.0), "geometric, lower end"),
        (lambda r: r["estimate"].update(n=17), "geometric, n"),
        (lambda r: r.update(verdict="redundant"), "geometric, verdict"),
        (lambda r: r.update(p_redundant=1e-9), "geometric, p_redundant"),
        (
            lambda r: r["extras"]["token_weighted"].update(value=0.5),
            "geometric, token_weighted",
        ),
    ],
    ids=["value", "interval", "n", "verdict", "p", "by-product"],
)
def test_a_corrupted_result_is_caught(run, change, quantity):
    corrupt(run, lambda r: change(r) if r["measure"] == "geometric" else None)
    found = rd.crosscheck(run, samples=2, peers=["scikit-learn"])
    assert quantity in {c.quantity for c in found.disagreements}
    assert all(c.quantity.startswith("geometric") for c in found.disagreements)


def test_activations_that_changed_since_are_refused(run, tmp_path):
    states, groups, _ = arrays(seed=1)
    np.savez(tmp_path / "states.npz", groups=groups, **{f"layer_{k}": v for k, v in states.items()})
    with pytest.raises(rd.InputError, match="not those of the run .SHA-256"):
        rd.crosscheck(run)


def test_activations_that_moved_are_asked_for(run, tmp_path):
    moved = tmp_path / "elsewhere.npz"
    (tmp_path / "states.npz").rename(moved)
    with pytest.raises(rd.InputError, match="there is nothing there; say where they are"):
        rd.crosscheck(run)
    assert rd.crosscheck(run, acts=moved, samples=1, peers=["scikit-learn"]).agrees


def test_a_run_folder_may_be_moved_as_a_whole(tmp_path, run):
    (tmp_path / "states.npz").rename(run / "states.npz")
    run.rename(tmp_path / "archive")
    found = rd.crosscheck(tmp_path / "archive", samples=1, peers=["scikit-learn"])
    assert found.agrees


def test_results_in_memory_need_their_activations(store):
    results = rd.estimate(store, "geometric")
    with pytest.raises(rd.InputError, match="does not say where its activations are"):
        rd.crosscheck(results)
    assert rd.crosscheck(results, acts=store, samples=1, peers=["scikit-learn"]).agrees


def test_results_of_what_is_no_measure_are_not_compared(store):
    # `redundancy probe` records results of layers, which no measure makes.
    results = rd.estimate(store, "geometric")
    renamed = rd.Results([replace(r, measure="linear probe") for r in results])
    found = rd.crosscheck(renamed, acts=store, samples=1, peers=["scikit-learn"])
    [check] = [c for c in found if c.peer == "record"]
    assert check.outcome == "not compared"
    assert "no measure named 'linear probe'" in check.why


def test_a_store_behind_a_url_is_a_source(store, tmp_path):
    pytest.importorskip("fsspec")
    store.save(tmp_path / "acts")
    found = rd.crosscheck(f"file://{tmp_path}/acts", samples=1, peers=["scikit-learn"])
    assert found.agrees


def test_bits_are_compared_in_bits(store):
    results = rd.estimate(store, "informational", mi="none").to("bits")
    found = rd.crosscheck(results, acts=store, samples=1, peers=["scikit-learn"])
    assert not [c for c in found.disagreements if c.unit == "bits"]


# Peers and input.


@pytest.fixture
def without(monkeypatch):
    def hide(*names):
        honest = importlib.metadata.version

        def version(name):
            if name in names:
                raise importlib.metadata.PackageNotFoundError(name)
            return honest(name)

        monkeypatch.setattr(_peers.importlib.metadata, "version", version)

    return hide


def test_missing_peers_are_said_and_the_others_asked(run, without):
    without("dit", "npeet_plus")
    done = CliRunner().invoke(app, ["crosscheck", str(run), "--samples", "1", "-q", "--json"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["peers"]["dit"] is None
    assert {c["peer"] for c in found["checks"]} == {"record", "scikit-learn"}
    done = CliRunner().invoke(app, ["crosscheck", str(run), "--samples", "1"])
    assert (
        "npeet_plus and dit are not installed, so nothing was compared with them; type: "
        "pip install 'redundancy[reference]'" in done.stderr
    )


def test_without_any_peer_there_is_nothing_to_do(run, without):
    without("dit", "npeet_plus", "scikit-learn")
    done = CliRunner().invoke(app, ["crosscheck", str(run)])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "scikit-learn and npeet_plus and dit are not installed" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_disagreement_ends_with_code_1_and_names_the_pair(run):
    corrupt(run, lambda r: r["estimate"].update(value=0.7))
    done = CliRunner().invoke(app, ["crosscheck", str(run), "--peer", "scikit-learn"])
    assert done.exit_code == 1
    assert "numbers disagree, the first of layers 0→1 (text): geometric" in done.stderr
    assert "disagrees" in done.stdout


@pytest.mark.parametrize("columns", ["60", "160"])
def test_the_table_fits_the_terminal(run, columns):
    done = CliRunner().invoke(
        app, ["crosscheck", str(run), "--samples", "1", "-q"], env={"COLUMNS": columns}
    )
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    numbers = [line for line in lines if not line.startswith(("D", "a: lower"))]
    # Reasons are folded by the terminal; numbers are not to be.
    assert max(map(len, numbers[2:])) <= int(columns)
    assert "differs by design" in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"peers": ["numpy"]}, "no peer named 'numpy'; have scikit-learn"),
        ({"acts": "x"}, "no run was named"),
        ({"tokens": 1}, "tokens is 1"),
    ],
)
def test_unusable_arguments_are_said(store, options, words):
    with pytest.raises(rd.InputError, match=words):
        rd.crosscheck(store, **options)


def test_copies_and_few_tokens_are_not_compared():
    rng = np.random.default_rng(0)
    few = rng.normal(size=(10, 3))[rng.integers(10, size=200)]
    found = rd.crosscheck({0: few, 1: few + 1.0}, samples=1)
    left = {c.quantity for c in found if c.outcome == "not compared"}
    assert "I(a;b), KSG 1" in left
    assert found.agrees


def test_a_store_of_sums_has_nothing_for_peers(tmp_path):
    from tests.redundancy.store.conftest import create_store, sample_of

    store = create_store(tmp_path / "acts", tokens=0)
    with store.writer() as writer:
        for number in range(3):
            writer.add(sample_of(number, states={}, positions={}))
    found = rd.crosscheck(store.refresh(), samples=1)
    assert {c.outcome for c in found} == {"not compared"}
    assert all("sums only" in c.why for c in found)


def test_frames(checked):
    assert list(checked.to_frame()["peer"]) == [c.peer for c in checked]
    assert checked.to_frame("polars").height == len(checked)
