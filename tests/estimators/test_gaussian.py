"""Gaussian and copula information: closed forms, exact bias, rank deficiency, refusals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from estimators import InputError
from estimators.gaussian import copula_mi, gaussian_mi

CHAINS = json.loads((Path(__file__).parent / "data" / "gaussian_chain.json").read_text())["cases"]


def pair(n, d, r, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, r * x + math.sqrt(1 - r * r) * rng.normal(size=(n, d))


def codes(estimate):
    return {d.code for d in estimate.diagnostics}


@pytest.mark.parametrize("case", CHAINS)
def test_gaussian_chains(case):
    rng = np.random.default_rng(0)
    n = 20_000
    below = rng.multivariate_normal(np.zeros(len(case["A"][0])), case["Sigma_lm1"], size=n)
    noise = rng.multivariate_normal(np.zeros(len(case["A"])), case["N"], size=n)
    above = below @ np.array(case["A"]).T + noise
    truth = case["expected"]["I_l_lm1"]
    assert gaussian_mi(below, above, ci=None).value == pytest.approx(truth, abs=0.04)


@pytest.mark.parametrize("estimator", [gaussian_mi, copula_mi])
def test_bias_is_removed(estimator):
    values = [estimator(*pair(200, 8, 0.6, s), ci=None).value for s in range(60)]
    truth = -4 * math.log(1 - 0.36)
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / math.sqrt(60) + 0.02)
    null = [estimator(*pair(200, 8, 0.0, s), ci=None).value for s in range(60)]
    assert abs(np.mean(null)) < 4 * np.std(null) / math.sqrt(60)


def test_invariant_to_invertible_linear_maps():
    x, y = pair(300, 4, 0.5, 1)
    m = np.random.default_rng(2).normal(size=(4, 4))
    base = gaussian_mi(x, y, ci=None).value
    assert gaussian_mi(x @ m + 1000.0, 1e-6 * y, ci=None).value == pytest.approx(base, rel=1e-7)


def test_copula_ignores_monotone_distortion():
    x, y = pair(300, 3, 0.5, 1)
    assert copula_mi(np.exp(x), y**3, ci=None).value == copula_mi(x, y, ci=None).value


def test_rank_deficient_sides_are_projected():
    x, y = pair(300, 4, 0.5, 1)
    wide = x @ np.random.default_rng(0).normal(size=(4, 600))
    e = gaussian_mi(wide, y, ci=None)
    assert e.value == pytest.approx(gaussian_mi(x, y, ci=None).value, rel=1e-6)
    assert "rank-deficient" in codes(e)


def test_deterministic_and_hopeless_cases_have_no_value():
    x, y = pair(100, 4, 0.5, 1)
    shared = gaussian_mi(x, np.column_stack([y, x[:, 0]]))
    assert shared.value is None
    assert codes(shared) == {"deterministic"}
    wide = gaussian_mi(*pair(60, 40, 0.5, 1))
    assert wide.value is None
    assert codes(wide) == {"too-few-samples"}


def test_ties_are_reported():
    x, y = pair(300, 1, 0.5, 1)
    assert "ties" in codes(copula_mi(np.round(x), y, ci=None))


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "d"), [(gaussian_mi, 1), (gaussian_mi, 5), (copula_mi, 3)])
def test_coverage(estimator, d):
    truth = -d / 2 * math.log(1 - 0.36)
    hits = sum(truth in estimator(*pair(400, d, 0.6, s), seed=s).ci for s in range(200))
    assert 0.90 <= hits / 200 <= 0.995


def test_refusals():
    x, y = pair(20, 2, 0.5, 0)
    with pytest.raises(InputError, match="x holds integers"):
        gaussian_mi(x.astype(int), y)
    with pytest.raises(InputError, match="y has shape"):
        copula_mi(x, y[None])
    with pytest.raises(InputError, match="x has 20, y has 19"):
        gaussian_mi(x, y[:19])
