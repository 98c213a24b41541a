"""Losses of skip plans on held-out units: checked, stacked, averaged within images."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import InputError
from estimators.intervals import group_totals

__all__ = ["check_order", "check_probability", "check_used", "group_means", "loss_table"]


def check_probability(value: float, name: str, meaning: str) -> None:
    """Refuse what is not strictly between 0 and 1, and say what was wanted."""
    if not 0.0 < value < 1.0:
        raise InputError(f"{name} is {value!r}; give {meaning}, strictly between 0 and 1")


def check_order(losses: Mapping[Any, ArrayLike], order: Sequence[Hashable]) -> tuple[Hashable, ...]:
    """Return the plans in order, having checked that order and losses name the same ones."""
    plans = tuple(order)
    if not plans:
        raise InputError("there are no plans to certify; give at least one in order")
    if len(set(plans)) < len(plans):
        raise InputError("the order names a plan twice; name each once, safest first")
    missing = [plan for plan in plans if plan not in losses]
    extra = [plan for plan in losses if plan not in set(plans)]
    if missing or extra:
        which = f"has no losses for {missing[0]!r}" if missing else f"leaves out {extra[0]!r}"
        raise InputError(f"the order {which}; order and losses must name the same plans")
    return plans


def loss_vector(values: ArrayLike, plan: Hashable, low: float, high: float) -> NDArray[np.float64]:
    """Return one plan's losses as a vector, all of them within their range."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise InputError(f"losses of {plan!r} have shape {x.shape}; give one number per unit")
    bad = ~((x >= low) & (x <= high))
    if bad.any():
        where = int(np.argmax(bad))
        raise InputError(
            f"{int(bad.sum())} of {x.size} losses of {plan!r} are not numbers in "
            f"[{low:g}, {high:g}] (first at {where}: {x[where]:g}); rescale them"
        )
    return x


def check_used(
    groups: ArrayLike | None, used: Iterable[Any] | None, n: int, units: str = "images"
) -> None:
    """Refuse groups of the wrong length, and images that already ordered the plans."""
    if groups is not None and np.shape(groups) != (n,):
        raise InputError(
            f"groups has shape {np.shape(groups)} for {n} losses; give one image per loss"
        )
    if used is None:
        return
    if groups is None:
        raise InputError("used_groups needs groups: the image of each loss")
    # Compared as text: a store may have kept as "7" what a data set calls 7.
    shared = set(map(str, np.asarray(groups).tolist())) & set(map(str, used))
    if shared:
        raise InputError(
            f"{len(shared)} calibration {units} already took part in ordering the plans (e.g. "
            f"{min(shared)!r}), which voids the guarantee; certify on other {units}"
        )


def loss_table(
    losses: Mapping[Any, ArrayLike], plans: Sequence[Hashable], low: float, high: float
) -> NDArray[np.float64]:
    """Stack the losses of all plans, shape (plans, units)."""
    rows = [loss_vector(losses[plan], plan, low, high) for plan in plans]
    for plan, row in zip(plans, rows, strict=True):
        if row.size != rows[0].size:
            raise InputError(
                f"{plan!r} has {row.size} losses and {plans[0]!r} has {rows[0].size}; all plans "
                "must be tried on the same units"
            )
    return np.stack(rows)


def group_means(table: NDArray[np.float64], groups: ArrayLike | None) -> NDArray[np.float64]:
    """Average each plan's losses within images, so that columns are independent."""
    if groups is None:
        return table
    totals, sizes = group_totals(groups, table.T.copy(), np.ones(table.shape[1]))
    means: NDArray[np.float64] = (totals / sizes[:, None]).T
    return means
