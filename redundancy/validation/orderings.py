"""Orders in which plans can be tried: by this package's readings, by attention, by depth alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from redundancy.choosing import candidates, sequences
from redundancy.results import Results
from vlm.plan import SkipPlan

__all__ = ["TITLES", "hidden_plan", "orderings"]

TITLES: Mapping[str, str] = {
    "readings": "this package: early exit, windows by the readings, and both ends in turn",
    "readings_late": "the same, with late entry as a fourth sequence",
    "var_sets": "VAR alone: the blocks with least attention first, any of them",
    "var_window": "VAR alone: the window closes on the side with less attention",
    "depth_exit": "depth alone: early exit, from the last block down",
    "depth_ends": "depth alone: one block from either end in turn",
}


def orderings(found: Results, n_layers: int) -> dict[str, list[list[SkipPlan]]]:
    """Sequences of plans by name, each safest first; those of VAR only where it was read."""
    orders = {
        "readings": sequences(candidates(found, n_layers)),
        "readings_late": sequences(
            candidates(found, n_layers, kinds=("late", "exit", "window", "ends"))
        ),
    }
    var = {
        r.pair[0]: float(r.estimate)
        for r in found
        if r.measure == "var" and r.modality == "vision" and r.estimate.trustworthy
    }
    if len(var) == n_layers:
        by_attention = sorted(range(n_layers), key=lambda block: (var[block], -block))
        orders["var_sets"] = [_nested(by_attention, n_layers)]
        orders["var_window"] = [_nested(_from_sides(var, n_layers), n_layers)]
    orders["depth_exit"] = [_nested(range(n_layers - 1, -1, -1), n_layers)]
    ends = list(candidates(found, n_layers, kinds=("ends",)))
    orders["depth_ends"] = [sorted(ends, key=_n_hidden)]
    return orders


def hidden_plan(n_layers: int, hidden: Iterable[int]) -> SkipPlan:
    """The plan that hides vision from these blocks, late entry and early exit where they allow.

    Examples
    --------
    >>> plan = hidden_plan(6, [0, 3, 5])
    >>> plan.vision_entry, plan.vision_exit, plan.vision_off
    (1, 5, (3,))
    """
    blocks = frozenset(hidden)
    entry, leave = 0, n_layers
    while entry in blocks:
        entry += 1
    while leave > entry and leave - 1 in blocks:
        leave -= 1
    return SkipPlan(
        n_layers,
        vision_entry=entry,
        vision_exit=leave if leave < n_layers else None,
        vision_off=tuple(sorted(b for b in blocks if entry <= b < leave)),
    )


def _nested(order: Sequence[int], n_layers: int) -> list[SkipPlan]:
    return [hidden_plan(n_layers, order[:k]) for k in range(1, n_layers)]


def _from_sides(value: Mapping[int, float], n_layers: int) -> list[int]:
    order: list[int] = []
    low, high = 0, n_layers - 1
    while low <= high:
        if value[low] < value[high]:
            order.append(low)
            low += 1
        else:
            order.append(high)
            high -= 1
    return order


def _n_hidden(plan: SkipPlan) -> int:
    return sum(not plan.active_vision(block) for block in range(plan.n_layers))
