"""Theorems 3 and 4, Corollary 4, the distance law and the certified lower bound."""

from __future__ import annotations

import math

import numpy as np
import pytest

from estimators import InputError
from estimators.intervals import binary_kl
from redundancy import synthetic
from redundancy.theory import (
    certified_mi_lower_bound,
    check_uniform_sphere,
    corollary4,
    distance_law_from_samples,
    distance_law_kl,
    log_spherical_cap,
    mi_certificate,
    theorem3,
    theorem4,
)

REL = 1e-9


def test_theorem3_vectors(cases):
    for case in cases("vmf_theorem3"):
        result = theorem3(d=case["d"], t=case["t"], p_gt=case["P_t"])
        assert result.forms["log_cap"] == pytest.approx(case["log_cap"], rel=1e-13)
        assert result.forms["paper"] == pytest.approx(case["bound_T3_paper"], rel=REL)
        assert result.forms["corrected"] == pytest.approx(case["bound_T3_H2"], rel=REL)
        assert result.value == pytest.approx(case["bound_binaryKL"], rel=REL)
        assert result.value <= case["mutual_information"]
        # For a uniform layer p_min = p_max = cap, and Theorem 4 agrees.
        four = theorem4(
            p_gt=case["P_t"], log_p_max=case["log_cap"], p_min=math.exp(case["log_cap"])
        )
        assert four.forms["paper"] == pytest.approx(case["bound_T4"], rel=REL)
        assert four.value == pytest.approx(case["bound_binaryKL"], rel=REL)
        reference = theorem4(p_gt=case["P_t"], d=case["d"], t=case["t"])
        assert reference.forms["paper"] == pytest.approx(case["bound_T4"], rel=REL)
        assert reference.value == result.value
        assert "reference value under a uniform sphere" in reference.notes


def test_theorem3_is_a_reference_value():
    result = theorem3(d=4096, t=0.05, p_gt=0.03)
    assert result.kind == "bound_under_assumption"
    assert any("uniform" in a for a in result.assumptions)
    assert "reference value under a uniform sphere" in result.notes
    assert any("was not checked" in n for n in result.notes)
    # Positive almost always at this width: an artefact of the assumption.
    assert theorem3(d=4096, t=0.05, p_gt=0.9998).forms["paper"] > 0
    assert theorem3(d=4096, t=1.0, p_gt=0.1).forms["paper"] < 0
    assert theorem3(d=8, t=0.2, p_gt=1.0).value >= 0
    # The paper's P[rho >= t] serves its own form alone.
    at_least = theorem3(d=8, t=0.2, p_ge=0.3)
    assert "bound_T3_H2" not in at_least.forms
    assert at_least.value == pytest.approx(max(at_least.forms["paper"], 0))
    with pytest.raises(InputError, match="exceeds p_ge"):
        theorem3(d=8, t=0.2, p_ge=0.3, p_gt=0.4)
    with pytest.raises(InputError, match="give p_gt"):
        theorem3(d=8, t=0.2)


def test_sphere_check_sees_a_cone():
    rng = np.random.default_rng(0)
    uniform = rng.normal(size=(600, 32))
    for x, plausible in (
        (uniform, True),
        (uniform + 0.5, False),
        (uniform * ([10] + [1] * 31), False),
    ):
        check = check_uniform_sphere(x, t=0.8)
        assert check.plausible is plausible, str(check)
        result = theorem3(d=32, t=0.8, p_gt=0.1, sphere_check=check)
        assert result.kind == ("bound_under_assumption" if plausible else "estimate")
        assert check.message in result.notes
    check = check_uniform_sphere(uniform + 0.5, t=0.8)
    assert check.mean_cos > 0.15
    assert check.log_cap == pytest.approx(log_spherical_cap(32, 0.8))


