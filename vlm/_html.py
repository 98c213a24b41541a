"""A skip plan as a notebook shows it; everything in it is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["plan_html"]

# Backgrounds on which black letters stand out in light and dark notebooks.
_LOOKS = {"runs": ("#dde1e6", ""), "no vision": ("#a5dfc9", "s"), "dropped": ("#f5cf8a", "d")}


def plan_html(description: str, cells: Sequence[str], model_type: str | None) -> str:
    """Return a strip of the layers and the plan in words.

    Parameters
    ----------
    description : str
    cells : sequence of {"runs", "no vision", "dropped"}
        What happens in each layer.
    model_type : str or None

    Examples
    --------
    >>> "&lt;b&gt;" in plan_html("<b>", ["runs"], None)
    True
    """
    strip = "".join(
        f'<span title="layer {i}: {cell}" style="background: {_LOOKS[cell][0]}; color: #000; '
        'display: inline-block; min-width: 1.2em; text-align: center; margin: 0 1px 1px 0">'
        f"{_LOOKS[cell][1] or '&nbsp;'}</span>"
        for i, cell in enumerate(cells)
    )
    of = "" if model_type is None else f" for {escape(model_type)}"
    return (
        f"<div><strong>Skip plan{of}</strong><div>{escape(description)}</div>"
        f'<div role="img" aria-label="{escape(description, quote=True)}">{strip}</div>'
        "<div>s: runs without the image, d: does not run</div></div>"
    )
