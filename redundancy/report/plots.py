"""The pictures, each a matplotlib function that takes `ax=`; nothing here knows HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from redundancy import registry
from redundancy.measures._spec import MeasureSpec
from redundancy.record import DistanceRecord, SweepRecord
from redundancy.results import PairResult, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PALETTE", "plot_distances", "plot_measure", "plot_ruler", "plot_sweep", "style"]

# Okabe and Ito's palette: told apart by colour-blind readers and in grey print.
PALETTE = {"vision": "#0072B2", "text": "#D55E00"}
_OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")
VERDICT_COLOURS = {
    "redundant": "#009E73",
    "undecided": "#999999",
    "needed": "#E69F00",
    "no estimate": "#CC79A7",
}
_VERDICT_MARKS = {"redundant": "o", "undecided": "s", "needed": "^", "no estimate": "x"}


@contextmanager
def style(ink: str = "#333333") -> Iterator[None]:
    """Draw in the house style; `ink` is the colour of text and axes."""
    import matplotlib as mpl

    with mpl.rc_context(
        {
            "axes.edgecolor": ink,
            "axes.labelcolor": ink,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "font.size": 9,
            "font.family": "sans-serif",
            "legend.frameon": False,
            "legend.labelcolor": ink,
            "svg.fonttype": "none",
            "svg.hashsalt": "redundancy",
            "text.color": ink,
            "xtick.color": ink,
            "ytick.color": ink,
        }
    ):
        yield


def plot_measure(results: Results, *, ax: Axes | None = None) -> Axes:
    """Draw one measure over the layers: points by verdict, bands of intervals, the threshold.

    Parameters
    ----------
    results : Results
        Results of one measure, for one or several modalities.
    ax : matplotlib axes, optional
    """
    ax = _axes(ax)
    spec: MeasureSpec = registry.load("measures", results.measures[0]).SPEC
    for i, modality in enumerate(results.modalities):
        rows = [r for r in results.select(modality=modality) if r.estimate.value is not None]
        if not rows:
            continue
        colour = PALETTE.get(modality, _OTHERS[i % len(_OTHERS)])
        x = [r.pair[1] for r in rows]
        ax.plot(x, [_value(r) for r in rows], color=colour, lw=1.4, label=modality)
        banded = [r for r in rows if r.estimate.ci is not None]
        if banded:
            ax.fill_between(
                [r.pair[1] for r in banded],
                [r.estimate.ci.low for r in banded if r.estimate.ci],
                [r.estimate.ci.high for r in banded if r.estimate.ci],
                color=colour,
                alpha=0.2,
                lw=0,
            )
        for verdict, mark in _VERDICT_MARKS.items():
            mine = [r for r in rows if (r.verdict or "undecided") == verdict]
            ax.plot([r.pair[1] for r in mine], [_value(r) for r in mine], mark, color=colour, ms=4)
    threshold = next((r.threshold for r in results if r.threshold is not None), None)
    if threshold is not None:
        ax.axhline(threshold, color="#999999", lw=0.9, ls="--", zorder=0)
        ax.annotate(
            f"ε = {threshold:g}", (1, threshold), xycoords=("axes fraction", "data"),
            ha="right", va="bottom", fontsize=8,
        )  # fmt: skip
    ax.set_xlabel("upper layer of the pair")
    unit = next(r.estimate.unit for r in results)
    ax.set_ylabel(f"{spec.symbol} ({unit})")
    _whole_ticks(ax, [r.pair[1] for r in results])
    if len(results.modalities) > 1:
        ax.legend()
    return ax


def plot_ruler(results: Results, *, ax: Axes | None = None) -> Axes:
    """Draw the verdicts as a ruler: a row per measure and modality, a cell per pair."""
    from matplotlib.patches import Rectangle

    ax = _axes(ax)
    rows = [
        (measure, modality)
        for measure in results.measures
        for modality in results.modalities
        if len(results.select(measure, modality))
    ]
    pairs = sorted({r.pair for r in results}, key=lambda pair: (pair[1], pair[0]))
    column = {pair: i for i, pair in enumerate(pairs)}
    letter = {"redundant": "r", "undecided": "?", "needed": "n", "no estimate": "–"}
    for y, (measure, modality) in enumerate(rows):
        for r in results.select(measure, modality):
            verdict = r.verdict or ("no estimate" if r.estimate.value is None else "")
            x = column[r.pair]
            colour = VERDICT_COLOURS.get(verdict, "none")
            ax.add_patch(Rectangle((x - 0.46, y - 0.42), 0.92, 0.84, fc=colour, ec="none"))
            if len(pairs) <= 48:
                ax.text(x, y, letter.get(verdict, ""), ha="center", va="center", fontsize=8,
                        color="#000000")  # fmt: skip
    ax.set_xlim(-0.5, len(pairs) - 0.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_yticks(range(len(rows)), [f"{measure} · {modality}" for measure, modality in rows])
    step = max(1, len(pairs) // 16)
    ax.set_xticks(range(0, len(pairs), step), [f"{a}→{b}" for a, b in pairs[::step]], fontsize=8)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def plot_sweep(sweep: SweepRecord, *, ax: Axes | None = None) -> Axes:
    """Draw accuracy and agreement of a sweep over its layers, as the paper's figures 13 to 15."""
    ax = _axes(ax)
    points = sorted(sweep.points, key=lambda p: p.layer)
    for name, colour in (("accuracy", "#0072B2"), ("agreement", "#CC79A7")):
        have = [(p.layer, getattr(p.evaluation, name)) for p in points]
        have = [(x, e) for x, e in have if e is not None and e.value is not None]
        if not have:
            continue
        label = "agreement with the full model" if name == "agreement" else name
        x = [layer for layer, _ in have]
        ax.plot(x, [e.value for _, e in have], "o-", ms=4, lw=1.4, color=colour, label=label)
        if all(e.ci is not None for _, e in have):
            low = [e.ci.low for _, e in have]
            high = [e.ci.high for _, e in have]
            ax.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    if sweep.chance is not None:
        ax.axhline(sweep.chance, color="#999999", lw=0.9, ls=":", label="chance", zorder=0)
    if sweep.chosen is not None:
        ax.axvline(sweep.chosen, color="#009E73", lw=1.2, ls="--", label="the plan", zorder=0)
    words = {
        "late": "vision tokens enter at layer",
        "exit": "vision tokens leave at layer",
        "drop": "layer that is dropped",
        "single": "layer without vision tokens",
    }
    ax.set_xlabel(words[sweep.kind])
    ax.set_ylim(-0.03, 1.05)
    _whole_ticks(ax, [p.layer for p in points])
    ax.legend(fontsize=8)
    return ax