def test_sphere_check_level_and_groups():
    rng = np.random.default_rng(1)
    rejected = sum(
        not check_uniform_sphere(rng.normal(size=(60, 24)), t=0.9, seed=i) for i in range(200)
    )
    assert rejected <= 200 * 0.02 + 4 * math.sqrt(200 * 0.02)
    # Copies within a group are one direction, not many.
    x = np.repeat(rng.normal(size=(50, 16)), 20, axis=0)
    groups = np.repeat(np.arange(50), 20)
    assert check_uniform_sphere(x, t=0.5, groups=groups)
    assert check_uniform_sphere(x, t=0.5, groups=groups).n == 50
    with pytest.raises(InputError, match="has no direction"):
        check_uniform_sphere(np.zeros((10, 3)), t=0.5)


def enumerate_theorem4(p, rho, t):
    upper, lower = p.sum(1), p.sum(0)
    near = rho <= t
    centres = (near @ lower)[upper > 0]
    return {
        "p_gt": min(max(float(p[~near].sum()), 0.0), 1.0),
        "p_min": min(float(centres.min()), 1.0),
        "p_max": min(float(centres.max()), 1.0),
        "q": min(float(upper @ near @ lower), 1.0),
    }


def entropy(p):
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def test_theorem4_and_corollary4_vectors(cases):
    for case in cases("theorem4_discrete"):
        e = case["expected"]
        p, rho = np.array(case["joint_rows_xl_cols_xlm1"]), np.array(case["rho"])
        numbers = enumerate_theorem4(p, rho, case["t"])
        for name, key in (("p_gt", "P_t"), ("p_min", "p_min"), ("p_max", "p_max"), ("q", "q")):
            assert numbers[name] == pytest.approx(e[key], rel=1e-9)
        result = theorem4(**numbers)
        assert result.forms["paper"] == pytest.approx(e["bound_T4"], rel=REL)
        assert result.value == pytest.approx(e["bound_binaryKL"], rel=REL)
        assert result.value <= e["I"] + 1e-12
        four = corollary4(h_l=e["H_l"], **numbers)
        assert four.forms["paper"] == pytest.approx(e["cor4_upper"], rel=REL)
        assert e["H_cond"] <= four.value + 1e-12 <= four.forms["paper"] + 1e-11


@pytest.mark.parametrize("runs", [1000, pytest.param(10000, marks=pytest.mark.slow)])
def test_theorem4_corollary4_and_the_distance_law_hold_on_random_joint_laws(runs):
    rng = np.random.default_rng(2)
    outside_the_papers_condition = 0
    tightest = 0.0
    for _ in range(runs):
        m = int(rng.integers(2, 6))
        n = m if rng.random() < 0.5 else int(rng.integers(2, 6))
        p = rng.dirichlet(np.full(m * n, rng.uniform(0.05, 1.0))).reshape(m, n)
        if m == n and rng.random() < 0.5:
            p = 0.5 * p + 0.5 * np.diag(rng.dirichlet(np.ones(m)))
        rho = np.round(rng.uniform(0, 1, (m, n)), 1)
        truth = entropy(p.sum(1)) + entropy(p.sum(0)) - entropy(p)
        law = distance_law_kl(joint=p, rho=rho)
        assert law.value <= truth + 1e-10
        assert law.forms["mutual_information"] == pytest.approx(truth, abs=1e-10)
        assert law.forms["best_binary_KL"] <= law.value + 1e-10
        t = float(rng.choice(rho.reshape(-1)))
        numbers = enumerate_theorem4(p, rho, t)
        if numbers["p_max"] == 0.0 or (numbers["p_min"] == 1.0 and numbers["p_gt"] > 0):
            continue
        outside_the_papers_condition += numbers["p_min"] + numbers["p_max"] >= 1
        result = theorem4(**numbers)
        assert 0.0 <= result.value <= truth + 1e-10
        assert result.forms["paper"] <= result.forms["corrected"] + 1e-10
        assert result.forms["corrected"] <= law.value + 1e-10
        tightest = max(tightest, result.value / max(truth, 1e-9))
        without_q = theorem4(p_gt=numbers["p_gt"], p_min=numbers["p_min"], p_max=numbers["p_max"])
        assert without_q.forms["paper"] - 1e-12 <= without_q.value <= result.value + 1e-10
        upper = corollary4(h_l=entropy(p.sum(1)), **numbers)
        h_cond = entropy(p) - entropy(p.sum(0))
        assert h_cond <= upper.value + 1e-10 <= upper.forms["paper"] + 1e-9
    assert outside_the_papers_condition > runs / 10  # the condition p_min + p_max < 1 is not needed
    assert tightest > 0.9


