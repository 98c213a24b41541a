"""The pid measure: what only the upper layer says of the target."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import InputError
from redundancy.measures.pid import measure
from redundancy.pairs import LayerPair

N = 3000


@pytest.fixture(scope="module")
def states():
    rng = np.random.default_rng(0)
    z = rng.integers(3, size=N)
    x = 1.5 * rng.normal(size=(3, 5))[z] + rng.normal(size=(N, 5))
    return z, x, rng


def codes(reading) -> set[str]:
    return {d.code for d in reading.estimate.diagnostics}


def test_a_copy_is_redundant_and_news_is_needed(states):
    z, x, rng = states
    copy = measure(
        LayerPair(0, 1, x, x + 1e-3 * rng.normal(size=x.shape), target=z), threshold=0.05
    )
    assert copy.estimate.value < 0.02
    assert copy.extras["redundant"].value > 0.5
    assert copy.p_redundant < 0.01 < 0.5 < copy.p_needed
    news = measure(LayerPair(0, 1, rng.normal(size=x.shape), x, target=z), threshold=0.05)
    assert news.estimate.value > 0.5
    assert news.p_needed < 0.01 < 0.5 < news.p_redundant
    assert abs(news.extras["redundant"].value) < 0.05


def test_the_upper_layer_is_the_one_measured(states):
    z, x, rng = states
    lost = measure(LayerPair(0, 1, x, rng.normal(size=x.shape), target=z))
    assert abs(lost.estimate.value) < 0.05
    assert lost.extras["unique_lower"].value > 0.5


def test_a_rotation_is_redundant_about_the_target(states):
    z, x, rng = states
    rotation, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    reading = measure(LayerPair(0, 1, x, x @ rotation, target=z))
    assert reading.estimate.value < 0.1 * reading.extras["redundant"].value
    assert reading.extras["retained"].value > 0.8


def test_sum_rules_and_lemma_5(states):
    z, x, _ = states
    y = x.copy()
    y[:, 0] = 0.0
    reading = measure(LayerPair(0, 1, y, x, target=z))
    parts = reading.extras
    total = reading.estimate.value + parts["redundant"].value
    assert total == pytest.approx(parts["information_upper"].value, abs=1e-12)
    below = parts["unique_lower"].value + parts["redundant"].value
    assert below == pytest.approx(parts["information_lower"].value, abs=1e-12)
    assert parts["conditional_entropy"].value > 0
    assert parts["gap"].value < 1e-6
    params = reading.estimate.params
    low, high = params["synergy_bracket"]
    shown = parts["synergistic"].ci
    assert shown.low < low <= high < shown.high
    assert params["control_scheme"] == "samples shuffled"
    assert set(params["se"]) == {"redundant", "unique_x", "unique_y", "synergistic"}


def test_trivial_cases_are_said(states):
    z, x, _ = states
    same = measure(LayerPair(0, 1, x, x, target=z))
    assert codes(same) >= {"identical-layers", "upstream-target"}
    assert same.estimate.value == pytest.approx(0, abs=1e-7)
    apart = 100.0 * np.eye(3)[z] + 0.01 * x[:, :3]
    known = measure(LayerPair(0, 1, x, apart, target=z))
    assert "target-known" in codes(known)
    constant = measure(LayerPair(0, 1, x, x, target=np.zeros(N, dtype=int)))
    assert constant.estimate.value is None
    assert "constant-target" in codes(constant)


def test_one_hot_and_continuous_targets(states):
    z, x, rng = states
    y = x + 0.5 * rng.normal(size=x.shape)
    labels = measure(LayerPair(0, 1, y, x, target=z)).estimate
    one_hot = measure(LayerPair(0, 1, y, x, target=np.eye(3)[z])).estimate
    assert one_hot.value == pytest.approx(labels.value, abs=1e-9)
    continuous = measure(LayerPair(0, 1, y, x, target=x[:, 0])).estimate
    assert continuous.params["alphabets"][0] == 8


def test_groups_are_the_units(states):
    z, x, rng = states
    y = x + 0.5 * rng.normal(size=x.shape)
    reading = measure(LayerPair(0, 1, y, x, target=z, groups=np.arange(N) // 10))
    assert reading.estimate.n_groups == N // 10
    few = measure(LayerPair(0, 1, y, x, target=z, groups=np.arange(N) // 500))
    assert not few.estimate.trustworthy


def test_what_is_missing_is_named(states):
    _, x, _ = states
    with pytest.raises(InputError, match="3→4 carry no target"):
        measure(LayerPair(3, 4, x, x))
    with pytest.raises(InputError, match="3→4 carry no token states"):
        measure(LayerPair(3, 4, target=np.zeros(3)))
    with pytest.raises(InputError, match="threshold"):
        measure(LayerPair(3, 4, x, x, target=np.zeros(N)), threshold=-1.0)
    with pytest.raises(InputError, match="layers 3→4.*n_states"):
        measure(LayerPair(3, 4, x, x, target=np.arange(N) % 2), n_states=1)
