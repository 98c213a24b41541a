"""Probe every layer for a target, and say what each layer changes of it.

The target is a column of the samples (answer, task, ...), or the array `target` of your own file.
Folds keep images together; beside each score stands that of the same probe on shuffled targets.
The folder holds probes.json, a report as one HTML file, and what a later run can take up.

Examples:

  redundancy probe acts --target answer --modality text

  # your own arrays, two kinds of probe, for a program
  redundancy probe states.npz --kind linear --kind mlp --json > probes.json

  # after an interruption
  redundancy probe acts --target answer --modality text --out runs/probes --resume
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redundancy.cli._common import (
    CI,
    Fresh,
    Json,
    Out,
    Quiet,
    Resume,
    Seed,
    Strict,
    known_jobs,
    print_json,
    progress,
    show,
)
from redundancy.cli._guarded import Failure, remember_out, say, typed

if TYPE_CHECKING:
    from redundancy.probing import ProbeReport
    from redundancy.results import PairResult

__all__ = ["command"]


def command(
    acts: Annotated[str, typer.Argument(metavar="ACTS", help="Store folder or array file.")],
    target: Annotated[
        str | None, typer.Option("--target", help="Column of the samples; the file's own if none.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="linear, ridge, logistic or mlp; repeatable.")
    ] = None,
    modality: Annotated[str | None, typer.Option("--modality", help="vision or text.")] = None,
    layers: Annotated[str | None, typer.Option("--layers", help="Layers, e.g. 0-31.")] = None,
    pool: Annotated[
        str, typer.Option("--pool", help="mean (one row per sample) or token.")
    ] = "mean",
    folds: Annotated[int, typer.Option("--folds", help="Odd, 5 or more.")] = 5,
    epsilon: Annotated[
        float | None, typer.Option("--epsilon", help="Threshold of functional redundancy.")
    ] = None,
    ci: CI = 0.95,
    seed: Seed = 0,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", help="Layers at a time; 2 if states are large.", callback=known_jobs
        ),
    ] = None,
    out: Out = None,
    resume: Resume = False,
    fresh: Fresh = False,
    strict: Strict = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print a row per layer, and write a folder with the report."""
    started = time.perf_counter()
    import msgspec

    from redundancy._probe_journal import journal, read_journal
    from redundancy.probing import plan_probes, probe_store
    from redundancy.provenance import new_record, new_run_id
    from redundancy.report.probes import document, write_probe_report
    from redundancy.results import Results
    from redundancy.run import parse_layers
    from redundancy.run_folder import RunFolder
    from redundancy.store import open_source

    source = open_source(acts)
    kinds = tuple(dict.fromkeys(kind or ["linear"]))
    settings: dict[str, Any] = {
        "acts": acts,
        "target": target,
        "kind": list(kinds),
        "modality": modality,
        "layers": layers,
        "pool": pool,
        "folds": folds,
        "epsilon": epsilon,
        "ci": ci,
        "seed": seed,
        "store_sha256": source.info.get("sha256"),
    }
    asked: dict[str, Any] = {
        "kinds": kinds,
        "modality": modality,
        "layers": None if layers is None else parse_layers(layers),
        "pool": pool,
        "folds": folds,
        "ci": ci,
        "threshold": epsilon,
        "seed": seed,
    }
    # Whatever is wrong with the input is said before an earlier run is touched.
    plan_probes(source, target, **asked)
    run_id = new_run_id()
    folder = RunFolder.prepare(
        out or f"runs/{run_id}", resume=resume, fresh=fresh, settings=settings
    )
    remember_out(str(folder.path), folder.forget)
    record = new_record(
        command="probe",
        run_id=run_id,
        argv=typed(),
        options_given={k: v for k, v in settings.items() if v is not None and k != "store_sha256"},
        options=settings,
        seed=seed,
        store=source.info,
        status="running",
    )
    folder.write(record)
    done = read_journal(folder.path) if folder.resumed else []
    with (
        progress("probing", quiet=quiet) as update,
        journal(folder.path, fresh=not folder.resumed) as lines,
    ):

        def tell(finished: int, total: int, item: Any) -> None:
            if item is not None:
                lines.add(item)
            update(finished, total)

        report = probe_store(source, target, **asked, jobs=jobs, done=done, progress=tell)
    results = Results(_results(report, ci, epsilon))
    record = msgspec.structs.replace(
        record,
        status="complete",
        run=msgspec.structs.replace(record.run, duration_s=round(time.perf_counter() - started, 3)),
        results=[r.to_record() for r in results],
        warnings=results.warnings,
    )
    folder.write(record)
    write_probe_report(report, record, folder.path)
    if json_:
        print_json(document(report, record))
        if not quiet:
            say(f"→ {folder.path}")
    else:
        show(_lines(report))
        show(_end(record, str(folder.path), len(done)))
    _judge(report, strict=strict)


