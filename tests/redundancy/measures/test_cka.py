"""CKA as a measure: the published vectors, invariances, verdicts and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from estimators import InputError
from redundancy.measures.cka import measure
from redundancy.pairs import LayerPair

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
