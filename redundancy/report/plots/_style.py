"""Colours, marks and axes that all pictures share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from redundancy.results import PairResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "PALETTE",
    "SERIES",
    "VERDICT_COLOURS",
    "VERDICT_MARKS",
    "axes_or_new",
    "colour_of",
    "from_zero",
    "key_above",
    "mark_size",
    "shade",
    "style",
    "threshold_line",
    "upright",
    "value_of",
    "whole_ticks",
]

# Okabe and Ito's palette: told apart by colour-blind readers. The report swaps each colour for one
# of the same hue that stands out from its own page, light or dark (see style.css).
PALETTE = {"vision": "#0072b2", "text": "#d55e00"}
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_OTHERS = SERIES[2:]
VERDICT_COLOURS = {
    "redundant": "#009e73",
    "undecided": "#999999",
    "needed": "#e69f00",
    "no estimate": "#cc79a7",
}
VERDICT_MARKS = {"redundant": "o", "undecided": "s", "needed": "^", "no estimate": "x"}
QUIET = "#999999"


@contextmanager
def style(ink: str = "#333333") -> Iterator[None]:
    """Draw in the house style; `ink` is the colour of text and axes."""
    import matplotlib as mpl

    with mpl.rc_context(
        {
            "axes.edgecolor": ink,
            "axes.labelcolor": ink,
            "axes.linewidth": 0.8,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "font.size": 9.5,
            "font.family": "sans-serif",
            "legend.fontsize": 9,
            "legend.frameon": False,
            "legend.labelcolor": ink,
            "path.simplify_threshold": 0.2,
            "svg.fonttype": "none",
            "svg.hashsalt": "redundancy",
            "text.color": ink,
            "xtick.color": ink,
            "ytick.color": ink,
        }
    ):
        yield


def axes_or_new(ax: Axes | None, size: tuple[float, float] = (6, 3.4)) -> Axes:
    """Return `ax`, or axes of a new figure in the house style."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    with style():
        return plt.subplots(figsize=size, layout="constrained")[1]


def colour_of(name: str, place: int) -> str:
    """Return the colour of a modality; those without one of their own take turns."""
    return PALETTE.get(name, _OTHERS[place % len(_OTHERS)])


def value_of(result: PairResult) -> float:
    """Return the headline of a result that has one."""
    return float(result.estimate)


def shade(ax: Axes, rows: Sequence[PairResult], colour: str) -> None:
    """Draw the band of intervals, where there are any."""
    banded = [(r.pair[1], r.estimate.ci) for r in rows if r.estimate.ci is not None]
    if banded:
        ax.fill_between(
            [x for x, _ in banded],
            [ci.low for _, ci in banded if ci],
            [ci.high for _, ci in banded if ci],
            color=colour,
            alpha=0.22,
            lw=0,
        )


def upright(
    ax: Axes, x: Sequence[float], low: Sequence[float], high: Sequence[float], **look: Any
) -> None:
    """Draw upright strokes from `low` to `high` as one path, however many there are."""
    gap = [math.nan] * len(x)
    ax.plot(
        [v for three in zip(x, x, gap, strict=True) for v in three],
        [v for three in zip(low, high, gap, strict=True) for v in three],
        solid_capstyle="butt",
        **look,
    )


def threshold_line(ax: Axes, threshold: float | None, text: str = "") -> None:
    """Draw a threshold and name it in the margin, where no curve runs."""
    if threshold is None:
        return
    ax.axhline(threshold, color=QUIET, lw=0.9, ls="--", zorder=0)
    ax.annotate(
        text or f"ε {threshold:g}", (1.01, threshold), xycoords=("axes fraction", "data"),
        ha="left", va="center", fontsize=8.5, annotation_clip=False,
    )  # fmt: skip


def from_zero(ax: Axes) -> None:
    """Start the vertical axis at 0 where what is drawn comes near it; below 0 nothing is cut."""
    low, high = ax.get_ylim()
    if 0 < low < 0.35 * high or -0.06 * (high - low) < low < 0:
        ax.set_ylim(bottom=min(0.0, ax.dataLim.y0))


def mark_size(count: int) -> float:
    """Return the size of marks that leaves `count` of them apart."""
    return 4.0 if count <= 24 else 2.4


def key_above(ax: Axes, columns: int = 3) -> None:
    """Put the legend above the axes, where no curve runs."""
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        ax.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=min(columns, len(handles)),
            borderaxespad=0.2,
            handlelength=1.6,
            columnspacing=1.2,
        )


def whole_ticks(ax: Axes, layers: Sequence[int]) -> None:
    """Let the horizontal axis count layers."""
    from matplotlib.ticker import MaxNLocator

    if layers:
        ax.set_xlim(min(layers) - 0.5, max(layers) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
