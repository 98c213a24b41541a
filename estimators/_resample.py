"""Intervals and null distributions by resampling groups, by methods valid for k-NN statistics.

A bootstrap draws points twice, and a nearest neighbour at distance zero ruins every k-NN statistic.
Both methods here draw without replacement: half-sampling (Politis and Romano 1994) and the
delete-a-block jackknife. Both resample *groups* (clusters) where there are any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from estimators._arrays import IntArray
from estimators._errors import InputError
from estimators._types import Diagnostic, Interval

__all__ = [
    "JACKKNIFE_BLOCKS",
    "REPLICATES",
    "block_jackknife",
    "blocks",
    "few_groups",
    "group_permutations",
    "half_sampling",
    "halves",
    "shuffle_labels",
    "t_interval",
]

REPLICATES = 50
JACKKNIFE_BLOCKS = 10
Method = Literal["half-sampling", "jackknife"]
Statistic = Callable[[IntArray], float]


def _members(groups: IntArray | None, n: int) -> list[IntArray] | None:
    """Rows of each group, or None where every sample is its own group."""
    if groups is None:
        return None
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups))
    return list(np.split(order, ends[:-1]))


def halves(
    n: int, groups: IntArray | None, *, replicates: int = REPLICATES, seed: int = 0
) -> Iterator[IntArray]:
    """Yield the sorted rows of random halves of the groups, drawn without replacement."""
    rng = np.random.default_rng(seed)
    members = _members(groups, n)
    units = n if members is None else len(members)
    for _ in range(replicates):
        chosen = rng.permutation(units)[: units // 2]
        rows = chosen if members is None else np.concatenate([members[g] for g in chosen])
        yield np.sort(rows)


def blocks(n: int, groups: IntArray | None, count: int, *, seed: int = 0) -> IntArray:
    """Assign each sample to one of at most `count` blocks, whole groups together."""
    rng = np.random.default_rng(seed)
    units = n if groups is None else int(groups.max()) + 1
    label = np.empty(units, dtype=np.int64)
    label[rng.permutation(units)] = np.arange(units) % min(count, units)
    return label if groups is None else label[groups]


def t_interval(
    value: float, se: float, df: int, level: float, method: str, *, low: float | None = None
) -> Interval:
    """Return value +- t_{(1+level)/2, df} se; `low` cuts the lower end where a value below is void.

    The cut never moves past the value itself.
    """
    from scipy.special import stdtrit

    reach = float(stdtrit(df, 0.5 + level / 2)) * se
    bottom = value - reach
    if low is not None:
        bottom = min(value, max(bottom, low))
    return Interval(low=bottom, high=value + reach, level=level, method=method)


def half_sampling(
    statistic: Statistic,
    value: float,
    n: int,
    groups: IntArray | None,
    *,
    level: float,
    seed: int = 0,
    replicates: int = REPLICATES,
    label: str = "",
) -> Interval:
    """Interval from the spread of `statistic` over random halves of the groups.

    With halves the finite-population factor m/(n - m) is 1: the standard deviation over halves
    is the standard error of the whole.
    """
    draws = np.array(
        [statistic(rows) for rows in halves(n, groups, replicates=replicates, seed=seed)]
    )
    unit = "samples" if groups is None else "groups"
    return t_interval(
        value,
        float(draws.std(ddof=1)),
        replicates - 1,
        level,
        f"half-sampling of {unit}, {replicates} halves{label}",
    )


def block_jackknife(
    statistic: Statistic,
    value: float,
    n: int,
    groups: IntArray | None,
    *,
    level: float,
    seed: int = 0,
    count: int = JACKKNIFE_BLOCKS,
    label: str = "",
) -> Interval:
    """Interval from leaving out one block of groups at a time."""
    block = blocks(n, groups, count, seed=seed)
    used = int(block.max()) + 1
    left = np.array([statistic(np.flatnonzero(block != b)) for b in range(used)])
    return jackknife_interval(value, left, groups, level=level, label=label)


def jackknife_interval(
    value: float,
    left_out: npt.NDArray[np.float64],
    groups: IntArray | None,
    *,
    level: float,
    label: str = "",
) -> Interval:
    """Interval from the values with one block left out each."""
    count = len(left_out)
    se = math.sqrt((count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum()))
    unit = "samples" if groups is None else "groups"
    return t_interval(
        value, se, count - 1, level, f"jackknife over {count} blocks of {unit}{label}"
    )


def group_permutations(
    n: int, groups: IntArray | None, count: int, *, seed: int = 0
) -> Iterator[IntArray]:
    """Yield `count` rearrangements of the rows that break the pairing and keep groups together.

    With groups, samples are laid out group by group in a fixed order and matched with a layout in
    random order, so that runs of dependent samples meet runs of dependent samples: shuffling
    single samples of clustered data would reject independence far too often.
    """
    if count < 1:
        raise InputError(f"the number of permutations is {count}; use at least 1, e.g. 199")
    rng = np.random.default_rng(seed)
    members = _members(groups, n)
    if members is None:
        for _ in range(count):
            yield rng.permutation(n)
        return
    fixed = np.concatenate(members)
    for _ in range(count):
        shuffled = np.concatenate([members[g] for g in rng.permutation(len(members))])
        rows = np.empty(n, dtype=np.int64)
        rows[fixed] = shuffled
        yield rows


def shuffle_labels(
    labels: npt.NDArray[Any], groups: IntArray | None, *, seed: int = 0
) -> tuple[IntArray, str]:
    """Return rows such that ``labels[rows]`` says nothing of the samples, and how they were mixed.

    A control must break every tie between labels and samples, and keep what makes clustered data
    noisy. So every group takes the labels of another one (labels shared by a group stay shared),
    and their sequence is turned by a random step, as on a ring (neighbours stay neighbours).
    Exchanging alone is void where all groups have the same sequence of labels, a target that
    depends on the position in the image, say; turning alone is void where groups are constant.

    Parameters
    ----------
    labels : array, shape (n, ...)
        Compared for equality only.
    groups : array of int, shape (n,), or None
        Codes 0 to G - 1; rows of a group are a sequence in the order they stand. None: each sample
        is its own group.
    seed : int
        Of the exchange and the turns.

    Returns
    -------
    tuple of (array of int, str)
        A permutation of the rows, and which scheme it was: ``"samples shuffled"``,
        ``"groups exchanged"``, ``"labels turned within groups"`` or
        ``"groups exchanged, labels turned within them"``.

    Examples
    --------
    >>> position = np.tile([0, 0, 1, 1], 50)
    >>> rows, scheme = shuffle_labels(position, np.repeat(np.arange(50), 4))
    >>> scheme
    'labels turned within groups'
    >>> bool((position[rows] == position).mean() < 0.7)
    True
    """
    n = len(labels)
    rng = np.random.default_rng(seed)
    members = _members(groups, n)
    if members is None or len(members) == n:
        return rng.permutation(n), "samples shuffled"
    order = rng.permutation(len(members))
    # Half-way round: no group keeps its own labels, not even where sizes differ.
    source = np.roll(order, len(order) // 2)
    least = 1 if len(members) == 1 else 0
    turned = {
        g: np.roll(members[g], rng.integers(min(least, len(members[g]) - 1), len(members[g])))
        for g in order
    }
    rows = np.empty(n, dtype=np.int64)
    rows[np.concatenate([members[g] for g in order])] = np.concatenate([turned[g] for g in source])
    sequences = [labels[m] for m in members]
    if all(bool((s == s[:1]).all()) for s in sequences):
        return rows, "groups exchanged"
    if all(np.array_equal(s, sequences[0]) for s in sequences):
        return rows, "labels turned within groups"
    return rows, "groups exchanged, labels turned within them"


def few_groups(n_groups: int | None) -> tuple[Diagnostic, ...]:
    """Warn where an interval rests on too few independent groups."""
    if n_groups is None or n_groups >= 20:
        return ()
    return (
        Diagnostic(
            code="few-groups",
            severity="warning",
            message=f"only {n_groups} independent groups stand behind the samples, so the interval "
            "is rough; collect at least 20 groups (images, prompts)",
        ),
    )
