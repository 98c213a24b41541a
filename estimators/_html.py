"""What a notebook shows: plain tables, everything in them escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["shares", "table"]

_CELL = "padding: 0.1em 0.8em 0.1em 0; text-align: {side}; border: 0"
# Okabe and Ito; the words stand beside the colours.
_COLOURS = ("#009e73", "#0072b2", "#d55e00", "#cc79a7")


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> str:
    """Return a table as HTML: first column of words, the others of numbers.

    Parameters
    ----------
    title : str
        Stands above in bold.
    head : sequence of str
        Headings; empty for a table without.
    rows : iterable of sequences
        Shown by `str`.
    note : str
        Stands below.

    Examples
    --------
    >>> "<b>x</b>" in table("<b>x</b>", ["a"], [["<i>"]])
    False
    """
    parts = [f"<div><strong>{escape(title)}</strong>"]
    parts.append('<table style="border-collapse: collapse; font-variant-numeric: tabular-nums">')
    if head:
        cells = "".join(_cell("th", i, text) for i, text in enumerate(head))
        parts.append(f"<thead><tr>{cells}</tr></thead>")
    parts.append("<tbody>")
    for row in rows:
        parts.append(f"<tr>{''.join(_cell('td', i, text) for i, text in enumerate(row))}</tr>")
    parts.append("</tbody></table>")
    if note:
        parts.append(f"<div>{escape(note)}</div>")
    parts.append("</div>")
    return "".join(parts)


def shares(parts: Sequence[tuple[str, float]]) -> str:
    """Return a bar divided in proportion; negative parts take no room.

    Parameters
    ----------
    parts : sequence of (name, value)
    """
    total = sum(max(value, 0.0) for _, value in parts)
    if not total > 0:
        return ""
    bars = "".join(
        f'<div title="{escape(name)}" style="width: {100 * max(value, 0.0) / total:.2f}%; '
        f'background: {_COLOURS[i % len(_COLOURS)]}"></div>'
        for i, (name, value) in enumerate(parts)
    )
    label = escape(", ".join(f"{name} {max(value, 0.0) / total:.0%}" for name, value in parts))
    return (
        f'<div role="img" aria-label="{label}" style="display: flex; height: 0.8em; width: 20em; '
        f'max-width: 100%; margin: 0.3em 0">{bars}</div>'
    )


def _cell(tag: str, place: int, text: object) -> str:
    style = _CELL.format(side="left" if place == 0 else "right")
    return f'<{tag} style="{style}">{escape(str(text))}</{tag}>'
