"""The sections of a report, one per measure: its pictures, what they show in words, its tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from redundancy import registry
from redundancy.measures._spec import MeasureSpec
from redundancy.record import RunRecord
from redundancy.report import plots
from redundancy.report.numbers import MISSING, decimals_for, heading, interval, number
from redundancy.report.page import svg
from redundancy.report.tables import extra_text, marks_of, verdict_legend
from redundancy.results import PairResult, Results

__all__ = ["in_words", "measure_section", "picture"]

_MULTIPLES = 6


def picture(
    draw: Callable[..., Any],
    label: str,
    caption: str = "",
    *,
    title: str = "",
    width: float = 4.5,
    height: float = 3.0,
) -> dict[str, Any]:
    """Return what the `picture` macro of ``blocks.html`` takes."""
    return {
        "svg": svg(draw, width, height, label),
        "label": label,
        "caption": caption,
        "title": title,
    }


def measure_section(results: Results, record: RunRecord, marks: dict[str, str]) -> dict[str, Any]:
    """Return the section of one measure.

    Parameters
    ----------
    results : Results
        Of one measure.
    record : RunRecord
        The run they are of, for what it holds besides.
    marks : dict
        Marks of the warnings, see `redundancy.report.tables.warning_marks`.
    """
    measure = results.measures[0]
    spec: MeasureSpec = registry.load("measures", measure).SPEC
    drawable = any(r.estimate.value is not None for r in results)
    draw = _PICTURES.get(measure, _plain)
    pictures = draw(results, record) if drawable else []
    return {
        "id": f"measure-{measure}",
        "name": heading(measure),
        "title": spec.title[:1].upper() + spec.title[1:],
        "paper": spec.paper,
        "pictures": pictures,
        "wide": len(pictures) != 1,
        "multiples": _multiples(results) if measure == "informational" else [],
        "tables": [
            {"modality": modality, **_table(rows, spec, marks)}
            for modality in results.modalities
            if len(rows := results.select(modality=modality))
        ],
    }


def in_words(results: Results) -> str:
    """Say what a picture of one measure shows: ends of the range and verdicts by modality.

    Examples
    --------
    >>> from estimators import Estimate
    >>> def result(i, value):
    ...     e = Estimate(value=value, unit="nats", kind="estimate", n=9, method="m")
    ...     return PairResult(pair=(i, i + 1), measure="pid", estimate=e, verdict="needed")
    >>> in_words(Results([result(0, 0.25), result(1, 0.5)]))
    'text: lowest 0.250 (0→1), highest 0.500 (1→2), 2 needed'
    """
    parts = []
    for modality in results.modalities:
        rows = results.select(modality=modality)
        known = [r for r in rows if r.estimate.value is not None]
        if not known:
            parts.append(f"{modality}: no estimate")
            continue
        places = decimals_for(r.estimate.value for r in known)
        low = min(known, key=lambda r: float(r.estimate))
        high = max(known, key=lambda r: float(r.estimate))
        counts: dict[str, int] = {}
        for r in rows:
            if r.verdict:
                counts[r.verdict] = counts.get(r.verdict, 0) + 1
        parts.append(
            f"{modality}: lowest {number(low.estimate.value, places)} ({low.label}), highest "
            f"{number(high.estimate.value, places)} ({high.label})"
            + "".join(f", {n} {verdict}" for verdict, n in counts.items())
        )
    return "; ".join(parts)


def _plain(results: Results, record: RunRecord) -> list[dict[str, Any]]:
    label = f"{heading(results.measures[0])} by layer. {in_words(results)}."
    words = "Points are estimates, bands their intervals"
    if any(r.verdict for r in results):
        words += "; circle redundant, square undecided, triangle needed"
    return [picture(partial(plots.plot_measure, results), label, f"{words}.")]


def _informational(results: Results, record: RunRecord) -> list[dict[str, Any]]:
    found = _plain(results, record)
    for key, symbol, words in (
        ("ratio", "H(b|a) / H(b)", "Share of the upper layer's entropy that the lower one leaves."),
        ("mi", "I(a; b)", "Mutual information of the unquantised states, by the route chosen "
         "for them; the small pictures show whether it has arrived."),
    ):  # fmt: skip
        if any(key in r.extras and r.extras[key].value is not None for r in results):
            draw = partial(plots.plot_extra, results, key, symbol)
            found.append(picture(draw, f"{symbol} by layer; the tables hold the numbers.", words))
    return found


def _multiples(results: Results) -> list[list[dict[str, Any]]]:
    """Small pictures, two for each of some pairs: information over tokens and over neighbours."""
    by_pair: dict[tuple[int, int], dict[str, PairResult]] = {}
    for r in results:
        if "mi" in r.extras and r.extras["mi"].params.get("n_scaling"):
            by_pair.setdefault(r.pair, {})[r.modality] = r
    pairs = _spaced(sorted(by_pair), _MULTIPLES)
    out = []
    for pair in pairs:
        rows = by_pair[pair]
        label = f"{pair[0]}→{pair[1]}"
        ends = "; ".join(
            f"{modality} from {points[0][1]:.2f} with {points[0][0]} tokens to {points[-1][1]:.2f} "
            f"with {points[-1][0]}"
            for modality, r in rows.items()
            if (points := r.extras["mi"].params["n_scaling"])
        )
        small = partial(picture, width=2.3, height=1.7)
        out.append(
            [
                small(
                    partial(plots.plot_scaling, rows),
                    f"Information of layers {label} over the number of tokens, in nats: {ends}.",
                    title=f"{label}, tokens",
                ),
                small(
                    partial(plots.plot_k_sweep, rows),
                    f"Information of layers {label} over the number of neighbours.",
                    title=f"{label}, k",
                ),
            ]
        )
    return out


def _spaced(items: Sequence[Any], most: int) -> list[Any]:
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _pid(results: Results, record: RunRecord) -> list[dict[str, Any]]:
    out = []
    for modality in results.modalities:
        rows = results.select(modality=modality)
        if any(r.estimate.value is not None for r in rows):
            out.append(
                picture(
                    partial(plots.plot_pid, rows),
                    f"Information about the target in its four parts, {modality} tokens, by layer; "
                    f"of the upper layer alone, {in_words(rows)}.",
                    "Bars are the parts of I(Z; a, b), lines their intervals, each from where its "
                    "part of the bar begins. A part that was withheld is missing from the bar.",
                    title=modality if len(results.modalities) > 1 else "",
                )
            )
    return [*out, *_plain(results, record)]


def _functional(results: Results, record: RunRecord) -> list[dict[str, Any]]:
    out = []
    for modality in results.modalities:
        rows = results.select(modality=modality)
        if any(r.estimate.value is not None for r in rows):
            out.append(
                picture(
                    partial(plots.plot_functional, rows),
                    f"Functional redundancy by layer with its bounds. {in_words(rows)}.",
                    "F with its band; the plug-in shows what the probes' own noise would add; the "
                    "grey range is what Theorem 2 allows.",
                    title=modality if len(results.modalities) > 1 else "",
                )
            )
    fit = picture(
        partial(plots.plot_probe_fit, results),
        "Share of the target that the probes of each layer explain.",
        "The control: where the probes explain nothing, F is 0 for want of anything to lose.",
    )
    return [*out, fit]


def _var(results: Results, record: RunRecord) -> list[dict[str, Any]]:
    label = f"Attention on the image by layer with the range of the heads. {in_words(results)}."
    words = "Bars are the range of the heads, the line their mean with its band (Figure 3). "
    words += (
        "The dashed line is the threshold of the run."
        if any(r.threshold is not None for r in results)
        else "The dashed line is what attention would give the image if it were indifferent."
    )
    return [picture(partial(plots.plot_var, results), label, words)]


def _cka(results: Results, record: RunRecord) -> list[dict[str, Any]]:
    maps = [
        picture(
            partial(plots.plot_cka, matrix),
            f"CKA between all layers, {modality} tokens.",
            title=f"All layers, {modality}",
            height=3.6,
        )
        for modality, matrix in record.cka.items()
        if any(v is not None for row in matrix.matrix for v in row)
    ]
    return [*_plain(results, record), *maps]


_PICTURES: dict[str, Callable[[Results, RunRecord], list[dict[str, Any]]]] = {
    "cka": _cka,
    "functional": _functional,
    "informational": _informational,
    "pid": _pid,
    "var": _var,
}
"""Measures that show more than one curve; any other measure needs no entry."""


_COLOURS = {"redundant": "v-redundant", "needed": "v-needed", "no estimate": "v-no"}
# Fewer rows than these keep their columns.
_MANY = 8


def _sizes(rows: Results) -> str:
    """Say once how many tokens and groups stand behind every row, where that is one number."""
    found = {(r.estimate.n, r.estimate.n_groups) for r in rows}
    if len(found) > 1 or len(rows) < _MANY:
        return ""
    [(n, groups)] = found
    return f"n = {n:,} in every row" + ("" if groups is None else f", of {groups:,} groups")


def _table(rows: Results, spec: MeasureSpec, marks: dict[str, str]) -> dict[str, Any]:
    columns = [c for c in spec.columns if any(c.key in r.extras for r in rows)]
    decimals = decimals_for(r.estimate.value for r in rows)
    places = {
        c.key: decimals_for(r.extras[c.key].value for r in rows if c.key in r.extras)
        for c in columns
    }
    level = next((r.estimate.ci.level for r in rows if r.estimate.ci is not None), None)
    body = []
    for r in rows:
        ci = r.estimate.ci
        body.append(
            {
                "label": r.label,
                "value": number(r.estimate.value, decimals),
                "ci": MISSING if ci is None else interval(ci.low, ci.high, decimals),
                "extras": [extra_text(r, c, places[c.key]) for c in columns],
                "n": f"{r.estimate.n:,}",
                "groups": "" if r.estimate.n_groups is None else f"{r.estimate.n_groups:,}",
                "verdict": r.verdict or "",
                "colour": _COLOURS.get(r.verdict or "", ""),
                "marks": " ".join(marks_of(r, marks)),
            }
        )
    first = rows[0].estimate
    return {
        "sizes": _sizes(rows),
        "symbol": spec.symbol,
        "columns": [c.header for c in columns],
        "level": "interval" if level is None else f"{100 * level:g}% CI",
        "rows": body,
        "legend": verdict_legend(rows, spec),
        "method": first.method,
        "ci_method": None if first.ci is None else first.ci.method,
        "kind": first.kind.replace("_", " "),
    }
