"""`Results`: what a run found, pair by pair, ready to be looked at, saved and loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

from estimators import Estimate, InputError
from redundancy._frames import Library, make_frame
from redundancy.certify import Verdict
from redundancy.record import (
    ResultRecord,
    RunRecord,
    WarningRecord,
    estimate_from_record,
    estimate_to_record,
    read_record,
    write_record,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PairResult", "Results", "Verdict"]

# Rows of a table in a notebook.
_SHOWN = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class PairResult:
    """What one measure says of one pair of layers.

    Parameters
    ----------
    pair : tuple of int
        Lower and upper layer.
    measure : str
        Name of the measure.
    estimate : Estimate
        The headline number.
    modality : str
        Whose tokens these are.
    verdict : {"redundant", "undecided", "needed", "no estimate"} or None
        The interval held against the threshold, corrected over the pairs of the run; None where no
        threshold was asked for.
    threshold : float or None
        What the interval is held against.
    p_redundant, p_needed : float or None
        p-values of this pair alone against "not redundant" and against "redundant".
    p_adjusted : float or None
        The smaller of the two after Holm's correction over the pairs of the run.
    extras : mapping of str to Estimate
        By-products, each an estimate of its own.
    notes : tuple of str
        Remarks for the reader.
    """

    pair: tuple[int, int]
    measure: str
    estimate: Estimate
    modality: str = "text"
    verdict: Verdict | None = None
    threshold: float | None = None
    p_redundant: float | None = None
    p_needed: float | None = None
    p_adjusted: float | None = None
    extras: Mapping[str, Estimate] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "extras", MappingProxyType(dict(self.extras)))

    @property
    def label(self) -> str:
        """The pair as tables print it, e.g. ``0→1``."""
        return f"{self.pair[0]}→{self.pair[1]}"

    def to(self, unit: str) -> PairResult:
        """Return a copy with nats and bits shown in `unit`; other units stay as they are."""

        def convert(estimate: Estimate) -> Estimate:
            return estimate.to(unit) if estimate.unit in ("nats", "bits") else estimate

        threshold = self.threshold
        if threshold is not None and self.estimate.unit in ("nats", "bits"):
            as_estimate = replace(self.estimate, value=threshold, ci=None)
            threshold = as_estimate.to(unit).value
        return replace(
            self,
            estimate=convert(self.estimate),
            extras={key: convert(extra) for key, extra in self.extras.items()},
            threshold=threshold,
        )

    def to_record(self) -> ResultRecord:
        """Return this result as the run record keeps it."""
        return ResultRecord(
            pair=self.pair,
            modality=self.modality,
            measure=self.measure,
            estimator=self.estimate.method,
            estimate=estimate_to_record(self.estimate),
            extras={key: estimate_to_record(extra) for key, extra in self.extras.items()},
            threshold=self.threshold,
            p_redundant=self.p_redundant,
            p_needed=self.p_needed,
            p_adjusted=self.p_adjusted,
            verdict=self.verdict,
            notes=list(self.notes),
        )

    @classmethod
    def from_record(cls, record: ResultRecord) -> PairResult:
        """Return the result that a record describes."""
        return cls(
            pair=record.pair,
            measure=record.measure,
            estimate=estimate_from_record(record.estimate),
            modality=record.modality,
            verdict=record.verdict,
            threshold=record.threshold,
            p_redundant=record.p_redundant,
            p_needed=record.p_needed,
            p_adjusted=record.p_adjusted,
            extras={key: estimate_from_record(extra) for key, extra in record.extras.items()},
            notes=tuple(record.notes),
        )


class Results(Sequence[PairResult]):
    """The results of a run, in the order measure, modality, pair.

    Examples
    --------
    >>> e = Estimate(value=0.1, unit="nats", kind="estimate", n=10, method="plug-in")
    >>> results = Results([PairResult(pair=(0, 1), measure="informational", estimate=e)])
    >>> len(results), results[0].label, results.measures
    (1, '0→1', ('informational',))
    """

    def __init__(self, results: Sequence[PairResult], record: RunRecord | None = None) -> None:
        self._results = tuple(results)
        self.record = record

    @overload
    def __getitem__(self, index: int) -> PairResult: ...
    @overload
    def __getitem__(self, index: slice) -> Results: ...
    def __getitem__(self, index: int | slice) -> PairResult | Results:
        if isinstance(index, slice):
            return Results(self._results[index], self.record)
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[PairResult]:
        return iter(self._results)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Results) and self._results == other._results

    def __hash__(self) -> int:
        return hash(tuple((r.measure, r.modality, r.pair) for r in self._results))

    def __repr__(self) -> str:
        lines = [f"Results({len(self)} pairs: {', '.join(self.measures) or 'no measure'})"]
        for r in self._results[:12]:
            value = "–" if r.estimate.value is None else f"{r.estimate.value:.4g}"
            ci = r.estimate.ci
            interval = "" if ci is None else f" [{ci.low:.4g}, {ci.high:.4g}]"
            lines.append(
                f"  {r.measure} {r.modality} {r.label}: {value}{interval} {r.estimate.unit}"
                + (f" · {r.verdict}" if r.verdict else "")
            )
        if len(self) > 12:
            lines.append(f"  … and {len(self) - 12} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from estimators._html import table

        rows = []
        for r in self._results[:_SHOWN]:
            ci = r.estimate.ci
            worries = [d.message for d in r.estimate.diagnostics if d.severity != "info"]
            rows.append(
                [
                    f"{r.measure} · {r.modality} · {r.label}",
                    "–" if r.estimate.value is None else f"{r.estimate.value:.4g}",
                    "–" if ci is None else f"{ci.low:.4g} – {ci.high:.4g}",
                    r.estimate.unit,
                    r.verdict or "",
                    f"{len(worries)} warnings" if len(worries) > 1 else "".join(worries)[:80],
                ]
            )
        level = next((r.estimate.ci.level for r in self if r.estimate.ci is not None), 0.95)
        more = len(self) - _SHOWN
        notes = [f"… and {more} more; to_frame() has all"] if more > 0 else []
        if any(not r.estimate.trustworthy for r in self):
            notes.append("not every pair has an estimate that can be trusted; see warnings")
        head = ["pair", "value", f"{100 * level:g}% CI", "unit", "verdict", "be careful"]
        return table(f"{len(self)} results", head, rows, " · ".join(notes))

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures, in order of first appearance."""
        return tuple(dict.fromkeys(r.measure for r in self._results))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities, in order of first appearance."""
        return tuple(dict.fromkeys(r.modality for r in self._results))

    def select(self, measure: str | None = None, modality: str | None = None) -> Results:
        """Return the results of one measure, one modality, or both."""
        return Results(
            [
                r
                for r in self._results
                if measure in (None, r.measure) and modality in (None, r.modality)
            ],
            self.record,
        )

    @property
    def trustworthy(self) -> bool:
        """True if every pair has an estimate that can be trusted."""
        return all(r.estimate.trustworthy for r in self._results)

    @property
    def warnings(self) -> list[WarningRecord]:
        """Findings of severity warning or error, each with the pairs it concerns.

        One entry per kind of finding: its text is that of the first pair, since the figures in it
        differ from pair to pair; every result keeps its own.
        """
        found: dict[str, WarningRecord] = {}
        for r in self._results:
            for estimate in (r.estimate, *r.extras.values()):
                for d in estimate.diagnostics:
                    if d.severity == "info":
                        continue
                    first = found.setdefault(
                        d.code, WarningRecord(code=d.code, pairs=[], text=d.message)
                    )
                    if r.pair not in first.pairs:
                        first.pairs.append(r.pair)
        return list(found.values())

    def to(self, unit: str) -> Results:
        """Return a copy with nats and bits shown in `unit`."""
        return Results([r.to(unit) for r in self._results], self.record)

    def to_frame(self, library: Library = "pandas") -> Any:
        """Return one row per result as a data frame.

        Parameters
        ----------
        library : {"pandas", "polars", "pyarrow"}
            Whose frame; a pyarrow ``Table`` is understood by most others.

        Raises
        ------
        InputError
            If the library is unknown or not installed.

        Examples
        --------
        >>> e = Estimate(value=0.1, unit="nats", kind="estimate", n=10, method="plug-in")
        >>> results = Results([PairResult(pair=(0, 1), measure="informational", estimate=e)])
        >>> results.to_frame("polars")["value"].to_list()
        [0.1]
        """
        rows: list[dict[str, Any]] = []
        for r in self._results:
            ci = r.estimate.ci
            level = "" if ci is None else f"{100 * ci.level:g}"
            rows.append(
                {
                    "measure": r.measure,
                    "modality": r.modality,
                    "lower": r.pair[0],
                    "upper": r.pair[1],
                    "value": r.estimate.value,
                    "ci_low": None if ci is None else ci.low,
                    "ci_high": None if ci is None else ci.high,
                    "ci_level": level,
                    "unit": r.estimate.unit,
                    "kind": r.estimate.kind,
                    "n": r.estimate.n,
                    "n_groups": r.estimate.n_groups,
                    "threshold": r.threshold,
                    "p_adjusted": r.p_adjusted,
                    "verdict": r.verdict,
                    "trustworthy": r.estimate.trustworthy,
                    "diagnostics": "; ".join(d.message for d in r.estimate.diagnostics),
                    **{key: extra.value for key, extra in r.extras.items()},
                }
            )
        return make_frame(rows, library)

    def plot(self, *, ax: Axes | None = None) -> dict[str, Axes]:
        """Draw these results with matplotlib.

        One picture per measure, the one the report shows first, and above them the verdicts where
        there are any. `redundancy.report.plots` has every picture of the report as a function.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw, for results of one measure; otherwise a new figure is made.

        Returns
        -------
        dict of str to Axes
            By measure; the verdicts as ``"verdicts"``.

        Raises
        ------
        InputError
            If there is nothing to draw, or `ax` is given for several measures.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> e = Estimate(value=0.1, unit="nats", kind="estimate", n=10, method="plug-in")
        >>> results = Results([PairResult(pair=(0, 1), measure="informational", estimate=e)])
        >>> sorted(results.plot())
        ['informational']
        """
        from redundancy.report.overview import draw

        return draw(self, ax=ax)

    def save(self, path: str | Path) -> None:
        """Write the run record, results included, to `path` (a file ending in .json)."""
        from redundancy.provenance import new_record

        record = self.record or new_record(command="estimate")
        write_record(
            _with_results(record, [r.to_record() for r in self._results], self.warnings), path
        )

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Read what `save` or a command wrote: a record.json, or the run folder that holds it.

        Raises
        ------
        InputError
            If there is no readable record.
        """
        record = read_record(path)
        try:
            return cls([PairResult.from_record(r) for r in record.results], record)
        except InputError as error:
            raise InputError(f"{path} holds a result that makes no sense: {error}") from error


def _with_results(
    record: RunRecord, results: list[ResultRecord], warnings: list[WarningRecord]
) -> RunRecord:
    from msgspec.structs import replace as replace_fields

    return replace_fields(record, results=results, warnings=warnings)
