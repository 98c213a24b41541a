"""What skipping did: curves over the layers, and verdicts held against them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redundancy.record import SweepRecord
from redundancy.report._drops import drops
from redundancy.report.plots._style import (
    QUIET,
    VERDICT_COLOURS,
    VERDICT_MARKS,
    axes_or_new,
    key_above,
    mark_size,
    whole_ticks,
)
from redundancy.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_sweep", "plot_verdicts_against_drop"]

_WORDS = {
    "late": "vision tokens enter at layer",
    "exit": "vision tokens leave at layer",
    "drop": "layer that is dropped",
    "single": "layer without vision tokens",
}


def plot_sweep(sweep: SweepRecord, *, ax: Axes | None = None) -> Axes:
    """Draw accuracy and agreement of a sweep over its layers, as the paper's figures 13 to 15."""
    ax = axes_or_new(ax)
    points = sorted(sweep.points, key=lambda p: p.layer)
    for name, colour, mark in (("accuracy", "#0072b2", "o"), ("agreement", "#cc79a7", "s")):
        have = [(p.layer, getattr(p.evaluation, name)) for p in points]
        have = [(x, e) for x, e in have if e is not None and e.value is not None]
        if not have:
            continue
        label = "same answer as full model" if name == "agreement" else name
        x = [layer for layer, _ in have]
        look: dict[str, Any] = {"ms": mark_size(len(x)), "lw": 1.4, "color": colour, "label": label}
        ax.plot(x, [e.value for _, e in have], f"{mark}-", **look)
        if all(e.ci is not None for _, e in have):
            low = [e.ci.low for _, e in have]
            high = [e.ci.high for _, e in have]
            ax.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    if sweep.chance is not None:
        ax.axhline(sweep.chance, color=QUIET, lw=0.9, ls=":", label="chance", zorder=0)
    if sweep.chosen is not None:
        ax.axvline(sweep.chosen, color="#009e73", lw=1.4, ls="--", label="the plan", zorder=0)
    ax.set_xlabel(_WORDS[sweep.kind])
    ax.set_ylabel("share of the samples")
    ax.set_ylim(-0.03, 1.05)
    whole_ticks(ax, [p.layer for p in points])
    key_above(ax, columns=2)
    return ax


def plot_verdicts_against_drop(
    results: Results, sweeps: Sequence[SweepRecord], *, ax: Axes | None = None
) -> Axes:
    """Draw for each measure which plans it spoke for and against, over what these plans cost.

    The cost is accuracy lost, or where right answers are not known for every plan the share of the
    answers that changed.

    A row that is worth something has its circles on the left and its triangles on the right.

    Parameters
    ----------
    results : Results
    sweeps : sequence of SweepRecord
    ax : matplotlib axes, optional
    """
    found = drops(results, sweeps)
    rows = list(dict.fromkeys(key for drop in found for key in drop.verdicts))
    ax = axes_or_new(ax, (6, 1.2 + 0.32 * len(rows)))
    lost = [d.lost for d in found]
    known = [v for v in lost if v is not None]
    costs = known if len(known) == len(found) else [d.changed for d in found]
    marks: dict[str, list[tuple[float, float]]] = {}
    for y, key in enumerate(rows):
        mine = sorted(
            (c, d.verdicts[key]) for c, d in zip(costs, found, strict=True) if key in d.verdicts
        )
        last, step = -1.0, 0
        for changed, verdict in mine:
            # Plans that changed about as much stand above one another, not on one another.
            step = (step + 1) % 4 if changed - last < 0.02 else 0
            last = changed
            marks.setdefault(verdict, []).append((100 * changed, y - 0.3 + 0.2 * step))
    for verdict, mark in VERDICT_MARKS.items():
        if verdict in marks:
            x, heights = zip(*marks[verdict], strict=True)
            ax.plot(x, heights, mark, ms=5, color=VERDICT_COLOURS[verdict], label=verdict)
    ax.set_yticks(range(len(rows)), [f"{m} · {modality}" for m, modality in rows])
    ax.set_ylim(len(rows) - 0.45, -0.55)
    for y in range(1, len(rows)):
        ax.axhline(y - 0.5, color=QUIET, lw=0.4)
    ax.tick_params(axis="y", length=0)
    words = "accuracy lost (points)" if costs is known else "answers that changed (%)"
    ax.set_xlabel(words)
    ax.axvline(0.0, color=QUIET, lw=0.6, zorder=0)
    key_above(ax, columns=4)
    return ax
