"""CKA as a measure: the published vectors, invariances, verdicts and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from estimators import InputError
from redundancy.measures.cka import matrix, measure
from redundancy.pairs import LayerPair
from redundancy.store import ActivationStore

VECTORS = Path(__file__).parent.parent.parent / "vectors" / "similarity.json"
CASES = json.loads(VECTORS.read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=["first", "second"])
def test_it_equals_the_vectors(case):
    reading = measure(LayerPair(0, 1, np.array(case["X"]), np.array(case["Y"])), ci=None)
    assert reading.estimate.value == pytest.approx(case["cka_debiased"], rel=1e-9)
    assert reading.extras["biased"].value == pytest.approx(case["cka_biased_linear"], rel=1e-9)


def test_unrelated_layers_are_near_zero_where_the_biased_one_is_not():
    rng = np.random.default_rng(0)
    pair = LayerPair(0, 1, rng.normal(size=(100, 200)), rng.normal(size=(100, 200)))
    reading = measure(pair, threshold=0.5)
    assert abs(reading.estimate.value) < 0.1
    assert reading.extras["biased"].value > 0.6
    assert reading.p_needed < 1e-6


def test_alike_layers_are_redundant_and_the_interval_ends_at_one():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 5))
    reading = measure(LayerPair(0, 1, x, x + 0.05 * rng.normal(size=x.shape)), threshold=0.9)
    assert reading.estimate.ci.high <= 1.0
    assert reading.p_redundant < 1e-6
    assert reading.p_needed > 0.99


def test_few_groups_give_no_verdict():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 3))
    reading = measure(LayerPair(0, 1, x, x + 0.1, groups=np.arange(60) % 6), threshold=0.5)
    assert reading.p_redundant == reading.p_needed == 1.0


def test_one_group_has_a_value_and_an_error():
    rng = np.random.default_rng(3)
    pair = LayerPair(0, 1, *rng.normal(size=(2, 30, 3)), groups=np.zeros(30, dtype=int))
    reading = measure(pair)
    assert reading.estimate.value is not None
    assert reading.estimate.ci is None
    assert not reading.estimate.trustworthy


def test_constant_states_have_none():
    reading = measure(LayerPair(0, 1, np.ones((30, 2)), np.eye(30)[:, :2]))
    assert reading.estimate.value is None
    assert reading.estimate.diagnostics[0].code == "constant"


def test_bad_input_is_said_in_one_sentence():
    with pytest.raises(InputError, match="extract with --tokens"):
        measure(LayerPair(0, 1))
    with pytest.raises(InputError, match=r"lies in \(0, 1\)"):
        measure(LayerPair(0, 1, np.eye(5), np.eye(5)), threshold=1.0)


def test_the_matrix_holds_what_the_measure_says_of_every_pair():
    rng = np.random.default_rng(2)
    layers = {0: rng.normal(size=(90, 6))}
    layers[1] = layers[0] @ rng.normal(size=(6, 9)) + rng.normal(size=(90, 9))
    layers[2] = rng.normal(size=(90, 200))
    found = matrix(ActivationStore.from_arrays(layers))
    for i in range(3):
        for j in range(3):
            pair = LayerPair(i, j, layers[i], layers[j]) if i < j else None
            wanted = 1.0 if i == j else found[j, i]
            if pair is not None:
                wanted = measure(pair, ci=None).estimate.value
            assert found[i, j] == pytest.approx(wanted, abs=2e-5)


def test_the_matrix_leaves_out_what_does_not_vary_and_refuses_three_tokens():
    x = np.random.default_rng(3).normal(size=(40, 3))
    found = matrix(ActivationStore.from_arrays({0: x, 1: np.ones((40, 3)), 2: -x}))
    assert np.isnan(found[1]).all()
    assert found[0, 2] == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(InputError, match="at least 4 token states and there are 3"):
        matrix(ActivationStore.from_arrays({0: x[:3], 1: x[:3]}))
