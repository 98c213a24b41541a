"""What every estimator returns: a value that says how far it can be trusted.

This module is the floor of the whole project and imports nothing of it except its exception.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

from estimators._errors import InputError

__all__ = ["Diagnostic", "Estimate", "Interval", "Kind", "Severity"]

Kind = Literal["exact", "certified", "bound_under_assumption", "estimate"]
Severity = Literal["info", "warning", "error"]

_NATS_PER_BIT = math.log(2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An interval with its level and the method that made it.

    Parameters
    ----------
    low, high : float
        End points, in the unit of the estimate they belong to; infinite where one-sided.
    level : float
        Nominal coverage in (0, 1), e.g. 0.95.
    method : str
        How it was computed and what it covers, e.g. ``"half-sampling of groups"``.

    Examples
    --------
    >>> Interval(low=0.25, high=0.75, level=0.95, method="cluster t").width
    0.5
    """

    low: float
    high: float
    level: float
    method: str

    def __post_init__(self) -> None:
        if not 0.0 < self.level < 1.0:
            raise InputError(
                f"level is {self.level!r}; a confidence level lies strictly between 0 and 1, "
                "e.g. 0.95"
            )
        # Written so that NaN fails too.
        if not self.low <= self.high:
            raise InputError(
                f"an interval needs low <= high, both numbers; got low={self.low!r}, "
                f"high={self.high!r}"
            )

    @property
    def width(self) -> float:
        """Length of the interval, in the unit of its estimate."""
        return self.high - self.low

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding about an estimate, in words a newcomer understands.

    Parameters
    ----------
    code : str
        Short stable identifier, e.g. ``"duplicates"``; tests and filters rely on it.
    severity : {"info", "warning", "error"}
        ``"error"`` means that the value must not be trusted; ``"warning"`` that it needs care.
    message : str
        What was found, what it does to the number, and what to do.
    """

    code: str
    severity: Severity
    message: str

    def __post_init__(self) -> None:
        if self.severity not in get_args(Severity):
            raise InputError(
                f"severity is {self.severity!r}; use one of {', '.join(get_args(Severity))}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number, and everything needed to decide whether to believe it.

    Parameters
    ----------
    value : float or None
        The estimate in `unit`; None where no estimate could be made (a diagnostic says why).
    unit : str
        ``"nats"``, ``"bits"``, ``"cosine distance"``, ``"probability"``, ...
    kind : {"exact", "certified", "bound_under_assumption", "estimate"}
        ``"exact"`` follows from the data alone; ``"certified"`` holds with stated probability for
        independent groups; ``"bound_under_assumption"`` holds if the assumptions listed in
        `params` do; everything else is an ``"estimate"``.
    n : int
        Samples used.
    method : str
        The procedure, e.g. ``"KSG 1, k = 3, Chebyshev"``.
    ci : Interval, optional
        Confidence interval, in `unit`.
    n_groups : int, optional
        Independent groups (images, prompts) behind the samples; None if samples are independent.
    params : mapping, optional
        Settings and by-products that a reader needs to repeat or judge the number.
    seed : int, optional
        Seed of whatever was random; None if nothing was.
    diagnostics : tuple of Diagnostic

    Examples
    --------
    >>> e = Estimate(value=0.5, unit="nats", kind="estimate", n=100, method="plug-in")
    >>> float(e), e.trustworthy
    (0.5, True)
    >>> round(e.to("bits").value, 4)
    0.7213
    """

    value: float | None
    unit: str
    kind: Kind
    n: int
    method: str
    ci: Interval | None = None
    n_groups: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    diagnostics: tuple[Diagnostic, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"kind is {self.kind!r}; use one of {', '.join(get_args(Kind))}")
        if self.value is not None:
            # A NaN cannot be written to JSON and read back; absence is said by None.
            if math.isnan(self.value):
                raise InputError("an Estimate has value=None, not NaN, where there is no estimate")
            object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))
        object.__setattr__(self, "diagnostics", tuple(self.diagnostics))

    @property
    def trustworthy(self) -> bool:
        """True if there is a value and no diagnostic of severity ``"error"``."""
        return self.value is not None and not any(d.severity == "error" for d in self.diagnostics)

    def to(self, unit: str) -> Estimate:
        """Return the same estimate in ``"nats"`` or ``"bits"``.

        Raises
        ------
        InputError
            If this estimate or `unit` is not one of the two.
        """
        if unit == self.unit:
            return self
        if {unit, self.unit} != {"nats", "bits"}:
            raise InputError(
                f"cannot convert {self.unit} to {unit!r}; only nats and bits convert to each other"
            )
        factor = _NATS_PER_BIT if unit == "nats" else 1.0 / _NATS_PER_BIT
        return replace(
            self,
            unit=unit,
            value=None if self.value is None else self.value * factor,
            ci=None
            if self.ci is None
            else replace(self.ci, low=self.ci.low * factor, high=self.ci.high * factor),
        )

    def with_diagnostics(self, *found: Diagnostic) -> Estimate:
        """Return a copy that carries `found` besides its own diagnostics."""
        return replace(self, diagnostics=(*self.diagnostics, *found))

    def __float__(self) -> float:
        if self.value is None:
            reasons = "; ".join(d.message for d in self.diagnostics) or "no reason was recorded"
            raise InputError(f"there is no estimate to convert to a float: {reasons}")
        return self.value

    def __reduce__(self) -> tuple[Any, ...]:
        # MappingProxyType cannot be copied between processes; rebuild from a plain dict.
        state = {name: getattr(self, name) for name in self.__dataclass_fields__}
        state["params"] = dict(self.params)
        return (_rebuild, (state,))


def _rebuild(state: dict[str, Any]) -> Estimate:
    return Estimate(**state)
