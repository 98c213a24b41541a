"""What probes read of each layer, beside their controls, and how far they are to be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from estimators import Estimate
from redundancy._probe_report import LayerScore, ProbeReport
from redundancy.report.plots._style import (
    QUIET,
    SERIES,
    axes_or_new,
    key_above,
    threshold_line,
    whole_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "plot_bounds",
    "plot_calibration",
    "plot_confusion",
    "plot_estimates",
    "plot_gain",
    "plot_information",
    "plot_scores",
]


def plot_scores(report: ProbeReport, *, ax: Axes | None = None) -> Axes:
    """Draw the score of every layer and kind with its band, and the controls beside it.

    Parameters
    ----------
    report : ProbeReport
    ax : matplotlib axes, optional
    """
    ax = axes_or_new(ax)
    for i, kind in enumerate(report.kinds):
        colour = SERIES[i % len(SERIES)]
        rows = [report.of(layer, kind) for layer in report.layers]
        _curve(ax, [(s.layer, s.score) for s in rows], colour, kind)
        null = [(s.layer, s.control) for s in rows if s.control is not None]
        known = [(x, float(e)) for x, e in null if e.value is not None]
        if known:
            ax.plot([x for x, _ in known], [y for _, y in known], ":", lw=1.4, color=colour,
                    label=f"{kind}, shuffled")  # fmt: skip
        planted = report.planted.get(kind)
        if planted is not None and planted.value is not None:
            ax.plot([min(report.layers), max(report.layers)], [planted.value] * 2, "--", lw=1,
                    color=colour, alpha=0.8, label=f"{kind}, written in")  # fmt: skip
    _missing(ax, [layer for layer in report.layers if _all_failed(report, layer)])
    if report.target_kind == "classes":
        threshold_line(ax, report.baseline, "without\nstates")
        ax.set_ylim(bottom=0.0, top=1.03)
    else:
        ax.axhline(0.0, color=QUIET, lw=0.6, zorder=0)
    ax.set_xlabel("layer")
    ax.set_ylabel("share right" if report.target_kind == "classes" else "R²")
    whole_ticks(ax, report.layers)
    key_above(ax, columns=2)
    return ax


def plot_information(report: ProbeReport, *, ax: Axes | None = None) -> Axes:
    """Draw the usable information of every layer and kind."""
    ax = axes_or_new(ax)
    for i, kind in enumerate(report.kinds):
        found = [(s.layer, s.information) for s in report.scores if s.kind == kind]
        known = [(x, e) for x, e in found if e is not None]
        if known:
            _curve(ax, known, SERIES[i % len(SERIES)], kind)
    ax.axhline(0.0, color=QUIET, lw=0.6, zorder=0)
    ax.set_xlabel("layer")
    ax.set_ylabel("usable information (nats)")
    whole_ticks(ax, report.layers)
    if len(report.kinds) > 1:
        key_above(ax)
    return ax


def plot_gain(report: ProbeReport, *, ax: Axes | None = None) -> Axes:
    """Draw what each layer adds to the one below, in nats or as explained error."""
    ax = axes_or_new(ax)
    usable = [(p.upper, p.gain) for p in report.pairs if p.gain is not None]
    explained = [
        (p.upper, p.reading.extras["gain"]) for p in report.pairs if "gain" in p.reading.extras
    ]
    found = usable or explained
    _curve(ax, found, SERIES[2], "gain", joined=False)
    ax.axhline(0.0, color=QUIET, lw=0.6, zorder=0)
    ax.set_xlabel("upper layer of the pair")
    ax.set_ylabel("gain (nats)" if usable else "error explained (squared units)")
    whole_ticks(ax, report.layers)
    return ax


def plot_estimates(report: ProbeReport, *, ax: Axes | None = None) -> Axes:
    """Draw F with its band between the estimates that are biased up (E1) and down (E4)."""
    ax = axes_or_new(ax)
    found = [(p.upper, p.reading.estimate) for p in report.pairs]
    for key, mark, colour, name in (
        ("plug_in", "v", SERIES[3], "plug-in E1"),
        ("one_step", "^", SERIES[5], "one-step E4"),
    ):
        known = _of_extra(report, key)
        if known:
            ax.plot([x for x, _ in known], [y for _, y in known], mark, ms=3.5, color=colour,
                    label=name)  # fmt: skip
    _curve(ax, found, SERIES[1], "F (E2)")
    _missing(ax, [x for x, e in found if e.value is None])
    threshold_line(ax, report.settings.get("threshold"))
    ax.axhline(0.0, color=QUIET, lw=0.6, zorder=0)
    ax.set_xlabel("upper layer of the pair")
    ax.set_ylabel("F (squared units of Z)")
    whole_ticks(ax, report.layers)
    key_above(ax, columns=3)
    return ax


def plot_bounds(report: ProbeReport, *, ax: Axes | None = None) -> Axes:
    """Draw F, what Theorems 1 and 2 allow, and the cap, on a scale of powers of ten."""
    ax = axes_or_new(ax)
    found = [(p.upper, p.reading.estimate) for p in report.pairs]
    above = [(x, float(e)) for x, e in found if e.value is not None and e.value > 0.0]
    ends = [(x, e.ci.high) for x, e in found if e.ci is not None and e.ci.high > 0.0]
    if ends:
        ax.plot([x for x, _ in ends], [y for _, y in ends], "_", ms=9, mew=1.6, color=SERIES[1],
                label="upper end of F")  # fmt: skip
    if above:
        ax.plot([x for x, _ in above], [y for _, y in above], "o", ms=4, color=SERIES[1],
                label="F, where above 0")  # fmt: skip
    for key, mark, colour, name in (
        ("theorem1", "D", SERIES[0], "Theorem 1"),
        ("theorem2_upper", "s", SERIES[2], "Theorem 2"),
    ):
        known = [(x, y) for x, y in _of_extra(report, key) if y > 0.0]
        if known:
            ax.plot([x for x, _ in known], [y for _, y in known], mark, ms=3.5, color=colour,
                    label=name)  # fmt: skip
    cap = report.settings.get("trivial_cap")
    threshold_line(ax, cap, "tr Cov Z")
    ax.set_yscale("log")
    ax.set_xlabel("upper layer of the pair")
    ax.set_ylabel("squared units of Z")
    whole_ticks(ax, report.layers)
    key_above(ax, columns=2)
    return ax


def plot_confusion(score: LayerScore, classes: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """Draw which classes are taken for which, each row as shares of its true class."""
    ax = axes_or_new(ax)
    table = np.array(score.confusion, dtype=float)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1.0)
    edges = np.arange(len(table) + 1) - 0.5
    mesh = ax.pcolormesh(edges, edges, shares, cmap="cividis", vmin=0.0, vmax=1.0, rasterized=True)
    figure = ax.figure
    bar = figure.colorbar(mesh, ax=ax, shrink=0.85)
    bar.set_label("share of the true class")
    ax.set_aspect("equal")
    ax.invert_yaxis()
    step = max(1, len(table) // 12)
    ticks = range(0, len(table), step)
    names = [_short(classes[i]) for i in ticks]
    ax.set_xticks(ticks, names, rotation=45, ha="right", fontsize=8)
    ax.set_yticks(ticks, names, fontsize=8)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    return ax


def plot_calibration(scores: Sequence[LayerScore], *, ax: Axes | None = None) -> Axes:
    """Draw how often probes are right over how sure they are; the diagonal is honesty.

    Parameters
    ----------
    scores : sequence of LayerScore
        With a calibration, one of each kind.
    ax : matplotlib axes, optional
    """
    ax = axes_or_new(ax)
    ax.plot([0, 1], [0, 1], "--", lw=0.9, color=QUIET, zorder=0)
    for i, s in enumerate(scores):
        c = s.calibration
        if c is None:
            continue
        bins = [
            (a, b, n)
            for a, b, n in zip(c.confidence, c.accuracy, c.n, strict=True)
            if a is not None and b is not None
        ]
        total = sum(n for _, _, n in bins)
        colour = SERIES[i % len(SERIES)]
        x, y = [a for a, _, _ in bins], [b for _, b, _ in bins]
        ax.plot(x, y, "-", lw=1.2, color=colour, label=f"{s.kind}, layer {s.layer}")
        ax.scatter(x, y, s=[12 + 120 * n / total for _, _, n in bins], color=colour, alpha=0.8,
                   linewidths=0)  # fmt: skip
    ax.set_xlim(0, 1.02)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("probability that the probe gives")
    ax.set_ylabel("share right")
    key_above(ax, columns=2)
    return ax


def _curve(
    ax: Axes,
    found: Sequence[tuple[int, Estimate]],
    colour: str,
    label: str,
    *,
    joined: bool = True,
) -> None:
    """Draw estimates over layers, with a band, or with strokes where they are not joined."""
    known = [(x, e) for x, e in found if e.value is not None]
    x, y = [at for at, _ in known], [float(e) for _, e in known]
    ranges = [(at, e.ci.low, e.ci.high) for at, e in known if e.ci is not None]
    ends = tuple([r[i] for r in ranges] for i in (0, 1, 2))
    ax.plot(x, y, "o-" if joined else "o", ms=4, lw=1.4, color=colour, label=label)
    if joined:
        ax.fill_between(ends[0], ends[1], ends[2], color=colour, alpha=0.22, lw=0)
    else:
        ax.vlines(ends[0], ends[1], ends[2], color=colour, lw=1.2)


def _of_extra(report: ProbeReport, key: str) -> list[tuple[int, float]]:
    found = [(p.upper, p.reading.extras.get(key)) for p in report.pairs]
    return [(x, e.value) for x, e in found if e is not None and e.value is not None]


def _all_failed(report: ProbeReport, layer: int) -> bool:
    return all(report.of(layer, kind).score.value is None for kind in report.kinds)


def _missing(ax: Axes, layers: Sequence[int]) -> None:
    """Mark layers without an estimate on the axis."""
    if layers:
        ax.plot(layers, [0.02] * len(layers), "x", ms=5, color=QUIET, label="no estimate",
                transform=ax.get_xaxis_transform())  # fmt: skip


def _short(text: str, most: int = 14) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
