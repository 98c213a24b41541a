"""Estimate redundancy between layers of saved activations.

ACTS is a store that `redundancy extract` wrote, or your own .npz, .npy or .safetensors file with
one array per layer (keys 0, 1, ... or layer_0, layer_1, ...; optionally groups and target).

Examples:

  redundancy estimate acts --measure informational

  # several measures of your own arrays, thresholds at 0.05
  redundancy estimate states.npz -m geometric -m proximal --epsilon 0.05

  # what each layer alone says of the answer
  redundancy estimate acts -m pid --target answer --modality vision

  # for a program: one JSON document, in bits
  redundancy estimate acts --unit bits --json > result.json
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Annotated, Any

import typer

from redundancy.cli._common import (
    CI,
    Fresh,
    Jobs,
    Json,
    Out,
    Quiet,
    Resume,
    Seed,
    Strict,
    Unit,
    print_json,
    progress,
    show,
)
from redundancy.cli._complete import choices, names_of
from redundancy.cli._guarded import Failure, remember_out, say, typed

__all__ = ["command"]


def command(
    acts: Annotated[str, typer.Argument(metavar="ACTS", help="Store folder or array file.")],
    measure: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            "-m",
            help="What to estimate (redundancy ls measures); may be repeated.",
            autocompletion=names_of("measures"),
        ),
    ] = None,
    layers: Annotated[
        str | None, typer.Option("--layers", help="Layers to use, e.g. 0-31 or 0,4,8.")
    ] = None,
    pairs: Annotated[
        str,
        typer.Option(
            "--pairs",
            help="adjacent, first (each with the first layer) or all.",
            autocompletion=choices("adjacent", "first", "all"),
        ),
    ] = "adjacent",
    modality: Annotated[
        str | None,
        typer.Option(
            "--modality",
            help="vision or text; all by default.",
            autocompletion=choices("vision", "text"),
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="Column of the samples that pid, functional, ... are about."),
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option("--epsilon", help="Threshold of the verdicts.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="An option of the measure, name=value; may be repeated."),
    ] = None,
    states: Annotated[
        int | None, typer.Option("--states", help="Quantiser states of informational.")
    ] = None,
    ci: CI = 0.95,
    unit: Unit = "nats",
    engine: Annotated[
        str,
        typer.Option("--engine", help="local, dask, ray, dask:tcp://host:port or ray:host:port."),
    ] = "local",
    jobs: Jobs = None,
    memory: Annotated[
        str | None,
        typer.Option("--memory", help="What all processes may take, e.g. 4GB; no limit if absent."),
    ] = None,
    seed: Seed = 0,
    out: Out = None,
    resume: Resume = False,
    fresh: Fresh = False,
    strict: Strict = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the measures, write a run folder, and print a table."""
    started = time.perf_counter()
    import msgspec

    from estimators import InputError
    from redundancy._memory import parse_bytes
    from redundancy._progress import TimeLeft
    from redundancy._tasks import jobs_within, plan_tasks
    from redundancy.engine import submit
    from redundancy.layer_matrices import layer_matrices
    from redundancy.provenance import new_record, new_run_id
    from redundancy.report.html import write_report
    from redundancy.report.implications import implication_lines
    from redundancy.run import estimate, parse_layers, run_task
    from redundancy.run_folder import RunFolder
    from redundancy.store import open_source

    if unit not in ("nats", "bits"):
        raise InputError(f"unit is {unit!r}; use nats or bits")
    chosen = tuple(dict.fromkeys(measure or ["informational"]))
    options = _options(option or [])
    if states is not None:
        options["n_states"] = states
    source = open_source(acts)
    settings: dict[str, Any] = {
        "acts": acts,
        "measure": list(chosen),
        "layers": layers,
        "pairs": pairs,
        "modality": modality,
        "target": target,
        "epsilon": epsilon,
        "ci": ci,
        "seed": seed,
        **options,
        "store_sha256": source.info.get("sha256"),
    }
    # Whatever is wrong with the input is said before an earlier run is touched.
    about = source if target is None else source.with_target(target)
    tasks = plan_tasks(
        about,
        chosen,
        layers=layers,
        modality=modality,
        pairs=pairs,
        epsilon=epsilon,
        ci=ci,
        seed=seed,
        options=options,
    )
    if memory is not None:
        jobs_within(parse_bytes(memory), about, tasks, jobs or 1)
    submit(run_task, [], engine=engine, jobs=jobs)
    run_id = new_run_id()
    folder = RunFolder.prepare(
        out or f"runs/{run_id}", resume=resume, fresh=fresh, settings=settings
    )
    remember_out(str(folder.path), folder.forget)
    record = new_record(
        command="estimate",
        run_id=run_id,
        argv=typed(),
        options_given=_given(settings),
        options={**settings, "engine": engine, "unit": unit},
        seed=seed,
        store=source.info,
        status="running",
    )
    folder.write(record)
    done = folder.done()
    clock = TimeLeft()
    with progress("estimating", quiet=quiet, clock=clock) as update, folder.journal() as journal:

        def on_result(result: Any, finished: int, total: int) -> None:
            journal.add(result)
            clock.finished((result.measure, result.modality, *result.pair))
            update(finished, total)

        results = estimate(
            source,
            chosen,
            layers=layers,
            modality=modality,
            pairs=pairs,
            target=target,
            epsilon=epsilon,
            ci=ci,
            seed=seed,
            engine=engine,
            jobs=jobs,
            memory=memory,
            done=done,
            on_result=on_result,
            on_plan=lambda steps, workers: clock.plan(steps, workers, kind=lambda step: step[:2]),
            **options,
        )
    matrices = layer_matrices(
        source,
        chosen,
        modality=modality,
        layers=None if layers is None else parse_layers(layers),
        seed=seed,
    )
    shown = results.to(unit)
    took = time.perf_counter() - started
    record = msgspec.structs.replace(
        record,
        status="complete",
        run=msgspec.structs.replace(record.run, duration_s=round(took, 3)),
        results=[r.to_record() for r in shown],
        warnings=shown.warnings,
        **matrices,
    )
    folder.write(record)
    write_report(record, folder.report_path)
    if json_:
        print_json(record)
    else:
        follows = implication_lines(results)
        show(_lines(record, shown, follows, resumed=len(done), folder=str(folder.path)))
    if not quiet and json_:
        say(f"→ {folder.path}")
    bad = [r for r in results if not r.estimate.trustworthy]
    if len(bad) == len(results):
        # Nothing came of the run, so the reason is in the input.
        reasons = [d.message for r in bad for d in r.estimate.diagnostics if d.severity == "error"]
        why = Counter(reasons).most_common(1)[0][0] if reasons else "no reason was recorded"
        raise Failure(f"error: no pair has an estimate that can be trusted: {why}", 2)
    if strict and bad:
        labels = ", ".join(dict.fromkeys(r.label for r in bad))
        raise Failure(f"no trustworthy estimate for layers {labels}", 3)


