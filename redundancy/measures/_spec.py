"""What a measure is: a module of this package with a `measure` function and a `SPEC`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol

from estimators import Estimate
from redundancy.pairs import LayerPair

__all__ = ["Column", "MeasureFunction", "MeasureSpec", "Need", "Reading"]

Need = Literal["states", "summary", "attention", "target"]


@dataclass(frozen=True, slots=True)
class Column:
    """A further quantity that the table shows beside the headline.

    `key` names it in `Reading.extras`, `header` heads its column; with `as_interval` the column
    shows the extra's interval in place of its value.
    """

    key: str
    header: str
    as_interval: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSpec:
    """What the table, the engine and the planner need to know of a measure.

    Parameters
    ----------
    title : str
        What it is, in one line.
    symbol : str
        Heading of the value's column, e.g. ``"H(b|a)"``; a is the lower layer, b the upper.
    unit : str
        Unit of the headline estimate.
    needs : frozenset of {"states", "summary", "attention", "target"}
        What the pair must carry. ``{"summary"}`` also accepts states: sums are then made from them.
    redundant_when : {"below", "above"}
        On which side of the threshold the layers are redundant.
    default_threshold : float or None
        Used where the user names none; None means that no verdict is given without a threshold.
    streams : bool
        Whether it goes through states block by block, so that a layer need not fit into memory.
    working_set : callable, optional
        ``working_set(n, d)``: bytes it takes for a pair of n tokens of width d.
    columns : tuple of Column
        Extras worth a column.
    paper : str
        Where the quantity is defined, e.g. ``"Definition 1, eq. (1)"``.
    """

    title: str
    symbol: str
    unit: str
    needs: frozenset[Need]
    redundant_when: Literal["below", "above"]
    default_threshold: float | None
    paper: str
    streams: bool = False
    working_set: Callable[[int, int], int] | None = None
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one measure says of one pair.

    Parameters
    ----------
    estimate : Estimate
        The headline, which the threshold is compared with.
    extras : mapping of str to Estimate
        By-products, each an estimate in its own right.
    p_redundant, p_needed : float or None
        p-values of the null hypotheses "on the wrong side of the threshold" and "on the right
        side of it", by a test that is valid for this measure; None without a threshold.
    """

    estimate: Estimate
    extras: Mapping[str, Estimate] = field(default_factory=dict)
    p_redundant: float | None = None
    p_needed: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "extras", MappingProxyType(dict(self.extras)))

    def __reduce__(self) -> tuple[object, ...]:
        # MappingProxyType cannot travel between processes.
        arguments = (self.estimate, dict(self.extras), self.p_redundant, self.p_needed)
        return (_rebuild, arguments)


def _rebuild(
    estimate: Estimate,
    extras: dict[str, Estimate],
    p_redundant: float | None,
    p_needed: float | None,
) -> Reading:
    return Reading(estimate=estimate, extras=extras, p_redundant=p_redundant, p_needed=p_needed)


class MeasureFunction(Protocol):
    """The signature every measure module's `measure` has; further options are keyword-only."""

    def __call__(
        self,
        pair: LayerPair,
        *,
        threshold: float | None = None,
        ci: float | None = 0.95,
        seed: int = 0,
    ) -> Reading: ...