def test_theorem4_refuses_what_proves_nothing():
    with pytest.raises(InputError, match="certified_mi_lower_bound"):
        theorem4(p_gt=0.5, p_max=0.0)
    with pytest.raises(InputError, match="certified_mi_lower_bound"):
        theorem4(p_gt=0.5, q=0.0)
    with pytest.raises(InputError, match="swap"):
        theorem4(p_gt=0.5, p_min=0.6, p_max=0.5)
    with pytest.raises(InputError, match="everything is close"):
        theorem4(p_gt=0.5, p_min=1.0, p_max=1.0)
    with pytest.raises(InputError, match="outside"):
        theorem4(p_gt=0.5, p_min=0.1, p_max=0.5, q=0.6)
    with pytest.raises(InputError, match="give p_max"):
        theorem4(p_gt=0.5)
    with pytest.raises(InputError, match="not both"):
        theorem4(p_gt=0.5, q=0.1, log_q=-2.0)
    with pytest.raises(InputError, match="not both"):
        theorem4(p_gt=0.5, q=0.1, d=8, t=0.1)
    with pytest.raises(InputError, match="not of one law"):
        theorem4(p_gt=0.5, q=1.0)
    assert theorem4(p_gt=1e-15, q=1.0).value == 0.0  # a sum that missed 1 by rounding
    assert theorem4(p_gt=0.0, q=1.0 + 1e-15).value == 0.0
    assert theorem4(p_gt=1.0, p_max=0.0).value == 0.0
    assert theorem4(p_gt=0.1, p_max=0.3, inputs="estimate").kind == "estimate"
    # "positive iff P_t below", p_min = 0
    for p_max, limit in ((0.9, 0.021), (0.5, 0.227), (0.3, 0.432), (0.1, 0.761), (0.01, 0.973)):
        assert theorem4(p_gt=limit - 0.002, p_max=p_max).forms["paper"] > 0
        assert theorem4(p_gt=limit + 0.002, p_max=p_max).forms["paper"] < 0


def test_proximal_does_not_bound_the_conditional_entropy(cases):
    case = next(c for c in cases("implications") if "circle" in c["name"])
    law = synthetic.circle_code(points=case["N"], neighbours=case["m"])
    t = 0.001
    assert law.p_close(t) == pytest.approx(1.0)
    # The points themselves come within this of their neighbours.
    assert law.rho[law.p_xy > 0].max() == pytest.approx(case["max_cos_distance"], rel=1e-9)
    assert law.h_cond == pytest.approx(case["H_cond"], rel=REL)
    assert law.h_l == pytest.approx(case["H_l"], rel=REL)
    # t just above the largest distance of neighbours makes the ball those m points.
    t = case["max_cos_distance"] * (1 + 1e-9)
    centres = law.p_centre(t)
    assert centres.max() == pytest.approx(case["T4_p"], rel=REL)
    p = float(centres.max())
    four = theorem4(p_gt=0.0, p_max=p, p_min=p)
    assert four.value == pytest.approx(case["T4_bound"], rel=REL)
    upper = corollary4(h_l=law.h_l, p_gt=0.0, p_max=p, p_min=p)
    assert upper.value == pytest.approx(case["cor4_upper"], rel=REL)


