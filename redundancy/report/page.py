"""What every page is made with: the templates, pictures as SVG, and links that carry their data."""

from __future__ import annotations

import base64
import gzip
import io
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from redundancy.report._svg import INK, slim
from redundancy.report.numbers import duration

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

__all__ = ["command_line", "download", "render_page", "svg", "words"]

_PACKED_ABOVE = 100_000


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
    environment.filters["words"] = words
    return environment.get_template(template).render(**context)


def words(value: Any) -> str:
    """Return plain data as a person writes it.

    Examples
    --------
    >>> words({"name": "vqa", "seed": 0}), words([1, 2]), words(2048)
    ('vqa, seed 0', '1, 2', '2,048')
    """
    if isinstance(value, Mapping):
        parts = (words(v) if k == "name" else f"{k} {words(v)}" for k, v in value.items())
        return ", ".join(parts)
    if isinstance(value, list | tuple):
        return ", ".join(words(v) for v in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def command_line(argv: Sequence[str]) -> str:
    """Return a command as a shell takes it."""
    return shlex.join(argv)


def download(name: str, mime: str, data: bytes) -> dict[str, str]:
    """Return a link that holds its own data, so that one file holds everything.

    Large data are packed (``.gz``): a page that carries several runs stays small enough to send.
    """
    if len(data) > _PACKED_ABOVE:
        data, name, mime = gzip.compress(data, mtime=0), f"{name}.gz", "application/gzip"
    return {"name": name, "href": f"data:{mime};base64,{base64.b64encode(data).decode()}"}


def svg(
    draw: Callable[..., Axes], width: float = 4.5, height: float = 3.0, name: str = ""
) -> Markup:
    """Draw into an SVG that takes ink, colours and letters from the page.

    Parameters
    ----------
    draw : callable
        Takes ``ax=``, as all functions of `redundancy.report.plots` do.
    width, height : float
        Inches; the page scales the picture to its column. At the default width letters keep their
        size on a telephone.
    name : str
        Tells the picture from others of the page that may look the same.
    """
    import matplotlib

    matplotlib.use("agg", force=False)
    from markupsafe import Markup
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    from redundancy.report import plots

    buffer = io.StringIO()
    with plots.style(INK):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(ax=figure.add_subplot())
        # Laid out and printed by hand: `savefig` would draw everything twice.
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.execute(figure)
        figure.set_layout_engine("none")
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    # matplotlib escapes the labels it is given, so this is markup of our own making.
    return Markup(slim(buffer.getvalue(), f"{6 * width:.3g}rem", name))
