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
from redundancy.cli._help import Command, first_sentence

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
    layers a vision-language model may skip. All of it at work in a minute or two:

    \b
      redundancy demo

    Your own activations, one array per layer:

    \b
      redundancy estimate states.npz -m geometric

    Your own model, from its first forward to a plan that is certified and tried:

    \b
      redundancy extract MODEL --data vqa.jsonl -o acts \\
          --tokens 4 --vision-effect
      redundancy estimate acts -m geometric -m proximal
      redundancy plan acts --model MODEL --data held_out.jsonl
      redundancy skip MODEL --plan plan.json --data test.jsonl

    Every command has --help with examples, and --json for programs.
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
    app.command(
        _name, cls=Command, help=_module.__doc__, short_help=first_sentence(_module.__doc__)
    )(guarded(_module.command))


def commands() -> tuple[str, ...]:
    """Return the names of the commands, in order."""
    return tuple(_MODULES)
