"""`Results.plot`: the main picture of every measure on one figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from estimators import InputError
from redundancy.report import plots
from redundancy.report.plots.ruler import ruler_rows
from redundancy.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]


def draw(results: Results, *, ax: Axes | None = None) -> dict[str, Axes]:
    """Draw one picture per measure and the verdicts; see `redundancy.results.Results.plot`."""
    measures = [
        measure
        for measure in results.measures
        if any(r.estimate.value is not None for r in results.select(measure))
    ]
    if not measures:
        raise InputError("there is nothing to draw: no pair has an estimate")
    if ax is not None:
        if len(measures) > 1:
            raise InputError(
                f"one pair of axes holds one measure and there are {len(measures)}; use "
                f"results.select({measures[0]!r}).plot(ax=ax)"
            )
        return {measures[0]: _first_picture(measures[0])(results.select(measures[0]), ax=ax)}
    import matplotlib.pyplot as plt

    rows = ruler_rows(results)
    columns = min(2, len(measures))
    lines = -(-len(measures) // columns)
    above = 0.6 + 0.26 * len(rows) if rows else 0.0
    with plots.style():
        figure = plt.figure(figsize=(4.8 * columns, above + 3.1 * lines), layout="constrained")
        heights = [above, *[3.1] * lines] if rows else [3.1] * lines
        grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
        found: dict[str, Axes] = {}
        if rows:
            plan = None if results.record is None else results.record.plan
            top = figure.add_subplot(grid[0, :])
            found["verdicts"] = plots.plot_ruler(results, plan=plan, ax=top)
        for i, measure in enumerate(measures):
            place = grid[i // columns + bool(rows), i % columns]
            found[measure] = _first_picture(measure)(
                results.select(measure), ax=figure.add_subplot(place)
            )
    return found


def _first_picture(measure: str) -> Callable[..., Any]:
    return plots.plot_var if measure == "var" else plots.plot_measure
