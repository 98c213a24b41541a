"""What a caller measured, in whatever form it comes: a number, an interval or an estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from estimators import Estimate, InputError
from estimators._types import Kind
from redundancy.theory._result import TheoryResult

__all__ = ["Known", "read"]


@dataclass(frozen=True, slots=True)
class Known:
    """A value, its interval, and whether it was measured (an estimate) or is known."""

    value: float
    low: float
    high: float
    kind: Kind
    interval: bool


def read(value: Any, name: str) -> Known | None:
    kind: Kind = "exact"
    interval = True
    if isinstance(value, Estimate):
        if value.value is None:
            return None
        kind = value.kind
        low, high = (value.value,) * 2 if value.ci is None else (value.ci.low, value.ci.high)
        interval = value.ci is not None
        point = value.value
    elif isinstance(value, TheoryResult):
        point = low = high = value.value
        kind, interval = value.kind, False
    elif hasattr(value, "low") and hasattr(value, "high"):
        low, high = float(value.low), float(value.high)
        point, kind = 0.5 * (low + high), "estimate"
    elif isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        low, high = float(value[0]), float(value[1])
        point, kind = 0.5 * (low + high), "estimate"
    else:
        try:
            point = low = high = float(value)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the reading of {name} is {value!r}; give a number, (low, high), an Interval or "
                "an Estimate"
            ) from error
        interval = False
    if math.isnan(point) or math.isnan(low) or math.isnan(high) or low > high:
        raise InputError(f"the reading of {name} is {value!r}; give numbers with low <= high")
    return Known(point, low, high, kind, interval)
