"""Checks shared by the intervals: probabilities, levels, counts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._errors import InputError

__all__ = [
    "check_delta",
    "check_level",
    "check_mean",
    "check_n",
    "check_successes",
    "probabilities",
]


def probabilities(value: ArrayLike, name: str) -> NDArray[np.float64]:
    p = np.asarray(value, dtype=np.float64)
    bad = ~((p >= 0.0) & (p <= 1.0))
    if bad.any():
        raise InputError(
            f"{name} must be a probability in [0, 1]; {int(bad.sum())} of {p.size} are not, "
            f"the first is {float(p[bad].flat[0])!r}"
        )
    return p


def check_n(n: float) -> None:
    if not n >= 1:
        raise InputError(f"n is {n!r}; an interval needs at least one observation")


def check_delta(delta: float) -> None:
    if not 0.0 < delta < 1.0:
        raise InputError(f"delta is {delta!r}; an error probability lies strictly between 0 and 1")


def check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise InputError(f"level is {level!r}; it lies strictly between 0 and 1, e.g. 0.95")


def check_mean(mean: float, lower: float, upper: float) -> float:
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        raise InputError(f"the range [{lower}, {upper}] is empty; give lower < upper, both finite")
    if not lower <= mean <= upper:
        raise InputError(f"the mean {mean!r} does not lie in its range [{lower:g}, {upper:g}]")
    return (mean - lower) / (upper - lower)


def check_successes(successes: int, n: int) -> None:
    check_n(n)
    if not 0 <= successes <= n:
        raise InputError(f"{successes!r} successes of {n} trials; give a count between 0 and n")
