"""The answer as the terminal shows it: a table per loss, and what it says in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from redundancy.validation.records import (
    AnalysisRecord,
    AssociationRecord,
    OrderingOutcome,
    StudyRecord,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["blocks", "judgement", "layer_blocks", "sentences"]

MISSING = "–"
_FIRST = ("changed", "score")


def judgement(row: AssociationRecord) -> str:
    """What one row says, in a few words: the wider of its intervals decides.

    Examples
    --------
    >>> row = AssociationRecord(measure="var", target="hide", kind="changed", n_models=9,
    ...     by_model=[], mean=0.1, clusters_ci=(-0.3, 0.5), p_adjusted=0.4)
    >>> judgement(row)
    'no evidence'
    """
    intervals = [ci for ci in (row.images_ci, row.clusters_ci) if ci is not None]
    if row.mean is None or not intervals:
        return "no estimate"
    low, high = min(ci[0] for ci in intervals), max(ci[1] for ci in intervals)
    if high < 0:
        return "predicts the opposite"
    if low <= 0 or (row.p_adjusted is not None and row.p_adjusted > 0.05):
        return "no evidence"
    further = row.beyond_depth_ci
    if further is not None and further[0] > 0:
        return "predicts, beyond depth"
    return "predicts"


def sentences(record: AnalysisRecord) -> list[str]:
    """What the analysis says of each loss, failures first said as plainly as successes."""
    said = []
    for target, title in record.targets.items():
        rows = _rows(record, target)
        named = {
            verdict: [r.measure for r in rows if not r.control and judgement(r) == verdict]
            for verdict in (
                "predicts, beyond depth",
                "predicts",
                "no evidence",
                "predicts the opposite",
                "no estimate",
            )
        }
        parts = [f"{verdict}: {', '.join(names)}" for verdict, names in named.items() if names]
        if parts:
            said.append(f"{target} ({title}): {'; '.join(parts)}.")
        wrong = [
            f"{r.measure} called {bad} of {good + bad} redundant that cost more than "
            f"{record.alpha:.0%}"
            for r in rows
            for good, bad in [r.verdicts.get("redundant", (0, 0))]
            if bad
        ]
        if wrong:
            said.append(f"{target}, wrong verdicts: {'; '.join(wrong)}.")
    return said


def blocks(record: AnalysisRecord) -> Iterator[RenderableType]:
    """Yield everything that `redundancy validate` prints."""
    from rich.text import Text

    clusters = {model.cluster for model in record.models}
    yield Text(
        f"validation · {record.source} · {len(record.models)} models in {len(clusters)} clusters · "
        f"alpha {record.alpha:g} · seed {record.seed}"
    )
    yield Text("")
    for target, title in record.targets.items():
        rows = _rows(record, target)
        if rows:
            yield Text(f"{target}: {title}", style="bold")
            yield _table(record, rows)
            yield Text("")
    if record.orderings:
        yield Text("Orderings of plans, certified on half of the images", style="bold")
        yield orderings_table(record.orderings)
        yield Text("")
    yield Text("In words", style="bold")
    for sentence in sentences(record):
        yield Text(sentence)
    for note in record.notes:
        yield Text(f"note: {note}")
    yield Text(
        "ρ: mean over models of Spearman's correlation over layers · "
        f"{record.level:.0%} intervals · p: layers shuffled, Holm over measures · "
        "beyond depth: with the layers' order held fixed · "
        "AUC: harmful against harmless layers · "
        "called redundant: those that cost more than alpha, of all so called",
        style="dim",
    )


def layer_blocks(study: StudyRecord) -> Iterator[RenderableType]:
    """Yield the layers of one model: what intervening on each of them costs."""
    import numpy as np
    from rich.table import Table
    from rich.text import Text

    yield Text(f"{study.name}: answers changed / nats (KL) by layer", style="bold")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("layer", justify="right")
    for target in study.losses:
        table.add_column(target, justify="right", no_wrap=True)
    means = {
        target: {
            kind: np.nanmean(np.array(kinds[kind], dtype=float), axis=0)
            for kind in ("changed", "kl")
        }
        for target, kinds in study.losses.items()
    }
    for layer in range(study.n_layers):
        cells = [f"{100 * m['changed'][layer]:.1f}% / {m['kl'][layer]:.3f}" for m in means.values()]
        table.add_row(str(layer), *cells)
    yield table


def orderings_table(outcomes: Sequence[OrderingOutcome]) -> RenderableType:
    """Return the table of orderings, this package's first."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in ("order", "saves", "ours ahead by", "behind for", "none", "broken (worst)"):
        table.add_column(header, justify="left" if header == "order" else "right", no_wrap=True)
    for row in outcomes:
        ours = row is outcomes[0]
        table.add_row(
            Text(row.title),
            Text(_percent(row.saved, row.saved_ci)),
            Text("" if ours else _percent(row.ahead, row.ahead_ci, sign=True)),
            Text("" if ours else f"{row.models_behind} of {len(row.by_model)}"),
            Text(f"{row.none_certified:.0%}"),
            Text(f"{row.broken:.1%} ({row.broken_worst:.1%})"),
        )
    return table


def _table(record: AnalysisRecord, rows: Sequence[AssociationRecord]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("measure", no_wrap=True)
    headers = ("ρ", "over images", "over models", "p", "beyond depth", "AUC", "called redundant")
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("says", no_wrap=True)
    for row in rows:
        good, bad = row.verdicts.get("redundant", (0, 0))
        table.add_row(
            Text(row.measure, style="dim" if row.control else ""),
            Text(_number(row.mean)),
            Text(_interval(row.images_ci)),
            Text(_interval(row.clusters_ci)),
            Text(MISSING if row.p_adjusted is None else f"{row.p_adjusted:.3f}"),
            Text(_number(row.beyond_depth)),
            Text(_number(row.auc)),
            Text(f"{bad} of {good + bad}" if row.verdicts else MISSING),
            Text("control" if row.control else judgement(row)),
        )
    return table


def _rows(record: AnalysisRecord, target: str) -> list[AssociationRecord]:
    """Rows of one target for the headline loss, best first, controls last."""
    rows = [r for r in record.associations if r.target == target and r.kind in _FIRST]
    return sorted(rows, key=lambda r: (r.control, -(r.mean if r.mean is not None else -9.0)))


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}".replace("-", "−")


def _interval(ci: tuple[float, float] | None) -> str:
    return MISSING if ci is None else f"{_number(ci[0])} – {_number(ci[1])}"


def _percent(value: float, ci: tuple[float, float] | None, *, sign: bool = False) -> str:
    text = f"{100 * value:+.1f}%" if sign else f"{100 * value:.1f}%"
    if ci is not None:
        text += f" ({100 * ci[0]:.1f} – {100 * ci[1]:.1f})"
    return text.replace("-", "−")
