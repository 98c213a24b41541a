"""Recompute a sample of results with scikit-learn, npeet_plus and dit.

SOURCE is a run's folder (or its record.json), or activations. Of a run, a seeded sample of results
is first computed again from its activations; then our estimators and the peers' get the same
states. Where they differ by design (norm, bias, absolute value), the table says why, and a check
holds that they differ by as much as they should.

Exit code 1 if anything disagrees, 2 if no peer is installed (pip install 'redundancy[reference]').

Examples:

  redundancy crosscheck runs/7f3a19c2

  redundancy crosscheck acts --samples 4 --peer npeet_plus --peer scikit-learn

  redundancy crosscheck runs/7f3a19c2 --acts /elsewhere/acts --json
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from redundancy.cli._common import Json, Quiet, Seed, console, print_json, progress, show
from redundancy.cli._guarded import Failure, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from redundancy.crosschecking import Check, CrossCheck

__all__ = ["command"]

_LEGEND = (
    "a: lower layer · b: upper · c: another of the store · information and entropy in nats · "
    "record: computed again from the run's activations, with intervals, p-values and by-products"
)
_STYLES = {
    "agrees": "green",
    "differs by design": "default",
    "disagrees": "red",
    "not compared": "dim",
}


def command(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A run, or activations.")],
    acts: Annotated[
        str | None,
        typer.Option("--acts", help="Where a run's activations are, if they have moved."),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", help="Results per measure, or pairs per modality.")
    ] = 2,
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", help="scikit-learn, npeet_plus or dit; all by default."),
    ] = None,
    modality: Annotated[
        str | None, typer.Option("--modality", help="vision or text; all by default.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="Column of the samples to use as a target.")
    ] = None,
    seed: Seed = 0,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print one line per number."""
    from redundancy.crosschecking import crosscheck
    from redundancy.crosschecking._peers import missing_sentence

    with progress("checking", quiet=quiet) as update:
        found = crosscheck(
            source,
            acts=acts,
            samples=samples,
            peers=peer,
            modality=modality,
            target=target,
            seed=seed,
            progress=update,
        )
    if found.missing and not quiet:
        say(missing_sentence(found.missing))
    if json_:
        print_json({"source": source, **found.to_json()})
    else:
        show(_blocks(found, source))
    if not found.agrees:
        one = found.disagreements[0]
        raise Failure(
            f"{len(found.disagreements)} of {len(found)} numbers disagree, the first of layers "
            f"{one.label} ({one.modality}): {one.quantity}; either the record was changed, or this "
            "is a defect: please report it with this table",
            1,
        )


def _blocks(found: CrossCheck, source: str) -> Iterator[RenderableType]:
    from rich.text import Text

    from redundancy._version import __version__
    from redundancy.report.numbers import count

    peers = ", ".join(f"{name} {version}" for name, version in found.peers.items() if version)
    yield Text(f"redundancy {__version__} · crosscheck · seed {found.seed}")
    yield Text(f"{source} · {peers}")
    yield Text("")
    reasons = {c.why: "" for c in found if c.why}
    marks = {why: f"D{i}" for i, why in enumerate(reasons, start=1)}
    places = dict.fromkeys((c.pair, c.modality) for c in found)
    for pair, modality in places:
        rows = [c for c in found if (c.pair, c.modality) == (pair, modality)]
        yield Text(f"{rows[0].label} · {modality}", style="bold")
        yield from _rows(rows, marks)
        yield Text("")
    for why, mark in marks.items():
        yield Text(f"{mark} {why}")
    yield Text("")
    yield Text(_LEGEND, style="dim")
    words = " · ".join(f"{n} {word}" for word, n in found.counts.items())
    yield Text(f"{count(len(found), 'number')}: {words}")


def _rows(rows: list[Check], marks: dict[str, str]) -> Iterator[RenderableType]:
    """Yield a table, or, where a terminal is too narrow for it, two lines a number."""
    from rich.table import Table
    from rich.text import Text

    headers = ("quantity", "peer", "ours", "theirs", "difference", "tolerance", "", "")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 1))
    right = {"ours", "theirs", "difference", "tolerance"}
    for header in headers:
        table.add_column(header, justify="right" if header in right else "left", no_wrap=True)
    cells = [_cells(c, marks) for c in rows]
    width = sum(max(map(len, column)) + 3 for column in zip(headers, *cells, strict=True))
    if width <= console().width:
        for check, row in zip(rows, cells, strict=True):
            texts = [Text(cell) for cell in row]
            texts[-2].stylize(_STYLES[check.outcome])
            table.add_row(*texts)
        yield table
        return
    for check, (quantity, peer, ours, theirs, difference, _, outcome, mark) in zip(
        rows, cells, strict=True
    ):
        yield Text(f"{quantity} · {peer}")
        yield (
            Text(f"  {ours} | {theirs} | {difference}  ")
            .append(outcome, style=_STYLES[check.outcome])
            .append(f" {mark}")
        )


def _cells(check: Check, marks: dict[str, str]) -> tuple[str, ...]:
    def number(value: float | None, digits: str = ".6g") -> str:
        return "–" if value is None else format(value, digits).replace("-", "−")

    compared = check.outcome != "not compared"
    return (
        check.quantity,
        check.peer,
        number(check.ours),
        number(check.theirs),
        number(check.difference, ".1e"),
        number(check.tolerance if compared else None, ".0e"),
        check.outcome,
        marks.get(check.why, ""),
    )
