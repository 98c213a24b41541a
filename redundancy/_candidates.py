"""The plans that proposals choose from: what each skips, its rank, and what speaks against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from estimators import Estimate
from redundancy._evidence import Evidence
from vlm.plan import SkipPlan

__all__ = [
    "CHAINS",
    "DROPS",
    "KINDS",
    "Candidate",
    "Kind",
    "Rank",
    "missing_readings",
    "predicted_harm",
    "reasons_against",
]

Kind = Literal["late", "exit", "window", "ends", "off", "drop", "stretch"]
KINDS: tuple[Kind, ...] = ("late", "exit", "window", "ends", "off", "drop", "stretch")
DROPS: tuple[Kind, ...] = ("drop", "stretch")
"""Kinds that leave whole blocks out, so that a model without vision has them too."""


Rank = Callable[["Candidate"], float | None]
"""Harm of a candidate; None where it cannot be told, or the candidate is not allowed."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Blocks that hide vision, of which the first `entry` are late entry and the last an exit."""

    kind: Kind
    hidden: frozenset[int] = frozenset()
    dropped: frozenset[int] = frozenset()

    def plan(
        self, evidence: Evidence, model_type: str | None, why: Mapping[str, object]
    ) -> SkipPlan:
        entry, leave, middle = self.parts(evidence.n_layers)
        return SkipPlan(
            evidence.n_layers,
            vision_entry=entry,
            vision_exit=leave if leave < evidence.n_layers else None,
            vision_off=tuple(sorted(middle)),
            drop_layers=tuple(sorted(self.dropped)),
            model_type=model_type,
            evidence=why,
        )

    def parts(self, n: int) -> tuple[int, int, frozenset[int]]:
        """Where vision enters, where it leaves, and where it is hidden in between."""
        entry, leave = 0, n
        while entry in self.hidden:
            entry += 1
        while leave > entry and leave - 1 in self.hidden:
            leave -= 1
        return entry, leave, frozenset(b for b in self.hidden if entry <= b < leave)


def _length(distance: Estimate) -> float:
    """Euclidean length that a cosine distance stands for at unit norm: |x - y|^2 = 2 rho."""
    return math.sqrt(2.0 * max(float(distance), 0.0))


def _entry_distance(evidence: Evidence, entry: int) -> float | None:
    if entry == 0:
        return 0.0
    if entry in evidence.from_first:
        return _length(evidence.from_first[entry])
    # Steps bound the way by the triangle inequality where it was not measured itself.
    if all(block in evidence.step for block in range(entry)):
        return sum(_length(evidence.step[block]) for block in range(entry))
    return None


def predicted_harm(evidence: Evidence, candidate: Candidate) -> float | None:
    """Rank of a candidate; None where a reading it rests on is missing."""
    n = evidence.n_layers
    entry, leave, middle = candidate.parts(n)
    if leave <= entry and not candidate.dropped:
        return None  # vision nowhere: not a plan for a vision-language model
    text = vision = 0.0
    if candidate.hidden:
        if evidence.effect_source is None:
            if leave < n:
                return None
        else:
            if any(block not in evidence.effect for block in candidate.hidden):
                return None
            text += sum(float(evidence.effect[block]) for block in candidate.hidden)
        way = _entry_distance(evidence, entry)
        if way is None or any(block not in evidence.step for block in middle):
            return None
        vision += way + sum(_length(evidence.step[block]) for block in middle)
    if candidate.dropped:
        moved = _dropped_way(evidence.text_step, evidence.text_across, candidate.dropped)
        seen: float | None = 0.0
        if not evidence.text_only:
            seen = _dropped_way(evidence.step, evidence.across, candidate.dropped)
        if moved is None or seen is None:
            return None
        text, vision = text + moved, vision + seen
    return math.hypot(vision, text)


def _stretches(blocks: frozenset[int]) -> list[tuple[int, int]]:
    """Neighbouring blocks a to b - 1, as (a, b)."""
    ends = [b + 1 for b in sorted(blocks) if b + 1 not in blocks]
    return list(zip([b for b in sorted(blocks) if b - 1 not in blocks], ends, strict=True))


def _dropped_way(
    step: Mapping[int, Estimate],
    across: Mapping[tuple[int, int], Estimate],
    dropped: frozenset[int],
) -> float | None:
    """How far states lie apart that blocks would have joined; None where that is not known."""
    if any(block not in step for block in dropped):
        return None
    return sum(
        _length(across[a, b])
        if (a, b) in across
        else sum(_length(step[block]) for block in range(a, b))
        for a, b in _stretches(dropped)
    )


def _upper(estimate: Estimate) -> float:
    return float(estimate) if estimate.ci is None else estimate.ci.high


