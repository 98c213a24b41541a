"""What `broja_pid` returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from estimators._errors import InputError
from estimators._types import Diagnostic, Interval

__all__ = ["ATOMS", "NATS_PER_BIT", "PID", "Atom"]

FloatArray = NDArray[np.float64]
Atom = Literal["redundant", "unique_x", "unique_y", "synergistic"]

ATOMS: tuple[Atom, ...] = ("redundant", "unique_x", "unique_y", "synergistic")
NATS_PER_BIT = math.log(2.0)
_METHOD = "delta method from the dual, widened by the certificate's gap"
# f* enters the four atoms with these signs.
_SIGN = {"redundant": -1.0, "unique_x": 1.0, "unique_y": 1.0, "synergistic": -1.0}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PID:
    """A partial information decomposition of I(Z; X, Y), and the proof of it.

    The target is always Z, axis 0; the sources are X, axis 1, and Y, axis 2.

    Parameters
    ----------
    redundant, unique_x, unique_y : float
        What X and Y both say of Z, what only X says, what only Y says; in `unit`.
    synergistic : float or None
        What only X and Y together say; None where the joint P(z, x, y) is not known.
    unit : {"nats", "bits"}
    bounds : tuple of float
        ``f_low <= f* <= f_high`` of the program's value f*, in `unit`: the one interval from which
        those of all four atoms follow.
    gap : float
        Width of the certificate, in `unit`.
    tolerance : float
        Largest gap that counts as certified, in `unit`.
    information_x, information_y, information_xy : float or None
        I(Z;X), I(Z;Y) and I(Z;X,Y), in `unit`.
    dual : tuple of ndarray
        ``lam[z, x]``, ``mu[z, y]`` in natural logs, -inf where the marginal is 0.
    coupling : ndarray, shape (n_z, n_x, n_y)
        The minimising joint distribution q.
    n : int or None
        Samples, where samples were given.
    se : mapping or None
        Standard error of each atom, where samples were given, in `unit`.
    synergy_bracket : tuple of float or None
        [shuffle-subtracted, plug-in] synergy, where samples were given: the range of bias, to which
        sampling noise comes.
    alternative : mapping or None
        The atoms with the bias treated the other way (extrapolated where the values are plug-in
        and the reverse), in `unit`, where samples were given and `bias` was ``"auto"``.
    params : mapping
        How it was computed.
    diagnostics : tuple of Diagnostic

    Examples
    --------
    >>> from estimators.broja import broja_pid
    >>> p = np.zeros((2, 2, 2))
    >>> for x in range(2):
    ...     for y in range(2):
    ...         p[x & y, x, y] = 1 / 4
    >>> print(broja_pid(p).to("bits"))
    PID of target Z (axis 0) by sources X (axis 1) and Y (axis 2), in bits
      redundant 0.311278  unique_x 0.000000  unique_y 0.000000  synergistic 0.500000
      certified: gap ... <= 1.0e-06
    """

    redundant: float
    unique_x: float
    unique_y: float
    synergistic: float | None
    unit: str
    bounds: tuple[float, float]
    gap: float
    tolerance: float
    information_x: float
    information_y: float
    information_xy: float | None
    dual: tuple[FloatArray, FloatArray]
    coupling: FloatArray
    n: int | None = None
    se: Mapping[str, float] | None = None
    synergy_bracket: tuple[float, float] | None = None
    alternative: Mapping[str, float] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))
        for name in ("se", "alternative"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @property
    def certified(self) -> bool:
        """True if the certificate's gap is within the tolerance."""
        return self.gap <= self.tolerance

    @property
    def status(self) -> str:
        """``"certified"`` or ``"uncertified"``."""
        return "certified" if self.certified else "uncertified"

    @property
    def trustworthy(self) -> bool:
        """True if certified and without a diagnostic of severity ``"error"``."""
        return self.certified and not any(d.severity == "error" for d in self.diagnostics)

    def interval(self, atom: str) -> tuple[float, float]:
        """Return the certified (low, high) of one atom: what the solver may be off by.

        It says nothing of sampling error; for that see `confidence`.

        Raises
        ------
        InputError
            If `atom` is not one of the four, or is the synergy of a PID without a joint.
        """
        value = self._atom(atom)
        low, high = self.bounds
        middle = 0.5 * (low + high)
        ends = sorted((value + _SIGN[atom] * (f - middle)) for f in (low, high))
        return ends[0], ends[1]

    def confidence(self, atom: str, level: float = 0.95) -> Interval:
        """Return a normal confidence interval of one atom, from its standard error.

        It covers sampling noise, the solver's gap and, where `bias` was ``"auto"``, the bias as
        extrapolation in 1/n shows it: around the plug-in alone an interval misses by as much as
        the bias. For synergy bias is the larger part, so there see `synergy_bracket` too.

        Raises
        ------
        InputError
            If the PID was not estimated from samples, or the level is no probability.
        """
        from scipy.special import ndtri

        low, high = self.interval(atom)
        if self.se is None:
            raise InputError(
                "this PID was computed from probabilities, which have no sampling error; "
                "confidence() needs broja_pid(samples=(z, x, y))"
            )
        if not 0.0 < level < 1.0:
            raise InputError(f"level is {level!r}; give a probability, e.g. 0.95")
        half = float(ndtri(0.5 + 0.5 * level)) * self.se[atom]
        if self.alternative is None:
            return Interval(low=low - half, high=high + half, level=level, method=_METHOD)
        other = self.alternative[atom]
        return Interval(
            low=min(low, other) - half,
            high=max(high, other) + half,
            level=level,
            method=f"{_METHOD}; from the plug-in to the value extrapolated in 1/n",
        )

    def _atom(self, atom: str) -> float:
        if atom not in ATOMS:
            raise InputError(f"there is no atom {atom!r}; the atoms are {', '.join(ATOMS)}")
        value: float | None = getattr(self, atom)
        if value is None and self.n is not None:
            raise InputError(
                "the synergy was withheld: there are too few samples for its value; see "
                "synergy_bracket"
            )
        if value is None:
            raise InputError(
                "synergy depends on the joint P(z, x, y), which p_zx and p_zy do not determine; "
                "call broja_pid(p) with p[z, x, y]"
            )
        return value

    def to(self, unit: str) -> PID:
        """Return the same decomposition in ``"nats"`` or ``"bits"``."""
        if unit not in ("nats", "bits"):
            raise InputError(f"unit is {unit!r}; use 'nats' or 'bits'")
        if unit == self.unit:
            return self
        c = NATS_PER_BIT if unit == "nats" else 1.0 / NATS_PER_BIT
        return replace(
            self,
            unit=unit,
            redundant=c * self.redundant,
            unique_x=c * self.unique_x,
            unique_y=c * self.unique_y,
            synergistic=None if self.synergistic is None else c * self.synergistic,
            bounds=(c * self.bounds[0], c * self.bounds[1]),
            gap=c * self.gap,
            tolerance=c * self.tolerance,
            information_x=c * self.information_x,
            information_y=c * self.information_y,
            information_xy=None if self.information_xy is None else c * self.information_xy,
            se=_scaled(self.se, c),
            alternative=_scaled(self.alternative, c),
            synergy_bracket=None
            if self.synergy_bracket is None
            else (c * self.synergy_bracket[0], c * self.synergy_bracket[1]),
        )

    def __str__(self) -> str:
        atoms = "  ".join(f"{atom} {_shown(getattr(self, atom))}" for atom in ATOMS)
        sign = "<=" if self.certified else ">"
        return (
            f"PID of target Z (axis 0) by sources X (axis 1) and Y (axis 2), in {self.unit}\n"
            f"  {atoms}\n"
            f"  {self.status}: gap {self.gap:.1e} {sign} {self.tolerance:.1e}"
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from estimators._html import shares, table

        rows, known = [], []
        for atom in ATOMS:
            value = getattr(self, atom)
            if value is None:
                rows.append([atom, "unknown", "", ""])
                continue
            known.append((atom, float(value)))
            low, high = self.interval(atom)
            ci = None if self.se is None else self.confidence(atom)
            sampled = "" if ci is None else _range(ci.low, ci.high)
            rows.append([atom, f"{value + 0.0:.4g}", _range(low, high), sampled])
        head = ["", self.unit, "solver", "" if self.se is None else "95% CI"]
        sign = "≤" if self.certified else ">"
        note = f"{self.status}: gap {self.gap:.1e} {sign} {self.tolerance:.1e}"
        note = "; ".join([note, *(d.message for d in self.diagnostics if d.severity != "info")])
        title = "PID of target Z by sources X and Y"
        return table(title, head, rows, note) + shares(known)

    def __reduce__(self) -> tuple[Any, ...]:
        # MappingProxyType cannot travel between processes.
        state = {name: getattr(self, name) for name in self.__dataclass_fields__}
        state["params"] = dict(self.params)
        for name in ("se", "alternative"):
            state[name] = _scaled(state[name], 1.0)
        return (_rebuild, (state,))


def _range(low: float, high: float) -> str:
    return f"{low:.4g} – {high:.4g}"


def _shown(value: float | None) -> str:
    # + 0.0 turns a rounded -0.0 into 0.0.
    return "unknown" if value is None else f"{round(value, 6) + 0.0:.6f}"


def _scaled(values: Mapping[str, float] | None, c: float) -> dict[str, float] | None:
    return None if values is None else {atom: c * value for atom, value in values.items()}


def _rebuild(state: dict[str, Any]) -> PID:
    return PID(**state)
