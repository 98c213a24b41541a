"""Who knows what of the target: the four parts of the information of two layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estimators import Estimate
from redundancy.report.plots._style import axes_or_new, key_above, upright, whole_ticks
from redundancy.results import PairResult, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ATOMS", "plot_pid"]

ATOMS = (
    ("redundant", "both layers", "#009e73"),
    ("unique_lower", "lower only", "#56b4e9"),
    ("headline", "upper only", "#d55e00"),
    ("synergistic", "only together", "#cc79a7"),
)
"""Key among the extras, words of the legend, colour; "headline" is the unique part of the upper."""


def plot_pid(results: Results, *, ax: Axes | None = None) -> Axes:
    """Draw the parts of I(Z; lower, upper) as stacked bars, with the interval of each part.

    An interval stands on its own part, from where that part of the bar begins. A part that was
    withheld is left out of the bar.

    Parameters
    ----------
    results : Results
        Of the measure ``pid``, one modality.
    ax : matplotlib axes, optional
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    ax = axes_or_new(ax)
    rows = [r for r in results if any(_part(r, key) for key, _, _ in ATOMS)]
    base = [0.0] * len(rows)
    for j, (key, label, colour) in enumerate(ATOMS):
        parts = [_part(r, key) for r in rows]
        # A part below 0 is bias; the bar stays at its base and the interval shows where it is.
        heights = [max(float(p), 0.0) if p else 0.0 for p in parts]
        x = [r.pair[1] for r in rows]
        # One path for all bars, one for all intervals: hundreds of patches are slow and large.
        bars = [
            Path([(at - 0.36, b), (at + 0.36, b), (at + 0.36, b + h), (at - 0.36, b + h),
                  (at - 0.36, b)], closed=True)
            for at, b, h in zip(x, base, heights, strict=True)
            if h > 0
        ]  # fmt: skip
        if bars:
            outline = Path.make_compound_path(*bars)
            ax.add_patch(PathPatch(outline, fc=colour, ec="none", label=label))
        known = [(i, part.ci) for i, part in enumerate(parts) if part and part.ci is not None]
        upright(
            ax,
            [x[i] + 0.14 * (j - 1.5) for i, _ in known],
            [base[i] + ci.low for i, ci in known],
            [base[i] + ci.high for i, ci in known],
            lw=1.2,
            color=ax.xaxis.label.get_color(),
        )
        base = [b + h for b, h in zip(base, heights, strict=True)]
    ax.autoscale_view()
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    ax.set_xlabel("upper layer of the pair")
    unit = next((r.estimate.unit for r in rows), "nats")
    ax.set_ylabel(f"information about the target ({unit})")
    whole_ticks(ax, [r.pair[1] for r in results])
    key_above(ax, columns=2)
    return ax


def _part(result: PairResult, key: str) -> Estimate | None:
    estimate = result.estimate if key == "headline" else result.extras.get(key)
    return estimate if estimate is not None and estimate.value is not None else None
