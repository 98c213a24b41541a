"""Share of tokens that hardly move: the strict event, the counts, the intervals."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import InputError
from redundancy.measures.proximal import SPEC, measure
from redundancy.pairs import LayerPair


def test_strictly_below_and_at_most_are_different_events():
    # Orthogonal states have a distance of exactly 1.
    x = np.tile([1.0, 0.0], (4, 1))
    y = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
    reading = measure(LayerPair(0, 1, x, y), t=1.0)
    assert reading.estimate.value == 0.25
    assert reading.extras["at_most_t"].value == 0.75
    assert reading.estimate.params["event"] == "rho < t"


def test_redundant_is_above(rotated):
    rho = np.where(np.arange(300) % 50 == 0, 0.3, 0.01)
    assert SPEC.redundant_when == "above"
    easy = measure(rotated(rho), threshold=0.9)
    assert easy.estimate.value == pytest.approx(0.98)
    # Six exceptions in 300: the skewness correction saturates there and Chernoff decides.
    assert easy.p_redundant < 1e-5
    assert easy.p_needed > 0.99
    assert measure(rotated(rho), threshold=0.999).p_needed < 0.02


def test_counts_of_all_tokens_are_preferred_to_kept_states(summed, rotated):
    below = np.tile([4, 9], (40, 1))
    kept = summed(below=below)
    states = rotated(np.full(40, 0.3))
    both = LayerPair(
        0, 1, states.x_lower, states.x_upper, groups=np.arange(40), summary=kept.summary
    )
    assert measure(kept, t=0.05).estimate.value == pytest.approx(0.9)
    reading = measure(both, t=0.05)
    assert reading.estimate.value == pytest.approx(0.9)
    assert reading.estimate.n == 400
    assert reading.extras["at_most_t"].n == 40
    # A distance that was not counted falls back on the states.
    assert measure(both, t=0.5).estimate.value == 1.0


def test_a_distance_that_was_not_counted_is_refused(summed):
    with pytest.raises(InputError, match=r"0\.01, 0\.05 while streaming, not at t = 0\.02"):
        measure(summed(below=np.zeros((40, 2), dtype=np.int64)), t=0.02)


def test_a_pair_that_was_not_counted_has_no_estimate(summed):
    reading = measure(summed(2, 5), threshold=0.9)
    assert reading.estimate.value is None
    assert reading.estimate.diagnostics[0].code == "not-counted"
    assert reading.p_redundant is None


def test_all_tokens_close_in_few_images_is_not_certainty(rotated):
    reading = measure(rotated(np.zeros(25)), threshold=0.95)
    assert reading.p_redundant == pytest.approx(0.95**25)
    assert reading.estimate.ci.low < 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": 0.0}, r"t is 0\.0"),
        ({"t": 3.0}, r"t is 3\.0"),
        ({"threshold": 1.0}, "probability in"),
        ({"weighting": "x"}, "'sample' or 'token'"),
        ({"ci": 0.0}, "strictly between"),
    ],
)
def test_bad_options_are_said_in_one_sentence(rotated, change, message):
    with pytest.raises(InputError, match=message):
        measure(rotated([0.1, 0.2]), **change)


def test_markov_links_it_to_the_mean_distance(rotated):
    from redundancy.measures.geometric import measure as geometric

    pair = rotated(np.random.default_rng(0).exponential(0.02, 500))
    share = measure(pair, t=0.1).estimate.value
    assert share >= 1 - geometric(pair).estimate.value / 0.1
