"""A measure over the layers: one run by modality, or several runs together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from redundancy import registry
from redundancy.measures._spec import MeasureSpec
from redundancy.report.plots._style import (
    SERIES,
    VERDICT_MARKS,
    axes_or_new,
    colour_of,
    from_zero,
    key_above,
    mark_size,
    shade,
    threshold_line,
    upright,
    value_of,
    whole_ticks,
)
from redundancy.results import PairResult, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_measure", "plot_runs", "plot_var"]


def plot_measure(results: Results, *, ax: Axes | None = None) -> Axes:
    """Draw one measure over the layers: points by verdict, bands of intervals, the threshold.

    The geometric and the proximal one together are the paper's Figure 4.

    Parameters
    ----------
    results : Results
        Results of one measure, for one or several modalities.
    ax : matplotlib axes, optional
    """
    ax = axes_or_new(ax)
    for i, modality in enumerate(results.modalities):
        rows = _with_value(results.select(modality=modality))
        if not rows:
            continue
        colour = colour_of(modality, i)
        ax.plot([r.pair[1] for r in rows], [value_of(r) for r in rows], color=colour, lw=1.4,
                label=modality)  # fmt: skip
        shade(ax, rows, colour)
        for verdict, mark in {**VERDICT_MARKS, "": "."}.items():
            mine = [r for r in rows if (r.verdict or "") == verdict]
            if mine:
                x, y = [r.pair[1] for r in mine], [value_of(r) for r in mine]
                ax.plot(x, y, mark, color=colour, ms=mark_size(len(rows)))
    spec = _spec(results)
    threshold = next((r.threshold for r in results if r.threshold is not None), None)
    name = "1 − ε" if spec.redundant_when == "above" else "ε"
    threshold_line(ax, threshold, "" if threshold is None else f"{name}\n{threshold:g}")
    _label(ax, results)
    from_zero(ax)
    if len(results.modalities) > 1:
        key_above(ax)
    return ax


def plot_runs(
    runs: Mapping[str, Results], *, relative: bool = False, ax: Axes | None = None
) -> Axes:
    """Draw one measure and modality of several runs, a line with its band for each.

    Parameters
    ----------
    runs : mapping of str to Results
        By the name that the legend shows.
    relative : bool
        Whether to draw over the share of the depth, for models of different length.
    ax : matplotlib axes, optional
    """
    ax = axes_or_new(ax)
    drawn: list[PairResult] = []
    for i, (name, results) in enumerate(runs.items()):
        rows = _with_value(results)
        if not rows:
            continue
        drawn += rows
        depth = max(r.pair[1] for r in results) if relative else 1
        x = [r.pair[1] / depth for r in rows]
        colour = SERIES[i % len(SERIES)]
        dashes = ("-", "--", ":", "-.")[(i // len(SERIES)) % 4]
        ax.plot(x, [value_of(r) for r in rows], dashes, color=colour, lw=1.4, label=name)
        banded = [(at, r.estimate.ci) for at, r in zip(x, rows, strict=True) if r.estimate.ci]
        if banded:
            ax.fill_between(
                [at for at, _ in banded],
                [ci.low for _, ci in banded],
                [ci.high for _, ci in banded],
                color=colour,
                alpha=0.2,
                lw=0,
            )
    thresholds = {r.threshold for r in drawn if r.threshold is not None}
    if len(thresholds) == 1:
        threshold_line(ax, thresholds.pop())
    if drawn:
        _label(ax, Results(drawn))
        from_zero(ax)
    if relative:
        from matplotlib.ticker import AutoLocator

        ax.set_xlabel("upper layer of the pair, share of the depth")
        ax.set_xlim(0, 1.02)
        ax.xaxis.set_major_locator(AutoLocator())
    key_above(ax, columns=1)
    return ax


def plot_var(results: Results, *, ax: Axes | None = None) -> Axes:
    """Draw attention on the image over the layers, with the range of the heads, as Figure 3.

    The dashed line is the gate: the threshold, if the run had one, otherwise the share of vision
    tokens among the keys, which is what indifferent attention would give.

    Parameters
    ----------
    results : Results
        Of the measure ``var``.
    ax : matplotlib axes, optional
    """
    ax = axes_or_new(ax)
    for i, modality in enumerate(results.modalities):
        rows = _with_value(results.select(modality=modality))
        if not rows:
            continue
        colour = colour_of(modality, i)
        heads = [(r.pair[1], r.estimate.params.get("per_head")) for r in rows]
        known = [(x, values) for x, values in heads if values]
        if known:
            upright(ax, [x for x, _ in known], [min(v) for _, v in known],
                    [max(v) for _, v in known], color=colour, lw=4, alpha=0.3,
                    label="range of the heads")  # fmt: skip
        x, y = [r.pair[1] for r in rows], [value_of(r) for r in rows]
        size = mark_size(len(rows))
        ax.plot(x, y, "o-", ms=size, lw=1.4, color=colour, label="mean over heads")
        shade(ax, rows, colour)
    threshold = next((r.threshold for r in results if r.threshold is not None), None)
    if threshold is not None:
        threshold_line(ax, threshold, f"gate\n{threshold:g}")
    else:
        threshold_line(ax, _vision_share(results), "share of\nvision\ntokens")
    _label(ax, results)
    ax.set_ylim(bottom=0)
    key_above(ax)
    return ax


def _vision_share(results: Results) -> float | None:
    shares = [
        r.extras["enrichment"].params.get("vision_share")
        for r in results
        if "enrichment" in r.extras
    ]
    known = [float(s) for s in shares if s is not None]
    return sum(known) / len(known) if known else None


def _with_value(results: Results) -> list[PairResult]:
    return [r for r in results if r.estimate.value is not None]


def _spec(results: Results) -> MeasureSpec:
    spec: MeasureSpec = registry.load("measures", results.measures[0]).SPEC
    return spec


def _label(ax: Axes, results: Results) -> None:
    unit = next(r.estimate.unit for r in results)
    ax.set_xlabel("upper layer of the pair")
    ax.set_ylabel(f"{_spec(results).symbol} ({unit})")
    whole_ticks(ax, [r.pair[1] for r in results])
