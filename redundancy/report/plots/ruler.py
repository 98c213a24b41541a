"""The verdicts as a ruler over the layers, with the plan above them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from redundancy.report.plots._style import VERDICT_COLOURS, axes_or_new
from redundancy.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["VERDICT_LETTERS", "plan_cells", "plot_ruler", "ruler_rows"]

VERDICT_LETTERS = {"redundant": "r", "undecided": "?", "needed": "n", "no estimate": "–"}
"""The word of a verdict as one letter, so that no verdict is told by colour alone."""


def ruler_rows(results: Results) -> list[tuple[str, str, dict[tuple[int, int], str]]]:
    """Return measure, modality and verdict by pair, for every row that has a verdict.

    Examples
    --------
    >>> from estimators import Estimate
    >>> from redundancy.results import PairResult
    >>> e = Estimate(value=0.1, unit="nats", kind="estimate", n=9, method="m")
    >>> ruler_rows(Results([PairResult(pair=(0, 1), measure="pid", estimate=e, verdict="needed")]))
    [('pid', 'text', {(0, 1): 'needed'})]
    """
    found: dict[tuple[str, str], dict[tuple[int, int], str]] = {}
    for r in results:
        if r.verdict:
            found.setdefault((r.measure, r.modality), {})[r.pair] = str(r.verdict)
    return [(measure, modality, verdicts) for (measure, modality), verdicts in found.items()]


def plan_cells(plan: Mapping[str, Any] | None) -> list[str]:
    """Return for each layer what a plan does there: ``"runs"``, ``"no vision"`` or ``"dropped"``.

    Examples
    --------
    >>> plan_cells({"n_layers": 4, "vision_entry": 1, "vision_exit": 3, "drop_layers": [2]})
    ['no vision', 'runs', 'dropped', 'no vision']
    """
    if not plan or not isinstance(plan.get("n_layers"), int):
        return []
    n = plan["n_layers"]
    leave = plan.get("vision_exit")
    leave = n if leave is None else leave
    off, drop = plan.get("vision_off") or (), plan.get("drop_layers") or ()
    return [
        "dropped"
        if layer in drop
        else "runs"
        if (plan.get("vision_entry") or 0) <= layer < leave and layer not in off
        else "no vision"
        for layer in range(n)
    ]


def plot_ruler(
    results: Results, *, plan: Mapping[str, Any] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the verdicts as a ruler: a row per measure and modality, a cell per pair.

    Parameters
    ----------
    results : Results
    plan : mapping, optional
        A plan as plain data (``SkipPlan.to_json``); its row says which layers see the image.
        Layer l lies between states l and l + 1, so it stands in the column of that pair.
    ax : matplotlib axes, optional
    """
    from matplotlib.patches import Rectangle

    rows = ruler_rows(results)
    pairs = sorted({r.pair for r in results}, key=lambda pair: (pair[1], pair[0]))
    column = {pair: i for i, pair in enumerate(pairs)}
    cells = {i: text for i, text in enumerate(plan_cells(plan)) if (i, i + 1) in column}
    ax = axes_or_new(ax, (8, 0.8 + 0.3 * (len(rows) + bool(cells))))

    def cell(x: int, y: int, colour: str, letter: str) -> None:
        ax.add_patch(Rectangle((x - 0.46, y - 0.42), 0.92, 0.84, fc=colour, ec="none"))
        if len(pairs) <= 48:
            ax.text(x, y, letter, ha="center", va="center", fontsize=8, color="#000000")

    labels = [f"{measure} · {modality}" for measure, modality, _ in rows]
    for y, (_, _, verdicts) in enumerate(rows):
        for pair, verdict in verdicts.items():
            cell(column[pair], y, VERDICT_COLOURS[verdict], VERDICT_LETTERS[verdict])
    if cells:
        labels.append("the plan")
        for i, text in cells.items():
            skipped = text != "runs"
            colour = VERDICT_COLOURS["redundant" if skipped else "undecided"]
            cell(column[i, i + 1], len(rows), colour, "skip" if skipped else "")
    ax.set_xlim(-0.5, len(pairs) - 0.5)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.set_yticks(range(len(labels)), labels)
    step = max(1, len(pairs) // 16)
    ax.set_xticks(range(0, len(pairs), step), [f"{a}→{b}" for a, b in pairs[::step]], fontsize=8)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
