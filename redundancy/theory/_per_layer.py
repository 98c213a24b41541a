"""Numbers per layer, and how errors add up over layers: shared by the forms of Theorem 6."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy.theory._result import Given, Number, TheoryResult

__all__ = ["PerLayer", "drift_bound", "error_bound", "product", "read_layers", "total"]

PerLayer = Number | Sequence[Number] | NDArray[np.float64]


def read_layers(
    given: Given, n_layers: int | None, *, single_is_one: bool = False, **values: PerLayer
) -> tuple[list[NDArray[np.float64]], int]:
    """Read numbers per layer; return the arrays, each of length 1 or L, and L."""
    arrays: list[NDArray[np.float64]] = []
    per_layer = single_is_one
    for name, value in values.items():
        if isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim == 1):
            per_layer = True
            items = [given.nonnegative(v, f"{name}[{i}]") for i, v in enumerate(value)]
        else:
            items = [given.nonnegative(value, name)]
        arrays.append(np.array(items, dtype=np.float64))
    lengths = {name: a.size for name, a in zip(values, arrays, strict=True) if a.size != 1}
    if n_layers is not None:
        if not isinstance(n_layers, int | np.integer) or n_layers < 1:
            raise InputError(f"n_layers is {n_layers!r}; give an integer of at least 1")
        lengths["n_layers"] = int(n_layers)
    sizes = set(lengths.values())
    if len(sizes) > 1 or 0 in sizes:
        listing = ", ".join(f"{name}: {size}" for name, size in lengths.items())
        raise InputError(
            f"numbers of layers differ ({listing}); give one number, or one per layer, for each"
        )
    if not sizes and not per_layer:
        raise InputError("give n_layers, or one number per layer")
    return arrays, sizes.pop() if sizes else 1


def total(values: NDArray[np.float64], count: int) -> float:
    return count * float(values[0]) if values.size == 1 else math.fsum(values)


def product(a: float, b: float) -> float:
    """a * b with 0 * inf = 0."""
    return 0.0 if a == 0.0 or b == 0.0 else a * b


def drift_bound(delta: NDArray[np.float64], lam: NDArray[np.float64], count: int) -> float:
    if delta.size == 1 and lam.size == 1:
        return product(float(delta[0]), _geometric(float(lam[0]), count))
    drift = 0.0
    deltas, lams = np.broadcast_to(delta, count), np.broadcast_to(lam, count)
    for i in range(count):
        drift = product(float(lams[i]), drift) + float(deltas[i]) if i else float(deltas[0])
    return drift


def _geometric(lam: float, count: int) -> float:
    """1 + lam + ... + lam**(count - 1), without cancellation near 1 and without overflow errors."""
    if lam == 0.0 or count == 1:
        return 1.0
    if lam == 1.0:
        return float(count)
    exponent = count * math.log(lam)
    return math.inf if exponent > 709.0 else math.expm1(exponent) / (lam - 1.0)


def error_bound(
    given: Given,
    value: float,
    forms: dict[str, float],
    output_norm: Number | None,
    statement: str,
    assumptions: tuple[str, ...],
    notes: tuple[str, ...],
) -> TheoryResult:
    vacuous = math.isinf(value)
    if output_norm is None:
        notes += ("output_norm was not given, so vacuity is unchecked",)
    else:
        limit = 2.0 * given.nonnegative(output_norm, "output_norm")
        if value >= limit:
            vacuous = True
            notes += (
                f"at least 2 |Y| = {limit:.4g}: two outputs of that norm are never further apart",
            )
    kind = given.kind(assumptions)
    if kind == "estimate":
        notes += ("a Lipschitz constant from below makes this an estimate, no bound",)
    return TheoryResult(
        value=value,
        kind=kind,
        unit="output norm",
        statement=statement,
        assumptions=assumptions,
        vacuous=vacuous,
        forms=forms,
        notes=notes,
    )