def test_distance_law_vectors(cases):
    for case in cases("distance_law_kl"):
        result = distance_law_kl(joint=case["joint"], rho=case["rho"])
        assert result.value == pytest.approx(case["bound_distance_KL"], rel=REL)
        assert result.forms["best_binary_KL"] == pytest.approx(case["best_binary_KL"], rel=REL)
        assert result.forms["mutual_information"] == pytest.approx(case["I"], rel=REL)
        laws = distance_law_kl(law_joint=case["law_joint"], law_product=case["law_product"])
        assert laws.value == pytest.approx(case["bound_distance_KL"], rel=REL)
    with pytest.raises(InputError, match="give joint and rho"):
        distance_law_kl(joint=[[1.0]])
    with pytest.raises(InputError, match="one number"):
        distance_law_kl(joint=[[0.5, 0.5]], rho=[[1.0]])


def test_distance_law_from_samples_approaches_the_truth():
    law = synthetic.random_chain(states=(1, 5, 5), concentration=0.3, seed=4)
    draws = law.sample(4000, seed=5)
    values = np.unique(law.rho)
    edges = 0.5 * (values[1:] + values[:-1])
    exact = distance_law_kl(joint=law.p_xy, rho=law.rho)
    estimate = distance_law_from_samples(draws.x_upper, draws.x_lower, edges=edges)
    assert estimate.kind == "estimate"
    assert estimate.value == pytest.approx(exact.value, abs=0.06)


def test_certificate_vectors(cases):
    for case in cases("confidence"):
        if case["kind"] != "mi_certificate":
            continue
        result = mi_certificate(
            p_close=case["p_close_hat"],
            q_hat=case["q_hat"],
            n=case["n"],
            delta=case["delta"],
            k=case["k"],
        )
        assert result.forms["a_low"] == pytest.approx(case["a_low"], rel=REL)
        assert result.forms["q_up"] == pytest.approx(case["q_up"], rel=REL)
        assert result.value == pytest.approx(case["I_lower"], rel=REL)
        assert result.kind == "certified"
        assert result.vacuous == (case["I_lower"] == 0.0)


