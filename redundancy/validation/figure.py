"""The analysis as a picture: how well each measure ranks the layers, loss by loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redundancy.validation.records import AnalysisRecord
from redundancy.validation.show import judgement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure_data", "plot_associations"]

# Okabe and Ito's palette; the words beside the points say the same without colour.
_COLOURS = {
    "predicts, beyond depth": "#009E73",
    "predicts": "#0072B2",
    "no evidence": "#999999",
    "predicts the opposite": "#D55E00",
    "no estimate": "#CC79A7",
}


def figure_data(record: AnalysisRecord, kind: str = "changed") -> list[dict[str, Any]]:
    """What the figure shows, one entry per loss and measure, ready for any drawing library.

    Parameters
    ----------
    record : AnalysisRecord
    kind : str
        A kind of loss: ``"changed"``, ``"nll"`` or ``"kl"``; ``"score"`` for published tables.

    Returns
    -------
    list of dict
        ``target``, ``measure``, ``mean``, ``low`` and ``high`` (over models where there are
        several clusters, else over images), ``by_model``, ``says`` and ``control``.
    """
    rows = []
    for r in record.associations:
        if r.kind != kind or r.mean is None:
            continue
        ci = r.clusters_ci or r.images_ci
        rows.append(
            {
                "target": r.target,
                "measure": r.measure,
                "mean": r.mean,
                "low": None if ci is None else ci[0],
                "high": None if ci is None else ci[1],
                "by_model": r.by_model,
                "says": "control" if r.control else judgement(r),
                "control": r.control,
            }
        )
    return rows


def plot_associations(record: AnalysisRecord, kind: str = "changed") -> Figure:
    """Draw one panel per loss: each measure's mean rank correlation, its interval, and each model.

    Parameters
    ----------
    record : AnalysisRecord
    kind : str
        As for `figure_data`.
    """
    from matplotlib.figure import Figure

    rows = figure_data(record, kind)
    targets = [t for t in record.targets if any(r["target"] == t for r in rows)]
    names = [m for m in record.readings if any(r["measure"] == m for r in rows)]

    def average(name: str) -> float:
        values = [r["mean"] for r in rows if r["measure"] == name]
        return float(sum(values) / len(values))

    controls = {r["measure"] for r in rows if r["control"]}
    names.sort(key=lambda name: (name not in controls, average(name)))
    figure = Figure(figsize=(2.4 + 2.1 * len(targets), 1.1 + 0.27 * len(names)), layout="tight")
    axes = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
    for ax, target in zip(axes, targets, strict=True):
        ax.axvline(0.0, color="#bbbbbb", lw=0.8, zorder=0)
        for r in rows:
            if r["target"] != target:
                continue
            y = names.index(r["measure"])
            colour = _COLOURS.get(r["says"], "#555555")
            own = [v for v in r["by_model"] if v is not None]
            ax.plot(own, [y] * len(own), "|", color=colour, alpha=0.35, ms=7, zorder=1)
            if r["low"] is not None:
                ax.plot([r["low"], r["high"]], [y, y], color=colour, lw=1.8, zorder=2)
            ax.plot([r["mean"]], [y], "o", color=colour, ms=5, zorder=3)
        ax.set_title(target, loc="left", fontsize=10)
        ax.set_xlim(-1.05, 1.05)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    axes[0].set_yticks(range(len(names)), names)
    figure.supxlabel("rank correlation of reading and marginal loss", fontsize=9)
    return figure
