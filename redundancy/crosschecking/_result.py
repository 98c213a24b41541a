"""What a cross-check found: one `Check` per number, and all of them together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, overload

from redundancy._frames import Library, make_frame

__all__ = ["Check", "CrossCheck", "Outcome", "compare", "skipped"]

Outcome = Literal["agrees", "differs by design", "disagrees", "not compared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One number of ours beside the same number by another hand.

    Parameters
    ----------
    pair : tuple of int
        Lower and upper layer.
    modality : str
    quantity : str
        What was computed, e.g. ``"I(a;b), KSG 1"``; a is the lower layer, b the upper.
    peer : str
        Who computed it besides: ``"scikit-learn"``, ``"npeet_plus"``, ``"dit"``, or ``"record"``
        (the number that a run wrote down).
    by : str
        The peer's function.
    unit : str
    ours, theirs : float or None
    expected : float
        By how much ours has to exceed theirs, where the two differ by design; 0 otherwise.
    tolerance : float
        Largest ``|ours - theirs - expected|`` that counts as agreement.
    outcome : {"agrees", "differs by design", "disagrees", "not compared"}
        "differs by design" also means that the difference is as large as it should be.
    why : str
        The reason of a difference by design, or of a comparison that was not made.
    """

    pair: tuple[int, int]
    modality: str
    quantity: str
    peer: str
    by: str
    unit: str = ""
    ours: float | None = None
    theirs: float | None = None
    expected: float = 0.0
    tolerance: float = 0.0
    outcome: Outcome
    why: str = ""

    @property
    def label(self) -> str:
        """The pair as tables print it, e.g. ``0→1``."""
        return f"{self.pair[0]}→{self.pair[1]}"

    @property
    def difference(self) -> float | None:
        """Ours minus theirs."""
        if self.ours is None or self.theirs is None:
            return None
        return self.ours - self.theirs

    def to_json(self) -> dict[str, Any]:
        """Return the check as plain data."""
        return {**asdict(self), "pair": list(self.pair), "difference": self.difference}


def compare(
    where: tuple[tuple[int, int], str],
    quantity: str,
    peer: str,
    by: str,
    *,
    ours: float | None,
    theirs: float | None,
    unit: str = "nats",
    tolerance: float,
    expected: float = 0.0,
    why: str = "",
) -> Check:
    """Judge two numbers; with a reason, their difference has to be `expected`."""
    outcome: Outcome = "disagrees"
    if ours is None or theirs is None:
        # Two silences agree; one alone does not.
        outcome = "agrees" if ours is theirs else "disagrees"
    elif math.isfinite(ours) and math.isfinite(theirs):
        off = abs(ours - theirs - expected)
        if off <= tolerance * max(1.0, abs(theirs)):
            outcome = "differs by design" if why and ours != theirs else "agrees"
    elif ours == theirs:
        outcome = "agrees"
    return Check(
        pair=where[0],
        modality=where[1],
        quantity=quantity,
        peer=peer,
        by=by,
        unit=unit,
        ours=ours,
        theirs=theirs,
        expected=expected,
        tolerance=tolerance,
        outcome=outcome,
        why=why if outcome != "agrees" else "",
    )


def skipped(
    where: tuple[tuple[int, int], str], quantity: str, peer: str, by: str, why: str
) -> Check:
    """Say that a comparison was not made, and why."""
    return Check(
        pair=where[0],
        modality=where[1],
        quantity=quantity,
        peer=peer,
        by=by,
        outcome="not compared",
        why=why,
    )


class CrossCheck(Sequence[Check]):
    """All checks of one call, and which peers were there.

    Parameters
    ----------
    checks : sequence of Check
    peers : mapping of str to str or None
        Version of each peer asked for; None where it is not installed.
    seed : int

    Examples
    --------
    >>> check = compare(((0, 1), "text"), "H(b)", "dit", "dit.entropy", ours=1.0, theirs=1.5,
    ...                 tolerance=1e-9)
    >>> found = CrossCheck([check], {"dit": "1.5"}, seed=0)
    >>> found.agrees, found.disagreements[0].difference
    (False, -0.5)
    """

    def __init__(
        self, checks: Sequence[Check], peers: Mapping[str, str | None], *, seed: int
    ) -> None:
        self._checks = tuple(checks)
        self.peers = dict(peers)
        self.seed = seed

    @overload
    def __getitem__(self, index: int) -> Check: ...
    @overload
    def __getitem__(self, index: slice) -> CrossCheck: ...
    def __getitem__(self, index: int | slice) -> Check | CrossCheck:
        if isinstance(index, slice):
            return CrossCheck(self._checks[index], self.peers, seed=self.seed)
        return self._checks[index]

    def __len__(self) -> int:
        return len(self._checks)

    def __iter__(self) -> Iterator[Check]:
        return iter(self._checks)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {word}" for word, n in self.counts.items())
        return f"CrossCheck({len(self)} checks: {counts or 'none'})"

    @property
    def counts(self) -> dict[str, int]:
        """How many checks ended how."""
        words = ("agrees", "differs by design", "disagrees", "not compared")
        found = {word: sum(c.outcome == word for c in self._checks) for word in words}
        return {word: n for word, n in found.items() if n}

    @property
    def disagreements(self) -> tuple[Check, ...]:
        """The checks whose difference nothing explains."""
        return tuple(c for c in self._checks if c.outcome == "disagrees")

    @property
    def agrees(self) -> bool:
        """True if no check disagrees."""
        return not self.disagreements

    @property
    def missing(self) -> tuple[str, ...]:
        """Peers that are not installed."""
        return tuple(name for name, version in self.peers.items() if version is None)

    def to_frame(self, library: Library = "pandas") -> Any:
        """Return one row per check as a data frame of pandas, polars or pyarrow."""
        rows = []
        for c in self._checks:
            row = c.to_json()
            lower, upper = row.pop("pair")
            rows.append({"lower": lower, "upper": upper, **row})
        return make_frame(rows, library)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "seed": self.seed,
            "peers": self.peers,
            "agrees": self.agrees,
            "counts": self.counts,
            "checks": [c.to_json() for c in self._checks],
        }
