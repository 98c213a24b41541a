"""Folds: whole groups, alike in size and classes, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import InputError
from probes._split import grouped_folds


@given(
    sizes=st.lists(st.integers(1, 7), min_size=5, max_size=40),
    n_folds=st.integers(2, 5),
    seed=st.integers(0, 9),
)
def test_groups_stay_whole_and_no_fold_is_empty(sizes, n_folds, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    fold_of = grouped_folds(len(groups), n_folds, groups=groups, seed=seed)
    assert set(fold_of) == set(range(n_folds))
    for g in range(len(sizes)):
        assert len(set(fold_of[groups == g])) == 1
    assert np.array_equal(fold_of, grouped_folds(len(groups), n_folds, groups=groups, seed=seed))


@given(sizes=st.lists(st.integers(1, 7), min_size=10, max_size=60), seed=st.integers(0, 9))
def test_folds_differ_by_no_more_than_the_largest_group(sizes, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    counts = np.bincount(grouped_folds(len(groups), 5, groups=groups, seed=seed))
    assert counts.max() - counts.min() <= max(sizes)


def test_classes_are_spread_over_folds():
    labels = np.repeat([0, 1, 2], [80, 15, 5])
    fold_of = grouped_folds(100, 5, labels=labels, seed=1)
    for c, share in ((0, 16), (1, 3), (2, 1)):
        assert np.bincount(fold_of[labels == c], minlength=5).tolist() == [share] * 5


def test_seeds_deal_differently():
    assert not np.array_equal(grouped_folds(50, 5, seed=0), grouped_folds(50, 5, seed=1))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"n": 3, "n_folds": 5}, "3 samples for 5 folds"),
        ({"n": 6, "n_folds": 5, "groups": [0, 0, 0, 1, 1, 1]}, "2 groups for 5 folds"),
        ({"n": 6, "n_folds": 2, "groups": [7] * 6}, "one group"),
        ({"n": 6, "n_folds": 1}, "at least 2"),
        ({"n": 6, "n_folds": 2, "groups": [1, 2]}, "6 samples"),
    ],
)
def test_what_cannot_be_split_is_said(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        grouped_folds(**arguments)
