"""What every statement returns, and how it reads its arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, SupportsFloat, get_args

from estimators import Estimate, InputError
from estimators._types import Kind

__all__ = ["Given", "InputKind", "Number", "TheoryResult"]

InputKind = Literal["exact", "certified", "estimate"]
"""How well a caller knows the numbers that go into a statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TheoryResult:
    """What a statement says about given numbers, and what it takes for granted.

    Parameters
    ----------
    value : float
        The sharpest form that the given numbers allow, in `unit`; infinite where they allow none.
    kind : {"exact", "certified", "bound_under_assumption", "estimate"}
        ``"exact"``: follows from the inputs alone. ``"bound_under_assumption"``: follows if every
        one of `assumptions` holds. ``"certified"``: holds with the stated probability.
        ``"estimate"``: an input was an estimate, so this is one too and no bound.
    unit : str
        Unit of `value`, e.g. ``"nats"`` or ``"squared units of Z"``.
    statement : str
        The relation that `value` stands for, in symbols.
    assumptions : tuple of str
        What must hold besides the arithmetic.
    vacuous : bool
        True if the value says nothing that was not known without the statement.
    forms : mapping of str to float
        The value in other forms: ``"paper"`` as printed there, ``"corrected"`` where the printed
        one is loose or wrong, ``"sharpest"`` (which `value` repeats), and intermediate quantities.
    notes : tuple of str
        Remarks for the reader.

    Examples
    --------
    >>> from redundancy.theory import proposition1
    >>> result = proposition1(p_gt=0.3, t=0.0)
    >>> result.value, result.kind, result.forms["paper"]
    (0.6, 'bound_under_assumption', 0.3)
    """

    value: float
    kind: Kind
    unit: str
    statement: str
    assumptions: tuple[str, ...] = ()
    vacuous: bool = False
    forms: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"kind is {self.kind!r}; use one of {', '.join(get_args(Kind))}")
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "vacuous", bool(self.vacuous))
        object.__setattr__(self, "assumptions", tuple(self.assumptions))
        object.__setattr__(self, "notes", tuple(self.notes))
        object.__setattr__(
            self, "forms", MappingProxyType({k: float(v) for k, v in self.forms.items()})
        )

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        lines = [
            f"{self.statement}: {self.value:.6g} {self.unit} ({self.kind})"
            + (", vacuous" if self.vacuous else "")
        ]
        lines += [f"  assumes {a}" for a in self.assumptions]
        lines += [f"  {name} = {value:.6g}" for name, value in self.forms.items()]
        lines += [f"  note: {n}" for n in self.notes]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        # MappingProxyType cannot be copied between processes; rebuild from a plain dict.
        state = {name: getattr(self, name) for name in self.__dataclass_fields__}
        state["forms"] = dict(self.forms)
        return (_rebuild, (state,))


def _rebuild(state: dict[str, Any]) -> TheoryResult:
    return TheoryResult(**state)


# Sums of probabilities and means of distances may leave their range by this much.
_ROUNDING = 1e-12

Number = SupportsFloat
"""A float, or an `Estimate` or `TheoryResult`, whose kind then limits the kind of the result."""


class Given:
    """Reads the numbers a statement is given and remembers how well the worst is known."""

    def __init__(self, inputs: InputKind = "exact") -> None:
        if inputs not in get_args(InputKind):
            raise InputError(f"inputs is {inputs!r}; use one of {', '.join(get_args(InputKind))}")
        self._kinds: set[str] = {inputs}

    def number(self, value: Number, name: str) -> float:
        """Read any number but NaN."""
        if isinstance(value, Estimate | TheoryResult):
            self._kinds.add(value.kind)
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} is {value!r}; give a number") from error
        if math.isnan(number):
            raise InputError(f"{name} is NaN; give a number")
        return number

    def nonnegative(self, value: Number, name: str) -> float:
        """Read a number of at least 0; infinity is one.

        What is 0 up to rounding is 0, and so is an estimate that fell below it.
        """
        number = self.number(value, name)
        if number < 0.0 and (number >= -1e-9 or isinstance(value, Estimate)):
            return 0.0
        if number < 0.0:
            raise InputError(f"{name} is {number!r}; it cannot be negative")
        return number

    def positive(self, value: Number, name: str) -> float:
        """Read a finite number above 0."""
        number = self.number(value, name)
        if not 0.0 < number < math.inf:
            raise InputError(f"{name} is {number!r}; give a finite number above 0")
        return number

    def probability(self, value: Number, name: str) -> float:
        """Read a number in [0, 1]."""
        number = self.number(value, name)
        if not -_ROUNDING <= number <= 1.0 + _ROUNDING:
            raise InputError(f"{name} is {number!r}; a probability lies in [0, 1]")
        return min(max(number, 0.0), 1.0)

    def cosine_distance(self, value: Number, name: str) -> float:
        """Read a (mean) cosine distance, in [0, 2]."""
        number = self.number(value, name)
        if not -_ROUNDING <= number <= 2.0 + _ROUNDING:
            raise InputError(f"{name} is {number!r}; a cosine distance lies in [0, 2]")
        return min(max(number, 0.0), 2.0)

    def kind(self, assumptions: tuple[str, ...]) -> Kind:
        """Kind of a result that rests on the numbers read so far and on `assumptions`."""
        if "estimate" in self._kinds:
            return "estimate"
        if assumptions or "bound_under_assumption" in self._kinds:
            return "bound_under_assumption"
        return "certified" if "certified" in self._kinds else "exact"
