"""The pictures, each a matplotlib function that takes `ax=`; nothing here knows HTML."""

from __future__ import annotations

from redundancy.report.plots._style import PALETTE, SERIES, VERDICT_COLOURS, style
from redundancy.report.plots.functional import plot_functional, plot_probe_fit
from redundancy.report.plots.implications import plot_implications
from redundancy.report.plots.informational import plot_extra, plot_k_sweep, plot_scaling
from redundancy.report.plots.layers import plot_measure, plot_runs, plot_var
from redundancy.report.plots.matrices import plot_cka, plot_distances
from redundancy.report.plots.pid import plot_pid
from redundancy.report.plots.ruler import plot_ruler
from redundancy.report.plots.sweeps import plot_sweep, plot_verdicts_against_drop

__all__ = [
    "PALETTE",
    "SERIES",
    "VERDICT_COLOURS",
    "plot_cka",
    "plot_distances",
    "plot_extra",
    "plot_functional",
    "plot_implications",
    "plot_k_sweep",
    "plot_measure",
    "plot_pid",
    "plot_probe_fit",
    "plot_ruler",
    "plot_runs",
    "plot_scaling",
    "plot_sweep",
    "plot_var",
    "plot_verdicts_against_drop",
    "style",
]
