"""Usable information: zero where nothing is added, entropy where everything is."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import InputError
from probes.v_information import conditional_v_information, v_information
from redundancy.measures import v_information as measured
from redundancy.pairs import LayerPair


def logistic_task(n=1500, seed=0, d=4):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, (3 * x[:, 0] + rng.logistic(size=n) > 0).astype(int)


def exact_information(scale=3.0):
    """I(Z; X) of the task above, by quadrature."""
    grid = np.linspace(-10, 10, 20001)
    density = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    p = 1 / (1 + np.exp(-scale * grid))
    p = np.clip(p, 1e-300, 1 - 1e-16)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    return np.log(2) - float(np.sum(density * entropy) * (grid[1] - grid[0]))


def test_a_family_that_holds_the_truth_finds_the_mutual_information():
    x, z = logistic_task(4000)
    found = v_information(x, z, control=False)
    assert exact_information() in found.ci
    assert found.unit == "nats"
    assert found.params["entropy"] == pytest.approx(np.log(2), abs=1e-2)


def test_shuffled_labels_give_nothing():
    x, z = logistic_task(800)
    found = v_information(x, z)
    assert abs(found.params["control"]) < 0.02
    assert found.trustworthy


def test_a_leak_through_the_image_shows_in_the_control():
    # Rows of one image are spread over "groups", and the state names the image.
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(20), 30)
    z = rng.integers(0, 2, size=20)[image]
    x = np.eye(20)[image] + 0.01 * rng.normal(size=(600, 20))
    honest = v_information(x, z, groups=image, control=False)
    leaking = v_information(x, z, control=False)
    assert honest.value < 0.1 < 0.5 < leaking.value


def test_a_linear_family_cannot_use_what_is_not_linear():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 2))
    z = (x[:, 0] * x[:, 1] > 0).astype(int)
    raw = v_information(x, z, control=False)
    ready = v_information(x[:, :1] * x[:, 1:], z, control=False)
    assert raw.value < 0.01 < 0.3 < ready.value  # usable information grew by processing


def test_conditional_information_of_a_copy_is_nothing():
    x, z = logistic_task()
    assert abs(conditional_v_information(x, x, z).value) < 0.01
    noise = np.random.default_rng(1).normal(size=x.shape)
    assert conditional_v_information(x, noise, z).value > 0.25
    assert abs(conditional_v_information(noise, x, z).value) < 0.02


def test_values_are_refused_and_distributions_are_not():
    x, z = logistic_task(400)
    with pytest.raises(InputError, match="classes"):
        v_information(x, x[:, 0])
    soft = np.stack([1 - 0.8 * z, 0.8 * z], axis=1)
    assert np.isfinite(v_information(x, soft, control=False).value)


@pytest.mark.parametrize(
    ("target", "groups", "sentence"),
    [
        (np.zeros(50, dtype=int), None, "one class"),
        (np.arange(50) % 2, np.arange(50) // 25, "2 groups for 5 folds"),
        (np.arange(49) % 2, None, "49 rows for 50 samples"),
    ],
)
def test_bad_input_is_said(target, groups, sentence):
    x = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(InputError, match=sentence):
        v_information(x, target, groups=groups)


def test_the_measure_decides():
    x, z = logistic_task(900)
    noise = np.random.default_rng(1).normal(size=x.shape)
    groups = np.arange(900) // 3
    copy = measured.measure(
        LayerPair(0, 1, x, x + 0.01 * noise, groups=groups, target=z), threshold=0.05
    )
    new = measured.measure(LayerPair(0, 1, noise, x, groups=groups, target=z), threshold=0.05)
    assert copy.p_redundant < 0.01
    assert new.p_needed < 0.01
    assert new.extras["gain"].value == pytest.approx(
        new.extras["upper"].value - new.extras["lower"].value, abs=1e-9
    )


def test_the_measure_refuses_values_by_name_of_the_pair():
    x, _ = logistic_task(100)
    with pytest.raises(InputError, match="2→5.*functional"):
        measured.measure(LayerPair(2, 5, x, x + 1.0, target=x[:, 0]))
