"""How much memory a pair of layers takes, and how many may be at work in what there is."""

from __future__ import annotations

import re
from collections.abc import Callable

from estimators import InputError

__all__ = ["parse_bytes", "workers_within", "working_set"]

_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
# A process that has loaded NumPy, SciPy, scikit-learn and numba; measured 0.33 GB.
_LIBRARIES = 400 * 10**6
_WHOLE = 6  # copies of both layers in double precision, for measures that hold them


def parse_bytes(text: str | int) -> int:
    """Turn ``"4GB"``, ``"512 MiB"`` or a number into bytes.

    Examples
    --------
    >>> parse_bytes("4GB"), parse_bytes("1.5 MiB"), parse_bytes(1000)
    (4000000000, 1572864, 1000)
    """
    match = re.fullmatch(
        r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([kmgt]?)(i?)b?\s*", str(text).lower()
    )
    if match is None or (match[3] and not match[2]):
        raise InputError(f"memory is {text!r}; write a size such as 4GB or 512MiB")
    unit = _BINARY[match[2]] if match[3] else _UNITS[match[2]]
    found = int(float(match[1]) * unit)
    if found < 1:
        raise InputError(f"memory is {text!r}; write a size such as 4GB or 512MiB")
    return found


def working_set(own: Callable[[int, int], int] | None, n: int, d: int) -> int:
    """Bytes that a worker takes for a pair of n tokens of width d; `own` is the measure's word."""
    return _LIBRARIES + (own(n, d) if own is not None else 2 * _WHOLE * 8 * n * d)


def workers_within(memory: int, need: int, wanted: int) -> int:
    """Number of processes, this one being there too; 0 if not even one fits."""
    if wanted == 1 or memory < 2 * _LIBRARIES:
        return int(need <= memory)
    beside = (memory - _LIBRARIES) // need
    if beside >= 2:
        return int(min(wanted, beside))
    return int(need <= memory)  # alone, it works in this process
