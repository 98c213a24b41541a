"""From readings to skip plans: which plans to try, safest first.

A proposal is a guess with its evidence. What it costs only behaviour on held-out images can say:
try the plans (`redundancy.evaluate`) and certify one (`redundancy.risk.certify_plans`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from estimators import Estimate, InputError
from redundancy._evidence import Evidence, gather
from redundancy.results import PairResult
from vlm.plan import SkipPlan

__all__ = ["DEFAULT_THRESHOLDS", "Evidence", "Kind", "gather", "propose"]

Kind = Literal["late", "exit", "window", "ends", "off", "drop"]
KINDS: tuple[Kind, ...] = ("late", "exit", "window", "ends", "off", "drop")

DEFAULT_THRESHOLDS: Mapping[str, float] = {"vision_effect": 0.2, "geometric": 0.05}
"""Held against the upper end of each interval. They separated harmless from harmful blocks of one
small model (hiding vision where the effect was at most 0.15 cost at most 2 points, where it was
0.24 and more, 14 to 21; late entry across a distance of 0.016 cost 1 point, across 0.119 24
points): starting values, not laws. On twenty other small models 22 of 71 blocks below 0.2 cost
more than 5% of the answers when vision was hidden from them, and 72 of 114 with a distance below
0.05 (docs/evidence.md)."""


def propose(
    results: Iterable[PairResult] | Evidence,
    n_layers: int | None = None,
    *,
    thresholds: Mapping[str, float] | None = None,
    kinds: Sequence[Kind] = KINDS,
    within: bool = True,
    pareto: bool = True,
    vision_share: float = 0.9,
    model_type: str | None = None,
    max_plans: int | None = None,
) -> list[SkipPlan]:
    r"""Propose skip plans from readings, safest first.

    Plans are ranked by Theorem 6 with every Lipschitz constant set to 1 and states at unit norm,

    .. math:: \text{harm} = \sqrt{D_V^2 + \Big(\sum_{l \text{ hidden}} \delta_l\Big)^2}, \qquad
              D_V = \sqrt{2 D[0, L]} + \sum_{l \text{ off}} \sqrt{2 \rho_l}

    where late entry at L replaces :math:`V_L` by :math:`V_0` (so the distance between *those*
    counts, not that of neighbours), a block in the middle that hides vision leaves its vision
    states unchanged, and early exit costs no vision distance at all. Dropping a block counts the
    distance its text and vision states would have moved.

    When it lies: the number ranks and bounds nothing; it ignores how later blocks amplify a
    change. Without ``vision_effect`` the attention ratio stands in for it, which ranked layers
    poorly; without either, late entry and middle blocks are ranked by distance alone, which has
    called blocks harmless that were needed (``evidence["missing"]`` says so), and early exit is
    not proposed. Certify a plan on held-out images before use.

    Parameters
    ----------
    results : iterable of PairResult, or Evidence
        Readings by ``vision_effect`` and ``geometric`` (pairs of neighbours and with layer 0);
        verdicts of ``informational`` and ``functional`` keep blocks from being bypassed that were
        found needed.
    n_layers : int, optional
        Number of decoder blocks; by default the highest layer among the results.
    thresholds : mapping of measure to float, optional
        Upper limits for ``vision_effect`` or ``var`` (each hidden block) and ``geometric`` (D[0, L]
        for late entry; each bypassed block otherwise). They replace `DEFAULT_THRESHOLDS`. The
        *upper end* of an interval must stay below.
    kinds : sequence of {"late", "exit", "window", "ends", "off", "drop"}
        Late entry; early exit; both, nested, from the side that predicts less harm; both, nested,
        one block from either end in turn (an order that no reading can mislead); arbitrary blocks
        without vision, nested; dropped blocks, nested.
    within : bool
        Propose only plans within the thresholds; False proposes all and marks each, for sweeps and
        for certification of more than thresholds allow.
    pareto : bool
        Leave out a plan where another saves at least as much at less predicted harm.
    vision_share : float in (0, 1]
        Vision tokens as a share of all, for what a plan saves.
    model_type : str, optional
        Written into the plans.
    max_plans : int, optional
        At most so many, the safest.

    Returns
    -------
    list of SkipPlan
        With ``evidence``: kind, predicted_harm, saved (share of token-blocks), within_thresholds,
        thresholds, effect_source, reasons against it, and what was missing. Never the plan that
        skips nothing. Empty if the thresholds allow none.

    Raises
    ------
    InputError
        If there are no results, a threshold is not above 0, or a kind is unknown.

    Examples
    --------
    >>> def reading(measure, pair, value):
    ...     e = Estimate(value=value, unit="", kind="estimate", n=9, method="")
    ...     return PairResult(pair=pair, measure=measure, modality="vision", estimate=e)
    >>> effect = [reading("vision_effect", (l, l + 1), d) for l, d in enumerate([.3, .2, .05, .01])]
    >>> plans = propose(effect, thresholds={"vision_effect": 0.1})
    >>> [(plan.vision_exit, round(plan.evidence["predicted_harm"], 3)) for plan in plans]
    [(3, 0.01), (2, 0.06)]
    """
    evidence = results if isinstance(results, Evidence) else gather(results, n_layers)
    limits = dict(DEFAULT_THRESHOLDS if thresholds is None else thresholds)
    for name, limit in limits.items():
        if name not in ("vision_effect", "var", "geometric"):
            raise InputError(
                f"there is no planning threshold for {name!r}; use vision_effect, var or geometric"
            )
        if not 0.0 < limit < math.inf:
            raise InputError(f"the threshold of {name} is {limit!r}; it must be above 0")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise InputError(f"there is no kind of plan {unknown[0]!r}; use {', '.join(KINDS)}")
    if not 0.0 < vision_share <= 1.0:
        raise InputError(f"vision_share is {vision_share!r}; give a share in (0, 1]")
    if max_plans is not None and max_plans < 1:
        raise InputError(f"max_plans is {max_plans!r}; ask for at least one plan, or give None")
    candidates: dict[tuple[object, ...], _Candidate] = {}
    for kind in kinds:
        for candidate in _CHAINS[kind](evidence):
            if len(candidate.hidden) + len(candidate.dropped) == 0:
                continue
            key = (candidate.hidden, candidate.dropped)
            candidates.setdefault(key, candidate)
    ranked = []
    for candidate in candidates.values():
        harm = _harm(evidence, candidate)
        if harm is None:
            continue
        against = _against(evidence, candidate, limits)
        if within and against:
            continue
        saved = len(candidate.hidden) * vision_share + len(candidate.dropped)
        ranked.append((harm, -saved / evidence.n_layers, candidate, against))
    ranked.sort(key=lambda entry: (entry[0], entry[1]))
    if pareto:
        best, kept = 0.0, []
        for entry in ranked:
            if -entry[1] > best + 1e-12:
                best = -entry[1]
                kept.append(entry)
        ranked = kept
    return [
        candidate.plan(
            evidence,
            model_type,
            {
                "kind": candidate.kind,
                "predicted_harm": harm,
                "saved": -saved,
                "within_thresholds": not against,
                "against": against,
                "thresholds": limits,
                "effect_source": evidence.effect_source,
                "missing": _missing(evidence),
            },
        )
        for harm, saved, candidate, against in ranked[:max_plans]
    ]


@dataclass(frozen=True, slots=True)
class _Candidate:
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


def _harm(evidence: Evidence, candidate: _Candidate) -> float | None:
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
        if any(b not in evidence.step or b not in evidence.text_step for b in candidate.dropped):
            return None
        vision += sum(_length(evidence.step[block]) for block in candidate.dropped)
        text += sum(_length(evidence.text_step[block]) for block in candidate.dropped)
    return math.hypot(vision, text)


def _upper(estimate: Estimate) -> float:
    return float(estimate) if estimate.ci is None else estimate.ci.high


def _against(evidence: Evidence, candidate: _Candidate, limits: Mapping[str, float]) -> list[str]:
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
        for block in sorted(middle | candidate.dropped):
            high = _upper(evidence.step[block])
            if not high < limit:
                reasons.append(f"vision distance across layer {block} reaches {high:.3g}")
        for block in sorted(candidate.dropped):
            high = _upper(evidence.text_step[block])
            if not high < limit:
                reasons.append(f"text distance across layer {block} reaches {high:.3g}")
    # Early exit bypasses no state that is used later, so these verdicts do not speak against it.
    for block in sorted(frozenset(range(entry)) | middle | candidate.dropped):
        for measure in evidence.needed.get(block, ()):
            reasons.append(f"layer {block} is needed by {measure}")
    return reasons


def _missing(evidence: Evidence) -> list[str]:
    said = []
    if evidence.effect_source != "vision_effect":
        stand_in = "VAR stands in for it" if evidence.effect_source else "ranked by distance alone"
        said.append(f"vision_effect was not measured; {stand_in}, which predicts harm poorly")
    if evidence.step and set(evidence.from_first) <= {1}:
        said.append("D[0, L] was not measured; sums of steps bound it from above")
    return said


def _late(evidence: Evidence) -> list[_Candidate]:
    return [_Candidate("late", frozenset(range(k))) for k in range(1, evidence.n_layers)]


def _exit(evidence: Evidence) -> list[_Candidate]:
    n = evidence.n_layers
    return [_Candidate("exit", frozenset(range(k, n))) for k in range(n - 1, 0, -1)]


def _window(evidence: Evidence) -> list[_Candidate]:
    """Close the window from whichever side predicts less harm, one block at a time."""
    n, out = evidence.n_layers, []
    entry, leave = 0, n
    while leave - entry > 1:
        sides = []
        for low, high in ((entry + 1, leave), (entry, leave - 1)):
            candidate = _Candidate("window", frozenset([*range(low), *range(high, n)]))
            harm = _harm(evidence, candidate)
            if harm is not None:
                sides.append((harm, low, high, candidate))
        if not sides:
            break
        _, entry, leave, candidate = min(sides, key=lambda side: side[:3])
        out.append(candidate)
    return out


def _ends(evidence: Evidence) -> list[_Candidate]:
    """Close the window from both sides in turn, the late side first: it rarely costs less."""
    n, out = evidence.n_layers, []
    entry, leave = 0, n
    while leave - entry > 1:
        if n - leave <= entry:
            leave -= 1
        else:
            entry += 1
        out.append(_Candidate("ends", frozenset([*range(entry), *range(leave, n)])))
    return out


def _nested(evidence: Evidence, kind: Literal["off", "drop"], most: int) -> list[_Candidate]:
    """Add the block that predicts least harm beside those already chosen, one at a time."""
    chosen: frozenset[int] = frozenset()
    out = []
    while len(chosen) < most:
        options = []
        for block in range(evidence.n_layers):
            if block in chosen:
                continue
            more = chosen | {block}
            candidate = (
                _Candidate(kind, hidden=more) if kind == "off" else _Candidate(kind, dropped=more)
            )
            harm = _harm(evidence, candidate)
            if harm is not None:
                options.append((harm, block, candidate))
        if not options:
            break
        _, block, candidate = min(options, key=lambda option: option[:2])
        chosen = chosen | {block}
        out.append(candidate)
    return out


_CHAINS: Mapping[Kind, Callable[[Evidence], list[_Candidate]]] = {
    "late": _late,
    "exit": _exit,
    "window": _window,
    "ends": _ends,
    "off": lambda evidence: _nested(evidence, "off", evidence.n_layers - 1),
    "drop": lambda evidence: _nested(evidence, "drop", evidence.n_layers // 2),
}
