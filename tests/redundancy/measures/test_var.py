"""Visual attention ratio: the published vectors, units, and samples without an image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from estimators import InputError
from redundancy.measures.var import measure
from redundancy.pairs import LayerPair

VECTORS = Path(__file__).parent.parent.parent / "vectors" / "var.json"
CASES = json.loads(VECTORS.read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{len(c['per_head'])}-blocks")
def test_sums_and_means_equal_the_vectors(case, summed):
    attention = np.array(case["attention"])
    for block, per_head in enumerate(attention[:, :, case["vision_index"]].sum(axis=-1)):
        assert per_head == pytest.approx(case["per_head"][block])
        reading = measure(
            summed(block, block + 1, samples=5, var_per_head=np.tile(per_head, (5, 1)))
        )
        assert reading.estimate.value == pytest.approx(case["var_mean"][block], rel=1e-6)
        assert reading.extras["sum"].value == pytest.approx(case["var_sum"][block], rel=1e-6)
        assert reading.extras["percent"].value == pytest.approx(
            100 * case["var_mean"][block], rel=1e-6
        )
        assert reading.estimate.params["per_head"] == pytest.approx(case["per_head"][block])


def test_indifferent_attention_has_enrichment_one(summed):
    share = np.linspace(0.2, 0.8, 40)
    pair = summed(var_per_head=np.tile(share[:, None], (1, 4)), vision_share=share)
    assert measure(pair).extras["enrichment"].value == pytest.approx(1.0)


def test_samples_without_image_or_attention_are_left_out(summed):
    per_head = np.full((40, 2), 0.5)
    per_head[0] = 0.0
    per_head[1] = np.nan
    share = np.full(40, 0.5)
    share[0] = 0.0
    reading = measure(summed(var_per_head=per_head, vision_share=share), threshold=0.6)
    assert reading.estimate.value == pytest.approx(0.5)
    assert reading.estimate.n == 38
    found = {d.code: d.severity for d in reading.estimate.diagnostics}
    assert found == {"not-captured": "warning", "no-vision": "info"}


def test_no_attention_at_all(summed):
    reading = measure(summed(var_per_head=np.full((40, 2), np.nan)))
    assert reading.estimate.value is None
    with pytest.raises(InputError, match="carry no attention"):
        measure(summed())
    with pytest.raises(InputError, match="carry no attention"):
        measure(LayerPair(0, 1, np.ones((4, 2)), np.ones((4, 2))))


def test_a_sum_over_heads_is_not_a_mass(summed):
    with pytest.raises(InputError, match=r"outside \[0, 1\]"):
        measure(summed(var_per_head=np.full((40, 2), 4.33)))
    with pytest.raises(InputError, match="divided by their number"):
        measure(summed(var_per_head=np.full((40, 2), 0.5)), threshold=4.33)


def test_p_values(summed):
    values = np.random.default_rng(0).uniform(0.1, 0.3, size=(40, 4))
    reading = measure(summed(var_per_head=values), threshold=0.5)
    assert reading.p_redundant < 1e-6
    assert measure(summed(var_per_head=values), threshold=0.1).p_needed < 1e-6
