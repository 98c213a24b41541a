"""From half to single precision, several times faster than NumPy's own loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["as_float32"]

_CHUNK = 2**17  # values that stay in a core's cache through the few passes over them
# The fifteen bits of exponent and fraction, moved to where float32 has them, and the sign.
_BITS = np.uint32(0x8FFFE000).view(np.int32)
_REBASE = np.float32(2.0**112)  # between the two biases of the exponent, exact also below them


def as_float32(a: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return `a` in single precision; a copy unless it has it already.

    Examples
    --------
    >>> as_float32(np.array([1.5, -2.0**-24, np.inf], dtype=np.float16)).tolist()
    [1.5, -5.960464477539063e-08, inf]
    """
    if a.dtype != np.float16 or a.size < _CHUNK or a.ndim == 0:
        return np.asarray(a, dtype=np.float32)
    a = np.ascontiguousarray(a)
    out = np.empty(a.shape, dtype=np.float32)
    given, found = a.reshape(-1), out.reshape(-1)
    for start in range(0, a.size, _CHUNK):
        part = found[start : start + _CHUNK]
        bits = part.view(np.int32)
        bits[...] = given[start : start + _CHUNK].view(np.int16)
        np.left_shift(bits, 13, out=bits)
        np.bitwise_and(bits, _BITS, out=bits)
        part *= _REBASE
        if not (part.max() < 65536.0 and part.min() > -65536.0):
            # Infinity and NaN have the exponent that would follow the largest.
            part[...] = given[start : start + _CHUNK]
    return out
