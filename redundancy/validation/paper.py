"""The same analysis on the tables of the paper: four models, five tasks, three layers each.

The tables stand in ``tables/``. Of Table 1 the fourth column's layer is not known (its header names
three layers for four columns); it is taken to be deeper than the third, and the analysis is also
done without it. The captioning block's rows are shifted in the source and stand repaired. Table 2
has no baseline and disagrees with the baselines of Table 1, so its losses are relative to its own
last exit.
"""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterator
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from redundancy.validation.analysis import Cell, associate, check, corrected
from redundancy.validation.records import (
    SCHEMA_VERSION,
    AnalysisRecord,
    AssociationRecord,
    ModelRecord,
)

__all__ = ["TARGETS", "analyse_paper", "tables"]

Floats = NDArray[np.float64]
Table = dict[tuple[str, str], dict[str, dict[int, float]]]

TARGETS: dict[str, str] = {
    "late": "entry one column later: the score lost between one column and the next",
    "late_known": "the same, without the column whose layer is not known",
    "late_total": "entry at the column: all that is lost against layer 0 (not marginal)",
    "exit": "exit one column earlier: the score lost between one column and the next",
    "exit_total": "exit at the column: all that is lost against the last one (not marginal)",
}
KIND = "score"

_READINGS = {
    "rho": "mean cosine distance of vision states (Table 1)",
    "p_lt_0.05": "share of vision tokens with a distance below 0.05 (Table 1)",
    "VAR": "attention on vision (Table 2)",
    "depth": "the column's number: late entry later, early exit earlier",
    "shuffled": "negative control: columns in random order",
}
_HARM_LOW = ("p_lt_0.05",)
_LIMITS = {"rho": 0.05, "p_lt_0.05": 0.95}


def tables() -> tuple[Table, Table]:
    """Tables 1 and 2 as they are printed: (task, model) -> metric -> column -> value.

    Columns of Table 1 count from 0, the baseline; those of Table 2 are the exit layers.

    Examples
    --------
    >>> late, leave = tables()
    >>> late["General VQA", "llava-1.5-7b"]["Accuracy"]
    {0: 0.564, 1: 0.553, 2: 0.37, 3: 0.261}
    >>> len(late), len(leave)
    (20, 20)
    """
    return _read("table1_late_entry.csv", "column"), _read("table2_early_exit.csv", "exit_layer")


def analyse_paper(
    *, alpha: float = 0.05, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> AnalysisRecord:
    """Rank correlation, within each task and model, of published readings with published losses.

    A loss is a share of the baseline's score (accuracy; CIDEr for captioning). Each task and model
    is a cell of two to four points; intervals are t intervals over the four models.

    Parameters
    ----------
    alpha : float
        A step is harmful where it loses a larger share.
    level, draws, seed
        As for `redundancy.validation.analysis.analyse`.
    """
    check(alpha, level, draws)
    late, leave = tables()
    rows: list[AssociationRecord] = []
    for target in TARGETS:
        family = []
        for measure in _READINGS:
            cells = list(
                _cells(late if target.startswith("late") else leave, target, measure, seed)
            )
            if cells:
                family.append(
                    associate(
                        cells,
                        measure=measure,
                        target=target,
                        kind=KIND,
                        alpha=alpha,
                        level=level,
                        draws=draws,
                        seed=seed,
                        least=2,
                    )
                )
        rows += corrected(family)
    models = sorted({model for _, model in late})
    return AnalysisRecord(
        schema_version=SCHEMA_VERSION,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        source="the paper's Tables 1 and 2",
        alpha=alpha,
        level=level,
        draws=draws,
        seed=seed,
        models=[
            ModelRecord(name=m, cluster=m, n_layers=_N_LAYERS[m], accuracy=None, n_images=0)
            for m in models
        ],
        associations=rows,
        readings=_READINGS,
        targets=TARGETS,
        notes=[
            "two to four points per task and model: a cell's rank correlation takes few values",
            "four models, of which two share a language model: intervals over models are wide",
            "published figures without intervals: noise within a cell is not known",
        ],
    )


_N_LAYERS = {
    "llava-1.5-7b": 32,
    "llava-next-7b-vicuna": 32,
    "llava-1.5-13b": 40,
    "qwen2.5-vl-7b": 28,
}


def _read(name: str, column: str) -> Table:
    found: Table = {}
    text = (files("redundancy.validation") / "tables" / name).read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        metrics = found.setdefault((row["task"], row["model"]), {})
        metrics.setdefault(row["metric"], {})[int(row[column])] = float(row["value"])
    return found


def _cells(table: Table, target: str, measure: str, seed: int) -> Iterator[Cell]:
    for number, ((task, model), metrics) in enumerate(table.items()):
        score = metrics.get("Accuracy") or metrics["CIDEr"]
        at = sorted(score)
        values = np.array([score[c] for c in at])
        if target == "late_known" and task != "Captioning":
            at, values = at[:-1], values[:-1]
        if target.startswith("late"):
            columns, base = at[1:], values[0]
            loss = base - values[1:] if target == "late_total" else -np.diff(values)
        else:
            # Exiting at a column rather than at the next one; the last has no next.
            columns, base = at[:-1], values[-1]
            loss = base - values[:-1] if target == "exit_total" else np.diff(values)
        reading = _reading(metrics, measure, columns, target, seed, number)
        if reading is None:
            continue
        limit = _LIMITS.get(measure)
        verdicts: list[str | None] = []
        if limit is not None:
            raw = -reading if measure in _HARM_LOW else reading
            below = raw < limit
            redundant = ~below if measure in _HARM_LOW else below
            verdicts = ["redundant" if r else "needed" for r in redundant]
        yield Cell(reading, loss / base, cluster=model, verdicts=verdicts)


def _reading(
    metrics: dict[str, dict[int, float]],
    measure: str,
    columns: list[int],
    target: str,
    seed: int,
    number: int,
) -> Floats | None:
    """The measure at these columns, turned so that high means harm; None where not published."""
    n = len(columns)
    if measure == "shuffled":
        return np.random.default_rng([seed, number]).permutation(n).astype(float)
    if measure == "depth":
        up = np.arange(n, dtype=float)
        return up if target.startswith("late") else -up
    if measure not in metrics:
        return None
    values = np.array([metrics[measure][column] for column in columns])
    return -values if measure in _HARM_LOW else values
