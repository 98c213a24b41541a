"""The documentation's evidence: one JSON file, and the tables and the figure made from it.

``python -m redundancy.validation.evidence docs --analysis models=runs/v/validation.json`` gathers
analyses into ``docs/data/evidence.json``; without analyses it only writes the tables of
``docs/evidence.md`` and the figures anew from that file. Tables stand between marks in the page, so
that no number in them is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from estimators import InputError
from redundancy._files import read_json, write_atomic
from redundancy.validation.figure import plot_associations
from redundancy.validation.records import AnalysisRecord, AssociationRecord, read_analysis
from redundancy.validation.show import judgement

__all__ = ["fill", "gather", "main", "tables", "trained"]

_MARK = re.compile(r"<!-- table: ([\w-]+) -->\n.*?<!-- end -->", re.DOTALL)
_HEADLINES = ("changed", "score")
MISSING = "–"


def gather(analyses: Mapping[str, AnalysisRecord], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the evidence as plain data, numbers to four digits.

    Parameters
    ----------
    analyses : mapping of str to AnalysisRecord
        ``models``, ``bundled``, ``paper``, ...
    facts : mapping
        What no analysis knows: hardware, date, commands, training, simulations.
    """
    return {
        "facts": dict(facts),
        **{key: _short(msgspec.to_builtins(record)) for key, record in analyses.items()},
    }


def trained(folder: Path) -> list[dict[str, Any]]:
    """What the models of a set can do, from the figures each was written with."""
    found = []
    for path in sorted(folder.glob("*/metrics.json")):
        metrics = read_json(path)
        recipe = metrics["recipe"]
        kind = "pretrained" if recipe["pretrained"] else "scratch"
        if recipe["skipping"]:
            kind += ", with skipping"
        found.append(
            {
                "name": path.parent.name,
                "seed": metrics["seed"],
                "recipe": kind,
                "n_layers": recipe["n_layers"],
                "accuracy": metrics["held_out"]["accuracy"],
                "chance": metrics["held_out"]["chance"]["all"],
                "without_image": metrics["held_out"]["without_image"]["all"],
                "cpu_seconds": metrics["seconds"]["cpu"],
            }
        )
    if not found:
        raise InputError(f"{folder} holds no trained models; name the folder of a set")
    return found


def tables(evidence: Mapping[str, Any]) -> dict[str, str]:
    """Markdown of every table, by its name in the page.

    ``<analysis>-<target>`` for each loss, ``<analysis>-orderings``, ``<analysis>-summary`` (one row
    per measure, one column per loss), ``training`` and ``simulation``.
    """
    out: dict[str, str] = {}
    for key in evidence:
        if key == "facts":
            continue
        record = _record(evidence, key)
        for target in record.targets:
            rows = [r for r in record.associations if r.target == target]
            heads = [r for r in rows if r.kind in _HEADLINES]
            if heads:
                out[f"{key}-{target}"] = _target_table(record, heads, rows)
        out[f"{key}-summary"] = _summary(record)
        if record.orderings:
            out[f"{key}-orderings"] = _orderings(record)
    facts = evidence["facts"]
    if "training" in facts:
        out["training"] = _training(facts["training"])
    if "simulation" in facts:
        out["simulation"] = _simulation(facts["simulation"])
    return out


