"""The probe report: what can be read from each layer, with the evidence, as one offline file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from estimators import Estimate, InputError
from redundancy._files import read_json, write_atomic, write_sealed
from redundancy._probe_report import LayerScore, PairScore, ProbeReport
from redundancy.record import RunRecord, plain
from redundancy.report._probe_words import careful, fitted, verdict
from redundancy.report._sections import picture
from redundancy.report.numbers import MISSING, decimals_for, interval, number
from redundancy.report.page import command_line, download, render_page
from redundancy.report.plots import probes as drawn
from vlm._seal import seal

__all__ = ["document", "read_probe_report", "render_probes", "write_probe_report"]

DOCUMENT = "probes.json"
_SCHEMA_VERSION = 1
_SHOWN_CLASSES = 12
_WORST = 12


def document(report: ProbeReport, record: RunRecord | None = None) -> dict[str, Any]:
    """Return everything a probe run found and was told, as plain data for JSON."""
    run: dict[str, Any] = {}
    if record is not None:
        run = {
            "run": msgspec.to_builtins(record.run),
            "status": record.status,
            "provenance": record.provenance,
        }
    out: dict[str, Any] = plain({"schema_version": _SCHEMA_VERSION, **run, **report.to_dict()})
    return out


def write_probe_report(report: ProbeReport, record: RunRecord | None, folder: str | Path) -> None:
    """Write ``probes.json`` and ``report.html`` into a folder."""
    folder = Path(folder)
    write_sealed(folder / DOCUMENT, document(report, record))
    write_atomic(folder / "report.html", render_probes(report, record).encode())


def read_probe_report(path: str | Path) -> ProbeReport:
    """Read the ``probes.json`` of a run's folder, or a file with what ``probe --json`` printed.

    Raises
    ------
    InputError
        If it is not there, damaged, or of another version.
    """
    file = Path(path)
    file = file / DOCUMENT if file.is_dir() else file
    if not file.exists():
        raise InputError(f"there is no {file}; name the folder that `redundancy probe` wrote")
    data = read_json(file)
    if not isinstance(data, dict) or data.get("schema_version") != _SCHEMA_VERSION:
        raise InputError(f"{file} is no probe report of version {_SCHEMA_VERSION}; probe again")
    return ProbeReport.from_dict(data)


def render_probes(report: ProbeReport, record: RunRecord | None = None) -> str:
    """Return a probe report as HTML; every text in it is escaped.

    Parameters
    ----------
    report : ProbeReport
    record : RunRecord, optional
        The run, for the command, versions and store; a report made in Python has none.
    """
    sections = {
        "scores": _scores(report),
        "functional": _functional(report),
        "gain": _gain(report),
        "confusion": _confusion(report),
        "calibration": _calibration(report),
    }
    titles = (
        ("scores", "What can be read", True),
        ("functional", "Functional redundancy", sections["functional"]),
        ("gain", "Gain of each layer", sections["gain"]),
        ("confusion", "Confusion", sections["confusion"]),
        ("calibration", "Calibration", sections["calibration"]),
        ("fitted", "What was fitted on what", True),
        ("careful", "What to be careful about", True),
        ("provenance", "Where this comes from", True),
    )
    return render_page(
        "probes.html",
        title=f"Probes for {report.target}",
        report=report,
        record=record,
        command=None if record is None else command_line(record.run.argv),
        contents=[(name, words) for name, words, there in titles if there],
        verdict=verdict(report),
        fitted=fitted(report),
        careful=careful(report),
        downloads=[
            download(
                DOCUMENT, "application/json", seal(msgspec.json.encode(document(report, record)))
            ),
            download("probes.csv", "text/csv", _csv(report).encode()),
        ],
        **sections,
    )


def _scores(report: ProbeReport) -> dict[str, Any]:
    what = "Share right" if report.target_kind == "classes" else "R²"
    found = [
        picture(
            partial(drawn.plot_scores, report),
            f"{what} by layer for {', '.join(report.kinds)} probes, with controls; the table below "
            "holds the numbers.",
            "Points are scores on samples the probe has not seen, bands their intervals. Dotted: "
            "the same probe on shuffled targets, which should find nothing. Dashed: the target "
            "written into the states, which should be found.",
            height=2.9 + 0.2 * len(report.kinds),
        )
    ]
    if any(s.information is not None for s in report.scores):
        found.append(
            picture(
                partial(drawn.plot_information, report),
                "Usable information by layer; the table below holds the numbers.",
                "Entropy of the classes minus the probe's log loss on samples it has not seen.",
                height=3.1,
            )
        )
    rows = [
        (
            str(s.layer),
            s.kind if s.kind == s.probe else f"{s.kind} ({s.probe})",
            *_with_interval(s.score, 3),
            MISSING if s.control is None else number(s.control.value, 3),
            *_with_interval(s.information, 3),
            _penalties(s),
            "; ".join(d.message for d in s.score.diagnostics),
        )
        for s in report.scores
    ]
    head = ["layer", "probe", what.lower(), "interval", "shuffled", "usable (nats)", "interval",
            "penalties (epochs)" if "mlp" in report.kinds else "penalties", "remarks"]  # fmt: skip
    named, kept = _without_idle(head, rows)
    return {"pictures": found, "head": named, "rows": kept}


def _functional(report: ProbeReport) -> dict[str, Any] | None:
    known = [p for p in report.pairs if p.reading.estimate.value is not None]
    if not report.pairs:
        return None
    places = decimals_for(p.reading.estimate.value for p in known)
    estimates = [
        (
            f"{p.lower}→{p.upper}",
            *_with_interval(p.reading.estimate, places),
            *(
                number(_extra(p, key), places)
                for key in ("share", "plug_in", "one_step", "gain", "transfer")
            ),
            "; ".join(d.message for d in p.reading.estimate.diagnostics if d.severity == "error"),
        )
        for p in report.pairs
    ]
    keys = ("theorem1", "theorem2_lower", "theorem2_upper", "transfer_bound")
    digits = {key: decimals_for(_extra(p, key) for p in known) for key in keys}
    bounds = [
        (f"{p.lower}→{p.upper}", *(number(_extra(p, key), digits[key]) for key in keys))
        for p in known
    ]
    head = ("layers", "F", "interval", "F / tr Cov Z", "plug-in E1", "one-step E4", "gain E3",
            "transfer", "remarks")  # fmt: skip
    tables = [("estimates", *_without_idle(head, estimates))]
    if bounds:
        tables.append(
            (
                "bounds",
                ("layers", "Theorem 1", "Theorem 2, from", "to", "transfer, at most"),
                bounds,
            )
        )
    return {
        "pictures": [
            picture(
                partial(drawn.plot_estimates, report),
                "Functional redundancy by pair with its interval, between the biased estimates; "
                "the table below holds the numbers.",
                "F with its interval. The plug-in counts the noise of the probes as difference, "
                "the one-step estimate takes about as much too much away.",
                height=3.2,
            ),
            picture(
                partial(drawn.plot_bounds, report),
                "Functional redundancy by pair below the bounds of Theorems 1 and 2, on a scale of "
                "powers of ten; the table below holds the numbers.",
                "A bound above tr Cov Z says nothing. Theorem 1 takes the probe's own Lipschitz "
                "constant, so it is an estimate of a bound.",
                height=3.2,
            ),
        ]
        if known
        else [],
        "cap": number(report.settings.get("trivial_cap"), 3),
        "tables": tables,
    }


def _gain(report: ProbeReport) -> dict[str, Any] | None:
    usable = [p for p in report.pairs if p.gain is not None]
    if not report.pairs:
        return None
    found = [(p, p.gain if usable else p.reading.extras.get("gain")) for p in report.pairs]
    known = [e for _, e in found if e is not None and e.value is not None]
    if not known:
        return None
    places = max(3, decimals_for(e.value for e in known))
    return {
        "usable": bool(usable),
        "method": known[0].method,
        "picture": picture(
            partial(drawn.plot_gain, report),
            "Gain of each layer over the one below; the table below holds the numbers.",
            "Strokes are intervals over images. Below 0: the probe of both layers had more to "
            "learn than there was to gain.",
            height=3.0,
        ),
        "head": ["layers", "gain (nats)" if usable else "gain (squared units)", "interval"],
        "rows": [(f"{p.lower}→{p.upper}", *_with_interval(e, places)) for p, e in found],
    }


def _confusion(report: ProbeReport) -> dict[str, Any] | None:
    tables = [s for s in report.scores if s.confusion is not None and s.score.value is not None]
    best = max(tables, key=lambda s: float(s.score), default=None)
    if best is None or best.confusion is None:
        return None
    counts, names = best.confusion, report.classes
    wrong = sorted(
        (
            (counts[i][j], names[i], names[j], sum(counts[i]))
            for i in range(len(names))
            for j in range(len(names))
            if i != j and counts[i][j]
        ),
        key=lambda found: -found[0],
    )
    return {
        "layer": best.layer,
        "kind": best.kind,
        "picture": picture(
            partial(drawn.plot_confusion, best, names),
            f"Confusion of classes at layer {best.layer}; the table below holds the counts.",
            width=4.8,
            height=4.0,
        ),
        "whole": [
            [name, *(str(v) for v in row), str(sum(row))]
            for name, row in zip(names, counts, strict=True)
        ]
        if len(names) <= _SHOWN_CLASSES
        else None,
        "names": names,
        "wrong": [
            (true, said, f"{n:,}", f"{100 * n / total:.1f}%")
            for n, true, said, total in wrong[:_WORST]
        ],
        "more": max(0, len(wrong) - _WORST),
    }


def _calibration(report: ProbeReport) -> dict[str, Any] | None:
    best: list[LayerScore] = []
    for kind in report.kinds:
        mine = [
            s
            for s in report.scores
            if s.kind == kind and s.calibration is not None and s.score.value is not None
        ]
        if mine:
            best.append(max(mine, key=lambda s: float(s.score)))
    if not best:
        return None
    tables = []
    for s in best:
        c = s.calibration
        if c is None:
            continue
        tables.append(
            {
                "name": f"{s.kind}, layer {s.layer}",
                "error": number(c.error, 3),
                "rows": [
                    (f"{low:.1f} – {high:.1f}", f"{n:,}", number(said, 3), number(right, 3))
                    for low, high, n, said, right in zip(
                        c.edges, c.edges[1:], c.n, c.confidence, c.accuracy, strict=False
                    )
                    if n
                ],
            }
        )
    return {
        "picture": picture(
            partial(drawn.plot_calibration, best),
            "Share right over the probability that the probe gave; the tables hold the numbers.",
            "Larger dots hold more samples. Below the diagonal a probe is surer than it is right.",
            width=4.5,
            height=3.6,
        ),
        "tables": tables,
    }


def _with_interval(e: Estimate | None, places: int) -> tuple[str, str]:
    if e is None:
        return MISSING, MISSING
    if e.value is None:
        return "no estimate", MISSING
    return number(e.value, places), (
        MISSING if e.ci is None else interval(e.ci.low, e.ci.high, places)
    )


def _without_idle(
    head: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Drop the last column, the remarks, where nobody made one."""
    if any(row[-1] for row in rows):
        return head, rows
    return head[:-1], [row[:-1] for row in rows]


