"""Which unions of folds decide a penalty, and the walk downhill over powers of 10."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

__all__ = ["Judge", "Key", "choose_all", "downhill", "judges"]

LEAST, MOST = -6, 4  # powers of 10: at the upper end a probe is hardly more than its mean

Key = tuple[tuple[int, ...], int, int]
"""A union of folds, a target, and a power of 10: what names a fit that judges a penalty."""


@dataclass(frozen=True, slots=True)
class Judge:
    """A fit on a union of folds that is scored on one further fold."""

    folds: tuple[int, ...]
    held: int


def judges(n_folds: int, *, thorough: bool) -> dict[int, list[Judge]]:
    """For every test fold, the fits that choose its penalty: none of them saw that fold.

    Parameters
    ----------
    n_folds : int
        At least 3.
    thorough : bool
        Leave out each of the other folds in turn; otherwise one, and fits of two test folds are
        shared, which is a sixth of the work.

    Examples
    --------
    >>> judges(5, thorough=False)[1]
    [Judge(folds=(2, 3, 4), held=0)]
    >>> len({j.folds for found in judges(5, thorough=False).values() for j in found})
    3
    """
    every = range(n_folds)
    pairs = list(combinations(every, 2))
    if not thorough:
        pairs = [(f, (f + 1) % n_folds) for f in range(0, n_folds, 2)]
    out: dict[int, list[Judge]] = {f: [] for f in every}
    for a, b in pairs:
        rest = tuple(f for f in every if f not in (a, b))
        for test, held in ((a, b), (b, a)):
            if thorough or not out[test]:
                out[test].append(Judge(rest, held))
    return out


def downhill(known: Mapping[int, float], start: int) -> tuple[int, list[int]]:
    """Step downhill from `start`; returns where it got, and what it needs to know to go on.

    Examples
    --------
    >>> downhill({}, -1)
    (-1, [-2, -1, 0])
    >>> downhill({-2: 1.0, -1: 2.0, 0: 3.0}, -1)
    (-2, [-3])
    >>> downhill({-2: 2.0, -1: 1.0, 0: 3.0}, -1)
    (-1, [])
    """
    around = [s for s in (start - 1, start, start + 1) if LEAST <= s <= MOST]
    missing = [s for s in around if s not in known]
    if missing:
        return start, missing
    best = start
    for direction in (1, -1):
        step = best + direction
        while LEAST <= step <= MOST:
            if step not in known:
                return best, [step]
            if not known[step] < known[best]:
                break
            best = step
            step += direction
        if best != start:
            break
    return best, []


def choose_all(
    by_test: Mapping[int, Sequence[Judge]],
    n_targets: int,
    evaluate: Callable[[list[Key]], Mapping[Key, Mapping[int, float]]],
    *,
    start: int = -1,
) -> dict[tuple[int, int], int]:
    """Choose a power of 10 for every test fold and target; all walks go on together.

    Parameters
    ----------
    by_test : mapping
        Of `judges`.
    n_targets : int
    evaluate : callable
        From keys to their error on each fold that the fit did not see.
    start : int

    Returns
    -------
    dict
        (test fold, target) to power of 10.
    """
    errors: dict[Key, Mapping[int, float]] = {}
    while True:
        found: dict[tuple[int, int], int] = {}
        wanted: dict[Key, None] = {}
        for test, fits in by_test.items():
            for target in range(n_targets):
                known = {
                    step: sum(errors[(j.folds, target, step)][j.held] for j in fits)
                    for step in range(LEAST, MOST + 1)
                    if all((j.folds, target, step) in errors for j in fits)
                }
                found[test, target], missing = downhill(known, start)
                for step in missing:
                    for j in fits:
                        if (j.folds, target, step) not in errors:
                            wanted[j.folds, target, step] = None
        if not wanted:
            return found
        errors.update(evaluate(list(wanted)))
