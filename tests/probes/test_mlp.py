"""The MLP probe: reads what is not linear, stops in time, leaves torch as it found it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone

from estimators import InputError
from probes.mlp import MLPProbe


def product(n=600, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, 2))
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


def test_values_keep_their_shape_and_scale():
    x, _ = product()
    z = 100.0 + 10.0 * (x[:, 0] * x[:, 1])
    probe = MLPProbe(hidden=32, max_epochs=40).fit(x[:500], z[:500])
    assert probe.predict(x[500:]).shape == (100,)
    assert probe.score(x[500:], z[500:]) > 0.6


def test_the_seed_decides_and_the_global_state_is_left_alone():
    x, y = product(200)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (
        MLPProbe(hidden=8, max_epochs=3, seed=s).fit(x, y).predict_proba(x) for s in (0, 0, 1)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_allclose(first.sum(1), 1.0, atol=1e-6)


def test_it_stops_before_it_memorises():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 20)), rng.integers(0, 2, size=300)
    probe = MLPProbe(hidden=128, max_epochs=100, patience=3, learning_rate=0.01).fit(x, y)
    assert probe.n_epochs_ < 20


def test_it_is_a_clone():
    probe = MLPProbe(hidden=7, seed=2)
    assert clone(probe).get_params() == probe.get_params()


@pytest.mark.parametrize(
    ("options", "y", "sentence"),
    [
        ({"hidden": 0}, np.arange(50) % 2, "hidden is 0"),
        ({}, np.zeros(50, dtype=int), "one class"),
        ({"learning_rate": float("nan")}, np.arange(50) % 2, "learning_rate is nan"),
        ({"learning_rate": 1e30}, np.arange(50) % 2, "never finite"),
    ],
)
def test_bad_input_is_said(options, y, sentence):
    x = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(InputError, match=sentence):
        MLPProbe(**({"max_epochs": 2} | options)).fit(x, y)


@pytest.mark.parametrize("soft", [False, True])
def test_no_change_of_the_prediction_exceeds_the_lipschitz_bound(soft):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) * [1.0, 10.0, 0.1]
    y = (x[:, 0] > 0).astype(int) if soft else x[:, :2] ** 2
    probe = MLPProbe(hidden=16, depth=2, max_epochs=10, seed=0).fit(x, y)
    bound = probe.lipschitz_bound()
    a, b = rng.normal(size=(2, 2000, 3)) * 3
    say = probe.predict_proba if soft else probe.predict
    moved = np.linalg.norm(say(a) - say(b), axis=1)
    assert np.all(moved <= bound * np.linalg.norm(a - b, axis=1))