def fill(page: str, made: Mapping[str, str]) -> str:
    """Put the tables between their marks.

    Raises
    ------
    InputError
        If the page asks for a table that there is none of.

    Examples
    --------
    >>> fill("<!-- table: a -->\\nold\\n<!-- end -->", {"a": "new"})
    '<!-- table: a -->\\nnew\\n<!-- end -->'
    """

    def table(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in made:
            raise InputError(f"the page wants a table {name!r}; there are {', '.join(made)}")
        return f"<!-- table: {name} -->\n{made[name]}\n<!-- end -->"

    return _MARK.sub(table, page)


def _record(evidence: Mapping[str, Any], key: str) -> AnalysisRecord:
    return msgspec.convert(evidence[key], AnalysisRecord)


def _short(value: Any) -> Any:
    """Numbers of four digits: more would be noise, and the file is read over a network."""
    if isinstance(value, dict):
        return {k: _short(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_short(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _target_table(
    record: AnalysisRecord,
    heads: Sequence[AssociationRecord],
    rows: Sequence[AssociationRecord],
) -> str:
    several = any(r.clusters_ci is not None for r in heads)
    nats = {r.measure: r.mean for r in rows if r.kind == "kl"}
    header = ["measure", "ρ"]
    header += ["over images"] if any(r.images_ci for r in heads) else []
    header += ["over seeds" if record.source == "models" else "over models"] if several else []
    header += ["p", "beyond depth", "AUC", "called redundant: harmful"]
    header += ["ρ with KL"] if nats else []
    header += ["says"]
    lines = []
    for r in sorted(heads, key=lambda r: (r.control, -(r.mean if r.mean is not None else -9.0))):
        good, bad = r.verdicts.get("redundant", (0, 0))
        cells = [f"*{r.measure}*" if r.control else f"`{r.measure}`", _number(r.mean)]
        cells += [_interval(r.images_ci)] if "over images" in header else []
        cells += [_interval(r.clusters_ci)] if several else []
        cells += [
            MISSING if r.p_adjusted is None else _p(r.p_adjusted),
            _number(r.beyond_depth)
            + (f" ({_interval(r.beyond_depth_ci)})" if r.beyond_depth_ci else ""),
            _number(r.auc),
            f"{bad} of {good + bad}" if r.verdicts else MISSING,
        ]
        cells += [_number(nats.get(r.measure))] if nats else []
        cells += ["control" if r.control else judgement(r)]
        lines.append(cells)
    return _markdown(header, lines)


def _summary(record: AnalysisRecord) -> str:
    heads = [r for r in record.associations if r.kind in _HEADLINES]
    targets = [t for t in record.targets if any(r.target == t for r in heads)]
    lines = []
    for measure in record.readings:
        mine = {r.target: r for r in heads if r.measure == measure}
        if mine:
            title = f"*{measure}*" if any(r.control for r in mine.values()) else f"`{measure}`"
            cells = [_number(mine[t].mean) if t in mine else MISSING for t in targets]
            lines.append([title, *cells])
    return _markdown(["measure", *targets], lines)


def _orderings(record: AnalysisRecord) -> str:
    header = ["order of plans", "saves", "ours ahead by", "ours behind for", "none certified"]
    header += ["certified plan above alpha elsewhere (worst model)"]
    lines = []
    for i, o in enumerate(record.orderings):
        ahead = [MISSING, MISSING]
        if i:
            ahead = [_percent(o.ahead, o.ahead_ci), f"{o.models_behind} of {len(o.by_model)}"]
        lines.append(
            [
                o.title,
                _percent(o.saved, o.saved_ci),
                *ahead,
                f"{o.none_certified:.0%}",
                f"{o.broken:.1%} ({o.broken_worst:.1%})",
            ]
        )
    return _markdown(header, lines)


def _training(models: Sequence[Mapping[str, Any]]) -> str:
    names = list(models[0]["accuracy"])
    header = ["recipe", "layers", "models", *names, "CPU seconds each"]
    lines = []
    kinds = dict.fromkeys((m["recipe"], m["n_layers"]) for m in models)
    for recipe, n_layers in kinds:
        mine = [m for m in models if (m["recipe"], m["n_layers"]) == (recipe, n_layers)]
        cells = [recipe, str(n_layers), str(len(mine))]
        for name in names:
            values = [m["accuracy"][name] for m in mine]
            cells.append(f"{sum(values) / len(values):.1%} ({min(values):.0%}–{max(values):.0%})")
        seconds = [m["cpu_seconds"] for m in mine]
        cells.append(f"{min(seconds):.0f}–{max(seconds):.0f}")
        lines.append(cells)
    return _markdown(header, lines)


def _simulation(rows: Sequence[Mapping[str, Any]]) -> str:
    header = ["losses", "test of the sequence", "plan above alpha certified", "plans certified"]
    lines = [
        [r["losses"], r["testing"], f"{r['wrong']:.2%}", f"{r['certified']:.2f}"] for r in rows
    ]
    return _markdown(header, lines)


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _number(value: float | None) -> str:
    # A plain minus: tables are copied.
    return MISSING if value is None else f"{value:.2f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _interval(ci: Sequence[float] | None) -> str:
    return MISSING if ci is None else f"{ci[0]:.2f} to {ci[1]:.2f}"


def _percent(value: float, ci: Sequence[float] | None) -> str:
    text = f"{100 * value:.1f}%"
    return text if ci is None else f"{text} ({100 * ci[0]:.1f} to {100 * ci[1]:.1f})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 if the input was unusable."""
    parser = argparse.ArgumentParser(
        prog="python -m redundancy.validation.evidence",
        description=(__doc__ or "").split("\n\n")[0],
    )
    parser.add_argument("docs", type=Path, help="folder of the documentation")
    parser.add_argument(
        "--analysis",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="an analysis that `redundancy validate` wrote, and what the page calls it",
    )
    parser.add_argument(
        "--set", type=Path, help="folder of a set that redundancy.demo.several trained"
    )
    parser.add_argument("--facts", type=Path, help="JSON of hardware, date, commands, simulations")
    options = parser.parse_args(argv)
    data, page = options.docs / "data" / "evidence.json", options.docs / "evidence.md"
    try:
        if options.analysis:
            named = dict(text.split("=", 1) for text in options.analysis)
            facts = read_json(options.facts) if options.facts else {}
            if options.set:
                facts = {**facts, "training": trained(options.set)}
            evidence = gather({key: read_analysis(path) for key, path in named.items()}, facts)
            text = json.dumps(evidence, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            # A line per association, for whoever compares two versions.
            write_atomic(data, (text.replace('{"measure"', '\n{"measure"') + "\n").encode())
        evidence = read_json(data)
        filled = fill(page.read_text(encoding="utf-8"), tables(evidence))
        write_atomic(page, filled.encode())
        for key in evidence:
            if key in ("models", "bundled"):
                figure = plot_associations(_record(evidence, key))
                figure.savefig(options.docs / f"evidence-{key}.png", dpi=100)
    except (InputError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
