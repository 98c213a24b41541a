"""Permutation p-values and n-scaling, on any estimator."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import InputError
from estimators.discrete import discrete_entropy, discrete_mi
from estimators.gaussian import gaussian_mi
from estimators.independence import k_sweep, n_scaling, permutation_test
from estimators.ksg import ksg_mi


def test_dependence_is_found_and_independence_is_not():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 1))
    y = x**2 + 0.2 * rng.normal(size=(200, 1))
    assert permutation_test(ksg_mi, x, y, n_permutations=39, k=5).value == 1 / 40
    free = permutation_test(ksg_mi, x, rng.normal(size=(200, 1)), n_permutations=39)
    assert free.value > 0.05
    assert free.unit == "probability"


def test_level_is_kept_under_independence():
    p = []
    for seed in range(100):
        x, y = np.random.default_rng(seed).integers(0, 3, size=(2, 60))
        p.append(permutation_test(discrete_mi, x, y, n_permutations=19, seed=seed).value)
    assert np.mean(np.array(p) <= 0.05) < 0.13
    assert 0.4 < np.mean(p) < 0.65


def test_groups_keep_the_level_where_samples_do_not():
    """Runs of equal values: shuffled samples call every pair of runs dependent."""
    naive, honest = [], []
    groups = np.repeat(np.arange(12), 20)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, y = (np.repeat(rng.normal(size=(12, 1)), 20, axis=0) for _ in range(2))
        x, y = x + 0.1 * rng.normal(size=x.shape), y + 0.1 * rng.normal(size=y.shape)
        options = {"n_permutations": 19, "seed": seed}
        naive.append(permutation_test(gaussian_mi, x, y, **options).value)
        honest.append(permutation_test(gaussian_mi, x, y, groups=groups, **options).value)
    assert np.mean(np.array(naive) <= 0.05) > 0.4
    assert np.mean(np.array(honest) <= 0.05) < 0.2


def test_bias_of_the_plugin_entropy_is_seen():
    s = np.random.default_rng(0).integers(0, 100, size=1000)
    found = n_scaling(discrete_entropy, s, parts=(1, 2, 4), correction="plug-in")
    assert found.value == pytest.approx(-99 / 2000, abs=0.02)
    assert found.params["limit"] == pytest.approx(np.log(100), abs=0.03)
    assert list(found.params["curve"]) == [1000, 500, 250]


def test_drift_is_said():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 6))
    found = n_scaling(ksg_mi, x, x + 0.3 * rng.normal(size=x.shape))
    assert found.value < -0.05
    assert [d.code for d in found.diagnostics] == ["drift"]


def test_refusals():
    x = np.random.default_rng(0).normal(size=(40, 1))
    with pytest.raises(InputError, match="number of permutations is 0"):
        permutation_test(gaussian_mi, x, x[::-1], n_permutations=0)
    with pytest.raises(InputError, match="gave no value"):
        permutation_test(gaussian_mi, x, x)
    with pytest.raises(InputError, match="ascending"):
        n_scaling(gaussian_mi, x, x[::-1], parts=(2, 4))


def test_spread_over_neighbours():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 1))
    calm = k_sweep(ksg_mi, x, x + rng.normal(size=x.shape))
    assert calm.diagnostics == ()
    assert calm.value < 0.05
    x = rng.normal(size=(800, 16))
    wild = k_sweep(ksg_mi, x, 0.6 * x + 0.8 * rng.normal(size=x.shape), ks=(3, 30))
    assert [d.code for d in wild.diagnostics] == ["unstable-in-k"]
    assert wild.params["curve"][3] > wild.params["curve"][30]
    with pytest.raises(InputError, match="at least two"):
        k_sweep(ksg_mi, x, x, ks=(3,))
