"""Probe every layer for a target, and say what each layer changes of it.

The target is a column of the samples (answer, task, ...), or the array `target` of your own file.
Folds keep images together; beside each score stands that of the same probe on shuffled targets.

Examples:

  redundancy probe acts --target answer --modality text

  # your own arrays, two kinds of probe, for a program
  redundancy probe states.npz --kind linear --kind mlp --json > probes.json
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from redundancy.cli._common import CI, Json, Quiet, Seed, print_json, progress, show

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
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print a row per layer."""
    from redundancy.probing import probe_store
    from redundancy.run import parse_layers
    from redundancy.store import open_source

    store = open_source(acts)
    with progress("probing", quiet=quiet) as update:
        report = probe_store(
            store,
            target,
            kinds=tuple(dict.fromkeys(kind or ["linear"])),
            modality=modality,
            layers=None if layers is None else parse_layers(layers),
            pool=pool,  # type: ignore[arg-type]  # checked there, by name
            folds=folds,
            ci=ci,
            threshold=epsilon,
            seed=seed,
            progress=lambda done, total, _: update(done, total),
        )
    if json_:
        print_json(report.to_dict())
    else:
        show(_lines(report))


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
    found = [*report.diagnostics, *(d for s in report.scores for d in s.score.diagnostics)]
    for text in dict.fromkeys(d.message for d in found if d.severity != "info"):
        yield Text(f"note: {text}")
