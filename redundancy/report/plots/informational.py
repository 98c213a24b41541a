"""Beside the conditional entropy: its ratio, and whether the mutual information has arrived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from redundancy.report.plots._style import axes_or_new, colour_of, from_zero, key_above, whole_ticks
from redundancy.results import PairResult, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_extra", "plot_k_sweep", "plot_scaling"]


def plot_extra(results: Results, key: str, label: str, *, ax: Axes | None = None) -> Axes:
    """Draw a by-product over the layers, a line per modality.

    Parameters
    ----------
    results : Results
        Of one measure.
    key : str
        Name among the extras, e.g. ``"ratio"`` or ``"mi"``.
    label : str
        Of the vertical axis, without the unit.
    ax : matplotlib axes, optional
    """
    ax = axes_or_new(ax)
    unit = ""
    for i, modality in enumerate(results.modalities):
        rows = [
            (r.pair[1], r.extras[key])
            for r in results.select(modality=modality)
            if key in r.extras and r.extras[key].value is not None
        ]
        if not rows:
            continue
        unit = rows[0][1].unit
        colour = colour_of(modality, i)
        x = [layer for layer, _ in rows]
        ax.plot(x, [float(e) for _, e in rows], "o-", ms=3, lw=1.4, color=colour, label=modality)
        banded = [(layer, e.ci) for layer, e in rows if e.ci is not None]
        if banded:
            ax.fill_between(
                [layer for layer, _ in banded],
                [ci.low for _, ci in banded],
                [ci.high for _, ci in banded],
                color=colour,
                alpha=0.22,
                lw=0,
            )
    ax.set_xlabel("upper layer of the pair")
    ax.set_ylabel(label if unit in ("", "ratio") else f"{label} ({unit})")
    whole_ticks(ax, [r.pair[1] for r in results])
    from_zero(ax)
    if len(results.modalities) > 1:
        key_above(ax)
    return ax


def plot_scaling(rows: Mapping[str, PairResult], *, ax: Axes | None = None) -> Axes:
    """Draw the KSG information of one pair over the number of tokens, a line per modality.

    A curve that still climbs at its right end has not arrived: the truth is larger.

    Parameters
    ----------
    rows : mapping of str to PairResult
        Results of the measure ``informational`` for one pair, by modality.
    ax : matplotlib axes, optional
    """
    return _sweep(rows, "n_scaling", "tokens", ax)


def plot_k_sweep(rows: Mapping[str, PairResult], *, ax: Axes | None = None) -> Axes:
    """Draw the KSG information of one pair over k, the neighbours it looks at.

    A value that falls fast with k is made of structure finer than the neighbourhoods.

    Parameters
    ----------
    rows : mapping of str to PairResult
        Results of the measure ``informational`` for one pair, by modality.
    ax : matplotlib axes, optional
    """
    return _sweep(rows, "k_sweep", "neighbours k", ax)


def _sweep(
    rows: Mapping[str, PairResult],
    key: Literal["n_scaling", "k_sweep"],
    label: str,
    ax: Axes | None,
) -> Axes:
    ax = axes_or_new(ax, (2.4, 1.8))
    seen: list[int] = []
    for i, (modality, r) in enumerate(rows.items()):
        points = r.extras["mi"].params.get(key) if "mi" in r.extras else None
        if not points:
            continue
        x = [int(n) for n, _ in points]
        seen = seen or x
        ax.plot(x, [v for _, v in points], "o-", ms=3, lw=1.2, color=colour_of(modality, i),
                label=modality)  # fmt: skip
    if key == "n_scaling" and seen:
        ax.set_xscale("log")
        ax.set_xticks(seen, [str(n) for n in seen])
        ax.minorticks_off()
    elif seen:
        ax.set_xticks(seen)
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    ax.set_xlabel(label)
    ax.set_ylabel("I (nats)")
    return ax
