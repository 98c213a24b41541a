"""Rank association: scipy and scikit-learn as peers, closed forms, and the null in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from estimators import InputError
from redundancy.validation.association import (
    area_under_curve,
    correlate,
    partial_correlation,
    permutation_p_value,
    resampled_means,
)

VECTORS = st.lists(st.integers(-3, 3).map(float), min_size=3, max_size=12)


@given(x=VECTORS, data=st.data())
@settings(max_examples=100, deadline=None)
def test_correlations_are_those_of_scipy_ties_included(x, data):
    y = data.draw(st.lists(st.integers(-3, 3).map(float), min_size=len(x), max_size=len(x)))
    a, b = np.array(x), np.array(y)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert np.isnan(correlate(a, b))
        assert np.isnan(correlate(a, b, "kendall"))
        return
    assert correlate(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    assert correlate(a, b, "kendall") == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-12)


def test_layers_without_a_value_are_left_out_of_both():
    x = np.array([1.0, np.nan, 3.0, 2.0, 5.0])
    y = np.array([2.0, 9.0, np.nan, 1.0, 7.0])
    whole = np.array([0, 3, 4])
    assert correlate(x, y) == pytest.approx(stats.spearmanr(x[whole], y[whole]).statistic)
    assert np.isnan(correlate(np.full(4, np.nan), np.arange(4.0)))


def test_many_at_once_are_each_by_itself():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 7)), rng.normal(size=7)
    for kind in ("spearman", "kendall"):
        each = [float(correlate(row, y, kind)) for row in x]
        assert correlate(x, y, kind) == pytest.approx(each)


def test_partial_correlation_is_that_of_residuals_of_ranks():
    rng = np.random.default_rng(1)
    x, y, z = rng.normal(size=(3, 20))
    ranks = [stats.rankdata(v) for v in (x, y, z)]
    design = np.column_stack([np.ones(20), ranks[2]])

    def residual(v):
        return v - design @ np.linalg.lstsq(design, v, rcond=None)[0]

    expected = np.corrcoef(residual(ranks[0]), residual(ranks[1]))[0, 1]
    assert partial_correlation(x, y, z) == pytest.approx(expected)
    assert np.isnan(partial_correlation(z, y, z))
    assert np.isnan(partial_correlation(x[:3], y[:3], z[:3]))


@given(
    scores=st.lists(st.integers(0, 4).map(float), min_size=2, max_size=15),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_area_under_curve_is_that_of_scikit_learn(scores, data):
    bad = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    found = area_under_curve(np.array(scores), np.array(bad))
    if len(set(bad)) < 2:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(bad, scores))


def test_permutation_p_values_are_uniform_without_any_relation():
    rng = np.random.default_rng(2)
    p = np.array(
        [
            permutation_p_value(
                [(rng.normal(size=8), rng.normal(size=8)) for _ in range(3)], draws=199, seed=i
            )
            for i in range(200)
        ]
    )
    # A test at level .05 rejects in 5% of cases; three binomial standard errors are 4.6 points.
    assert np.mean(p <= 0.05) < 0.05 + 0.046
    assert 0.4 < p.mean() < 0.6


def test_permutation_p_value_of_a_perfect_order_is_one_in_all_orders():
    x = np.arange(5.0)
    p = permutation_p_value([(x, x)], draws=20_000)
    assert p == pytest.approx(1 / 120, abs=0.003)
    assert np.isnan(permutation_p_value([(np.ones(5), x)]))


def test_resampled_means_have_the_standard_error_of_the_mean():
    values = np.random.default_rng(3).exponential(size=(400, 2))
    means = resampled_means(values, 4000, seed=0)
    assert means.std(axis=0) == pytest.approx(values.std(axis=0) / 20, rel=0.1)
    # The same images are drawn for every model that was tried on them.
    one, both = resampled_means(values[:, :1], 50, 0), resampled_means(values, 50, 0)
    np.testing.assert_allclose(one, both[:, :1])


def test_an_unknown_correlation_is_refused():
    with pytest.raises(InputError, match="'pearson'"):
        correlate(np.arange(3.0), np.arange(3.0), "pearson")
