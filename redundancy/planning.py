"""From readings to skip plans: which plans to try, safest first.

A proposal is a guess with its evidence. What it costs only behaviour on held-out images can say:
try the plans (`redundancy.evaluate`) and certify one (`redundancy.risk.certify_plans`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from estimators import InputError
from redundancy._candidates import (
    CHAINS,
    DROPS,
    KINDS,
    Candidate,
    Kind,
    missing_readings,
    predicted_harm,
    reasons_against,
)
from redundancy._evidence import Evidence, gather
from redundancy.results import PairResult
from vlm.plan import SkipPlan

__all__ = ["DEFAULT_THRESHOLDS", "KINDS", "Evidence", "Kind", "gather", "propose"]

DEFAULT_THRESHOLDS: Mapping[str, float] = {"vision_effect": 0.2, "geometric": 0.05}
"""Held against the upper end of each interval. They separated harmless from harmful blocks of one
small model (hiding vision where the effect was at most 0.15 cost at most 2 points, where it was
0.24 and more, 14 to 21; late entry across a distance of 0.016 cost 1 point, across 0.119 24
points): starting values, not laws. On twenty other small models 22 of 71 blocks below 0.2 cost
more than 5% of the answers when vision was hidden from them, and 72 of 114 with a distance below
0.05; dropping cost as much for 30 of 46 blocks with a text distance below 0.05
(docs/evidence.md)."""


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
    states unchanged, and early exit costs no vision distance at all. Dropping blocks counts the
    distance their text and vision states would have moved: across each stretch of neighbouring
    blocks a to b - 1 that is :math:`\sqrt{2 D[a, b]}` where it was measured (the next block reads
    :math:`X_a` for :math:`X_b`), and the sum over its blocks, which bounds it, otherwise.

    Readings of text alone propose dropped blocks, by the same ranks over text: what a text-only
    model has to skip.

    When it lies: the number ranks and bounds nothing; it ignores how later blocks amplify a
    change. Without ``vision_effect`` the attention ratio stands in for it, which ranked layers
    poorly; without either, late entry and middle blocks are ranked by distance alone, which has
    called blocks harmless that were needed (``evidence["missing"]`` says so), and early exit is
    not proposed. Certify a plan on held-out images before use.

    Parameters
    ----------
    results : iterable of PairResult, or Evidence
        Readings by ``vision_effect`` and ``geometric`` (pairs of neighbours and with layer 0; all
        pairs for stretches of dropped blocks); verdicts of ``informational`` and ``functional``
        keep blocks from being bypassed that were found needed.
    n_layers : int, optional
        Number of decoder blocks; by default the highest layer among the results.
    thresholds : mapping of measure to float, optional
        Upper limits for ``vision_effect`` or ``var`` (each hidden block) and ``geometric`` (D[0, L]
        for late entry; each bypassed block otherwise, and each stretch of dropped ones where it
        was measured). They replace `DEFAULT_THRESHOLDS`. The *upper end* of an interval must stay
        below.
    kinds : sequence of {"late", "exit", "window", "ends", "off", "drop", "stretch"}
        Late entry; early exit; both, nested, from the side that predicts less harm; both, nested,
        one block from either end in turn (an order that no reading can mislead); arbitrary blocks
        without vision, nested; dropped blocks, nested (Men et al. 2024); for each length the one
        stretch of neighbouring blocks that is dropped at least harm (Gromov et al. 2024).
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
        If there are no results, a threshold is not above 0, a kind is unknown, or all kinds asked
        for hide vision while the results speak of text alone.

    Examples
    --------
    >>> from estimators import Estimate
    >>> def reading(measure, pair, value):
    ...     e = Estimate(value=value, unit="", kind="estimate", n=9, method="")
    ...     return PairResult(pair=pair, measure=measure, modality="vision", estimate=e)
    >>> effect = [reading("vision_effect", (l, l + 1), d) for l, d in enumerate([.3, .2, .05, .01])]
    >>> plans = propose(effect, thresholds={"vision_effect": 0.1})
    >>> [(plan.vision_exit, round(plan.evidence["predicted_harm"], 3)) for plan in plans]
    [(3, 0.01), (2, 0.06)]

    A text-only model: the block that moves its text states least is the first to go.

    >>> def moved(pair, value):
    ...     e = Estimate(value=value, unit="", kind="estimate", n=9, method="")
    ...     return PairResult(pair=pair, measure="geometric", modality="text", estimate=e)
    >>> plans = propose([moved((b, b + 1), d) for b, d in enumerate([.3, .02, .01, .2])])
    >>> [(plan.drop_layers, round(plan.evidence["predicted_harm"], 2)) for plan in plans]
    [((2,), 0.14), ((1, 2), 0.34)]

    References
    ----------
    Men et al. (2024), ShortGPT; Gromov et al. (2024), The unreasonable ineffectiveness of the
    deeper layers.
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
    if evidence.text_only and kinds and not set(kinds) & set(DROPS):
        raise InputError(
            f"the results speak of text alone, and plans of kind {', '.join(kinds)} hide vision; "
            f"ask for {' or '.join(DROPS)}, or measure vision tokens too"
        )
    if not 0.0 < vision_share <= 1.0:
        raise InputError(f"vision_share is {vision_share!r}; give a share in (0, 1]")
    if max_plans is not None and max_plans < 1:
        raise InputError(f"max_plans is {max_plans!r}; ask for at least one plan, or give None")

    def rank(candidate: Candidate) -> float | None:
        harm = predicted_harm(evidence, candidate)
        # Plans grow around what the thresholds keep, instead of ending where they meet it.
        if within and harm is not None and reasons_against(evidence, candidate, limits):
            return None
        return harm

    candidates: dict[tuple[object, ...], Candidate] = {}
    for kind in kinds:
        for candidate in CHAINS[kind](evidence.n_layers, rank):
            if len(candidate.hidden) + len(candidate.dropped) == 0:
                continue
            key = (candidate.hidden, candidate.dropped)
            candidates.setdefault(key, candidate)
    ranked = []
    for candidate in candidates.values():
        harm = predicted_harm(evidence, candidate)
        if harm is None:
            continue
        against = reasons_against(evidence, candidate, limits)
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
                "missing": missing_readings(evidence),
            },
        )
        for harm, saved, candidate, against in ranked[:max_plans]
    ]
