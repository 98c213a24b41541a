"""Render formulas to MathML while building, so that the pages need no network to show them."""

from __future__ import annotations

import html
import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

_BAR = re.compile(r"<mo[^>]*>(&#x0007C;|&#x02016;)</mo>")
_log = logging.getLogger(__name__)


def _markup(latex: str, display: str, node: nodes.Node) -> str:
    try:
        markup = str(convert(latex, display=display))
    except Exception as error:  # the library raises many kinds; the reader still gets the source
        _log.warning("formula not understood (%s): %s", error, latex, location=node)
        return f"<code>{html.escape(latex)}</code>"
    # A bar is read as an operator between two things; most of ours enclose one.
    return _BAR.sub(r'<mo lspace="0" rspace="0" stretchy="false">\1</mo>', markup)


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(_markup(node.astext(), "inline", node))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    latex = node.astext().strip()
    if "\\\\" in latex and "\\begin" not in latex:
        latex = f"\\begin{{split}}{latex}\\end{{split}}"
    anchor = "".join(f' id="{html.escape(name)}"' for name in node["ids"][:1])
    writer.body.append(f'<div class="formula"{anchor}>{_markup(latex, "block", node)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer(
        "mathml", inline_renderers=(_inline, None), block_renderers=(_block, None)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
