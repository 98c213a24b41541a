"""List measures, estimators, probes or model families.

Examples:

  redundancy ls measures

  redundancy ls estimators --json
"""

from __future__ import annotations

from typing import Annotated

import typer

from redundancy.cli._common import Json, print_json, show
from redundancy.cli._complete import choices

__all__ = ["command"]


def command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="measures, estimators, probes or families.",
            autocompletion=choices("measures", "estimators", "probes", "families"),
        ),
    ] = "measures",
    json_: Json = False,
) -> None:
    """Print one line per name."""
    from rich.table import Table
    from rich.text import Text

    from redundancy import registry

    found = {name: _summary(what, name) for name in registry.names(what)}
    if json_:
        print_json([{"name": name, "summary": text} for name, text in found.items()])
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, text in found.items():
        table.add_row(Text(name), Text(text))
    show([table])


def _summary(what: str, name: str) -> str:
    """Return the first line of a module's docstring, read without importing what it needs."""
    import ast
    import importlib.util

    from redundancy.registry import FOLDERS

    spec = importlib.util.find_spec(f"{FOLDERS[what]}.{name}")
    if spec is None or spec.loader is None:
        return ""
    source = spec.loader.get_source(spec.name)  # type: ignore[attr-defined]  # a SourceLoader
    lines = (ast.get_docstring(ast.parse(source or "")) or "").splitlines()
    return lines[0] if lines else ""
