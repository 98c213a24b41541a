"""Apply a plan to a model and measure what it costs and saves.

The model answers DATA as it is and with the plan: accuracy and agreement with intervals by image,
and time, FLOPs and cache. --sweep runs a series of plans instead: late entry, early exit, dropped
layers, or vision left out of one layer at a time.

Examples:

  redundancy skip ./my-model --plan plan.json --data test.jsonl

  # every late entry and every early exit, one after the other
  redundancy skip ./my-model --data test.jsonl --sweep late --sweep exit
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from redundancy.cli._common import (
    Fresh,
    Json,
    Out,
    Quiet,
    print_json,
    progress,
    quiet_libraries,
    show,
)
from redundancy.cli._complete import choices
from redundancy.cli._guarded import remember_out, typed

__all__ = ["command"]


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model folder or hub id.")],
    data: Annotated[str, typer.Option("--data", help="JSONL, parquet or saved data set.")],
    plan: Annotated[str | None, typer.Option("--plan", help="Plan file to apply.")] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            help="late, exit, drop or single; may be repeated.",
            autocompletion=choices("late", "exit", "drop", "single"),
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Samples per forward.")] = 16,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", help="Longest generated answer.")
    ] = 16,
    repeats: Annotated[
        int, typer.Option("--repeats", help="Timed runs of each, in alternation.")
    ] = 3,
    dtype: Annotated[
        str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")
    ] = "auto",
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, or auto to spread a large model.")
    ] = None,
    out: Out = None,
    fresh: Fresh = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate with and without, write a run folder, and print a table."""
    started = time.perf_counter()
    from estimators import InputError

    if plan is None and not sweep:
        raise InputError(
            "nothing to apply: give --plan FILE, or --sweep late, exit, drop or single"
        )
    if repeats < 1:
        raise InputError(f"repeats is {repeats}; time each at least once")
    import msgspec

    from redundancy.evaluation import interleaved_prefill, sweep_record, to_record
    from redundancy.provenance import new_record, new_run_id
    from redundancy.record import plain
    from redundancy.report.html import write_report
    from redundancy.run_folder import RunFolder
    from vlm import evaluate as evaluation
    from vlm.data import rows_of
    from vlm.model import decoder_layers, load
    from vlm.plan import SkipPlan
    from vlm.skip import skipping

    quiet_libraries()
    kinds = tuple(dict.fromkeys(sweep or ()))
    given = None if plan is None else SkipPlan.load(plan)
    loaded, processor = load(model, dtype=dtype, device_map=device)
    n_layers = len(decoder_layers(loaded))
    planned = [] if given is None else [given]
    for kind in kinds:
        planned += evaluation.plans_of(kind, n_layers)  # type: ignore[arg-type]  # checked there
    for one in planned:
        # What cannot be applied is refused before anything runs.
        with skipping(loaded, one):
            pass
    rows = list(rows_of(data))
    tasks = [str(row["task"]) for row in rows] if all("task" in row for row in rows) else None
    run_id = new_run_id()
    folder = RunFolder.prepare(out or f"runs/{run_id}", fresh=fresh)
    remember_out(str(folder.path), folder.forget)
    record = new_record(
        command="skip",
        run_id=run_id,
        argv=typed(),
        options={"model": model, "data": data, "plan": plan, "sweep": list(kinds)},
        store={"path": data, "model": model, "n": len(rows)},
        status="running",
    )
    folder.write(record)

    def run(a_plan: Any, baseline: Any = None, update: Any = None) -> Any:
        return evaluation.evaluate(
            loaded,
            processor,
            rows,
            a_plan,
            baseline=baseline,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            # The right answer's cost takes a second pass, and sweeps are read for it.
            nll=bool(kinds),
            progress=update,
        )

    with progress("full model", quiet=quiet) as update:
        full = run(None, update=update)
    evaluations, sweeps = [to_record(full, "full model", tasks=tasks)], []
    if given is not None:
        with progress("with the plan", quiet=quiet) as update:
            changed = run(given, full, update)
        seconds = interleaved_prefill(run, {"full": None, "plan": given}, repeats=repeats)
        evaluations = [
            to_record(full, "full model", tasks=tasks, prefill_s=seconds["full"]),
            to_record(
                changed, "with the plan", tasks=tasks, prefill_s=seconds["plan"], baseline=full
            ),
        ]
    for kind in kinds:
        with progress(f"sweep {kind}", quiet=quiet) as update:
            curve = evaluation.sweep(
                loaded,
                processor,
                rows,
                kind,  # type: ignore[arg-type]  # checked above
                baseline=full,
                batch_size=batch_size,
                max_new_tokens=max_new_tokens,
                nll=True,
                progress=update,
            )
        sweeps.append(
            sweep_record(kind, range(len(curve)), curve, baseline=full)  # type: ignore[arg-type]
        )
    record = msgspec.structs.replace(
        record,
        status="complete",
        run=msgspec.structs.replace(record.run, duration_s=round(time.perf_counter() - started, 3)),
        evaluations=evaluations,
        sweeps=sweeps,
        plan=None if given is None else {**plain(given.to_json()), "description": given.describe()},
    )
    folder.write(record)
    write_report(record, folder.report_path)
    if json_:
        print_json(record)
    else:
        show(_lines(record, given, str(folder.path)))


def _lines(record: Any, plan: Any, folder: str) -> Any:
    from rich.text import Text

    from redundancy.cli._common import console
    from redundancy.report.evaluations import evaluations_table, sweep_blocks
    from redundancy.report.numbers import count, duration

    width = console().width
    store = record.provenance["store"]
    first = record.evaluations[0]
    yield Text(f"redundancy {record.provenance['redundancy']} · skip · run {record.run.id}")
    yield Text(f"{store['model']} · {count(first.n, 'sample')} of {count(first.n_groups, 'image')}")
    yield Text("")
    if plan is not None:
        yield Text(plan.describe(), style="bold")
    yield from evaluations_table(record.evaluations, width=width)
    yield Text("95% intervals by image · times are medians of alternating runs", style="dim")
    yield Text("")
    for sweep in record.sweeps:
        yield from sweep_blocks(sweep, width=width)
        yield Text("")
    yield Text(f"→ {folder}/report.html  record.json     {duration(record.run.duration_s)}")