def brute_force(x, y, groups, t):
    """The two shares of the certificate, by the definition."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    y = y / np.linalg.norm(y, axis=1, keepdims=True)
    names = np.unique(groups)
    close = np.mean(
        [np.mean([1 - x[k] @ y[k] <= t for k in np.flatnonzero(groups == g)]) for g in names]
    )
    pairs = [
        np.mean(
            [
                1 - x[k] @ y[j] <= t
                for k in np.flatnonzero(groups == g)
                for j in np.flatnonzero(groups == h)
            ]
        )
        for g in names
        for h in names
        if g != h
    ]
    return close, np.mean(pairs)


def test_certificate_counts_what_it_says():
    rng = np.random.default_rng(6)
    groups = rng.choice(["a", "b", "c", "d", "e"], 40)
    x = rng.normal(size=(40, 3))
    y = x + 0.5 * rng.normal(size=x.shape)
    close, unrelated = brute_force(x, y, groups, 0.3)
    result = certified_mi_lower_bound(x, y, t=0.3, groups=groups)
    assert result.forms["p_close"] == pytest.approx(close)
    assert result.forms["q_hat"] == pytest.approx(unrelated)
    assert result.forms["n_groups"] == 5
    again = mi_certificate(p_close=close, q_hat=unrelated, n=5)
    assert result.value == pytest.approx(again.value)


def test_certificate_options():
    pair = synthetic.VonMisesFisher(d=8, kappa=60.0)
    draws = pair.sample(600, seed=0)
    x, y = draws.x_upper, draws.x_lower
    one = certified_mi_lower_bound(x, y, t=0.1)
    grid = certified_mi_lower_bound(x, y, t=[0.05, 0.1, 0.2])
    assert 0 < one.value <= pair.mutual_information
    assert grid.forms["t"] in (0.05, 0.1, 0.2)
    assert any("3 thresholds" in a for a in grid.assumptions)
    # Euclidean distance of unit vectors is the same event.
    euclidean = certified_mi_lower_bound(x, y, t=math.sqrt(0.2), distance="euclidean")
    assert euclidean.value == pytest.approx(one.value)
    named = certified_mi_lower_bound(x, y, t=0.1, distance=lambda a, b: 1 - a @ b.T)
    assert named.value == pytest.approx(one.value)
    # Fewer samples, a smaller bound, the same guarantee.
    fewer = certified_mi_lower_bound(x, y, t=0.1, max_samples=100)
    assert fewer.forms["n_groups"] == 100
    assert fewer.value < one.value
    # Unrelated states certify nothing.
    unrelated = certified_mi_lower_bound(x, np.roll(y, 1, axis=0), t=0.1)
    assert unrelated.value == 0.0
    assert unrelated.vacuous
    # The number of groups counts, not that of tokens.
    groups = np.repeat(np.arange(12), 50)
    assert certified_mi_lower_bound(x, y, t=0.1, groups=groups).forms["ceiling"] < 1.0
    for call, words in (
        (lambda: certified_mi_lower_bound(x, y, t=-0.1), "at least 0"),
        (lambda: certified_mi_lower_bound(x, y[:5], t=0.1), "differ in their number of samples"),
        (lambda: certified_mi_lower_bound(x, y, t=0.1, groups=np.zeros(600, int)), "one group"),
        (lambda: certified_mi_lower_bound(x * 0, y, t=0.1), "zero vectors"),
        (lambda: certified_mi_lower_bound(x, y, t=0.1, distance="cosin"), "distance is 'cosin'"),
        (lambda: mi_certificate(p_close=0.9, q_hat=0.1, n=1), "at least 2"),
        (lambda: mi_certificate(p_close=0.9, q_hat=0.1, n=10, delta=0.0), "delta"),
    ):
        with pytest.raises(InputError, match=words):
            call()


def simulate(runs, n, tokens, delta, seed):
    """Share of data sets whose certificate exceeds the truth, where the bound is attained.

    X = X' or an independent copy, on m points at distance 0 or 1: the event "equal" is all there
    is, so that I = d(P || q) exactly and the plug-in is as often above as below.
    """
    m, same = 6, 0.7
    joint = same * np.eye(m) / m + (1 - same) / (m * (m - 1)) * (1 - np.eye(m))
    truth = float(binary_kl(same, 1.0 / m))
    assert distance_law_kl(joint=joint, rho=1 - np.eye(m)).value == pytest.approx(truth)
    rng = np.random.default_rng(seed)
    points = np.eye(m)
    above = plug_in = 0
    total = 0.0
    for _ in range(runs):
        # Tokens of one group share half of their upper states: dependent within the group.
        base = rng.integers(0, m, (n, 1))
        lower = np.where(rng.random((n, tokens)) < 0.5, base, rng.integers(0, m, (n, tokens)))
        shift = rng.integers(1, m, (n, tokens))
        upper = np.where(rng.random((n, tokens)) < same, lower, (lower + shift) % m)
        groups = np.repeat(np.arange(n), tokens)
        result = certified_mi_lower_bound(
            points[upper.reshape(-1)], points[lower.reshape(-1)], t=0.5, groups=groups, delta=delta
        )
        above += result.value > truth
        plug_in += result.forms["plug_in"] > truth
        total += result.value
    return above / runs, plug_in / runs, total / runs / truth


def test_certificate_fails_no_more_often_than_it_says():
    above, plug_in, _ = simulate(runs=150, n=60, tokens=3, delta=0.2, seed=7)
    assert above <= 0.2
    assert plug_in > 0.3  # the estimate it replaces is above the truth all the time


@pytest.mark.slow
def test_certificate_over_a_thousand_data_sets():
    above, plug_in, mean = simulate(runs=1000, n=400, tokens=3, delta=0.1, seed=8)
    assert above <= 0.1
    assert plug_in > 0.3
    assert mean > 0.3  # a bound that holds, and is not empty
