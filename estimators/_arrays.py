"""The one door for arrays: whatever a caller holds comes in, checked numpy arrays come out.

Accepts numpy arrays, nested lists, torch tensors on any device (half and bfloat16 included) and
anything that speaks DLPack. Every complaint is one sentence naming argument, shape and remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from estimators._errors import InputError

__all__ = [
    "FloatArray",
    "IntArray",
    "check_ci",
    "check_k",
    "check_lengths",
    "check_varies",
    "from_dlpack",
    "group_codes",
    "matrix",
    "symbols",
    "to_numpy",
]

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]


def to_numpy(a: Any, name: str) -> npt.NDArray[Any]:
    """Bring `a` to the host as a numpy array without changing its values.

    Half-precision floats widen to float32, which holds each of them exactly.
    """
    if isinstance(a, np.ndarray):
        out: npt.NDArray[Any] = a
    elif hasattr(a, "detach") and hasattr(a, "cpu"):  # a torch tensor, without importing torch
        tensor = a.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":  # numpy has no bfloat16
            tensor = tensor.float()
        out = tensor.numpy()
    else:
        try:
            out = from_dlpack(a) if hasattr(a, "__dlpack__") else np.asarray(a)
        except (TypeError, ValueError, BufferError, RuntimeError) as error:
            raise InputError(
                f"{name} cannot be read as an array ({error}); pass a numpy array, a torch tensor "
                "or a list of rows of equal length"
            ) from error
    if out.dtype == object:
        raise InputError(
            f"{name} is an array of Python objects of shape {out.shape}; pass numbers, in rows of "
            "equal length"
        )
    # A dtype's name takes longer to make than all other checks of a small array.
    if out.dtype.itemsize == 2 and out.dtype.name in ("float16", "bfloat16"):
        out = out.astype(np.float32)
    return out


def from_dlpack(a: Any) -> npt.NDArray[Any]:
    """Read any array that speaks DLPack (jax, cupy, ...), copied to the host where it must be.

    NumPy's own protocol comes second: it knows more dtypes (bfloat16), but arrays on an
    accelerator refuse it.
    """
    try:
        return np.from_dlpack(a, device="cpu")
    except (TypeError, ValueError, BufferError, RuntimeError, NotImplementedError):
        return np.asarray(a) if hasattr(a, "__array__") else np.from_dlpack(a)


def matrix(a: Any, name: str, *, min_samples: int = 2) -> FloatArray:
    """Return `a` as a finite float matrix (n, d), float32 if it was and float64 otherwise.

    A vector counts as n samples of one coordinate. Integers are refused: a continuous estimator
    on tied values answers with a number that means nothing.
    """
    out = to_numpy(a, name)
    if out.ndim == 1:
        out = out[:, None]
    if out.ndim != 2:
        raise InputError(
            f"{name} has shape {out.shape}; pass samples along axis 0 and coordinates along axis 1 "
            "(reshape further axes into one of them)"
        )
    if out.dtype.kind in "iub":
        raise InputError(
            f"{name} holds integers ({out.dtype}, shape {out.shape}), and this estimator is for "
            "continuous values; use discrete_entropy, discrete_mi or ross_mi for symbols, or "
            "convert measurements with .astype(float)"
        )
    if out.dtype.kind != "f":
        raise InputError(f"{name} has dtype {out.dtype}, not real numbers; pass float32 or float64")
    if out.dtype.itemsize not in (4, 8) or not out.dtype.isnative:
        out = out.astype(np.float64)
    if out.shape[1] == 0:
        raise InputError(f"{name} has shape {out.shape}, no coordinates; pass at least one")
    if out.shape[0] < min_samples:
        raise InputError(
            f"{name} has {out.shape[0]} samples (shape {out.shape}), and this estimator needs at "
            f"least {min_samples}; pass more samples"
        )
    _check_finite(out, name)
    return np.ascontiguousarray(out)


def _check_finite(a: FloatArray, name: str) -> None:
    # One sum finds any NaN or infinity without a mask the size of the array; an overflow of the
    # sum itself only sends us to the exact test.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(a.sum()):
            return
    bad = ~np.isfinite(a)
    count = int(bad.sum())
    if count == 0:
        return
    row, column = (int(i) for i in np.argwhere(bad)[0])
    nan = int(np.isnan(a).sum())
    raise InputError(
        f"{name} (shape {a.shape}) holds {nan} NaN and {count - nan} infinite values, the first at "
        f"row {row}, column {column}; remove those samples or repair their source"
    )


def check_varies(a: FloatArray, name: str) -> None:
    """Refuse a matrix whose rows are all equal: every information about it is zero or undefined."""
    if bool((a[-1] != a[0]).any()):
        return  # two rows tell
    if bool((a == a[0]).all()):
        raise InputError(
            f"{name} (shape {a.shape}) is constant, every sample is the same, so it has no density "
            "and carries no information; check how it was produced"
        )


def check_lengths(**named: npt.NDArray[Any]) -> int:
    """Return the common number of samples of `named`, or say which differ."""
    sizes = {name: len(a) for name, a in named.items()}
    if len(set(sizes.values())) > 1:
        listing = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise InputError(
            f"arguments differ in their number of samples: {listing}; row i of each must belong to "
            "the same sample"
        )
    return next(iter(sizes.values()))


def check_k(k: Any, n: int, *, what: str = "samples") -> int:
    """Check a neighbour count against the number of samples."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k is {k!r}; the number of neighbours is an integer of at least 1")
    if n < k + 1:
        raise InputError(
            f"there are {n} {what}, fewer than k + 1 = {k + 1}; pass more samples or a smaller k"
        )
    return int(k)


