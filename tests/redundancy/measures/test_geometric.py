"""Mean cosine distance: closed forms, weightings, and what it says when it cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import InputError
from redundancy.measures.geometric import SPEC, measure
from redundancy.pairs import LayerPair


def codes(estimate):
    return {d.code: d.severity for d in estimate.diagnostics}


def test_known_distances_in_both_weightings(rotated):
    pair = rotated([0.1, 0.2, 0.3, 0.0, 0.1, 0.5, 0.4, 0.6, 0.5], [0, 0, 0, 1, 1, 2, 2, 2, 2])
    reading = measure(pair)
    assert reading.estimate.value == pytest.approx(0.25)
    assert reading.extras["token_weighted"].value == pytest.approx(0.3)
    swapped = measure(pair, weighting="token")
    assert swapped.estimate.value == pytest.approx(0.3)
    assert swapped.extras["sample_weighted"].value == pytest.approx(0.25)
    assert reading.estimate.unit == SPEC.unit == "cosine distance"
    assert reading.estimate.n == 9
    assert reading.estimate.n_groups == 3


def test_sums_and_states_agree(rotated):
    from redundancy.summary import summarise

    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 5)
    pair = rotated(rng.uniform(0, 0.2, 150), groups)
    summary = summarise(pair.x_lower, pair.x_upper, groups)
    from_sums = measure(LayerPair(0, 1, summary=summary), threshold=0.05)
    from_states = measure(pair, threshold=0.05)
    assert from_sums.estimate.value == from_states.estimate.value
    assert from_sums.p_needed == from_states.p_needed


def test_scale_is_nothing_and_reversal_is_everything():
    x = np.random.default_rng(0).normal(size=(50, 4))
    assert measure(LayerPair(0, 1, x, 3 * x)).estimate.value == pytest.approx(0.0, abs=1e-12)
    assert measure(LayerPair(0, 1, x, -x)).estimate.value == pytest.approx(2.0)


def test_verdict_p_values_point_the_right_way(rotated):
    rho = np.random.default_rng(0).uniform(0.0, 0.02, 200)
    low = measure(rotated(rho), threshold=0.05)
    assert low.p_redundant < 1e-6
    assert low.p_needed > 0.99
    high = measure(rotated(rho + 0.2), threshold=0.05)
    assert high.p_needed < 1e-6
    assert measure(rotated(rho)).p_redundant is None


def test_identical_groups_are_not_taken_for_certainty(rotated):
    few = measure(rotated(np.zeros(30)), threshold=0.01)
    # (1 - 0.01 / 2)^30: thirty exact zeros leave room for a rare large distance.
    assert few.p_redundant == pytest.approx(0.995**30)
    assert few.estimate.ci.high > 0.0
    assert "KL" in few.estimate.ci.method
    many = measure(rotated(np.zeros(3000)), threshold=0.01)
    assert many.p_redundant == pytest.approx(0.995**3000)


def test_few_groups_need_a_bound_that_knows_the_range(rotated):
    rho = [0.010, 0.011, 0.012, 0.011, 0.010]
    reading = measure(rotated(rho), threshold=0.05)
    assert codes(reading.estimate) == {"few-groups": "warning"}
    assert reading.p_redundant > 0.5  # t alone would say 1e-6


def test_one_group_has_a_value_no_interval_and_says_why(rotated):
    reading = measure(rotated([0.1, 0.2], [7, 7]), threshold=0.5)
    assert reading.estimate.value == pytest.approx(0.15)
    assert reading.estimate.ci is None
    assert codes(reading.estimate) == {"one-group": "error"}
    assert not reading.estimate.trustworthy
    assert reading.p_redundant == reading.p_needed == 1.0
    assert "certified" not in reading.extras


def test_zero_vectors_are_counted_and_left_out():
    x, y = np.ones((30, 2)), np.ones((30, 2))
    x += np.arange(30)[:, None] * [0.0, 0.1]
    y[:, 1] = 0.0
    y[3] = 0.0
    reading = measure(LayerPair(0, 1, x, y))
    assert codes(reading.estimate)["zero-norm"] == "warning"
    assert reading.estimate.params["n_undefined"] == 1
    assert reading.estimate.n == 29
    nothing = measure(LayerPair(0, 1, x, np.zeros((30, 2))), threshold=0.1)
    assert nothing.estimate.value is None
    assert codes(nothing.estimate)["zero-norm"] == "error"
    assert nothing.p_redundant is None


def test_constant_states_are_said():
    x = np.ones((40, 3))
    assert codes(measure(LayerPair(0, 1, x, x)).estimate)["constant"] == "error"


def test_the_certified_interval_contains_the_reported_one(rotated):
    rho = np.random.default_rng(1).uniform(0, 0.1, 100)
    reading = measure(rotated(rho))
    certified = reading.extras["certified"]
    assert certified.kind == "certified"
    assert certified.ci.low <= reading.estimate.ci.low
    assert certified.ci.high >= reading.estimate.ci.high


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.0}, r"lies in \(0, 2\]"),
        ({"threshold": 2.5}, r"lies in \(0, 2\]"),
        ({"ci": 1.0}, "strictly between"),
        ({"weighting": "pixel"}, "'sample' or 'token'"),
    ],
)
def test_bad_options_are_said_in_one_sentence(rotated, change, message):
    with pytest.raises(InputError, match=message):
        measure(rotated([0.1, 0.2]), **change)


def test_neither_states_nor_sums():
    with pytest.raises(InputError, match="neither states nor sums"):
        measure(LayerPair(0, 1))


def test_nan_states_are_refused():
    x = np.ones((4, 2))
    x[2, 1] = np.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        measure(LayerPair(0, 1, x, np.ones((4, 2))))


def covered(repetitions, seed):
    """Share of intervals that contain E rho, for 60 images of 40 dependent tokens."""
    rng = np.random.default_rng(seed)
    hits = {"headline": 0, "certified": 0}
    groups = np.repeat(np.arange(60), 40)
    truth = 0.2 * 2 / 12  # an image's level is 0.2 Beta(2, 10), its tokens spread around it
    for _ in range(repetitions):
        level = 0.2 * rng.beta(2, 10, size=60)
        rho = np.repeat(level, 40) * rng.uniform(0.5, 1.5, size=2400)
        angle = np.arccos(1 - rho)
        x = np.zeros((2400, 2))
        x[:, 0] = 1.0
        y = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        reading = measure(LayerPair(0, 1, x, y, groups=groups))
        hits["headline"] += truth in reading.estimate.ci
        hits["certified"] += truth in reading.extras["certified"].ci
    return {name: count / repetitions for name, count in hits.items()}


def test_intervals_cover_with_clustered_tokens():
    share = covered(60, seed=0)
    assert share["headline"] >= 0.88
    assert share["certified"] == 1.0


@pytest.mark.slow
def test_intervals_cover_to_a_percent_with_clustered_tokens():
    share = covered(2000, seed=1)
    assert 0.92 <= share["headline"] <= 0.97
    assert share["certified"] >= 0.99


@pytest.mark.parametrize("name", ["geometric", "proximal"])
def test_the_order_of_tokens_is_nothing(rotated, name):
    from redundancy.registry import load

    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(25), 4)
    pair = rotated(rng.uniform(0, 0.2, 100), groups)
    order = rng.permutation(100)
    shuffled = LayerPair(0, 1, pair.x_lower[order], pair.x_upper[order], groups=groups[order])
    one, two = (load("measures", name).measure(p, threshold=0.1) for p in (pair, shuffled))
    assert two.estimate.value == pytest.approx(one.estimate.value, rel=1e-12)
    assert two.estimate.ci.low == pytest.approx(one.estimate.ci.low, rel=1e-9)
    assert two.p_redundant == pytest.approx(one.p_redundant, rel=1e-6)
