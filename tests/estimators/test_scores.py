"""Scores for feature selection: scikit-learn's values, its selectors, and awkward columns."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn.feature_selection import SelectKBest, mutual_info_classif, mutual_info_regression

from estimators import InputError
from estimators.scores import mutual_information_scores


def data(n=600, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)) * [1, 100, 1e-3, 1, 1]
    x[:, 3] = rng.integers(0, 4, size=n)
    y = x[:, 0] + np.sin(x[:, 1] / 30) + 0.5 * x[:, 3] + 0.3 * rng.normal(size=n)
    return x, y


def test_agrees_with_scikit_learn_on_continuous_targets():
    x, y = data()
    peer = mutual_info_regression(x, y, discrete_features=[3], random_state=0)
    ours = mutual_information_scores(x, y)
    assert np.maximum(ours, 0) == pytest.approx(peer, abs=2e-3)


def test_agrees_with_scikit_learn_on_classes():
    x, y = data()
    labels = np.digitize(y, [-1, 0.5, 2])
    peer = mutual_info_classif(x[:, :3], labels, random_state=0)
    ours = mutual_information_scores(x, labels)
    assert np.maximum(ours[:3], 0) == pytest.approx(peer, abs=2e-3)
    named = np.array(["a", "b", "c", "d"])[labels]
    assert mutual_information_scores(x, named) == pytest.approx(ours)
    forced = mutual_information_scores(x, labels.astype(float), discrete_target=True)
    assert forced == pytest.approx(ours)


def test_closed_form():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 2))
    y = 0.6 * x[:, 0] + 0.8 * rng.normal(size=4000)
    assert mutual_information_scores(x, y) == pytest.approx([-0.5 * np.log(0.64), 0], abs=0.04)


@pytest.mark.parametrize("discrete", [False, True])
def test_selects(discrete):
    x, y = data()
    target = (y > np.median(y)).astype(int) if discrete else y
    chosen = SelectKBest(partial(mutual_information_scores, seed=3), k=3).fit(x, target)
    assert chosen.get_support().tolist() == [True, True, False, True, False]
    assert chosen.transform(x).shape == (600, 3)


def test_awkward_columns():
    x, y = data()
    x[:, 2] = 5.0
    x[:, 4] = np.round(x[:, 4], 2)  # some ties
    scores = mutual_information_scores(x, y, seed=1)
    assert scores[2] == 0.0
    assert abs(scores[4]) < 0.06
    assert np.array_equal(scores, mutual_information_scores(x, y, seed=1))
    whole = np.random.default_rng(0).integers(0, 3, size=(600, 2))
    assert mutual_information_scores(whole, whole[:, 0])[0] == pytest.approx(np.log(3), abs=0.01)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.ones((9, 2)), np.arange(8.0), "X has 9, y has 8"),
        (np.full((9, 2), np.nan), np.arange(9.0), "X .*18 NaN"),
        (np.ones((9, 2)), np.full(9, np.inf), "y .*9 infinite"),
        (np.eye(9), np.zeros(9), "y is constant"),
        (np.eye(9), np.zeros(9, dtype=int), "y is constant"),
        (np.eye(9), np.eye(9), r"y has shape \(9, 9\)"),
        (np.eye(3), np.arange(3.0), "fewer than k . 1"),
    ],
)
def test_refusals(x, y, words):
    with pytest.raises(InputError, match=words):
        mutual_information_scores(x, y)
