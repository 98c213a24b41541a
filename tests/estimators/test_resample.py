"""Resampling: whole groups, no repeats, seeded, and intervals of the right width."""

from __future__ import annotations

import math

import numpy as np
import pytest

from estimators import _resample as r


@pytest.fixture
def groups():
    return np.repeat(np.arange(20), np.arange(1, 21))


def test_halves_take_whole_groups_once(groups):
    for rows in r.halves(len(groups), groups, replicates=10, seed=3):
        assert len(set(rows.tolist())) == len(rows)
        taken = set(groups[rows].tolist())
        assert len(taken) == 10
        assert len(rows) == sum(g + 1 for g in taken)


def test_blocks_keep_groups_together(groups):
    label = r.blocks(len(groups), groups, 10)
    assert all(len(set(label[groups == g].tolist())) == 1 for g in range(20))
    assert sorted(set(label.tolist())) == list(range(10))
    assert r.blocks(7, None, 10).max() == 6


def test_permutations_move_whole_runs(groups):
    for rows in r.group_permutations(len(groups), groups, 5, seed=1):
        assert sorted(rows.tolist()) == list(range(len(groups)))
        runs = 1 + int((np.diff(groups[rows]) != 0).sum())
        assert runs == 20


SIZES = {"equal": np.full(40, 6), "unequal": np.random.default_rng(0).integers(1, 12, size=40)}


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_leave_no_tie_to_image_or_position(sizes, seed):
    """Permuting whole groups, as controls did before, leaves a target of the position untouched."""
    groups = np.repeat(np.arange(40), SIZES[sizes])
    position = np.concatenate([np.arange(m) for m in SIZES[sizes]])
    half = (position >= 3).astype(int)
    rows, scheme = r.shuffle_labels(half, groups, seed=seed)
    assert sorted(rows.tolist()) == list(range(len(groups)))
    assert abs(np.corrcoef(half[rows], half)[0, 1]) < 0.25
    if sizes == "equal":
        assert scheme == "labels turned within groups"
        whole = next(r.group_permutations(len(groups), groups, 1, seed=seed))
        assert np.array_equal(half[whole], half)
    else:
        assert scheme == "groups exchanged, labels turned within them"
    assert np.mean(groups[rows] == groups) < 0.02


def test_shuffled_labels_stay_together_where_a_group_shares_one():
    groups = np.repeat(np.arange(30), 4)
    labels = np.random.default_rng(1).integers(3, size=30)[groups]
    rows, scheme = r.shuffle_labels(labels, groups, seed=2)
    assert scheme == "groups exchanged"
    moved = labels[rows].reshape(30, 4)
    assert (moved == moved[:, :1]).all()
    assert not (groups[rows] == groups).any()


def test_shuffled_labels_keep_neighbours():
    groups = np.repeat(np.arange(30), 50)
    labels = np.tile(np.repeat([0, 1], 25), 30)
    rows, _ = r.shuffle_labels(labels, groups, seed=3)
    changes = (np.diff(labels[rows].reshape(30, 50), axis=1) != 0).sum(axis=1)
    assert changes.max() <= 2


def test_shuffled_labels_without_groups_and_of_one_group():
    labels = np.arange(20)
    rows, scheme = r.shuffle_labels(labels, None, seed=0)
    assert scheme == "samples shuffled"
    assert sorted(rows.tolist()) == list(range(20))
    assert r.shuffle_labels(labels, labels)[1] == "samples shuffled"
    for seed in range(20):
        rows, _ = r.shuffle_labels(labels, np.zeros(20, dtype=int), seed=seed)
        assert not (rows == labels).any()


def test_same_seed_same_draws():
    one = list(r.halves(30, None, replicates=3, seed=5))
    two = list(r.halves(30, None, replicates=3, seed=5))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("make", [r.half_sampling, r.block_jackknife])
def test_standard_error_of_a_mean(make):
    x = np.random.default_rng(0).normal(size=400)
    widths = []
    for seed in range(20):
        ci = make(
            lambda rows: float(x[rows].mean()), float(x.mean()), 400, None, level=0.95, seed=seed
        )
        assert float(x.mean()) in ci
        widths.append(ci.width)
    df = r.REPLICATES - 1 if make is r.half_sampling else r.JACKKNIFE_BLOCKS - 1
    from scipy.special import stdtrit

    truth = 2 * float(stdtrit(df, 0.975)) * x.std() / math.sqrt(400)
    assert np.mean(widths) == pytest.approx(truth, rel=0.12)


def test_the_cut_never_passes_the_value():
    assert r.t_interval(-0.2, 0.1, 9, 0.95, "m", low=0.0).low == -0.2
    assert r.t_interval(0.1, 0.1, 9, 0.95, "m", low=0.0).low == 0.0


def test_few_groups_are_said():
    assert r.few_groups(5)[0].code == "few-groups"
    assert r.few_groups(50) == ()
    assert r.few_groups(None) == ()
