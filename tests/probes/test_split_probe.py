"""The arithmetic of split probes against its definition, written out."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from estimators import InputError
from probes._principal import principal
from probes._ridge import FoldedRidge
from probes._split import grouped_folds
from probes._split_probe import fit_layer, fold_sets, split_probe


def folded(x, z, fold_of, folds):
    """Fits of a layer whose rows are in the order of their folds, so that they stay there."""
    return FoldedRidge(principal(x, fold_of, folds), z)


def problem(n=120, d=4, k=3, folds=5, seed=0):
    rng = np.random.default_rng(seed)
    lower = rng.normal(size=(n, d))
    upper = lower + 0.5 * rng.normal(size=(n, d))
    z = upper @ rng.normal(size=(d, k)) + rng.normal(size=(n, k))
    fold_of = np.sort(grouped_folds(n, folds, seed=seed))
    layers = [fit_layer(folded(x, z, fold_of, folds)) for x in (upper, lower)]
    return lower, upper, z, fold_of, layers


def least_squares(x, z, rows):
    design = np.c_[np.ones(len(x)), x]
    return design @ np.linalg.lstsq(design[rows], z[rows], rcond=None)[0]


@pytest.mark.parametrize("folds", [3, 5])
def test_the_product_is_the_average_over_ordered_triples(folds):
    lower, upper, z, fold_of, layers = problem(folds=folds)
    got = split_probe(*layers, z, fold_of, folds)
    half = folds // 2
    gap = {}
    for p in fold_sets(folds):
        rows = np.isin(fold_of, p)
        gap[p] = least_squares(upper, z, rows) - least_squares(lower, z, rows)
    triples = [
        (tuple(sorted(order[:half])), tuple(sorted(order[half : 2 * half])), order[-1])
        for order in permutations(range(folds))
    ]
    total = np.zeros(len(z))
    for p, q, c in triples:
        total += (fold_of == c) * (gap[p] * gap[q]).sum(1)
    total /= len(triples) / folds
    np.testing.assert_allclose(got.product, total, atol=1e-7)
    assert got.value == pytest.approx(total.mean(), abs=1e-8)


def test_the_influence_is_the_derivative_with_respect_to_a_samples_weight():
    lower, upper, z, fold_of, layers = problem(n=400)
    found = split_probe(*layers, z, fold_of, 5)
    # A sample that occurs twice has weight 2; the difference quotient of one sample of 400.
    i, n = 17, len(z)
    twice = np.sort(np.r_[np.arange(n), i])
    again = [fit_layer(folded(x[twice], z[twice], fold_of[twice], 5)) for x in (upper, lower)]
    moved = split_probe(*again, z[twice], fold_of[twice], 5).value - found.value
    assert found.influence[i] == pytest.approx(moved, rel=0.15)


def test_errors_and_spreads_are_those_of_unseen_samples():
    _, _, z, fold_of, layers = problem(n=2000)
    found = split_probe(*layers, z, fold_of, 5)
    assert found.error_upper.mean() == pytest.approx(3.0, rel=0.05)
    assert 0 < found.spread_upper.mean() < 0.05
    assert found.error_lower.mean() > found.error_upper.mean()
    assert found.noise > 0


def test_many_targets_are_taken_in_parts_that_add_up():
    lower, upper, z, fold_of, layers = problem(k=70)
    whole = split_probe(*layers, z, fold_of, 5)
    total = 0.0
    for columns in (slice(0, 30), slice(30, 70)):
        part = [fit_layer(folded(x, z[:, columns], fold_of, 5)) for x in (upper, lower)]
        total += split_probe(*part, z[:, columns], fold_of, 5).value
    assert whole.value == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("folds", [2, 4])
def test_an_even_number_of_folds_has_no_halves_and_a_rest(folds):
    with pytest.raises(InputError, match="odd"):
        fold_sets(folds)
