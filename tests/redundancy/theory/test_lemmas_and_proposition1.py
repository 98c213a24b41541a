"""Lemmas 1 to 5, Proposition 1 and the consistency check of a table row."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import InputError
from redundancy.theory import (
    check_pair,
    lemma1,
    lemma2,
    lemma3,
    lemma4,
    lemma5,
    pid_under_markov,
    proposition1,
    proposition1_converse,
    proposition1_threshold,
    proposition1_unbounded,
    unique_information_bound,
)


def random_law(rng, bound, size=6):
    """Distances and probabilities that put weight on the edges as well."""
    rho = rng.uniform(0, bound, size)
    rho[0], rho[1] = 0.0, bound
    p = rng.dirichlet(np.full(size, 0.4))
    return rho, p


def test_lemma1_and_lemma3_hold_on_random_vectors():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        x, y, z = rng.normal(size=(3, 4)) * rng.exponential(size=(3, 1))
        one = lemma1(d_xz=np.linalg.norm(x - z), d_zy=np.linalg.norm(z - y))
        assert np.sum((x - y) ** 2) <= one.value * (1 + 1e-12) <= one.forms["paper"] * (1 + 2e-12)
        three = lemma3(a=np.linalg.norm(x), b=np.linalg.norm(y), c=np.linalg.norm(z))
        assert np.sum((x + y + z) ** 2) <= three.value * (1 + 1e-12)
        assert three.value <= three.forms["paper"] * (1 + 1e-12)


def test_lemma2_is_an_equality():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 500, 7))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    rho = 1 - (x * y).sum(1)
    assert lemma2(mean_rho=rho.mean()).value == pytest.approx(((x - y) ** 2).sum(1).mean())
    with pytest.raises(InputError, match="cosine distance"):
        lemma2(mean_rho=2.5)


def markov_table(rng, sizes=(3, 4, 3)):
    """Random p[z, x, y] with Y - X - Z."""
    k, m, n = sizes
    p_y = rng.dirichlet(np.ones(n))
    x_given_y = rng.dirichlet(np.full(m, 0.5), size=n)
    z_given_x = rng.dirichlet(np.full(k, 0.5), size=m)
    return np.einsum("y,yx,xz->zxy", p_y, x_given_y, z_given_x)


def test_lemma4_under_the_chain_and_without_it():
    rng = np.random.default_rng(2)
    for _ in range(300):
        chain = lemma4(p_zxy=markov_table(rng))
        assert chain.forms["paper"] == pytest.approx(chain.value, rel=1e-9, abs=1e-12)
        assert chain.forms["markov_gap"] < 1e-12
        assert not chain.notes
    larger = smaller = 0
    for _ in range(300):
        free = lemma4(p_zxy=rng.dirichlet(np.full(18, 0.6)).reshape(2, 3, 3))
        larger += free.forms["paper"] > free.value + 1e-6
        smaller += free.forms["paper"] < free.value - 1e-6
        assert free.notes
    assert larger > 0
    assert smaller > 0


def test_lemma5_and_the_identities_of_a_chain(cases):
    for case in cases("pid"):
        p = np.array(case["P_zxy"])
        expected = case["expected"]
        if case["name"].startswith("markov"):
            result = pid_under_markov(p_zxy=p)
            for ours, theirs in (
                ("redundant", "red"),
                ("unique_x", "unq_x"),
                ("unique_y", "unq_y"),
                ("synergistic", "syn"),
            ):
                assert result.forms[ours] == pytest.approx(expected[theirs], rel=1e-9, abs=1e-12)
        elif case["name"] == "AND":
            with pytest.raises(InputError, match="no Markov chain"):
                pid_under_markov(p_zxy=p)
    rng = np.random.default_rng(3)
    for _ in range(200):
        p = rng.dirichlet(np.full(12, 0.5)).reshape(3, 4)
        result = lemma5(p_xy=p)
        p_y = p.sum(0)
        direct = -sum(
            p[i, j] * math.log(p[i, j] / p_y[j]) for i in range(3) for j in range(4) if p[i, j] > 0
        )
        assert result.value == pytest.approx(direct, abs=1e-12)
        # The target is X: unique plus redundant information is all of H(X).
        h_x = -(p.sum(1) * np.log(p.sum(1))).sum()
        assert result.value + result.forms["redundant"] == pytest.approx(h_x, abs=1e-12)
        chain = pid_under_markov(p_zxy=markov_table(rng), tolerance=1e-9)
        assert chain.value >= 0
    assert unique_information_bound(i_z_l=0.3, cmi=0.1).value == 0.1


def test_proposition1_vectors(cases):
    for case in cases("prop1"):
        if "bound_E" in case:
            result = proposition1(p_gt=case["P_gt_t"], t=case["t"], bound=case["M"])
            assert result.value == pytest.approx(case["bound_E"], rel=1e-12)
        else:  # X' = ±X: the paper's M = 1 fails
            result = proposition1(p_gt=case["P_gt_t"], t=case["t"])
            assert result.value == pytest.approx(case["M2_bound"], rel=1e-12)
            assert result.forms["paper"] == pytest.approx(case["paper_eps_any_above"])
            assert case["E"] > result.forms["paper"]
            assert case["E"] <= result.value + 1e-15


@pytest.mark.parametrize("runs", [1500, pytest.param(20000, marks=pytest.mark.slow)])
def test_proposition1_and_its_converse_hold_on_random_laws(runs):
    rng = np.random.default_rng(4)
    for _ in range(runs):
        bound = rng.choice([1.0, 2.0, 5.0])
        rho, p = random_law(rng, bound)
        t = rng.choice(np.append(rho, rng.uniform(0, bound)))
        mean = p @ rho
        far = min(p[rho > t].sum(), 1.0)
        assert mean <= proposition1(p_gt=far, t=t, bound=bound).value + 1e-12
        unbounded = proposition1_unbounded(p_gt=far, t=t, second_moment=p @ rho**2)
        assert mean <= unbounded.value + 1e-12
        assert unbounded.value <= unbounded.forms["corrected"] + 1e-12
        if t > 0:
            at_least = p[rho >= t].sum()
            assert at_least <= proposition1_converse(mean=mean, t=t, bound=bound).value + 1e-12
        eps = rng.uniform(0.01, bound)
        if t < bound and far < proposition1_threshold(eps=eps, t=t, bound=bound).value:
            assert mean < eps + 1e-12
        near = min(p[rho < t].sum(), 1.0)
        assert check_pair(mean, near, t, bound, rounding=1e-12)


def test_proposition1_is_attained_and_says_when_it_is_vacuous():
    # a distance that is t or M
    t, p = 0.25, 0.5
    assert proposition1(p_gt=p, t=t).value == t * (1 - p) + 2 * p
    assert proposition1(p_gt=1.0, t=t).vacuous
    assert not proposition1(p_gt=0.9, t=t).vacuous
    assert proposition1_converse(mean=0.5, t=0.25).vacuous
    assert proposition1_threshold(eps=0.1, t=0.2).vacuous
    assert proposition1_threshold(eps=0.1, t=0.2).value == 0.0


def test_the_impossible_row_of_table_1(vectors_folder):
    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    path = vectors_folder / "table1_late_entry.csv"
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["metric"] in ("rho", "p_lt_0.05") and row["value"]:
                key = (row["task"], row["model"], row["column"])
                rows.setdefault(key, {})[row["metric"]] = float(row["value"])
    pairs = {key: r for key, r in rows.items() if len(r) == 2}
    assert len(pairs) == 48
    impossible = [k for k, r in pairs.items() if not check_pair(r["rho"], r["p_lt_0.05"], 0.05, 1)]
    assert impossible == [("Text/Doc VQA", "qwen2.5-vl-7b", "1")]
    check = check_pair(0.506, 0.6515, 0.05, 1.0)
    assert check.high == pytest.approx(0.381075, rel=1e-12)
    assert check.value == pytest.approx(0.506 - 0.381075)
    assert "0.506" in check.message
    assert check_pair(0.506, 0.6515, 0.05, 2.0).high == pytest.approx(0.729575, rel=1e-12)
    assert check_pair(0.0506, 0.6515, 0.05, 1.0)


def test_check_pair_needs_the_lower_end_too():
    # 90% of the pairs are at least 0.5 apart: the mean cannot be 0.1
    assert not check_pair(0.1, 0.1, 0.5)
    assert check_pair(0.45, 0.1, 0.5)
    assert check_pair(0.449, 0.1, 0.5, rounding=0.0005 + 0.0005)


@given(p=st.floats(0, 1), t=st.floats(0, 2), u=st.floats(0, 1))
def test_every_mean_in_the_range_passes_and_no_other(p, t, u):
    check = check_pair(0.5, p, t)
    inside = check.low + u * (check.high - check.low)
    assert check_pair(min(max(inside, 0.0), 2.0), p, t)
    assert not check_pair(check.high + 0.01, p, t)
    assert not check_pair(check.low - 0.01, p, t)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: proposition1(p_gt=1.5, t=0.1), "p_gt is 1.5"),
        (lambda: proposition1(p_gt=0.5, t=3.0), "beyond the largest distance"),
        (lambda: proposition1(p_gt=math.nan, t=0.1), "p_gt is NaN"),
        (lambda: proposition1_converse(mean=3.0, t=0.1), "above the largest distance"),
        (lambda: check_pair(0.1, -0.2, 0.5), "p is -0.2"),
        (lambda: check_pair("a", 0.2, 0.5), "mean"),
        (lambda: lemma5(p_xy=[[0.5, 0.6]]), "sums to 1.1"),
        (lambda: lemma4(p_zxy=[[0.5, 0.5]]), "axes"),
        (lambda: proposition1(p_gt=0.1, t=0.1, inputs="guess"), "inputs is 'guess'"),
    ],
)
def test_errors_name_what_was_wrong(call, words):
    with pytest.raises(InputError, match=words):
        call()
