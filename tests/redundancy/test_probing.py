"""Probing a store: the right layer wins, controls fail where they must, failures stay local."""

from __future__ import annotations

import json

import numpy as np
import pytest

from estimators import InputError
from redundancy.probing import LayerScore, PairScore, PlantedScore, probe_store
from redundancy.store import ActivationStore
from redundancy.synthetic import GaussianChain

N_IMAGES, TOKENS, DIM = 150, 4, 6


def store(seed=0, **changes):
    """Three layers; the class of each image is written into layer 1 and fades in layer 2."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 3, size=N_IMAGES)
    owner = np.repeat(np.arange(N_IMAGES), TOKENS)
    x = {layer: rng.normal(size=(len(owner), DIM)) for layer in range(3)}
    x[1][:, :3] += 2.0 * np.eye(3)[z[owner]]
    x[2] = 0.4 * x[1] + x[2]
    arrays = {layer: states.reshape(N_IMAGES, TOKENS, DIM) for layer, states in x.items()}
    given = {"target": z} | changes
    return ActivationStore.from_arrays(arrays, **given)


@pytest.fixture(scope="module")
def report():
    return probe_store(store(), kinds=("linear", "ridge"), threshold=0.1)


def test_the_layer_that_holds_the_target_wins(report):
    assert report.best().layer == 1
    assert report.of(1, "linear").score.value > 0.9
    assert report.of(0, "linear").score.value < 0.5
    assert report.of(0, "linear").score.value < report.of(2, "linear").score.value
    assert report.n == N_IMAGES
    assert report.state.startswith("mean")


def test_every_score_has_its_control_and_interval(report):
    for score in report.scores:
        assert score.score.value in score.score.ci
        assert score.control.value < report.baseline + 0.12
    assert set(report.planted) == {"linear", "ridge"}
    assert all(e.value > 0.9 for e in report.planted.values())
    assert not any(d.severity == "error" for d in report.diagnostics)


def test_confusion_and_calibration_count_every_sample(report):
    best = report.of(1, "linear")
    table = np.array(best.confusion)
    assert table.sum() == N_IMAGES
    assert np.trace(table) / N_IMAGES == pytest.approx(best.score.value)
    assert sum(best.calibration.n) == N_IMAGES
    assert 0 <= best.calibration.error < 0.2
    assert report.of(1, "ridge").calibration is None  # a ridge gives no probabilities


def test_pairs_say_where_the_target_appears(report):
    (first, second) = report.pairs
    assert (first.lower, first.upper) == (0, 1)
    assert first.reading.estimate.value > 0.3
    assert first.reading.p_needed < 0.01
    assert first.reading.extras["gain"].value > 0
    assert second.reading.extras["gain"].value < 0


def test_it_goes_into_json_and_scores_come_back(report):
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert json.loads(text)["best"] == {"layer": 1, "kind": report.best().kind}
    for score in report.scores:
        again = LayerScore.from_dict(json.loads(json.dumps(score.to_dict())))
        assert again.to_dict() == score.to_dict()
    with pytest.raises(InputError, match="no layer score"):
        LayerScore.from_dict({"layer": 1})


def test_it_resumes_with_what_is_done(report):
    everything = []
    probe_store(
        store(),
        kinds=("linear", "ridge"),
        threshold=0.1,
        progress=lambda i, n, item: everything.append(item),
    )
    assert len(everything) == 6 + 2 + 1
    for stop in (1, 4, 6, 9):
        seen = []
        again = probe_store(
            store(),
            kinds=("linear", "ridge"),
            threshold=0.1,
            done=everything[:stop],
            progress=lambda i, n, item, seen=seen: seen.append((i, n, item)),
        )
        assert again.to_dict() == report.to_dict()
        assert [i for i, _, _ in seen] == list(range(stop, 10))
        assert {n for _, n, _ in seen} == {9}
        assert seen[0][2] is None


def test_what_was_read_back_from_json_is_the_same(report):
    data = json.loads(json.dumps(report.to_dict()))
    assert type(report).from_dict(data).to_dict() == report.to_dict()
    planted = PlantedScore(layer=0, scores=report.planted)
    again = PlantedScore.from_dict(json.loads(json.dumps(planted.to_dict())))
    assert again.to_dict() == planted.to_dict()
    with pytest.raises(InputError, match="no pair score"):
        PairScore.from_dict({"pair": [1]})


def test_pairs_say_what_a_layer_makes_usable(report):
    first, second = (pair.gain for pair in report.pairs)
    assert first.unit == "nats"
    assert first.ci.low > 0.3
    assert abs(second.value) < 0.1


def test_tokens_can_be_rows_and_stay_with_their_image():
    found = probe_store(store(), pool="token", controls=False, pairs=False)
    assert found.n == N_IMAGES * TOKENS
    assert found.n_groups == N_IMAGES
    assert found.of(1, "linear").score.value > 0.6


def test_values_are_explained_as_far_as_the_closed_form_says():
    chain = GaussianChain.random(d=4, k=2, seed=1)
    found = probe_store(chain.sample(3000, seed=0).to_store(), controls=False)
    for layer, mmse in ((1, chain.mmse_l), (0, chain.mmse_lm1)):
        truth = 1 - mmse / chain.tr_cov_z
        assert found.of(layer, "linear").score.value == pytest.approx(truth, abs=0.03)
        assert found.of(layer, "linear").probe == "ridge"
    assert chain.functional in found.pairs[0].reading.estimate.ci


def test_an_mlp_reads_what_a_linear_probe_cannot():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 2))
    z = (x[:, 0] * x[:, 1] > 0).astype(int)
    found = probe_store(
        ActivationStore.from_arrays({0: x}, target=z),
        kinds=("linear", "mlp"),
        controls=False,
        options={"hidden": 32, "max_epochs": 30},
    )
    assert found.of(0, "mlp").score.value > 0.8 > 0.65 > found.of(0, "linear").score.value


def test_a_failed_layer_says_why_and_the_others_go_on():
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, size=100)
    x = rng.normal(size=(100, 3))
    x[:, 0] += 4 * z
    found = probe_store(
        ActivationStore.from_arrays({0: x, 1: np.ones((100, 3)), 2: x}, target=z), controls=False
    )
    assert found.of(1, "linear").score.value is None
    assert "constant" in found.of(1, "linear").score.diagnostics[0].message
    assert found.of(2, "linear").score.value > 0.9
    assert [p.reading.estimate.value is None for p in found.pairs] == [True, True]


def test_targets_of_ones_own_and_words():
    z = np.array(["cat", "dog"])[np.random.default_rng(0).integers(0, 2, size=80)]
    x = np.random.default_rng(1).normal(size=(80, 3))
    x[:, 0] += 4 * (z == "dog")
    found = probe_store(ActivationStore.from_arrays({0: x}), target=z, controls=False)
    assert found.classes == ("cat", "dog")
    assert found.of(0, "linear").score.value > 0.9


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"target": None}, "no target"),
        ({"target": np.zeros(600, dtype=int)}, "one class"),
        ({"target": np.zeros(3)}, "600"),
        ({"target": np.full(600, np.nan)}, "NaN"),
        ({"kinds": ("linaer",)}, "no kind of probe"),
        ({"kinds": ()}, "no kind of probe was named"),
        ({"folds": 4}, "odd"),
        ({"pool": "max"}, "pool"),
    ],
)
def test_bad_input_gets_one_sentence(options, sentence):
    made = store(target=None) if "target" in options else store()
    with pytest.raises(InputError, match=sentence):
        probe_store(made, **options)


def test_a_class_that_misses_a_fold_is_said():
    rng = np.random.default_rng(0)
    z = np.arange(60) % 2
    z[7] = 2
    found = probe_store(ActivationStore.from_arrays({0: rng.normal(size=(60, 3))}, target=z))
    assert [d.code for d in found.diagnostics] == ["rare-class"]
    assert "class 2 " in found.diagnostics[0].message


def test_a_layer_that_cannot_be_read_fails_alone():
    rng = np.random.default_rng(0)
    z = np.arange(80) % 2
    arrays = {i: rng.normal(size=(80, 3)) for i in range(3)}
    made = ActivationStore.from_arrays(arrays, target=z)
    arrays[1][4, 1] = np.nan  # after the store was checked, as in a file that was damaged
    made._sound.clear()
    found = probe_store(made)
    assert found.of(1, "linear").score.value is None
    assert "1 NaN" in found.of(1, "linear").score.diagnostics[0].message
    assert [p.reading.estimate.value is None for p in found.pairs] == [True, True]
    assert all("NaN" in p.reading.estimate.diagnostics[0].message for p in found.pairs)
    assert found.of(2, "linear").score.value is not None


def test_tokens_of_one_sample_with_different_targets_are_not_pooled():
    made = store(target=np.arange(N_IMAGES * TOKENS) % 2)
    with pytest.raises(InputError, match="pool='token'"):
        probe_store(made)


def test_the_number_of_threads_does_not_matter():
    one, two = (probe_store(store(), controls=False, jobs=jobs).to_dict() for jobs in (1, 2))
    assert one == two
    with pytest.raises(InputError, match="jobs"):
        probe_store(store(), jobs=0)