def plot_distances(distances: DistanceRecord, *, ax: Axes | None = None) -> Axes:
    """Draw the matrix of mean cosine distances between all layers."""
    ax = _axes(ax)
    matrix = np.array(
        [[np.nan if v is None else v for v in row] for row in distances.matrix], dtype=float
    )
    edges = np.arange(len(distances.layers) + 1) - 0.5
    mesh = ax.pcolormesh(edges, edges, matrix, cmap="cividis", rasterized=True)
    figure: Any = ax.figure
    bar = figure.colorbar(mesh, ax=ax, shrink=0.85)
    bar.set_label("mean cosine distance")
    ax.set_aspect("equal")
    ax.invert_yaxis()
    step = max(1, len(distances.layers) // 12)
    ticks = range(0, len(distances.layers), step)
    ax.set_xticks(ticks, [str(layer) for layer in distances.layers[::step]])
    ax.set_yticks(ticks, [str(layer) for layer in distances.layers[::step]])
    ax.set_xlabel("layer")
    ax.set_ylabel("layer")
    return ax


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    with style():
        return plt.subplots(figsize=(6, 3.2), layout="constrained")[1]


def _value(result: PairResult) -> float:
    return float(result.estimate)


def _whole_ticks(ax: Axes, layers: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    if layers:
        ax.set_xlim(min(layers) - 0.5, max(layers) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
