"""Which arrows of the paper's Figure 1 hold for these results, and with what bound."""

from __future__ import annotations

from redundancy.report.numbers import count
from redundancy.results import Results
from redundancy.theory.consequences import Consequence, consequences

__all__ = ["implication_lines"]


def implication_lines(results: Results) -> list[str]:
    """Return one sentence per arrow, for the pair where it says most.

    Parameters
    ----------
    results : Results
        Of any measures; those without consequences are passed over.
    """
    found: dict[tuple[str, str], list[tuple[str, Consequence]]] = {}
    for modality in results.modalities:
        rows = results.select(modality=modality)
        by_pair: dict[tuple[int, int], dict[str, object]] = {}
        options: dict[tuple[int, int], dict[str, float]] = {}
        for r in rows:
            if not r.estimate.trustworthy or r.estimate.unit == "bits":
                continue
            by_pair.setdefault(r.pair, {})[r.measure] = r.estimate
            if r.measure == "proximal" and "t" in r.estimate.params:
                options[r.pair] = {"t": float(r.estimate.params["t"])}
        for pair, readings in by_pair.items():
            label = f"{modality} {pair[0]}→{pair[1]}"
            for c in consequences(readings, **options.get(pair, {})):  # type: ignore[arg-type]
                found.setdefault((c.source, c.target), []).append((label, c))
    return [_line(entries) for entries in found.values()]


def _line(entries: list[tuple[str, Consequence]]) -> str:
    telling = [entry for entry in entries if not entry[1].vacuous]
    label, best = min(
        telling or entries,
        key=lambda entry: float("inf") if entry[1].value is None else entry[1].value,
    )
    empty = len(entries) - len(telling)
    where = f" (vacuous for {empty} of {count(len(entries), 'pair')})" if empty else ""
    return f"{label}: {best.sentence}{where}"
