"""Functional redundancy with what bounds it, and what the probes know at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redundancy.report.plots._style import (
    QUIET,
    axes_or_new,
    colour_of,
    key_above,
    shade,
    threshold_line,
    upright,
    value_of,
    whole_ticks,
)
from redundancy.results import PairResult, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_functional", "plot_probe_fit"]


def plot_functional(results: Results, *, ax: Axes | None = None) -> Axes:
    """Draw F over the layers with its band, the biased plug-in, Theorem 2's range and the cap.

    Parameters
    ----------
    results : Results
        Of the measure ``functional``, one modality.
    ax : matplotlib axes, optional
    """
    ax = axes_or_new(ax)
    rows = [r for r in results if r.estimate.value is not None]
    colour = colour_of(results.modalities[0], 0) if len(results) else QUIET
    x = [r.pair[1] for r in rows]
    cap = next((v for r in rows if (v := _extra(r, "trivial_cap")) is not None), None)
    ranges = [(r.pair[1], _extra(r, "theorem2_lower"), _extra(r, "theorem2_upper")) for r in rows]
    known = [(at, low, high) for at, low, high in ranges if low is not None and high is not None]
    if known:
        # The bound is often far above the cap; what lies above it says nothing.
        top = [high if cap is None else min(high, cap) for _, _, high in known]
        upright(ax, [at for at, _, _ in known], [low for _, low, _ in known], top, color=QUIET,
                lw=3, alpha=0.35, label="Theorem 2, up to the cap")  # fmt: skip
    plug_in = [(r.pair[1], v) for r in rows if (v := _extra(r, "plug_in")) is not None]
    if plug_in:
        ax.plot([at for at, _ in plug_in], [v for _, v in plug_in], "v", ms=3.5, color="#cc79a7",
                label="plug-in, biased up")  # fmt: skip
    ax.plot(x, [value_of(r) for r in rows], "o-", ms=4, lw=1.4, color=colour, label="F")
    shade(ax, rows, colour)
    threshold_line(ax, next((r.threshold for r in rows if r.threshold is not None), None))
    if cap is not None and rows and cap <= 4 * max(value_of(r) for r in rows):
        threshold_line(ax, cap, "largest\npossible")
    ax.axhline(0.0, color=QUIET, lw=0.6, zorder=0)
    ax.set_xlabel("upper layer of the pair")
    unit = rows[0].estimate.unit if rows else ""
    ax.set_ylabel(f"F ({unit})")
    whole_ticks(ax, [r.pair[1] for r in results])
    key_above(ax, columns=2)
    return ax


def plot_probe_fit(results: Results, *, ax: Axes | None = None) -> Axes:
    """Draw how much of the target the probes of each layer explain: F means little where it is 0.

    Parameters
    ----------
    results : Results
        Of the measure ``functional``.
    ax : matplotlib axes, optional
    """
    ax = axes_or_new(ax)
    layers: list[int] = []
    for i, modality in enumerate(results.modalities):
        found: dict[int, float] = {}
        for r in results.select(modality=modality):
            for layer, key in zip(r.pair, ("r2_lower", "r2_upper"), strict=True):
                value = _extra(r, key)
                if value is not None:
                    found[layer] = value
        layers += found
        x = sorted(found)
        ax.plot(x, [found[layer] for layer in x], "o-", ms=4, lw=1.4,
                color=colour_of(modality, i), label=modality)  # fmt: skip
    ax.axhline(0.0, color=QUIET, lw=0.6, zorder=0)
    ax.set_xlabel("layer")
    ax.set_ylabel("R² of the probes")
    whole_ticks(ax, layers)
    if len(results.modalities) > 1:
        key_above(ax)
    return ax


def _extra(result: PairResult, key: str) -> float | None:
    return result.extras[key].value if key in result.extras else None
