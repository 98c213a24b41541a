"""Heat maps over all pairs of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from redundancy.record import DistanceRecord
from redundancy.report.plots._style import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_cka", "plot_distances"]


def plot_distances(distances: DistanceRecord, *, ax: Axes | None = None) -> Axes:
    """Draw the matrix of mean cosine distances between all layers."""
    return _heat_map(distances, "mean cosine distance", ax, low=0.0)


def plot_cka(cka: DistanceRecord, *, ax: Axes | None = None) -> Axes:
    """Draw centred kernel alignment between all layers, as Figure 12."""
    return _heat_map(cka, "CKA", ax, high=1.0)


def _heat_map(
    record: DistanceRecord,
    label: str,
    ax: Axes | None,
    low: float | None = None,
    high: float | None = None,
) -> Axes:
    ax = axes_or_new(ax, (4.6, 3.8))
    matrix = np.array(
        [[np.nan if v is None else v for v in row] for row in record.matrix], dtype=float
    )
    edges = np.arange(len(record.layers) + 1) - 0.5
    mesh = ax.pcolormesh(edges, edges, matrix, cmap="cividis", rasterized=True, vmin=low, vmax=high)
    figure: Any = ax.figure
    bar = figure.colorbar(mesh, ax=ax, shrink=0.85)
    bar.set_label(label)
    bar.outline.set_visible(False)
    ax.set_aspect("equal")
    ax.invert_yaxis()
    step = max(1, len(record.layers) // 8)
    ticks = range(0, len(record.layers), step)
    ax.set_xticks(ticks, [str(layer) for layer in record.layers[::step]])
    ax.set_yticks(ticks, [str(layer) for layer in record.layers[::step]])
    ax.set_xlabel("layer")
    ax.set_ylabel("layer")
    return ax