def check_ci(ci: Any) -> float | None:
    """Check a confidence level; None means that no interval is wanted."""
    if ci is None:
        return None
    if isinstance(ci, bool) or not isinstance(ci, int | float) or not 0.0 < ci < 1.0:
        raise InputError(
            f"ci is {ci!r}; pass a confidence level strictly between 0 and 1, e.g. 0.95, or None "
            "for no interval"
        )
    return float(ci)


def symbols(a: Any, name: str) -> tuple[IntArray, int]:
    """Return symbols as codes 0..K-1 and K, their number; the rows of a matrix are joint symbols.

    Integers, booleans and strings are symbols; floats are refused.
    """
    out = to_numpy(a, name)
    if out.dtype.kind not in "iubUS":
        raise InputError(
            f"{name} has dtype {out.dtype} (shape {out.shape}), and this estimator is for symbols; "
            "pass integers, or turn continuous values into symbols with quantise"
        )
    if out.ndim == 2 and out.shape[1] == 1:
        out = out[:, 0]
    if out.ndim not in (1, 2) or out.size == 0:
        raise InputError(
            f"{name} has shape {out.shape}; pass one symbol per sample, shape (n,), or one row of "
            "symbols per sample, shape (n, m), with n >= 1"
        )
    if out.ndim == 1:
        return _codes(out)
    codes, count = _codes(out[:, 0])
    for column in out.T[1:]:
        codes, count = joint_codes((codes, count), _codes(column))
    return codes, count


def _codes(a: npt.NDArray[Any]) -> tuple[IntArray, int]:
    if a.dtype.kind in "iu":
        low, high = int(a.min()), int(a.max())
        if high - low < max(4 * len(a), 1024):  # counting beats sorting for dense codes
            shifted = a.astype(np.int64) - low
            present = np.bincount(shifted) > 0
            return (np.cumsum(present, dtype=np.int64) - 1)[shifted], int(present.sum())
    values, inverse = np.unique(a, return_inverse=True)
    return inverse.astype(np.int64), len(values)


def joint_codes(*coded: tuple[IntArray, int]) -> tuple[IntArray, int]:
    """Number the combinations of several coded variables that occur."""
    codes, count = coded[0]
    for other, size in coded[1:]:
        codes, count = _codes(codes * size + other)  # each count is at most n: no overflow
    return codes, count


def group_codes(groups: Any, n: int, *, name: str = "groups") -> tuple[IntArray | None, int | None]:
    """Return group codes 0..G-1 and G, or (None, None) where samples are independent."""
    if groups is None:
        return None, None
    out = to_numpy(groups, name)
    if out.ndim != 1 or len(out) != n:
        raise InputError(
            f"{name} has shape {out.shape} for {n} samples; pass one cluster id per sample, shape "
            f"({n},)"
        )
    if out.dtype.kind == "f":
        if not np.array_equal(out, np.floor(out)):  # NaN fails this too
            raise InputError(f"{name} holds fractions or NaN; pass integers or strings as ids")
        out = out.astype(np.int64)
    codes, count = _codes(out)
    if count < 2:
        raise InputError(
            f"{name} puts all {n} samples in one group, so nothing can be resampled; pass at least "
            "2 independent groups, or groups=None if the samples are independent"
        )
    return codes, count


def many(arrays: Any, name: str, *, min_samples: int = 2) -> list[FloatArray]:
    """Read one array, or a list or tuple of arrays (not of numbers), as matrices."""
    if isinstance(arrays, Sequence) and not isinstance(arrays, str) and len(arrays) > 0:
        first = arrays[0]
        if hasattr(first, "shape") and len(first.shape) >= 1:
            return [
                matrix(a, f"{name}[{i}]", min_samples=min_samples) for i, a in enumerate(arrays)
            ]
    return [matrix(arrays, name, min_samples=min_samples)]
