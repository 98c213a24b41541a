"""Write the HTML report of a run, or of several runs side by side.

RUN is a run's folder or its record.json. One run gives its report, written beside its record;
several give one page that compares them (models, data sets, settings), and then --out names it.
The report is one file that needs no network: open it, print it, send it.

Examples:

  redundancy report runs/7f3a19c2

  redundancy report runs/7f3a19c2 -o report.html

  # three data sets side by side
  redundancy report runs/coco runs/gqa runs/textvqa -o comparison.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redundancy.cli._common import Json, print_json
from redundancy.cli._guarded import say

__all__ = ["command"]


def command(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run folders or record.json files.")
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="File to write; report.html beside the one record."),
    ] = None,
    json_: Json = False,
) -> None:
    """Build the report from the records alone."""
    from estimators import InputError
    from redundancy._files import write_atomic
    from redundancy.record import read_record
    from redundancy.report.comparison import write_comparison
    from redundancy.report.html import write_report
    from redundancy.report.probes import read_probe_report, render_probes

    records = [read_record(run) for run in runs]
    source = Path(runs[0])
    default = source / "report.html" if source.is_dir() else source.with_name("report.html")
    if out is None and len(runs) > 1:
        raise InputError(
            f"{len(runs)} runs make one comparison; name the file to write, e.g. -o comparison.html"
        )
    target = Path(out) if out else default
    if target.is_dir():
        raise InputError(f"{target} is a folder; name the file to write, e.g. {target}/report.html")
    if target.is_file() and not _is_page(target):
        raise InputError(f"{target} is no HTML page, and would be lost; name another file to write")
    if not target.parent.is_dir():
        raise InputError(f"there is no folder {target.parent}; make it first")
    if len(records) == 1 and records[0].run.command == "probe":
        probes = read_probe_report(source if source.is_dir() else source.parent)
        write_atomic(target, render_probes(probes, records[0]).encode())
    elif len(records) == 1:
        write_report(records[0], target)
    else:
        write_comparison(records, target)
    if json_:
        size = target.stat().st_size
        print_json({"report": str(target), "bytes": size, "runs": [r.run.id for r in records]})
    else:
        say(f"→ {target}")


def _is_page(path: Path) -> bool:
    """Whether a file may be one of our own pages; an empty one is nobody's."""
    with path.open("rb") as handle:
        return handle.read(15).lower() in (b"", b"<!doctype html>")
