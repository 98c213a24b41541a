"""Quantised conditional entropy: closed forms, sound verdicts, and when it is withheld."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from estimators import InputError
from redundancy.measures._cross_entropy import (
    additive_model,
    cross_entropy_bound,
    fit_conditional,
)
from redundancy.measures._effective import effective_size, split_groups
from redundancy.measures._neighbour import neighbour_extras
from redundancy.measures.informational import measure
from redundancy.pairs import LayerPair

VECTORS = Path(__file__).parent.parent.parent / "vectors" / "entropy_certificate.json"
CASES = json.loads(VECTORS.read_text())["cases"]


def h2(p):
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def corners(states, rng, noise=0.01, d=8):
    """Vectors tightly around `states` orthogonal directions: any sound quantiser finds them."""
    return np.eye(d)[states] + noise * rng.normal(size=(len(states), d))


def channel(n, flip, rng, groups=None, k=4):
    """A pair of layers whose states are a uniform symbol and a noisy copy of it."""
    a = rng.integers(k, size=n)
    move = rng.random(n) < flip
    b = np.where(move, (a + rng.integers(1, k, size=n)) % k, a)
    return LayerPair(0, 1, corners(a, rng), corners(b, rng), groups=groups)


@pytest.mark.parametrize("case", CASES, ids=["3x3"])
def test_the_certificate_equals_the_vectors(case):
    train, test = np.array(case["train"]).T, np.array(case["test"]).T
    bound = cross_entropy_bound(additive_model(train, case["a"]), test, delta=case["delta"])
    assert bound.cross_entropy == pytest.approx(case["cross_entropy"], rel=1e-12)
    assert bound.largest_loss == pytest.approx(case["M"], rel=1e-12)
    assert bound.upper_unclipped == pytest.approx(case["upper_unclipped"], rel=1e-12)
    assert bound.upper == pytest.approx(case["upper"], rel=1e-12)


def test_the_entropy_of_a_noisy_channel():
    rng = np.random.default_rng(0)
    flip = 0.1
    truth = h2(flip) + flip * math.log(3)
    reading = measure(channel(8000, flip, rng), n_states=4, threshold=0.2, mi="none")
    assert reading.estimate.value == pytest.approx(truth, abs=0.03)
    assert truth in reading.estimate.ci
    assert reading.extras["entropy"].value == pytest.approx(math.log(4), abs=0.01)
    assert reading.extras["ratio"].value == pytest.approx(truth / math.log(4), abs=0.03)
    assert reading.extras["quantised_mi"].value == pytest.approx(math.log(4) - truth, abs=0.03)
    assert reading.estimate.unit == "nats"
    assert reading.p_needed < 1e-6


def test_the_sandwich_holds_on_average():
    rng = np.random.default_rng(1)
    truth = h2(0.05) + 0.05 * math.log(3)
    plug_in, crossed, certified = [], [], []
    for seed in range(25):
        reading = measure(channel(600, 0.05, rng), n_states=4, seed=seed, mi="none")
        plug_in.append(reading.extras["plug_in"].value)
        crossed.append(reading.extras["cross_entropy"].value)
        certified.append(reading.extras["certified"].value)
    assert np.mean(plug_in) < truth < np.mean(crossed)
    assert min(certified) > truth
    assert reading.extras["certified"].kind == "certified"


def test_verdicts_point_the_right_way():
    rng = np.random.default_rng(2)
    copy = measure(channel(4000, 0.002, rng), n_states=4, threshold=0.2, mi="none")
    assert copy.p_redundant < 1e-3
    assert copy.p_needed > 0.99
    new = measure(channel(4000, 0.75, rng), n_states=4, threshold=0.2, mi="none")
    assert new.p_needed < 1e-6
    assert new.p_redundant > 0.99


def test_exact_copies_are_not_taken_for_certainty():
    rng = np.random.default_rng(3)
    few = measure(channel(100, 0.0, rng), n_states=4, threshold=0.2, mi="none")
    assert few.estimate.value == pytest.approx(0.0, abs=1e-9)
    assert few.p_redundant > 0.05
    many = measure(channel(4000, 0.0, rng), n_states=4, threshold=0.2, mi="none")
    assert many.p_redundant < 1e-6


def test_scale_and_a_common_rotation_change_nothing():
    rng = np.random.default_rng(4)
    pair = channel(1000, 0.2, rng)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    moved = LayerPair(0, 1, 3.0 * pair.x_lower @ turn, 0.5 * pair.x_upper @ turn)
    options = {"n_states": 4, "mi": "none"}
    assert measure(moved, **options).estimate.value == pytest.approx(
        measure(pair, **options).estimate.value, abs=1e-9
    )


def test_dependent_tokens_are_worth_fewer_and_the_estimate_is_withheld():
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(40), 50)
    a = np.repeat(rng.integers(8, size=40), 50)  # every token of an image in one state
    pair = LayerPair(0, 1, corners(a, rng), corners(a, rng), groups=groups)
    reading = measure(pair, n_states=8, threshold=0.2, mi="none")
    assert reading.estimate.value is None
    # 24 images are evaluated; k-means may split one, which adds a little.
    assert 20 < reading.extras["n_eff"].value < 40
    (found,) = [d for d in reading.estimate.diagnostics if d.severity == "error"]
    assert re.match(r"n_eff \d+ < 10 × occupied states \(\d\): save more", found.message)
    assert reading.p_redundant is None


def test_the_default_number_of_states_grows_with_the_tokens():
    rng = np.random.default_rng(6)
    sizes = [
        measure(channel(n, 0.1, rng, k=8), mi="none").estimate.params["n_states"]
        for n in (100, 2000, 6000)
    ]
    assert sizes == [4, 32, 128]


def test_zero_vectors_are_counted_and_left_out():
    rng = np.random.default_rng(7)
    pair = channel(600, 0.1, rng)
    pair.x_upper[:5] = 0.0
    reading = measure(pair, n_states=4, mi="none")
    assert reading.estimate.n == 595
    assert "5 of 600 tokens have a zero vector" in reading.estimate.diagnostics[0].message


def test_too_few_groups():
    rng = np.random.default_rng(8)
    for count, code in ((1, "one-group"), (3, "few-groups")):
        groups = np.arange(300) % count
        reading = measure(channel(300, 0.1, rng, groups=groups), mi="none")
        assert reading.estimate.value is None
        assert reading.estimate.diagnostics[0].code == code


def test_more_states_than_tokens_have_no_estimate():
    reading = measure(channel(100, 0.1, np.random.default_rng(9)), n_states=200, mi="none")
    assert reading.estimate.value is None
    assert "cannot fit 200 states" in reading.estimate.diagnostics[0].message


@pytest.mark.parametrize(
    ("pair", "options", "message"),
    [
        (LayerPair(0, 1), {}, "extract with --tokens"),
        (LayerPair(0, 1, np.eye(4), np.eye(4)), {"threshold": 0.0}, "nats above 0"),
        (LayerPair(0, 1, np.eye(4), np.eye(4)), {"mi": "ksg"}, "'route' or 'none'"),
        (LayerPair(0, 1, np.eye(4) * np.nan, np.eye(4)), {}, "NaN or infinite"),
    ],
)
def test_bad_input_is_said_in_one_sentence(pair, options, message):
    with pytest.raises(InputError, match=message):
        measure(pair, **options)


def test_widths_that_differ_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="widths 4 and 3"):
        measure(LayerPair(0, 1, rng.normal(size=(50, 4)), rng.normal(size=(50, 3))))


def test_effective_size():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(50), 10)
    assert effective_size(rng.integers(5, size=500), codes) > 400
    assert effective_size(np.repeat(rng.integers(5, size=50), 10), codes) == pytest.approx(50)
    assert effective_size(np.zeros(500, dtype=int), codes) == 50
    assert effective_size(np.arange(6), np.zeros(6, dtype=int)) == 1


def test_groups_are_split_whole_and_alike_for_every_pair():
    codes = np.repeat(np.arange(20), 5)
    fit = split_groups(codes, seed=0)
    assert set(codes[fit]) & set(codes[~fit]) == set()
    assert np.array_equal(fit, split_groups(codes, seed=0))
    assert len(set(codes[fit])) == 8


def test_fitted_laws_are_laws():
    rng = np.random.default_rng(0)
    for share in (0.0, 0.5, 1.0):
        a = rng.integers(6, size=300)
        b = np.where(rng.random(300) < share, rng.integers(6, size=300), a)
        law = fit_conditional(a, b, 6)
        assert law.min() > 0
        assert law.sum(axis=1) == pytest.approx(np.ones(6))


@pytest.mark.slow
def test_a_wrong_verdict_is_rarer_than_promised():
    # The truth lies exactly at the threshold: any verdict is wrong.
    flip = 0.05
    truth = h2(flip) + flip * math.log(3)
    rng = np.random.default_rng(10)
    groups = np.repeat(np.arange(200), 4)
    red = need = 0
    for seed in range(400):
        pair = channel(800, flip, rng, groups=groups)
        reading = measure(pair, n_states=4, threshold=truth, seed=seed, mi="none")
        red += reading.p_redundant <= 0.05
        need += reading.p_needed <= 0.05
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert red / 400 <= limit
    assert need / 400 <= limit


def test_the_information_of_the_unquantised_states_stands_beside_it():
    rng = np.random.default_rng(12)
    x = rng.normal(size=(1200, 2))
    y = 0.8 * x + 0.6 * rng.normal(size=x.shape)
    reading = measure(LayerPair(0, 1, x, y))
    assert reading.extras["mi"].value == pytest.approx(-math.log(1 - 0.64), abs=0.1)
    assert reading.extras["mi"].params["tokens"] == 1200
    assert reading.extras["d_int"].value == pytest.approx(2.0, abs=0.3)
    copy = measure(LayerPair(0, 1, x, x))
    # Infinite for an exact copy: absent, with the reason, and the headline stands.
    assert copy.extras["mi"].value is None
    assert copy.extras["mi"].diagnostics
    assert copy.estimate.value is not None


def test_neighbours_are_searched_in_few_directions_of_few_tokens():
    rng = np.random.default_rng(13)
    x = rng.normal(size=(2600, 3)) @ rng.normal(size=(3, 60)) + 0.01 * rng.normal(size=(2600, 60))
    groups = np.repeat(np.arange(650), 4)
    extras = neighbour_extras(x.astype(np.float32), x.astype(np.float32), groups, mi=False, seed=0)
    assert extras["d_int"].params["tokens"] == 2000
    assert extras["d_int"].params["width"] == [32, 32]
    assert min(extras["d_int"].params["variance_kept"]) > 0.99
    assert extras["cos"].value == 0.0
    assert "mi" not in extras


def test_the_information_carries_how_it_moves_with_tokens_and_neighbours():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1500, 1)).astype(np.float32)
    y = (0.8 * x + 0.6 * rng.normal(size=x.shape)).astype(np.float32)
    params = neighbour_extras(x, y, np.arange(1500), mi=True, seed=0)["mi"].params
    truth = -0.5 * math.log(1 - 0.8**2)
    assert [n for n, _ in params["n_scaling"]] == [125, 250, 500, 1000]
    assert [k for k, _ in params["k_sweep"]] == [1, 3, 5, 10]
    assert params["n_scaling"][-1][1] == pytest.approx(truth, abs=0.1)
    assert all(value == pytest.approx(truth, abs=0.15) for _, value in params["k_sweep"])
    few = neighbour_extras(x[:9], y[:9], np.arange(9), mi=True, seed=0)["mi"].params
    assert few.get("n_scaling", []) == []
