"""What readings say of each block of a model, sorted for planning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from estimators import Estimate, InputError
from redundancy.results import PairResult

__all__ = ["Evidence", "gather"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What readings say of each block; block l maps state l to state l + 1, both counted from 0.

    Parameters
    ----------
    n_layers : int
        Number of blocks.
    effect : mapping of int to Estimate
        By block: how much of its text output vision makes.
    effect_source : str or None
        The measure behind `effect`: ``"vision_effect"``, else ``"var"``, else None.
    step : mapping of int to Estimate
        By block: mean cosine distance between its vision inputs and outputs.
    from_first : mapping of int to Estimate
        By L: mean cosine distance D[0, L] between the vision states 0 and L.
    text_step : mapping of int to Estimate
        By block: mean cosine distance between its text inputs and outputs.
    needed, text_needed : mapping of int to tuple of str
        By block: measures whose verdict on its vision (text) states is "needed".
    across, text_across : mapping of (int, int) to Estimate
        By (a, b): mean cosine distance between the vision (text) states a and b, so across the
        blocks a to b - 1, neighbours included.
    text_only : bool
        No reading speaks of vision, so that plans rest on text alone.
    """

    n_layers: int
    effect: Mapping[int, Estimate] = field(default_factory=dict)
    effect_source: str | None = None
    step: Mapping[int, Estimate] = field(default_factory=dict)
    from_first: Mapping[int, Estimate] = field(default_factory=dict)
    text_step: Mapping[int, Estimate] = field(default_factory=dict)
    needed: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    text_needed: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    across: Mapping[tuple[int, int], Estimate] = field(default_factory=dict)
    text_across: Mapping[tuple[int, int], Estimate] = field(default_factory=dict)
    text_only: bool = False


def gather(results: Iterable[PairResult], n_layers: int | None = None) -> Evidence:
    """Sort readings by what they say of each block; untrustworthy estimates are left out.

    Parameters
    ----------
    results : iterable of PairResult
        Of any measures; ``vision_effect``, ``var``, ``geometric`` (neighbours, pairs with layer
        0 and any others, vision and text) and the verdicts of ``informational`` and
        ``functional`` are used.
    n_layers : int, optional
        Number of blocks; by default the highest layer met.

    Raises
    ------
    InputError
        If there is no result, or one of a layer beyond `n_layers`.
    """
    found = list(results)
    if not found:
        raise InputError("there are no results to plan from; estimate geometric and vision_effect")
    top = max(result.pair[1] for result in found)
    n = top if n_layers is None else n_layers
    if top > n:
        raise InputError(f"the results speak of layer {top}, and the model has {n} blocks")
    by_measure: dict[tuple[str, str], dict[tuple[int, int], Estimate]] = {}
    needed: dict[str, dict[int, tuple[str, ...]]] = {"vision": {}, "text": {}}
    text_only = True
    for result in found:
        sees = result.measure in ("vision_effect", "var")
        text_only = text_only and result.modality == "text" and not sees
        adjacent = result.pair[1] == result.pair[0] + 1
        if result.estimate.trustworthy:
            by_measure.setdefault((result.measure, result.modality), {})[result.pair] = (
                result.estimate
            )
        if (
            result.modality in needed
            and adjacent
            and result.verdict == "needed"
            and result.measure in ("informational", "functional")
        ):
            said, block = needed[result.modality], result.pair[0]
            said[block] = (*said.get(block, ()), result.measure)

    def blocks(measure: str, modality: str = "vision") -> dict[int, Estimate]:
        known = by_measure.get((measure, modality), {})
        return {low: e for (low, high), e in known.items() if high == low + 1}

    source = next((m for m in ("vision_effect", "var") if blocks(m)), None)
    distances = by_measure.get(("geometric", "vision"), {})
    return Evidence(
        n_layers=n,
        effect=blocks(source) if source else {},
        effect_source=source,
        step=blocks("geometric"),
        from_first={high: e for (low, high), e in distances.items() if low == 0},
        text_step=blocks("geometric", "text"),
        needed=needed["vision"],
        text_needed=needed["text"],
        across=distances,
        text_across=by_measure.get(("geometric", "text"), {}),
        text_only=text_only,
    )
