"""Checks of the probabilities a PID is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._arrays import to_numpy
from estimators._errors import InputError

__all__ = ["as_joint", "as_marginals"]

FloatArray = NDArray[np.float64]

# Rounding errors of the sum are renormalised away; anything larger is the user's to explain.
_SUM_TOLERANCE = 1e-9


def _checked(p: object, name: str, axes: str) -> FloatArray:
    given = to_numpy(p, name)
    if given.dtype.kind not in "fiub":
        raise InputError(
            f"{name} has dtype {given.dtype}; it must be an array of real numbers {name}[{axes}]"
        )
    array = given.astype(np.float64)
    rank = axes.count(",") + 1
    if array.ndim != rank:
        raise InputError(
            f"{name} has {array.ndim} axes of shape {array.shape}; it must be {name}[{axes}], "
            "target first"
        )
    if array.size == 0:
        raise InputError(f"{name} has shape {array.shape}; every axis needs at least one symbol")
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"{name} has {int(bad.sum())} NaN or infinite entries, the first at {name}{list(where)}"
            "; probabilities are finite"
        )
    if (array < 0).any():
        where = tuple(int(i) for i in np.argwhere(array < 0)[0])
        raise InputError(
            f"{name} has {int((array < 0).sum())} negative entries, the first "
            f"{name}{list(where)} = {array[where]:g}; probabilities are not negative"
        )
    total = float(array.sum())
    if abs(total - 1.0) > _SUM_TOLERANCE:
        hint = f"divide by its sum if these are counts: {name} / {name}.sum()"
        raise InputError(f"{name} sums to {total:.12g}, {total - 1.0:+.3g} off 1; {hint}")
    return array / total


def as_joint(p: ArrayLike) -> FloatArray:
    """Check a joint p[z, x, y]; return it with sum 1."""
    return _checked(p, "p", "z, x, y")


def as_marginals(p_zx: ArrayLike, p_zy: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Check two marginals and that they agree on P(z); return them with sum 1."""
    a, b = _checked(p_zx, "p_zx", "z, x"), _checked(p_zy, "p_zy", "z, y")
    if len(a) != len(b):
        raise InputError(
            f"p_zx has {len(a)} target symbols and p_zy {len(b)}; axis 0 of both is the target Z"
        )
    difference = np.abs(a.sum(axis=1) - b.sum(axis=1))
    z = int(np.argmax(difference))
    if difference[z] > _SUM_TOLERANCE:
        raise InputError(
            f"p_zx and p_zy disagree on P(z): {a[z].sum():.9g} against {b[z].sum():.9g} at "
            f"z = {z}; both must be marginals of one distribution"
        )
    return a, b
