"""Run the whole path on the bundled model.

Capture, estimate, plan, certify, skip, report: needs no network and a minute or two. The report
says what was found and what skipping cost.

Examples:

  redundancy demo

  # again, in place of what stands there
  redundancy demo --out runs/demo --fresh
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from redundancy.cli._common import (
    Fresh,
    Json,
    Quiet,
    Resume,
    Seed,
    one_thread,
    print_json,
    progress,
    quiet_libraries,
    show,
)
from redundancy.cli._guarded import remember_out, typed

__all__ = ["command"]


def command(
    out: Annotated[str, typer.Option("--out", "-o", help="Folder to write.")] = "runs/demo",
    seed: Seed = 0,
    resume: Resume = False,
    fresh: Fresh = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a run folder and print what was found."""
    from functools import partial

    from redundancy.demo.run import ALPHA, DELTA, run
    from redundancy.provenance import new_record
    from redundancy.report.html import write_report
    from redundancy.run_folder import RunFolder

    quiet_libraries()
    settings = {"seed": seed, "alpha": ALPHA, "delta": DELTA}
    folder = RunFolder.prepare(out, resume=resume, fresh=fresh, settings=settings)
    remember_out(out, folder.forget)
    record = new_record(
        command="demo",
        argv=typed(),
        options=settings,
        seed=seed,
        status="running",
    )
    folder.write(record)
    with one_thread():
        record, results = run(
            folder,
            record,
            progress=partial(progress, quiet=quiet),
            seed=seed,
            resume=folder.resumed,
        )
    folder.write(record)
    write_report(record, folder.report_path)
    if json_:
        print_json(record)
    else:
        show(_lines(record, results, str(folder.path)))


def _lines(record: Any, results: Any, folder: str) -> Any:
    from rich.text import Text

    from redundancy.cli._common import console
    from redundancy.report.evaluations import evaluations_table, sweep_blocks
    from redundancy.report.numbers import duration
    from redundancy.report.tables import results_blocks

    width = console().width
    yield Text(f"redundancy {record.provenance['redundancy']} · demo · seed {record.run.seed}")
    yield Text("")
    yield from results_blocks(results, width=width)
    yield Text("")
    for sweep in record.sweeps:
        yield from sweep_blocks(sweep, width=width)
        yield Text("")
    yield Text("The plan", style="bold")
    yield Text(record.plan["description"])
    yield Text("")
    yield from evaluations_table(record.evaluations, width=width)
    yield Text("95% intervals by image · times are medians of alternating runs", style="dim")
    yield Text("")
    yield Text(
        f"→ open {folder}/report.html in a browser; beside it are record.json, plan.json and acts/"
        f"     {duration(record.run.duration_s)}"
    )