def _lines(record: Any, results: Any, follows: list[str], *, resumed: int, folder: str) -> Any:
    from rich.text import Text

    from redundancy.cli._common import console
    from redundancy.report.numbers import count, duration
    from redundancy.report.tables import results_blocks

    run = record.run
    measures = ", ".join(results.measures)
    yield Text(
        f"redundancy {record.provenance['redundancy']} · estimate · {measures} · seed "
        f"{run.seed} · run {run.id}"
    )
    yield Text(describe_store(record.provenance["store"]))
    yield Text("")
    yield from results_blocks(results, width=console().width)
    if follows:
        yield Text("")
        yield Text("What follows, each for the pair where it says most (Figure 1)", style="bold")
        for line in follows:
            yield Text(line)
        yield Text("")
    new = len(results) - resumed
    yield Text(
        f"→ {folder}/report.html  record.json  pairs.jsonl     {duration(run.duration_s)}, "
        f"{count(new, 'pair')} new" + (f", {resumed} resumed" if resumed else "")
    )


def describe_store(store: dict[str, Any]) -> str:
    """Return one line that says what the numbers were made from."""
    parts = [str(store.get("path") or "arrays in memory")]
    if store.get("model"):
        revision = f"@{store['revision']}" if store.get("revision") else ""
        parts.append(f"{store['model']}{revision}")
    layers = store.get("layers") or []
    if layers:
        parts.append(f"layers {layers[0]}-{layers[-1]}")
    if store.get("n") is not None:
        parts.append(f"{store['n']:,} samples")
    return " · ".join(parts)


def _options(pairs: list[str]) -> dict[str, Any]:
    from estimators import InputError

    found: dict[str, Any] = {}
    for text in pairs:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"option {text!r} cannot be read; write name=value, e.g. t=0.05")
        found[name.strip().replace("-", "_")] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in settings.items() if v is not None and k != "store_sha256"}
