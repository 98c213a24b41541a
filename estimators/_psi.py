"""The digamma function of counts, looked up: most of them are small, and many are equal."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["psi"]

Float = npt.NDArray[np.float64]


@lru_cache(maxsize=8)
def _table(size: int) -> Float:
    from scipy.special import digamma

    table: Float = digamma(np.arange(size, dtype=np.float64))
    table.setflags(write=False)
    return table


def psi(counts: npt.NDArray[np.integer[Any]]) -> Float:
    """Return digamma(counts) for counts of 1 and more, the very floats that scipy gives.

    Examples
    --------
    >>> psi(np.array([1, 2, 2])).round(4).tolist()
    [-0.5772, 0.4228, 0.4228]
    """
    if counts.size == 0:
        return np.zeros(counts.shape)
    # Powers of two, so that the halves of a resampling share one table.
    return np.asarray(_table(1 << int(counts.max()).bit_length())[counts], dtype=np.float64)