def _extra(pair: PairScore, key: str) -> float | None:
    return pair.reading.extras[key].value if key in pair.reading.extras else None


def _penalties(score: LayerScore) -> str:
    return spread(score.penalties)


def spread(values: Iterable[float]) -> str:
    """Return the distinct values of a list, or its range.

    Examples
    --------
    >>> spread([0.1, 0.1]), spread([0.1, 1.0, 10.0, 0.1])
    ('0.1', '0.1 – 10')
    """
    found = sorted(set(values))
    if not found:
        return MISSING
    return f"{found[0]:g}" if len(found) == 1 else f"{found[0]:g} – {found[-1]:g}"


def _csv(report: ProbeReport) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("what", "lower", "layer", "kind", "value", "ci_low", "ci_high", "unit", "n"))
    for s in report.scores:
        named: Sequence[tuple[str, Estimate | None]] = (
            ("score", s.score), ("shuffled", s.control), ("information", s.information),
        )  # fmt: skip
        for what, e in named:
            if e is not None:
                writer.writerow((what, "", s.layer, s.kind, *_cells(e)))
    for p in report.pairs:
        for what, e in (("functional", p.reading.estimate), ("gain", p.gain)):
            if e is not None:
                writer.writerow((what, p.lower, p.upper, "linear", *_cells(e)))
    return out.getvalue()


def _cells(e: Estimate) -> tuple[Any, ...]:
    ci = e.ci
    return (e.value, ci.low if ci else None, ci.high if ci else None, e.unit, e.n)
