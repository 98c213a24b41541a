"""p-values of means over groups: valid at the boundary, decisive away from it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from estimators.intervals import cluster_mean
from redundancy.measures._grouped import certified_mean, group_diagnostics, p_values

COSINE = (0.0, 2.0)


def laws(rng, n):
    """Group means with expectation 0.1 exactly, from symmetric to long-tailed."""
    return {
        "normal": np.clip(rng.normal(0.1, 0.02, size=n), 0, 0.2),
        "beta": 0.6 * rng.beta(2, 10, size=n),
        "exponential": np.minimum(rng.exponential(0.1, size=n), 2.0),
    }


def test_errors_at_the_threshold_are_as_rare_as_promised():
    rng = np.random.default_rng(0)
    repetitions, wrong = 800, {}
    for _ in range(repetitions):
        for name, values in laws(rng, 60).items():
            p_below, p_above = p_values(cluster_mean(values, level=None), 0.1, COSINE)
            below, above = wrong.get(name, (0, 0))
            wrong[name] = (below + (p_below <= 0.05), above + (p_above <= 0.05))
    # The exponential law's tail is the asymptotic test's hardest of the three.
    limit = 0.06 + 3 * math.sqrt(0.05 * 0.95 / repetitions)
    assert all(count / repetitions <= limit for pair in wrong.values() for count in pair), wrong


def test_few_groups_never_err_more_often_than_promised():
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(800):
        # One image in twenty is far: five images rarely show it, and t alone would be fooled.
        values = np.where(rng.random(5) < 0.05, 1.62, 0.02) + rng.normal(0, 1e-3, size=5)
        wrong += p_values(cluster_mean(values, level=None), 0.1, COSINE)[0] <= 0.05
    assert wrong / 800 <= 0.05


def test_overwhelming_evidence_is_not_lost_to_the_correction():
    values = np.where(np.arange(500) % 100 == 0, 1.0, 0.0)  # mean 0.01, very skewed
    below, above = p_values(cluster_mean(values, level=None), 0.2, COSINE)
    assert below < 1e-6
    assert above > 0.99


def test_an_unbounded_quantity_has_no_bound_to_fall_back_on():
    few = cluster_mean(np.random.default_rng(2).normal(1.0, 0.1, size=10), level=None)
    assert p_values(few, 5.0, (0.0, math.inf)) == (1.0, 1.0)
    many = cluster_mean(np.random.default_rng(2).normal(1.0, 0.1, size=30), level=None)
    assert p_values(many, 5.0, (0.0, math.inf))[0] < 1e-6


@pytest.mark.parametrize("weighting", ["sample", "token"])
def test_the_bound_for_a_ratio_reduces_to_the_one_for_a_mean(weighting):
    # Equal sizes: the token-weighted ratio is the mean of the group means.
    mean = cluster_mean([0.0] * 8, [5] * 8, weighting=weighting, level=None)
    below, above = p_values(mean, 0.5, COSINE)
    assert below == pytest.approx(0.75**8)
    assert above == 1.0


def test_one_group_certifies_nothing():
    alone = cluster_mean([0.1], level=None)
    assert certified_mean(alone, unit="u", n=1, support=COSINE, level=0.95) is None
    assert p_values(alone, 0.5, COSINE) == (1.0, 1.0)
    assert group_diagnostics(1, 7)[0].severity == "error"
    assert group_diagnostics(19, 7)[0].severity == "warning"
    assert group_diagnostics(20, 7) == ()
