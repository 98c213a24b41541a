"""Test whether the measures predict what skipping costs.

Every layer of every MODEL is read on some images; on others, vision is hidden from each layer
alone, enters one layer later, leaves one layer earlier, and each layer is left out. Rank
correlations of readings with these losses follow, with intervals over images and over models, the
layers in random order as a control, and how the verdicts did. Failures are reported as plainly as
successes. Without a MODEL the bundled one is validated; --paper analyses published tables.

Examples:

  redundancy validate

  redundancy validate ./my-model --data questions.jsonl -o runs/validation

  redundancy validate --paper
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from redundancy.cli._common import (
    CI,
    Fresh,
    Json,
    Out,
    Quiet,
    Resume,
    Seed,
    print_json,
    progress,
    quiet_libraries,
    show,
)
from redundancy.cli._guarded import remember_out, typed

__all__ = ["command"]


def command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Model folders or hub ids, or studies (.json) that this command wrote.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Samples with answers; half of the images are read."),
    ] = None,
    alpha: Annotated[
        float, typer.Option("--alpha", help="A layer harms if it changes more answers than this.")
    ] = 0.05,
    delta: Annotated[
        float, typer.Option("--delta", help="For the orderings: probability of a wrong plan.")
    ] = 0.1,
    measure: Annotated[
        list[str] | None, typer.Option("--measure", help="Measures to test; repeatable.")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            "--images", help="Images to test on, if scenes of the bundled model are used."
        ),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", help="Resamples and permutations.")] = 2000,
    resplits: Annotated[
        int, typer.Option("--resplits", help="Divisions of the images to compare orderings on.")
    ] = 200,
    paper: Annotated[
        bool, typer.Option("--paper", help="Analyse the published tables; runs no model.")
    ] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Samples per forward.")] = 16,
    ci: CI = 0.95,
    out: Out = None,
    seed: Seed = 0,
    resume: Resume = False,
    fresh: Fresh = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the studies and their analysis, and print the tables."""
    started = time.perf_counter()
    from functools import partial

    from msgspec.structs import replace

    from estimators import InputError
    from redundancy import registry
    from redundancy._losses import check_probability
    from redundancy.provenance import new_record, new_run_id, provenance
    from redundancy.run_folder import RunFolder
    from redundancy.validation import records
    from redundancy.validation.analysis import analyse, check
    from redundancy.validation.data import divide
    from redundancy.validation.paper import analyse_paper
    from redundancy.validation.resplits import compare_orderings
    from redundancy.validation.show import blocks, layer_blocks

    settings = {"alpha": alpha, "delta": delta, "ci": ci, "draws": draws, "seed": seed}
    if paper:
        if models or data:
            raise InputError("--paper analyses published tables; leave models and --data out")
        found = analyse_paper(alpha=alpha, level=ci, draws=draws, seed=seed)
        if json_:
            print_json(found)
        else:
            show(blocks(found))
        return
    check(alpha, ci, draws)
    check_probability(delta, "--delta", "the probability of a wrong plan, e.g. 0.1")
    for name in measure or ():
        registry.load("measures", name)
    known = _known(list(models or ()), data, images)
    if data is not None and any("study" not in one for one in known):
        # Too few images, say: before an earlier run is touched.
        from vlm.data import rows_of

        divide(rows_of(data), seed=seed)
    quiet_libraries()
    run_id = new_run_id()
    # What a study depends on: with other models, or another alpha, the finished ones still hold.
    kept = {"data": data, "images": images, "measures": list(measure or ()), "seed": seed}
    options = {**settings, **kept, "models": list(models or ())}
    folder = RunFolder.prepare(out or f"runs/{run_id}", resume=resume, fresh=fresh, settings=kept)
    remember_out(str(folder.path), folder.forget)
    record = new_record(
        command="validate",
        run_id=run_id,
        argv=typed(),
        options=options,
        seed=seed,
        status="running",
    )
    folder.write(record)
    studies = _studies(
        known,
        data,
        folder.path,
        measures=measure,
        images=images,
        batch_size=batch_size,
        seed=seed,
        progress=partial(progress, quiet=quiet),
    )
    with progress("analysing", quiet=quiet):
        found = analyse(
            studies, alpha=alpha, level=ci, draws=draws, seed=seed, provenance=provenance()
        )
        outcomes = compare_orderings(
            studies, alpha=alpha, delta=delta, level=ci, resplits=resplits, seed=seed
        )
    notes = found.notes
    compared = len(outcomes[0].by_model) if outcomes else 0
    if compared < len(studies):
        notes = [
            *notes,
            f"orderings of plans were compared for {compared} of {len(studies)} models: half of "
            f"the images of the others cannot certify any plan at alpha {alpha:g}, delta {delta:g}",
        ]
    found = replace(found, orderings=outcomes, notes=notes)
    records.write(found, folder.path / "validation.json")
    run = replace(record.run, duration_s=round(time.perf_counter() - started, 3))
    folder.write(replace(record, status="complete", run=run))
    if json_:
        print_json(found)
    else:
        if len(studies) == 1:
            show(layer_blocks(studies[0]))
        show(blocks(found))
        from rich.text import Text

        show([Text(f"→ {folder.path}/validation.json  studies/")])


def _known(models: list[str], data: str | None, images: int | None) -> list[dict[str, Any]]:
    """What is known of every model before any is loaded: bad names are said at once."""
    from redundancy.demo.several import check_questions, describe
    from redundancy.validation.analysis import check_names
    from redundancy.validation.records import read_study

    found: list[dict[str, Any]] = []
    for given in models or [None]:  # type: ignore[list-item]  # None is the bundled model
        if given is not None and given.endswith(".json"):
            found.append({"study": read_study(given)})
            continue
        found.append(describe(given))
        if data is None:
            check_questions(found[-1], images)
    check_names([one["study"].name if "study" in one else one["name"] for one in found])
    return found


def _studies(
    models: Sequence[Mapping[str, Any]],
    data: str | None,
    folder: Path,
    *,
    measures: list[str] | None,
    images: int | None,
    batch_size: int,
    seed: int,
    progress: Any,
) -> list[Any]:
    """Return the study of every model: read where it is there, made where it is not."""
    import shutil

    from redundancy.demo.several import questions
    from redundancy.validation import records
    from redundancy.validation.data import divide
    from redundancy.validation.study import MEASURES, study
    from vlm.data import rows_of
    from vlm.model import load

    found = []
    for known in models:
        if "study" in known:
            found.append(known["study"])
            continue
        name = known["name"]
        path = folder / "studies" / f"{name}.json"
        if path.exists():
            found.append(records.read_study(path))
            continue
        measured: Sequence[Mapping[str, Any]]
        tested: Sequence[Mapping[str, Any]]
        if data is None:
            measured, tested = questions(known, images=images, seed=seed)
        else:
            measured, tested = divide(rows_of(data), seed=seed)
        model, processor = load(known["path"])
        store = folder / "stores" / name
        # A store of a study that was not finished; one that was is read above.
        shutil.rmtree(store, ignore_errors=True)
        result = study(
            model,
            processor,
            measured,
            tested,
            name=name,
            store_path=store,
            describe=known,
            measures=tuple(measures or MEASURES),
            batch_size=batch_size,
            seed=seed,
            progress=progress,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        records.write(result, path)
        found.append(result)
    return found
