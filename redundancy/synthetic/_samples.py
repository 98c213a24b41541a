"""Paired states drawn from a law that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from redundancy.store import ActivationStore

__all__ = ["Array", "Samples"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Independent draws of two layers and a target.

    Parameters
    ----------
    x_lower, x_upper : ndarray of float64, shape (n, d)
        States of the lower and the upper layer.
    target : ndarray, shape (n,) or (n, k)
        Class labels (integers) or values of the target.
    symbols : tuple of ndarray of int, optional
        Where the law is discrete: codes of x_lower, x_upper and target.
    """

    x_lower: Array
    x_upper: Array
    target: NDArray[Any]
    symbols: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.x_lower)

    def to_store(self) -> ActivationStore:
        """Return the draws as a store of two layers, 0 and 1, ready for `redundancy.estimate`."""
        from redundancy.store import ActivationStore

        return ActivationStore.from_arrays({0: self.x_lower, 1: self.x_upper}, target=self.target)
