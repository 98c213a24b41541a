"""Folds that keep the tokens of one image together."""

from __future__ import annotations

from typing import Any

import numpy as np

from estimators import InputError
from estimators._arrays import IntArray, group_codes

__all__ = ["grouped_folds"]


def grouped_folds(
    n: int,
    n_folds: int,
    *,
    groups: Any = None,
    labels: IntArray | None = None,
    seed: int = 0,
) -> IntArray:
    """Assign each sample to one of `n_folds` folds, whole groups together.

    Groups are dealt in random order, the larger ones first, each to the fold that has fewest of
    its class so far and, among those, fewest samples: folds come out alike in size and in their
    mix of classes. Groups of one size without labels are dealt purely at random.

    Parameters
    ----------
    n : int
        Number of samples.
    n_folds : int
        At least 2.
    groups : array_like, shape (n,), optional
        Cluster of each sample; by default each sample is its own.
    labels : ndarray of int, shape (n,), optional
        Class codes; a group counts as of its most frequent class.
    seed : int

    Returns
    -------
    ndarray of int64, shape (n,)
        Fold of each sample, 0 to n_folds - 1; no fold is empty.

    Raises
    ------
    InputError
        If there are fewer groups than folds, or all samples are in one group.

    Examples
    --------
    >>> grouped_folds(6, 3, groups=[0, 0, 1, 1, 2, 2], seed=0).tolist()
    [1, 1, 2, 2, 0, 0]
    """
    if isinstance(n_folds, bool) or not isinstance(n_folds, int) or n_folds < 2:
        raise InputError(f"the number of folds is {n_folds!r}; use an integer of at least 2")
    codes, count = group_codes(groups, n)
    if codes is None or count is None:
        codes, count = np.arange(n, dtype=np.int64), n
    if count < n_folds:
        unit = "samples" if groups is None else "groups"
        raise InputError(
            f"there are {count} {unit} for {n_folds} folds, and a fold without any can test "
            f"nothing; collect more {unit} or use fewer folds"
        )
    sizes = np.bincount(codes, minlength=count)
    classes = np.zeros(count, dtype=np.int64)
    if labels is not None:
        # Rare classes first where a group is split evenly: they are the ones that go missing.
        table = np.zeros((count, int(labels.max()) + 1))
        np.add.at(table, (codes, labels), 1.0)
        classes = np.argmax(table - 1e-6 * table.sum(0) / n, axis=1)
    order = np.random.default_rng(seed).permutation(count)
    if bool((sizes == sizes[0]).all()):
        # One class after the other, dealt like cards: no fold differs by more than one group.
        order = order[np.argsort(classes[order], kind="stable")]
        dealt = np.empty(count, dtype=np.int64)
        dealt[order] = np.arange(count) % n_folds
        return dealt[codes]
    order = order[np.argsort(-sizes[order], kind="stable")]
    held = np.zeros((int(classes.max()) + 1, n_folds))
    total = np.zeros(n_folds)
    fold_of_group = np.empty(count, dtype=np.int64)
    for group in order:
        of_class = held[classes[group]]
        fold = int(np.lexsort((total, of_class))[0])
        fold_of_group[group] = fold
        of_class[fold] += sizes[group]
        total[fold] += sizes[group]
    return fold_of_group[codes]
