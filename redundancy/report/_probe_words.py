"""What a probe report says in words: the short answer, what was fitted on what, the warnings."""

from __future__ import annotations

from estimators import Estimate
from redundancy._probe_report import ProbeReport
from redundancy.report.numbers import count, interval, number

__all__ = ["careful", "fitted", "verdict"]


def verdict(report: ProbeReport) -> list[str]:
    """Return the short answer: best layer, controls, where it comes from, what changes nothing."""
    best = report.best()
    if best is None:
        return ["No layer could be probed; the reasons stand below."]
    what = "of the samples are right" if report.target_kind == "classes" else "of the variance"
    lines = [
        f"“{report.target}” is read best from layer {best.layer}: {_share(best.score)} {what} with "
        f"{best.kind} probes, on samples that they have not seen"
        + (
            f", where guessing the most frequent class has {100 * report.baseline:.1f}%."
            if report.target_kind == "classes"
            else "."
        )
    ]
    control, planted = best.control, report.planted.get(best.kind)
    if control is not None and control.value is not None:
        line = f"With shuffled targets the same probe has {_share(control)}"
        if planted is not None and planted.value is not None:
            line += f"; where the target was written into the states it has {_share(planted)}"
        lines.append(line + ".")
    known = [p for p in report.pairs if p.reading.estimate.value is not None]
    if known:
        most = max(known, key=lambda p: float(p.reading.estimate))
        cap = report.settings.get("trivial_cap") or 0.0
        share = (
            f", {100 * float(most.reading.estimate) / cap:.1f}% of what is possible" if cap else ""
        )
        lines.append(
            f"What can be said of it changes most from layer {most.lower} to {most.upper}: F = "
            f"{number(most.reading.estimate.value, 4)}{share}."
        )
    return lines


def fitted(report: ProbeReport) -> list[tuple[str, str]]:
    """Return what was fitted on what, as (term, description)."""
    s = report.settings
    folds = int(s.get("folds", 5))
    per = report.n // folds
    groups = (
        f" of {count(report.n_groups, 'group')}, each whole in one fold" if report.n_groups else ""
    )
    out = [
        ("rows", f"{count(report.n, 'row')}{groups}; {report.state}, {report.modality}"),
    ]
    if s.get("dim"):
        out.append(("states", f"{s['dim']:,} coordinates, standardised over all rows (the target "
                    "has no say in it), centred on the rows a probe is fitted on"))  # fmt: skip
    out += [
        (
            "scores",
            f"{folds} folds of about {per:,} rows: each fold is predicted by probes fitted on the "
            f"other {folds - 1}, whose penalty was chosen by leaving out folds among these",
        ),
        (
            "functional redundancy",
            f"pairs of linear probes, each fitted on its own {folds // 2} of {folds} folds and "
            "compared on a fold that neither has seen, averaged over all such choices"
            f"{_seen(report)}",
        ),
    ]
    gain = next((p.gain for p in report.pairs if p.gain is not None), None)
    if gain is not None:
        out.append(("gain", gain.method))
    if "mlp" in report.kinds:
        out.append(("MLPs", "stopped where the loss on a fifth of the training groups was least"))
    if s.get("shuffled"):
        out.append(("shuffled control", f"{s['shuffled']}; the same folds, penalties chosen anew"))
    if report.planted:
        out.append(("positive control", "the target added to the states along random directions, "
                    "at three times their size"))  # fmt: skip
    if report.classes:
        shown = ", ".join(report.classes[:20])
        more = f" and {len(report.classes) - 20} more" if len(report.classes) > 20 else ""
        out.append(("classes", f"{shown}{more}"))
    level = s.get("ci")
    if level is not None:
        out.append(("intervals", f"{100 * level:g}%, over {'groups' if report.n_groups else 'rows'}"
                    "; those of scores hold the probes fixed, that of F counts their "
                    "noise"))  # fmt: skip
    out.append(("seed", str(s.get("seed", 0))))
    return out


def careful(report: ProbeReport) -> list[dict[str, str]]:
    """Return every finding once, with where it was made."""
    where: dict[str, list[str]] = {}
    for d in report.diagnostics:
        where.setdefault(d.message, [])
    for s in report.scores:
        for d in s.score.diagnostics:
            where.setdefault(d.message, []).append(f"{s.layer}")
    for p in report.pairs:
        for d in p.reading.estimate.diagnostics:
            where.setdefault(d.message, []).append(f"{p.lower}→{p.upper}")
        for d in p.gain.diagnostics if p.gain is not None else ():
            where.setdefault(d.message, []).append(f"{p.lower}→{p.upper}")
    out = []
    for i, (text, places) in enumerate(where.items(), start=1):
        found = list(dict.fromkeys(places))
        shown = ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
        everywhere = len(found) == len(report.pairs) and len(found) > 1
        pairs = "" if not found else "all pairs" if everywhere else f"layers {shown}"
        out.append({"mark": f"W{i}", "text": text[:1].upper() + text[1:] + ".", "pairs": pairs})
    return out


def _seen(report: ProbeReport) -> str:
    found = [p.reading.estimate.params.get("components") for p in report.pairs]
    components = [int(m) for m in found if m]
    if not components:
        return ""
    return f"; on the {max(components):,} leading principal components of each layer"


def _share(e: Estimate) -> str:
    if e.value is None:
        return "no estimate"
    if e.unit != "accuracy":
        ci = "" if e.ci is None else f" ({interval(e.ci.low, e.ci.high, 3)})"
        return f"{number(e.value, 3)}{ci}"
    ci = "" if e.ci is None else f" ({100 * e.ci.low:.1f} – {100 * e.ci.high:.1f}%)"
    return f"{100 * e.value:.1f}%{ci}"