def _results(report: ProbeReport, ci: float | None, threshold: float | None) -> list[PairResult]:
    from redundancy.results import PairResult
    from redundancy.run import with_verdicts

    plain = [
        PairResult(
            pair=(p.lower, p.upper),
            measure="functional",
            modality=report.modality,
            estimate=p.reading.estimate,
            extras=p.reading.extras,
            threshold=threshold,
            p_redundant=p.reading.p_redundant,
            p_needed=p.reading.p_needed,
        )
        for p in report.pairs
    ]
    return with_verdicts(plain, level=ci)


def _judge(report: ProbeReport, *, strict: bool) -> None:
    bad = [s for s in report.scores if not s.score.trustworthy]
    if len(bad) == len(report.scores):
        reasons = [d.message for s in bad for d in s.score.diagnostics if d.severity == "error"]
        why = reasons[0] if reasons else "no reason was recorded"
        raise Failure(f"error: no layer could be probed: {why}", 2)
    pairs = [p for p in report.pairs if not p.reading.estimate.trustworthy]
    if strict and (bad or pairs):
        layers = [str(s.layer) for s in bad] + [f"{p.lower}→{p.upper}" for p in pairs]
        raise Failure(f"no trustworthy estimate for layers {', '.join(dict.fromkeys(layers))}", 3)


def _end(record: Any, folder: str, resumed: int) -> Any:
    from rich.text import Text

    from redundancy.report.numbers import duration

    yield Text("")
    yield Text(
        f"→ {folder}/report.html  probes.json  record.json     {duration(record.run.duration_s)}"
        + (f", {resumed} steps resumed" if resumed else "")
    )


def _lines(report: Any) -> Any:
    from rich.text import Text

    from redundancy.cli._common import console
    from redundancy.report.numbers import MISSING, count, interval, number
    from redundancy.report.tables import folded

    what = "share right" if report.target_kind == "classes" else "R²"
    yield Text(
        f"{what} of {report.target} from {report.modality} states, {report.state} · "
        f"{count(report.n, 'row')}"
        + (f" of {count(report.n_groups, 'group')}" if report.n_groups else "")
    )
    functional = {(p.upper): p.reading.estimate for p in report.pairs}
    rows = []
    for s in report.scores:
        f = functional.get(s.layer) if s.kind == report.kinds[0] else None
        ci, f_ci = s.score.ci, None if f is None else f.ci
        rows.append(
            (
                s.kind,
                number(s.score.value, 3),
                MISSING if ci is None else interval(ci.low, ci.high, 3),
                MISSING if s.control is None else number(s.control.value, 3),
                MISSING if f is None else number(f.value, 4),
                MISSING if f_ci is None else interval(f_ci.low, f_ci.high, 4),
            )
        )
    kinds, scores, score_ci, controls, fs, f_cis = zip(*rows, strict=True)
    groups = [
        [("probe", kinds), ("score", scores), ("CI", score_ci)],
        [("shuffled", controls)],
        [("F", fs), ("CI of F", f_cis)],
    ]
    layers = ("layer", [str(s.layer) for s in report.scores])
    yield from folded(layers, groups, width=console().width)
    yield Text(
        f"without any state: {report.baseline:.3f} · F: functional redundancy with the layer "
        "below, in squared units of the target",
        style="dim",
    )
    for name, e in report.planted.items():
        yield Text(f"control, target written into the states ({name}): {number(e.value, 3)}")
    found = [
        *report.diagnostics,
        *(d for s in report.scores for d in s.score.diagnostics),
        *(d for p in report.pairs for d in p.reading.estimate.diagnostics),
    ]
    for text in dict.fromkeys(d.message for d in found if d.severity != "info"):
        yield Text(f"note: {text}")
