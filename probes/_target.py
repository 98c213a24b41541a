"""What a probe predicts: class labels, a vector, or a distribution over classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from estimators._arrays import FloatArray, IntArray, matrix, to_numpy

__all__ = ["Target", "read_target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A target in the form that probes are fitted to.

    Parameters
    ----------
    kind : {"classes", "values"}
    z : ndarray of float64, shape (n, k)
        One-hot for classes.
    classes : ndarray, shape (k,), or None
        The labels, in the order of the columns of `z`.
    codes : ndarray of int64, shape (n,), or None
        Column of each sample's class.
    """

    kind: Literal["classes", "values"]
    z: FloatArray
    classes: NDArray[Any] | None = None
    codes: IntArray | None = None

    @property
    def k(self) -> int:
        """Number of columns."""
        return int(self.z.shape[1])

    @property
    def tr_cov(self) -> float:
        """Trace of the covariance of Z, which functional redundancy never exceeds."""
        return float(((self.z - self.z.mean(0)) ** 2).mean(0).sum())

    @property
    def distribution(self) -> bool:
        """True if every row is a probability distribution."""
        return bool(np.all(self.z >= 0) and np.allclose(self.z.sum(1), 1.0, atol=1e-4))


def read_target(target: Any, n: int | None = None, *, name: str = "target") -> Target:
    """Read integers, booleans or words as classes, real numbers as values.

    Raises
    ------
    InputError
        If the length is not `n`, a value is NaN, or nothing varies.
    """
    out = np.asarray(target) if isinstance(target, list | tuple) else target
    out = to_numpy(_words(out, name), name)
    if n is not None and (out.ndim == 0 or len(out) != n):
        have = "is a single value" if out.ndim == 0 else f"has {len(out)} rows"
        raise InputError(f"{name} {have} for {n} samples; give one value (or row) per sample")
    if out.dtype.kind == "f":
        z = matrix(out, name).astype(np.float64)
        if bool((z == z[0]).all()):
            raise InputError(
                f"{name} has the same value for all {len(z)} samples, so there is nothing to "
                "predict; check how it was made"
            )
        return Target(kind="values", z=z)
    if out.ndim == 2 and out.shape[1] == 1:
        out = out[:, 0]
    if out.ndim != 1 or out.dtype.kind not in "iubUS":
        raise InputError(
            f"{name} has shape {out.shape} and dtype {out.dtype}; give class labels (integers or "
            "words, one per sample) or real numbers, shape (n,) or (n, k)"
        )
    classes, codes = np.unique(out, return_inverse=True)
    if len(classes) < 2:
        raise InputError(
            f"{name} has one class, {classes[0].item()!r}, so there is nothing to predict; give "
            "samples of at least two"
        )
    z = np.zeros((len(codes), len(classes)))
    z[np.arange(len(codes)), codes] = 1.0
    return Target(kind="classes", z=z, classes=classes, codes=codes.astype(np.int64))


def _words(out: Any, name: str) -> Any:
    """Object arrays of words become arrays of words; what is missing is said, not spelt out."""
    if isinstance(out, np.ndarray) and out.dtype == object:
        missing = [i for i, value in enumerate(out.ravel()) if not isinstance(value, str)]
        if missing:
            raise InputError(
                f"{name} holds {len(missing)} entries that are not words, the first at row "
                f"{missing[0]}; give a word or an integer for each sample"
            )
        return out.astype(str)
    return out