def reasons_against(
    evidence: Evidence, candidate: Candidate, limits: Mapping[str, float]
) -> list[str]:
    """Reasons why a candidate is outside the thresholds, in words."""
    entry, _, middle = candidate.parts(evidence.n_layers)
    reasons = []
    source = evidence.effect_source
    if source is not None and source in limits:
        for block in sorted(candidate.hidden):
            high = _upper(evidence.effect[block])
            if not high < limits[source]:
                reasons.append(f"{source} of layer {block} reaches {high:.3g}")
    if "geometric" in limits:
        limit = limits["geometric"]
        if entry and entry in evidence.from_first:
            high = _upper(evidence.from_first[entry])
            if not high < limit:
                reasons.append(f"D[0, {entry}] reaches {high:.3g}")
        elif entry:
            way = _entry_distance(evidence, entry)
            if way is None or not way**2 / 2 < limit:
                reasons.append(f"D[0, {entry}] is not known to be small")
        ways = [("vision", evidence.step, evidence.across, middle | candidate.dropped)]
        if evidence.text_only:
            ways.clear()
        ways.append(("text", evidence.text_step, evidence.text_across, candidate.dropped))
        for what, step, across, blocks in ways:
            for block in sorted(blocks):
                high = _upper(step[block])
                if not high < limit:
                    reasons.append(f"{what} distance across layer {block} reaches {high:.3g}")
            for a, b in _stretches(candidate.dropped):
                high = _upper(across[a, b]) if b - a > 1 and (a, b) in across else 0.0
                if not high < limit:
                    reasons.append(
                        f"{what} distance across layers {a} to {b - 1} reaches {high:.3g}"
                    )
    # Early exit bypasses no state that is used later, so these verdicts do not speak against it.
    for block in sorted(frozenset(range(entry)) | middle | candidate.dropped):
        said = evidence.needed.get(block, ())
        if block in candidate.dropped:
            said = tuple(dict.fromkeys((*said, *evidence.text_needed.get(block, ()))))
        reasons += [f"layer {block} is needed by {measure}" for measure in said]
    return reasons


def missing_readings(evidence: Evidence) -> list[str]:
    said = []
    if evidence.text_only:
        said.append(
            "nothing was read of vision tokens; plans drop layers by what they do to text, all "
            "that a text-only model has"
        )
        if all(b == a + 1 for a, b in evidence.text_across):
            said.append("distances across several layers were not measured; sums bound them")
        return said
    if evidence.effect_source != "vision_effect":
        stand_in = "VAR stands in for it" if evidence.effect_source else "ranked by distance alone"
        said.append(f"vision_effect was not measured; {stand_in}, which predicts harm poorly")
    if evidence.step and set(evidence.from_first) <= {1}:
        said.append("D[0, L] was not measured; sums of steps bound it from above")
    return said


def _late(n: int, _: Rank) -> list[Candidate]:
    return [Candidate("late", frozenset(range(k))) for k in range(1, n)]


def _exit(n: int, _: Rank) -> list[Candidate]:
    return [Candidate("exit", frozenset(range(k, n))) for k in range(n - 1, 0, -1)]


def _window(n: int, rank: Rank) -> list[Candidate]:
    """Close the window from whichever side predicts less harm, one block at a time."""
    out = []
    entry, leave = 0, n
    while leave - entry > 1:
        sides = []
        for low, high in ((entry + 1, leave), (entry, leave - 1)):
            candidate = Candidate("window", frozenset([*range(low), *range(high, n)]))
            harm = rank(candidate)
            if harm is not None:
                sides.append((harm, low, high, candidate))
        if not sides:
            break
        _, entry, leave, candidate = min(sides, key=lambda side: side[:3])
        out.append(candidate)
    return out


def _ends(n: int, _: Rank) -> list[Candidate]:
    """Close the window from both sides in turn, the late side first: it rarely costs less."""
    out = []
    entry, leave = 0, n
    while leave - entry > 1:
        if n - leave <= entry:
            leave -= 1
        else:
            entry += 1
        out.append(Candidate("ends", frozenset([*range(entry), *range(leave, n)])))
    return out


def _nested(n: int, rank: Rank, kind: Literal["off", "drop"], most: int) -> list[Candidate]:
    """Add the block that predicts least harm beside those already chosen, one at a time."""
    chosen: frozenset[int] = frozenset()
    out = []
    while len(chosen) < most:
        options = []
        for block in range(n):
            if block in chosen:
                continue
            more = chosen | {block}
            candidate = (
                Candidate(kind, hidden=more) if kind == "off" else Candidate(kind, dropped=more)
            )
            harm = rank(candidate)
            if harm is not None:
                options.append((harm, block, candidate))
        if not options:
            break
        _, block, candidate = min(options, key=lambda option: option[:2])
        chosen = chosen | {block}
        out.append(candidate)
    return out


def _stretch(n: int, rank: Rank) -> list[Candidate]:
    """For each length the neighbouring blocks whose states lie least far apart."""
    out = []
    for length in range(1, n // 2 + 1):
        options = []
        for start in range(n - length + 1):
            candidate = Candidate("stretch", dropped=frozenset(range(start, start + length)))
            harm = rank(candidate)
            if harm is not None:
                options.append((harm, start, candidate))
        if options:
            out.append(min(options, key=lambda option: option[:2])[2])
    return out


CHAINS: Mapping[Kind, Callable[[int, Rank], list[Candidate]]] = {
    "late": _late,
    "exit": _exit,
    "window": _window,
    "ends": _ends,
    "off": lambda n, rank: _nested(n, rank, "off", n - 1),
    "drop": lambda n, rank: _nested(n, rank, "drop", n // 2),
    "stretch": _stretch,
}
"""By kind: its candidates for n blocks, each grown by what ranks least and is allowed."""
