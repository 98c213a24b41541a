"""Propose layer skips from saved activations, and certify one.

Thresholds propose plans and order them, safest first; they guarantee nothing. With --model and
--data the plans are run on those samples, which must be others than the store's, and the one is
kept that saves most while at most a share alpha of the answers changes, with probability 1 - delta.
From activations of a text-only model the plans drop layers (kinds drop and stretch).

Examples:

  # by thresholds alone
  redundancy plan acts -o plan.json

  # certified: at most 2% of the answers change, with 90% confidence
  redundancy plan acts --model ./my-model --data held_out.jsonl --alpha 0.02 --delta 0.1
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from redundancy.cli._common import (
    Fresh,
    Json,
    Quiet,
    Seed,
    print_json,
    progress,
    quiet_libraries,
    show,
)
from redundancy.cli._complete import choices
from redundancy.cli._guarded import say

__all__ = ["command"]


def command(
    acts: Annotated[
        str, typer.Argument(metavar="ACTS", help="Store, or a file with one array per layer.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="Plan file to write.")] = "plan.json",
    model: Annotated[
        str | None, typer.Option("--model", help="Model folder or hub id, to certify a plan.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Held-out samples to certify on.")
    ] = None,
    alpha: Annotated[
        float, typer.Option("--alpha", help="Share of answers that may change.")
    ] = 0.05,
    delta: Annotated[
        float, typer.Option("--delta", help="Probability that the certificate is wrong.")
    ] = 0.1,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            help="late, exit, window, ends, off, drop, stretch; all, or exit, window and ends "
            "(text-only: drop and stretch) to certify.",
            autocompletion=choices("late", "exit", "window", "ends", "off", "drop", "stretch"),
        ),
    ] = None,
    max_effect: Annotated[
        float | None,
        typer.Option("--max-effect", help="Largest effect of vision on a block without it."),
    ] = None,
    max_distance: Annotated[
        float | None, typer.Option("--max-distance", help="Largest cosine distance bypassed.")
    ] = None,
    max_plans: Annotated[
        int, typer.Option("--max-plans", help="Plans to propose, of each kind.")
    ] = 12,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Samples per forward.")] = 16,
    seed: Seed = 0,
    fresh: Fresh = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the plan and print what was proposed."""
    from pathlib import Path

    from estimators import InputError
    from redundancy._losses import check_probability
    from redundancy.choosing import candidates, certify, readings
    from redundancy.planning import DEFAULT_THRESHOLDS, propose
    from redundancy.store import open_source

    target = Path(out)
    if target.exists() and not fresh:
        raise InputError(f"{target} exists; add --fresh to replace it, or name another file")
    if (model is None) != (data is None):
        raise InputError(
            "to certify a plan give both --model and --data; without them thresholds alone decide"
        )
    # Before a large model is loaded.
    check_probability(alpha, "--alpha", "the share of answers that may change, e.g. 0.02")
    check_probability(delta, "--delta", "the probability that the certificate is wrong, e.g. 0.1")
    thresholds = dict(DEFAULT_THRESHOLDS)
    if max_effect is not None:
        thresholds["vision_effect"] = max_effect
    if max_distance is not None:
        thresholds["geometric"] = max_distance
    store = open_source(acts)
    with progress("measuring", quiet=quiet):
        found = readings(store, seed=seed)
    given: dict[str, Any] = {} if kind is None else {"kinds": tuple(kind)}
    given |= {"thresholds": thresholds, "max_plans": max_plans}
    given["model_type"] = (store.info.get("settings") or {}).get("model_type")
    if model is None:
        plans = propose(found, store.n_layers, **given)
    else:
        plans = candidates(found, store.n_layers, **given)
    document: dict[str, Any] = {"proposed": [_row(p) for p in plans]}
    if model is not None and data is not None:
        from vlm.model import load, model_type

        quiet_libraries()

        loaded, processor = load(model)
        with progress("certifying", quiet=quiet) as update:
            choice = certify(
                loaded,
                processor,
                data,
                plans,
                alpha=alpha,
                delta=delta,
                used_groups={str(s["group"]) for s in store.samples},
                batch_size=batch_size,
                progress=update,
            )
        from dataclasses import replace

        chosen = replace(choice.plan, model_type=model_type(loaded))
        sentence = choice.sentence
        document["certificate"] = (choice.plan.evidence or {})["certificate"]
    else:
        from vlm.plan import SkipPlan

        chosen = max(plans, key=_saved) if plans else SkipPlan(store.n_layers)
        sees = "vision" in store.modalities
        raises = "--max-effect or --max-distance" if sees else "--max-distance"
        sentence = (
            "chosen by thresholds alone, which guarantee nothing; certify it with --model and "
            "--data before use"
            if plans
            else f"no plan is within the thresholds, so the plan skips nothing; raise {raises}, or "
            "certify with --model and --data"
        )
    chosen.save(target)
    document |= {"plan": chosen.to_json(), "message": sentence}
    if json_:
        print_json(document)
    else:
        show(_lines(document["proposed"], chosen, sentence))
        say(f"→ {target}")


def _saved(plan: Any) -> float:
    return float(plan.evidence["saved"])


def _row(plan: Any) -> dict[str, Any]:
    evidence = plan.evidence
    return {
        "plan": plan.describe(),
        "kind": evidence["kind"],
        "predicted_harm": evidence["predicted_harm"],
        "saved": evidence["saved"],
        "within_thresholds": evidence["within_thresholds"],
        "against": evidence["against"],
        "missing": evidence["missing"],
    }


def _lines(proposed: list[dict[str, Any]], chosen: Any, sentence: str) -> Any:
    from rich.table import Table
    from rich.text import Text

    from redundancy.report.numbers import number

    if proposed:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("plan, safest first")
        table.add_column("harm rank", justify="right", no_wrap=True)
        table.add_column("saves", justify="right", no_wrap=True)
        table.add_column("thresholds", no_wrap=True)
        for row in proposed:
            table.add_row(
                Text(row["plan"]),
                Text(number(row["predicted_harm"], 3)),
                Text(f"{100 * row['saved']:.0f}%"),
                Text("within" if row["within_thresholds"] else "outside"),
            )
        yield table
        yield Text(
            "harm rank: Theorem 6 with measured distances and unit Lipschitz constants; it orders "
            "plans and bounds nothing. saves: share of token-blocks.",
            style="dim",
        )
        for remark in dict.fromkeys(r for row in proposed for r in row["missing"]):
            yield Text(f"note: {remark}")
    yield Text("")
    if not sentence.startswith(chosen.describe()):
        yield Text(chosen.describe(), style="bold")
    yield Text(sentence)
