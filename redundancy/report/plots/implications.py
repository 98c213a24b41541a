"""Figure 1 of the paper, corrected, coloured by what holds for one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redundancy.report.implications import STATES, ArrowState, State, arrow_states
from redundancy.report.plots._style import QUIET, axes_or_new
from redundancy.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_implications"]

_PLACES = {
    "geometric": (0.0, 2.0),
    "proximal": (2.0, 2.0),
    "functional": (0.0, 0.9),
    "informational": (2.0, 0.9),
    "skip": (1.0, 0.0),
}
_LOOKS: dict[State, tuple[str, str, float]] = {
    "holds": ("#009e73", "-", 2.2),
    "conditional": ("#0072b2", "--", 1.6),
    "vacuous": (QUIET, "-", 1.2),
    "never": ("#d55e00", ":", 1.2),
    "not measured": (QUIET, ":", 0.8),
}


def plot_implications(
    results: Results, *, states: Sequence[ArrowState] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw which notion of redundancy implies which, and what the arrows are worth here.

    Solid green bounds something for these numbers; dashed blue needs an assumption that the data
    cannot show; solid grey holds and says nothing here; dotted orange does not follow; thin dotted
    grey was not measured. Under each notion stands for how many pairs it was found.

    Parameters
    ----------
    results : Results
    states : sequence of ArrowState, optional
        What the arrows are worth, where that is known already.
    ax : matplotlib axes, optional
    """
    ax = axes_or_new(ax, (5.4, 4.0))
    ink = ax.xaxis.label.get_color()
    states = arrow_states(results) if states is None else states
    both_ways = {(a.source, a.target) for a in states} & {(a.target, a.source) for a in states}
    nodes = {
        name: ax.text(
            x, y, _node(name, results), ha="center", va="center", fontsize=9, color=ink,
            linespacing=1.35,
            bbox={"boxstyle": "round,pad=0.45", "fc": "none", "ec": QUIET, "lw": 0.8},
        )
        for name, (x, y) in _PLACES.items()
    }  # fmt: skip
    drawn = set()
    for arrow in states:
        colour, dashes, width = _LOOKS[arrow.state]
        bend = 0.16 if (arrow.source, arrow.target) in both_ways else 0.0
        ax.annotate(
            "",
            _PLACES[arrow.target],
            _PLACES[arrow.source],
            arrowprops={
                "arrowstyle": "-|>,head_length=0.55,head_width=0.28",
                "color": colour,
                "lw": width,
                "ls": dashes,
                "patchA": nodes[arrow.source].get_bbox_patch(),
                "patchB": nodes[arrow.target].get_bbox_patch(),
                "shrinkA": 3,
                "shrinkB": 4,
                "connectionstyle": f"arc3,rad={bend}",
            },
        )
        if arrow.state not in drawn:
            ax.plot([], [], color=colour, ls=dashes, lw=width, label=STATES[arrow.state])
            drawn.add(arrow.state)
    ax.set_xlim(-0.62, 2.62)
    ax.set_ylim(-0.35, 2.35)
    ax.axis("off")
    handles: Any = ax.get_legend_handles_labels()[0]
    order = sorted(handles, key=lambda h: list(STATES.values()).index(str(h.get_label())))
    ax.legend(handles=order, loc="upper center", bbox_to_anchor=(0.5, 0.02), fontsize=8.5,
              handlelength=2.6)  # fmt: skip
    return ax


def _node(name: str, results: Results) -> str:
    if name == "skip":
        return "safe to skip\n(run it)"
    lines = [name]
    for modality in results.modalities:
        rows = results.select(name, modality)
        if len(rows):
            found = Counter(r.verdict for r in rows)
            lines.append(f"{modality} {found['redundant']} of {len(rows)}")
    return "\n".join(lines if len(lines) > 1 else [name, "not measured"])
