"""The command tree, in the order of the path from model to report."""

from __future__ import annotations

from typing import Annotated

import typer

from redundancy._version import __version__
from redundancy.cli import (
    crosscheck,
    demo,
    doctor,
    estimate,
    extract,
    ls,
    plan,
    probe,
    report,
    skip,
    validate,
)
from redundancy.cli._guarded import guarded

__all__ = ["app", "commands"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"redundancy {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Redundancy between the layers of a network, and the layer skips it allows.

    Activations go in, numbers with intervals come out; where they allow it, a plan says which
    layers a vision-language model may skip. To see all of it at work: redundancy demo
    """


_MODULES = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        demo,
        extract,
        estimate,
        probe,
        plan,
        skip,
        validate,
        report,
        crosscheck,
        ls,
        doctor,
    )
}
for _name, _module in _MODULES.items():
    app.command(_name, help=_module.__doc__)(guarded(_module.command))


def commands() -> tuple[str, ...]:
    """Return the names of the commands, in order."""
    return tuple(_MODULES)
