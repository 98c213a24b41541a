"""Quantisers: fitted once, shared, saved, honest about what they cannot do."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from estimators import InputError
from estimators.quantise import Quantiser, quantise

METHODS = ["kmeans", "pq", "signs", "uniform"]


@pytest.fixture
def clouds():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 1.0], [0.0, 9.0, 2.0], [9.0, 9.0, 3.0]])
    which = rng.integers(0, 4, size=400)
    return centres[which] + rng.normal(size=(400, 3)) * 0.2, which


@pytest.mark.parametrize("method", METHODS)
def test_codes_are_in_range_and_repeat(clouds, method):
    x, _ = clouds
    rule = quantise(x, method, n_states=8, seed=3)
    codes = rule.encode(x)
    assert codes.dtype == np.int64
    assert codes.shape == (400,)
    assert 0 <= codes.min() <= codes.max() < rule.n_states <= 8
    assert np.array_equal(codes, quantise(x, method, n_states=8, seed=3).encode(x))


def test_kmeans_finds_separate_clouds(clouds):
    x, which = clouds
    codes = quantise(x, n_states=4).encode(x)
    pairs = set(zip(codes.tolist(), which.tolist(), strict=True))
    assert len(pairs) == 4


def test_a_mean_far_from_zero_changes_nothing(clouds):
    x, which = clouds
    codes = quantise(x + 1e6, n_states=4).encode(x + 1e6)
    assert len(set(zip(codes.tolist(), which.tolist(), strict=True))) == 4


@pytest.mark.parametrize("method", METHODS)
def test_saving_and_loading_keeps_every_code(clouds, method):
    x, _ = clouds
    rule = quantise(x, method, n_states=8)
    text = json.dumps(rule.params())
    again = Quantiser.from_arrays(rule.to_arrays(), json.loads(text))
    assert np.array_equal(rule.encode(x), again.encode(x))
    assert np.array_equal(rule.encode(x), pickle.loads(pickle.dumps(rule)).encode(x))


def test_one_rule_for_several_arrays(clouds):
    x, _ = clouds
    shared = quantise([x, x + 20.0], n_states=8)
    assert shared.settings["n_fit"] == 800
    assert not set(shared.encode(x)) & set(shared.encode(x + 20.0))


def test_fit_on_chooses_rows(clouds):
    x, _ = clouds
    mask = np.arange(400) < 100
    by_mask = quantise(x, n_states=4, fit_on=mask)
    by_index = quantise(x, n_states=4, fit_on=np.arange(100))
    assert by_mask.settings["n_fit"] == 100
    assert np.array_equal(by_mask.encode(x), by_index.encode(x))


def test_unit_normalisation_ignores_length(clouds):
    x, _ = clouds
    rule = quantise(x, n_states=4, normalise="unit")
    assert np.array_equal(rule.encode(x), rule.encode(7.0 * x))


def test_uniform_bins_cover_values_outside_the_fit():
    rule = quantise(np.array([0.0, 1.0]), "uniform", n_states=4)
    assert rule.encode(np.array([-3.0, 0.1, 0.3, 0.6, 0.9, 5.0])).tolist() == [0, 0, 1, 2, 3, 3]


def test_signs_split_along_principal_components():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 5)) * [10, 5, 1, 1, 1]
    rule = quantise(x, "signs", n_states=5)
    assert rule.n_states == 4  # the largest power of two
    counts = np.bincount(rule.encode(x), minlength=4)
    assert counts.min() > 80


def test_a_quantiser_cannot_be_changed(clouds):
    rule = quantise(clouds[0], n_states=4)
    with pytest.raises(ValueError, match="read-only"):
        rule.arrays["centres"][0, 0] = 1.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: quantise(x, "voronoi"), "use one of kmeans"),
        (lambda x: quantise(x, n_states=1), "at least 2"),
        (lambda x: quantise(x, n_states=1000), "at least 1000 samples"),
        (lambda x: quantise(x[:1].repeat(50, axis=0), n_states=4), "only 1 distinct rows"),
        (lambda x: quantise(x.astype(int)), "holds integers"),
        (lambda x: quantise([x, x[:, :2]]), "2 and 3 coordinates"),
        (lambda x: quantise(x, "pq", n_states=4, subspaces=5), "use 1 to 3"),
        (lambda x: quantise(x, "uniform", n_states=4), "2 uniform bins"),
        (lambda x: quantise(x, n_states=4).encode(x[:, :2]), "was fitted on 3"),
        (lambda x: quantise(x, n_states=4, fit_on=np.array([0, 400])), "row 400"),
        (lambda x: quantise(x * 0, n_states=4, normalise="unit"), "zero vectors"),
    ],
)
def test_refusals(clouds, call, words):
    with pytest.raises(InputError, match=words):
        call(clouds[0])
