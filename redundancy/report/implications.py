"""Which arrows of the paper's Figure 1 hold for these results, and with what bound."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from redundancy import registry
from redundancy.measures._spec import MeasureSpec
from redundancy.report.numbers import count
from redundancy.results import PairResult, Results
from redundancy.theory.consequences import Consequence, consequences
from redundancy.theory.implications import implications

__all__ = ["STATES", "ArrowState", "State", "arrow_states", "implication_lines"]

State = Literal["holds", "conditional", "vacuous", "never", "not measured"]

STATES: Mapping[State, str] = {
    "holds": "bounds something here",
    "conditional": "needs an assumption that these data cannot show",
    "vacuous": "holds, and says nothing about these numbers",
    "never": "does not follow",
    "not measured": "not measured here",
}
"""What an arrow is worth for one run, in words."""

# Statements whose assumptions the measure itself meets: a cosine distance is at most 2.
_MET = ("proposition1",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrowState:
    """One arrow of Figure 1, for one run.

    Parameters
    ----------
    source, target : str
        Notions of redundancy, or ``"skip"``.
    state : str
        One of `STATES`.
    n_pairs : int
        Pairs it was held against.
    """

    source: str
    target: str
    state: State
    n_pairs: int


@dataclass(frozen=True, slots=True)
class _Found:
    label: str
    consequence: Consequence
    reading: float


def implication_lines(results: Results) -> list[str]:
    """Return one sentence per arrow, for the pair where it says most.

    Parameters
    ----------
    results : Results
        Of any measures; those without consequences are passed over.
    """
    return [_line(entries) for entries in _consequences(results).values()]


def arrow_states(results: Results) -> list[ArrowState]:
    """Return what each arrow of Figure 1 (corrected) is worth for these results.

    Examples
    --------
    >>> from estimators import Estimate
    >>> e = Estimate(value=0.002, unit="cosine distance", kind="estimate", n=9, method="m")
    >>> found = arrow_states(Results([PairResult(pair=(0, 1), measure="geometric", estimate=e)]))
    >>> [a.state for a in found if (a.source, a.target) == ("geometric", "proximal")]
    ['holds']
    >>> [a.state for a in found if (a.source, a.target) == ("functional", "geometric")]
    ['never']
    """
    found = _consequences(results)
    return [
        ArrowState(
            source=arrow.source,
            target=arrow.target,
            state="never"
            if arrow.verdict == "never"
            else _state(
                [f.consequence for f in entries],
                firm=arrow.verdict == "always" or arrow.statement in _MET,
            )
            if (entries := found.get((arrow.source, arrow.target)))
            else "not measured",
            n_pairs=len(found.get((arrow.source, arrow.target), ())),
        )
        for arrow in implications()
    ]


def _state(entries: list[Consequence], *, firm: bool) -> State:
    telling = [c for c in entries if not c.vacuous]
    if not telling:
        return "vacuous"
    # Without a number, or with one that leans on an assumption, the arrow is a promise.
    return "holds" if firm and any(c.value is not None for c in telling) else "conditional"


def _consequences(results: Results) -> dict[tuple[str, str], list[_Found]]:
    found: dict[tuple[str, str], list[_Found]] = {}
    for modality in results.modalities:
        by_pair: dict[tuple[int, int], dict[str, PairResult]] = {}
        for r in results.select(modality=modality):
            if r.estimate.trustworthy and r.estimate.unit != "bits":
                by_pair.setdefault(r.pair, {})[r.measure] = r
        for pair, rows in by_pair.items():
            label = f"{modality} {pair[0]}→{pair[1]}"
            readings = {measure: r.estimate for measure, r in rows.items()}
            near = rows["proximal"].estimate.params if "proximal" in rows else {}
            options = {"t": float(near["t"])} if "t" in near else {}
            for c in consequences(readings, **options):  # type: ignore[arg-type]
                reading = _badness(rows[c.source]) if c.source in rows else 0.0
                found.setdefault((c.source, c.target), []).append(_Found(label, c, reading))
    return found


def _badness(result: PairResult) -> float:
    """Return the reading so that smaller means more redundant, whichever way the measure runs."""
    value = float(result.estimate)
    return -value if _runs_up(result.measure) else value


@functools.cache
def _runs_up(measure: str) -> bool:
    spec: MeasureSpec = registry.load("measures", measure).SPEC
    return spec.redundant_when == "above"


def _line(entries: list[_Found]) -> str:
    telling = [entry for entry in entries if not entry.consequence.vacuous]

    def worth(entry: _Found) -> tuple[float, float]:
        value = entry.consequence.value
        return (float("inf") if value is None else value, entry.reading)

    best = min(telling or entries, key=worth)
    empty = len(entries) - len(telling)
    where = f" (vacuous for {empty} of {count(len(entries), 'pair')})" if empty else ""
    return f"{best.label}: {best.consequence.sentence}{where}"
