"""Write the HTML report of a run.

RUN is a run's folder or its record.json. The report is one file that needs no network.

Examples:

  redundancy report runs/7f3a19c2

  redundancy report runs/7f3a19c2 -o report.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redundancy.cli._common import Json, Out, print_json
from redundancy.cli._guarded import say

__all__ = ["command"]


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run folder or record.json.")],
    out: Out = None,
    json_: Json = False,
) -> None:
    """Build the report from the record alone."""
    from estimators import InputError
    from redundancy.record import read_record
    from redundancy.report.html import write_report

    record = read_record(run)
    source = Path(run)
    default = source / "report.html" if source.is_dir() else source.with_name("report.html")
    target = Path(out) if out else default
    if target.is_dir():
        raise InputError(f"{target} is a folder; name the file to write, e.g. {target}/report.html")
    if not target.parent.is_dir():
        raise InputError(f"there is no folder {target.parent}; make it first")
    write_report(record, target)
    if json_:
        print_json({"report": str(target), "bytes": target.stat().st_size})
    else:
        say(f"→ {target}")
