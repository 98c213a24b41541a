"""Discrete estimators: oracle counts, closed forms, known biases, refusals."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import InputError
from estimators._corrections import CORRECTIONS, chao1, entropy_from_counts
from estimators.discrete import conditional_entropy, discrete_cmi, discrete_entropy, discrete_mi

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "entropy_counts.json").read_text())["cases"]


def samples_of(table):
    """Expand a table of counts into paired symbols (row, column)."""
    table = np.asarray(table)
    rows, columns = np.nonzero(table)
    times = table[rows, columns]
    return np.repeat(rows, times), np.repeat(columns, times)


@pytest.mark.parametrize("case", CASES)
def test_plugin_and_miller_madow_equal_the_oracle(case):
    upper, lower = samples_of(case["counts_rows_xl_cols_xlm1"])

    def h(s):
        return discrete_entropy(s, correction="plug-in", ci=None).value

    assert h(upper) == pytest.approx(case["H_l"], abs=1e-12)
    assert h(np.column_stack([upper, lower])) == pytest.approx(case["H_joint"], abs=1e-12)
    plain = conditional_entropy(upper, lower, correction="plug-in", ci=None)
    assert plain.value == pytest.approx(case["H_cond"], abs=1e-12)
    assert plain.params["ratio"] == pytest.approx(case["uncertainty_ratio"], abs=1e-12)
    assert conditional_entropy(upper, lower, ci=None).value == pytest.approx(
        case["MM_H_cond"], abs=1e-12
    )
    assert discrete_mi(upper, lower, correction="plug-in", ci=None).value == pytest.approx(
        case["I"], abs=1e-12
    )
    assert discrete_mi(upper, lower, ci=None).value == pytest.approx(case["MM_I"], abs=1e-12)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_one_state_has_no_entropy(correction):
    value = entropy_from_counts(np.array([7]), correction)
    # Grassberger's G(n) meets log n only in the limit: log n - G(n) is about 1 / n for odd n.
    assert value == pytest.approx(0.0, abs=0.16 if correction == "grassberger" else 1e-12)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_well_sampled_laws_are_recovered(correction):
    p = np.array([0.5, 0.25, 0.125, 0.125])
    counts = (p * 80_000).astype(np.int64)
    # With n = 80,000 and 4 states every correction is of order K / n.
    assert entropy_from_counts(counts, correction, 4) == pytest.approx(1.75 * math.log(2), abs=1e-4)


def grassberger_slow(counts):
    """The series of Grassberger (2003): G_1 = -gamma - log 2, G_{2n+1} = G_{2n}, ..."""
    n = sum(counts)
    gamma = 0.57721566490153286

    def g(m):
        if m == 1:
            return -gamma - math.log(2)
        if m == 2:
            return 2 - gamma - math.log(2)
        return g(m - 1) if m % 2 else g(m - 2) + 2 / (m - 1)

    return math.log(n) - sum(c * g(c) for c in counts) / n


def chao_wang_jost_slow(counts):
    """Equation 7 of Chao, Wang and Jost (2013), term by term."""
    n = sum(counts)
    f1, f2 = counts.count(1), counts.count(2)
    first = sum(c / n * sum(1 / m for m in range(c, n)) for c in counts if c < n)
    if f1 == 0:
        return first
    a = 2 * f2 / ((n - 1) * f1 + 2 * f2) if f2 else 2 / ((n - 1) * (f1 - 1) + 2)
    if a == 1:
        return first
    tail = -math.log(a) - sum((1 - a) ** r / r for r in range(1, n))
    return first + f1 / n * (1 - a) ** (1 - n) * tail


def jackknife_slow(counts):
    n = sum(counts)
    whole = entropy_from_counts(np.array(counts), "plug-in")
    left = 0.0
    for i, c in enumerate(counts):
        less = np.array([v - (j == i) for j, v in enumerate(counts)])
        left += c * entropy_from_counts(less, "plug-in")
    return n * whole - (n - 1) / n * left


def nsb_slow(counts, size):
    """Posterior mean of the entropy by adaptive quadrature over the concentration."""
    from scipy.integrate import quad
    from scipy.special import digamma, gammaln, polygamma

    n = sum(counts)
    full = np.array(counts + [0] * (size - len(counts)))

    def log_density(u):
        b = math.exp(u)
        evidence = gammaln(size * b) - gammaln(n + size * b)
        evidence += (gammaln(full + b) - gammaln(b)).sum()
        return evidence + u + math.log(size * polygamma(1, size * b + 1) - polygamma(1, b + 1))

    def mean(u):
        b = math.exp(u)
        total = n + size * b
        return digamma(total + 1) - ((full + b) / total * digamma(full + b + 1)).sum()

    top = max(log_density(u) for u in np.linspace(-15, 10, 200))
    weight = quad(lambda u: math.exp(log_density(u) - top), -25, 12, limit=400)[0]
    first = quad(lambda u: math.exp(log_density(u) - top) * mean(u), -25, 12, limit=400)[0]
    return first / weight


@pytest.mark.parametrize("counts", [[10, 2, 1, 1, 7, 3], [1, 1, 1, 2], [5, 5, 4, 1], [3, 3]])
def test_corrections_equal_their_slow_references(counts):
    a = np.array(counts)
    assert entropy_from_counts(a, "grassberger") == pytest.approx(grassberger_slow(counts), 1e-10)
    assert entropy_from_counts(a, "chao-wang-jost") == pytest.approx(
        chao_wang_jost_slow(counts), 1e-8
    )
    assert entropy_from_counts(a, "jackknife") == pytest.approx(jackknife_slow(counts), 1e-10)
    assert entropy_from_counts(a, "nsb", 12) == pytest.approx(nsb_slow(counts, 12), 1e-6)


def test_corrections_repair_a_long_tail():
    p = 1 / np.arange(1, 4097)
    p /= p.sum()
    truth = -float((p * np.log(p)).sum())
    errors = {c: [] for c in CORRECTIONS}
    for seed in range(10):
        drawn = np.random.default_rng(seed).choice(4096, p=p, size=3000)
        for c in CORRECTIONS:
            errors[c].append(discrete_entropy(drawn, correction=c, ci=None).value - truth)
    bias = {c: float(np.mean(v)) for c, v in errors.items()}
    assert bias["plug-in"] < bias["miller-madow"] < bias["grassberger"] < bias["chao-shen"] < 0.05
    assert abs(bias["chao-wang-jost"]) < 0.12


def test_chao1_counts_unseen_states():
    assert chao1(np.array([4, 5, 6])) == 3
    assert chao1(np.array([1, 1, 1, 2])) == 4 + math.ceil(3 * 2 / 4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=60),
    st.randoms(use_true_random=False),
)
def test_identities_of_the_plugin(pairs, shuffler):
    x, y = (np.array(v) for v in zip(*pairs, strict=True))

    def h(*columns):
        return discrete_entropy(np.column_stack(columns), correction="plug-in", ci=None).value

    mi = discrete_mi(x, y, correction="plug-in", ci=None).value
    assert mi == pytest.approx(discrete_mi(y, x, correction="plug-in", ci=None).value, abs=1e-12)
    assert mi >= -1e-12
    assert mi == pytest.approx(h(x) - (h(x, y) - h(y)), abs=1e-12)
    relabel = list(range(5))
    shuffler.shuffle(relabel)
    assert h(np.array(relabel)[x]) == pytest.approx(h(x), abs=1e-12)


def test_conditional_information_of_xor():
    x, y = (np.array(v) for v in zip(*itertools.product([0, 1], repeat=2), strict=True))
    both = discrete_cmi(x, y, x ^ y, correction="plug-in", ci=None)
    assert both.value == pytest.approx(math.log(2))


def test_strings_rows_and_counts_say_the_same():
    words = np.array(["a", "b", "a", "c", "a", "b"])
    by_name = discrete_entropy(words, ci=None).value
    assert by_name == pytest.approx(discrete_entropy([0, 5, 0, -7, 0, 5], ci=None).value)
    assert by_name == pytest.approx(discrete_entropy(counts=[3, 2, 0, 1], ci=None).value)
    assert by_name == pytest.approx(
        discrete_entropy(np.array([[0, 0], [1, 0], [0, 0], [1, 1], [0, 0], [1, 0]]), ci=None).value
    )


def test_intervals_respect_groups():
    rng = np.random.default_rng(0)
    group_symbol = rng.integers(0, 6, size=40)
    s = np.repeat(group_symbol, 50)  # 50 copies of one draw per group
    naive = discrete_entropy(s)
    honest = discrete_entropy(s, groups=np.repeat(np.arange(40), 50))
    assert honest.ci.width > 3 * naive.ci.width
    assert honest.n_groups == 40
    assert "groups" in honest.ci.method


def test_undersampling_is_said():
    rng = np.random.default_rng(0)
    e = discrete_entropy(rng.integers(0, 1000, size=150), ci=None)
    assert not e.trustworthy
    assert {d.code for d in e.diagnostics} == {"undersampled"}
    assert discrete_entropy(rng.integers(0, 4, size=150), ci=None).diagnostics == ()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: discrete_entropy([0.5, 1.5]), "samples has dtype float64"),
        (lambda: discrete_entropy([0, 1], correction="best"), "'chao-shen'"),
        (lambda: discrete_entropy(counts=[0.5, 0.5]), "not frequencies"),
        (lambda: discrete_entropy(counts=[-1, 2]), "non-negative"),
        (lambda: discrete_entropy(), "one of the two"),
        (lambda: discrete_mi([0, 1, 1], [0, 1]), "x has 3, y has 2"),
        (lambda: discrete_mi([0, 1], [0, 1], groups=[0]), r"pass one cluster id per sample"),
        (lambda: discrete_mi([0, 1], [0, 1], groups=[3, 3]), "all 2 samples in one group"),
        (lambda: discrete_mi([0, 1], [0, 1], ci=95), "ci is 95"),
    ],
)
def test_refusals_name_the_remedy(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize("a", [1e-5, 5e-4, 9.9e-4, 1.1e-3, 0.3, 0.999])
@pytest.mark.parametrize("n", [2, 63, 64, 5000])
def test_the_tail_of_chao_wang_jost_equals_its_plain_sum(a, n):
    from estimators._corrections import _log_tail

    r = np.arange(math.ceil(50 / a))
    plain = float((np.exp((r + 1) * math.log1p(-a)) / (n + r)).sum())
    assert _log_tail(a, n) == pytest.approx(plain, rel=1e-11)
