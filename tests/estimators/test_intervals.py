"""Intervals: held to the published vectors, then to what they promise."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binomtest
from scipy.stats import t as student

from estimators import InputError
from estimators.intervals import (
    betting_interval,
    betting_p_value,
    binary_entropy,
    binary_kl,
    clopper_pearson,
    cluster_mean,
    empirical_bernstein,
    empirical_bernstein_halfwidth,
    group_totals,
    hoeffding,
    hoeffding_halfwidth,
    kl_interval,
    kl_lower,
    kl_upper,
    wilson,
)

VECTORS = Path(__file__).parent.parent / "vectors"
CASES = json.loads((VECTORS / "confidence.json").read_text())["cases"]
PROPORTIONS = [case for case in CASES if case["kind"] == "proportion"]
BOUNDED = [case for case in CASES if case["kind"] == "bounded_mean"]
CERTIFICATES = [case for case in CASES if case["kind"] == "mi_certificate"]
CLUSTER = next(case for case in CASES if case["kind"] == "cluster")
BETTING = json.loads((VECTORS / "betting.json").read_text())["cases"]


def ends(interval):
    return [interval.low, interval.high]


@pytest.mark.parametrize("case", PROPORTIONS, ids=lambda case: f"{case['k']}of{case['n']}")
def test_proportions_equal_the_vectors(case):
    n, k, level = case["n"], case["k"], 1 - case["delta"]
    assert ends(wilson(k, n, level=level)) == pytest.approx(case["wilson"], abs=1e-14)
    assert ends(clopper_pearson(k, n, level=level)) == pytest.approx(
        case["clopper_pearson"], rel=1e-12
    )
    assert ends(kl_interval(k / n, n, level=level)) == pytest.approx(case["kl_chernoff"], rel=1e-12)
    assert ends(hoeffding(k / n, n, level=level)) == pytest.approx(case["hoeffding"], rel=1e-12)


@pytest.mark.parametrize("case", BOUNDED, ids=lambda case: f"M{case['M']:g}-n{case['n']}")
def test_bounded_means_equal_the_vectors(case):
    n, mean, width, delta = case["n"], case["mean"], case["M"], case["delta"]
    assert hoeffding_halfwidth(n, delta / 2, width) == pytest.approx(
        case["hoeffding_two_sided_halfwidth"], rel=1e-12
    )
    variance = case["var_ddof1"]
    assert mean + empirical_bernstein_halfwidth(variance, n, delta, width) == pytest.approx(
        case["emp_bernstein_upper_one_sided"], rel=1e-12
    )
    interval = empirical_bernstein(mean, variance, n, upper=width, level=1 - delta)
    assert interval.high - mean == pytest.approx(
        min(case["emp_bernstein_two_sided_halfwidth"], width - mean), rel=1e-12
    )
    assert width * kl_upper(mean / width, n, delta) == pytest.approx(
        case["kl_chernoff_upper_one_sided"], rel=1e-12
    )


@pytest.mark.parametrize("case", CERTIFICATES, ids=lambda case: f"q{case['q_hat']}-n{case['n']}")
def test_the_bounds_of_the_mi_certificate_equal_the_vectors(case):
    low = kl_lower(case["p_close_hat"], case["n"], case["delta"] / 2)
    high = kl_upper(case["q_hat"], case["k"], case["delta"] / 2)
    assert low == pytest.approx(case["a_low"], rel=1e-12)
    assert high == pytest.approx(case["q_up"], rel=1e-12)
    bound = binary_kl(low, high) if low > high else 0.0
    assert bound == pytest.approx(case["I_lower"], rel=1e-10)


@pytest.mark.parametrize("case", BETTING, ids=lambda case: f"n{len(case['D'])}")
def test_betting_equals_the_vectors(case):
    p = betting_p_value(case["D"], case["alpha"], lower=case["lo"], upper=case["hi"])
    assert p == pytest.approx(case["p"], rel=1e-12)


def test_cluster_means_equal_the_vectors():
    sums = [sum(tokens) for tokens in CLUSTER["clusters"]]
    counts = [len(tokens) for tokens in CLUSTER["clusters"]]
    by_token = cluster_mean(sums, counts, weighting="token")
    by_sample = cluster_mean(sums, counts, weighting="sample")
    assert by_token.value == pytest.approx(CLUSTER["token_weighted"], rel=1e-12)
    assert by_token.se == pytest.approx(CLUSTER["se_token_weighted_linearised"], rel=1e-12)
    assert by_sample.value == pytest.approx(CLUSTER["sample_weighted"], rel=1e-12)
    assert by_sample.se == pytest.approx(CLUSTER["se_sample_weighted"], rel=1e-12)


def test_binary_kl_at_its_edges_and_near_its_zero():
    assert binary_kl(0.0, 0.0) == binary_kl(1.0, 1.0) == 0.0
    assert binary_kl(0.5, 0.0) == binary_kl(0.5, 1.0) == math.inf
    assert binary_kl(0.0, 0.3) == pytest.approx(-math.log(0.7), rel=1e-15)
    # d(q + h || q) = h^2 / (2 q (1 - q)) to first order: naive cancellation would return noise.
    assert binary_kl(0.3 + 1e-7, 0.3) == pytest.approx(1e-14 / (2 * 0.3 * 0.7), rel=1e-5)
    assert binary_kl([0.1, 0.2], 0.2).shape == (2,)
    assert binary_entropy(0.5) == pytest.approx(math.log(2))
    assert binary_entropy(1.0) == 0.0


unit = st.floats(0.0, 1.0)


@given(mean=unit, n=st.integers(1, 10**6), delta=st.floats(1e-12, 0.5))
@settings(deadline=None, max_examples=200)
def test_kl_bounds_lie_on_their_side_and_on_the_boundary(mean, n, delta):
    low, high = kl_lower(mean, n, delta), kl_upper(mean, n, delta)
    assert 0.0 <= low <= mean <= high <= 1.0
    target = math.log(1 / delta)
    if high < 1.0 - 1e-7:  # closer to 1 the next float already changes the divergence
        assert n * binary_kl(mean, high) == pytest.approx(target, rel=1e-6)
    if low > 1e-300:
        assert n * binary_kl(mean, low) == pytest.approx(target, rel=1e-6)


@given(n=st.integers(1, 500), data=st.data())
@settings(deadline=None, max_examples=100)
def test_proportion_intervals_agree_with_scipy(n, data):
    k = data.draw(st.integers(0, n))
    test = binomtest(k, n)
    exact, score = test.proportion_ci(0.9, "exact"), test.proportion_ci(0.9, "wilson")
    assert ends(clopper_pearson(k, n, level=0.9)) == pytest.approx(list(exact), abs=1e-9)
    assert ends(wilson(k, n, level=0.9)) == pytest.approx(list(score), abs=1e-12)
    # Chernoff's interval contains the exact one: it is the same test with a looser tail.
    kl = kl_interval(k / n, n, level=0.9)
    assert kl.low <= exact.low + 1e-12
    assert kl.high >= exact.high - 1e-12


def test_kl_is_never_wider_than_hoeffding():
    for mean in (0.0, 0.01, 0.3, 0.5, 0.98):
        for n in (5, 50, 5000):
            kl, wide = kl_interval(mean, n), hoeffding(mean, n)
            assert kl.low >= wide.low - 1e-12
            assert kl.high <= wide.high + 1e-12


def test_one_group_has_an_estimate_and_no_interval():
    mean = cluster_mean([1.0, 2.0], [4, 4], groups=["a", "a"])
    assert mean.value == pytest.approx(0.375)
    assert mean.se is None
    assert mean.interval is None
    assert mean.p_below(1.0) == mean.p_above(0.0) == 1.0


def test_groups_without_spread_prove_nothing_by_t():
    mean = cluster_mean([0.3] * 7)
    assert mean.se == 0.0
    assert mean.p_below(0.4) == 1.0


def test_samples_without_defined_tokens_are_left_out():
    mean = cluster_mean([0.0, 2.0, 4.0], [0, 2, 2])
    assert mean.n_samples == mean.n_groups == 2
    assert mean.value == pytest.approx(1.5)


def test_t_p_values_match_scipy():
    from scipy.stats import ttest_1samp

    half = np.random.default_rng(0).normal(0.0, 1.0, 15)
    values = 0.2 + np.concatenate([half, -half])  # no skewness, nothing to correct
    mean = cluster_mean(values)
    below = ttest_1samp(values, 0.3, alternative="less").pvalue
    above = ttest_1samp(values, 0.3, alternative="greater").pvalue
    assert mean.p_below(0.3) == pytest.approx(below, rel=1e-10)
    assert mean.p_above(0.3) == pytest.approx(above, rel=1e-10)


@given(
    values=st.lists(st.floats(0, 1), min_size=3, max_size=40),
    level=st.floats(0.5, 0.999),
    bound=st.floats(-0.5, 1.5),
)
@settings(deadline=None, max_examples=150)
def test_the_interval_is_what_the_test_does_not_reject(values, level, bound):
    mean = cluster_mean(values, level=level)
    if not mean.se:
        return
    two_sided = 2 * min(mean.p_below(bound), mean.p_above(bound))
    margin = 1e-6 * (1 + abs(bound))
    if mean.interval.low + margin < bound < mean.interval.high - margin:
        assert two_sided >= 1 - level - 1e-9
    if not mean.interval.low - margin < bound < mean.interval.high + margin:
        assert two_sided <= 1 - level + 1e-9
    assert mean.p_below(bound) + mean.p_above(bound) == pytest.approx(1.0)


def test_skewed_groups_are_missed_on_both_sides_alike():
    rng = np.random.default_rng(6)
    missed = {"corrected": [0, 0], "plain": [0, 0]}
    for _ in range(500):
        mean = cluster_mean(rng.exponential(size=30))
        reach = student.ppf(0.975, 29) * mean.se
        ends = {
            "corrected": (mean.interval.low, mean.interval.high),
            "plain": (mean.value - reach, mean.value + reach),
        }
        for name, (low, high) in ends.items():
            missed[name][0] += high < 1.0
            missed[name][1] += low > 1.0
    assert missed["corrected"][0] < missed["plain"][0]
    assert missed["corrected"][1] > missed["plain"][1]
    assert sum(missed["corrected"]) / 500 <= 0.08


def test_groups_are_ordered_by_appearance():
    totals, rows = group_totals(
        ["z", "a", "z"], np.array([1.0, 2.0, 3.0]), np.array([[1.0, 0], [0, 1], [1, 1]])
    )
    assert totals.tolist() == [4.0, 2.0]
    assert rows.tolist() == [[2.0, 1.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cluster_mean([math.nan, 1.0]), "1 of 2 sums are not finite.*first at 0"),
        (lambda: cluster_mean([0.0], [0]), "no sample has a value"),
        (lambda: cluster_mean([1.0, 2.0], groups=["a"]), "one group per sample"),
        (lambda: cluster_mean([1.0], weighting="pixel"), "'sample' or 'token'"),
        (lambda: kl_upper(1.5, 10, 0.1), "probability"),
        (lambda: kl_upper(0.5, 0, 0.1), "at least one observation"),
        (lambda: kl_lower(0.5, 10, 0.0), "strictly between 0 and 1"),
        (lambda: clopper_pearson(5, 3), "between 0 and n"),
        (lambda: hoeffding(3.0, 10), "does not lie in its range"),
        (lambda: betting_p_value([0.0, 2.0], 0.1), r"1 of 2 values.*first at 1"),
        (lambda: betting_p_value([0.0], -1.0), "does not lie in"),
        (lambda: betting_interval([]), "at least one value"),
        (lambda: empirical_bernstein(0.1, 0.1, 1), "at least two"),
        (lambda: binary_kl(math.nan, 0.5), "probability"),
    ],
)
def test_bad_input_is_said_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_betting_test_keeps_its_level_and_has_power():
    rng = np.random.default_rng(1)
    null = rng.choice([-1, 0, 1], p=[0.1, 0.7, 0.2], size=(400, 200))  # mean 0.1, on the boundary
    small = np.mean([betting_p_value(row, 0.1) <= 0.1 for row in null])
    assert small <= 0.1 + 3 * math.sqrt(0.09 / 400)
    good = rng.choice([-1, 0, 1], p=[0.03, 0.92, 0.05], size=(100, 500))
    assert np.mean([betting_p_value(row, 0.1) <= 0.1 for row in good]) > 0.9


def test_betting_interval_covers_and_beats_hoeffding_at_small_variance():
    rng = np.random.default_rng(2)
    hits = narrower = 0
    for _ in range(200):
        values = rng.beta(2, 30, size=150)
        interval = betting_interval(values)
        hits += 2 / 32 in interval
        narrower += interval.width < hoeffding(values.mean(), 150).width
    assert hits >= 188  # 95% guaranteed; 188 of 200 would be two standard errors short
    assert narrower == 200


def clustered_tokens(rng, n_samples=60, n_tokens=576):
    """Tokens below the threshold, with a Beta(9, 1) sample effect (true share 0.9)."""
    return rng.binomial(n_tokens, rng.beta(9, 1, size=n_samples)).astype(float)


def coverage(repetitions, seed):
    rng = np.random.default_rng(seed)
    hits = {"cluster t": 0, "KL": 0, "betting": 0, "pooled tokens": 0}
    for _ in range(repetitions):
        below = clustered_tokens(rng)
        counts = np.full(60, 576)
        shares = below / counts
        k, n = below.sum(), counts.sum()
        pooled = beta.ppf([0.025, 0.975], [k, k + 1], [n - k + 1, n - k])
        hits["cluster t"] += 0.9 in cluster_mean(below, counts).interval
        hits["KL"] += 0.9 in kl_interval(float(shares.mean()), 60)
        hits["betting"] += 0.9 in betting_interval(shares)
        hits["pooled tokens"] += pooled[0] <= 0.9 <= pooled[1]
    return {name: count / repetitions for name, count in hits.items()}


def test_clustered_tokens_are_covered_by_groups_and_not_by_pooling():
    share = coverage(150, seed=3)
    assert 0.89 <= share["cluster t"] <= 0.99
    assert share["KL"] == 1.0
    assert share["betting"] >= 0.93
    assert share["pooled tokens"] < 0.4


@pytest.mark.slow
def test_coverage_with_clustered_tokens_to_a_percent():
    share = coverage(4000, seed=4)
    assert 0.925 <= share["cluster t"] <= 0.965
    assert share["KL"] >= 0.995
    assert share["betting"] >= 0.95
    assert share["pooled tokens"] < 0.3
