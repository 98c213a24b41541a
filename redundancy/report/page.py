"""What every page is made with: the templates, pictures as SVG, and links that carry their data."""

from __future__ import annotations

import base64
import io
import re
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from redundancy.report.numbers import duration

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

__all__ = ["command_line", "download", "render_page", "svg"]

# Drawn in this colour, replaced by the page's own: one picture serves light, dark and print.
_INK = "#010203"


def render_page(template: str, **context: Any) -> str:
    """Return a page made from a template of this package; every text in it is escaped.

    Parameters
    ----------
    template : str
        File name; one that extends ``base.html`` and imports ``blocks.html``.
    **context
        What the template names; a name it lacks is an error.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("redundancy.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["duration"] = duration
    return environment.get_template(template).render(**context)


def command_line(argv: Sequence[str]) -> str:
    """Return a command as a shell takes it."""
    return shlex.join(argv)


def download(name: str, mime: str, data: bytes) -> dict[str, str]:
    """Return a link that holds its own data, so that one file holds everything."""
    return {"name": name, "href": f"data:{mime};base64,{base64.b64encode(data).decode()}"}


def svg(draw: Callable[..., Axes], width: float, height: float) -> Markup:
    """Draw into an SVG that takes its ink from the page.

    Parameters
    ----------
    draw : callable
        Takes ``ax=``, as all functions of `redundancy.report.plots` do.
    width, height : float
        Inches; the page scales the picture to its column.
    """
    import matplotlib

    matplotlib.use("agg", force=False)
    from markupsafe import Markup
    from matplotlib.figure import Figure

    from redundancy.report import plots

    with plots.style(_INK):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(ax=figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The page sets the width; ids of several pictures on one page must not meet.
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    # matplotlib escapes the labels it is given, so this is markup of our own making.
    return Markup(text)
