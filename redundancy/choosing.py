"""From a store to a plan with a guarantee: measure, propose, try, certify."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy import risk
from redundancy._losses import check_probability, check_used
from redundancy._sequences import largest_share
from redundancy.planning import Kind, gather, propose
from redundancy.results import Results
from redundancy.run import estimate
from redundancy.store import ActivationStore
from vlm.plan import SkipPlan

if TYPE_CHECKING:
    from vlm.evaluate import Evaluation

__all__ = ["Choice", "candidates", "certify", "readings", "sequences"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A plan, and the certificate it rests on.

    Parameters
    ----------
    plan : SkipPlan
        The certified plan that saves most; one that skips nothing if none was certified. Its
        evidence carries the certificate.
    alpha, delta : float
        Share of answers that may change, and probability that the certificate is wrong.
    certificate : RiskCertificate
        Of all kinds of plan together.
    tried : tuple of Evaluation
        The plans that were run, in order.
    units : str
        What was held out, and is independent: images, or prompts where there are none.
    """

    plan: SkipPlan
    alpha: float
    delta: float
    certificate: risk.RiskCertificate
    tried: tuple[Evaluation, ...]
    units: str = "images"

    @property
    def sentence(self) -> str:
        """What is certified, and on what, in one or two sentences."""
        certified, message = self.certificate.certified, self.certificate.message
        if not certified:
            return message[:1].upper() + message[1:]
        n_units = self.certificate.n_groups
        return (
            f"{self.plan.describe()} It changes at most {_percent(self.alpha)} of "
            f"the answers, with {_percent(1 - self.delta)} confidence: {len(certified)} of "
            f"{len(self.tried)} plans tried passed on {n_units} {self.units} that had no part in "
            "proposing them."
        )


def readings(store: ActivationStore, *, ci: float | None = 0.95, seed: int = 0) -> Results:
    """Measure what planning reads: distances of neighbours and from layer 0, and vision's effect.

    Of a text-only model: distances across every stretch of blocks that could be dropped, at most
    half of them (of neighbours only, where the store keeps no sums over all tokens: each further
    pair of layers would be another pass over the states).

    Measures whose ingredients the store does not carry are left out; the plans say what was
    missing.

    Parameters
    ----------
    store : ActivationStore
    ci : float or None
        Level of the intervals.
    seed : int

    Raises
    ------
    InputError
        If the store holds text of samples that have vision tokens too, or neither modality.
    """
    if "vision" not in store.modalities:
        return _text_readings(store, ci, seed)
    found = list(estimate(store, "geometric", ci=ci, seed=seed))
    found += estimate(store, "geometric", modality="vision", pairs="first", ci=ci, seed=seed)
    lower, upper = store.layers[:2]
    summary = store.pair(lower, upper, "vision", states=False).summary
    if summary is not None and summary.vision_effect is not None:
        found += estimate(store, "vision_effect", modality="vision", ci=ci, seed=seed)
    if summary is not None and summary.var_per_head is not None:
        found += estimate(store, "var", modality="vision", ci=ci, seed=seed)
    return Results(found)


def _text_readings(store: ActivationStore, ci: float | None, seed: int) -> Results:
    if "text" not in store.modalities:
        raise InputError(
            f"this source holds {', '.join(store.modalities)} tokens; plans are made from vision "
            "tokens, or from text where there are no others"
        )
    counts = store.per_sample("n_vision") or []
    if any(count is not None and count.any() for count in counts):
        raise InputError(
            "these samples have vision tokens, and the store keeps text alone; extract with "
            "--modality vision too, so that plans can say what dropping a layer does to both"
        )
    layers, reach = store.layers, store.n_layers // 2
    pairs: str | list[tuple[int, int]] = "adjacent"
    if store.has_statistics("text"):
        pairs = [(a, b) for a in layers for b in layers if a < b and (b - a <= reach or b == a + 1)]
    return estimate(store, "geometric", modality="text", pairs=pairs, ci=ci, seed=seed)


def candidates(
    found: Results,
    n_layers: int,
    *,
    kinds: Sequence[Kind] | None = None,
    thresholds: Mapping[str, float] | None = None,
    model_type: str | None = None,
    max_plans: int | None = None,
) -> list[SkipPlan]:
    """Propose every plan of some kinds, each kind safest first, for `certify` to try.

    Thresholds mark plans but exclude none: what is certified decides. The kinds are exit, window
    and ends by default, or drop and stretch where the readings speak of text alone. Late entry
    alone is not among them: windows and both ends contain it, and a sequence of its own would take
    its share of delta from plans that save more.
    """
    evidence = gather(found, n_layers)
    default: Sequence[Kind] = ("exit", "window", "ends")
    if evidence.text_only:
        default = ("drop", "stretch")
    return [
        plan
        for kind in (default if kinds is None else kinds)
        for plan in propose(
            evidence,
            n_layers,
            thresholds=thresholds,
            kinds=(kind,),
            within=False,
            pareto=False,
            max_plans=max_plans,
            model_type=model_type,
        )
    ]


def certify(
    model: Any,
    processor: Any,
    data: str | Path | Iterable[Mapping[str, Any]],
    plans: Sequence[SkipPlan],
    *,
    alpha: float = 0.05,
    delta: float = 0.1,
    used_groups: Iterable[str] = (),
    batch_size: int = 16,
    max_new_tokens: int = 16,
    progress: Callable[[int, int | None], None] | None = None,
) -> Choice:
    """Run plans on held-out data, safest first, and return the certified one that saves most.

    "Images" below are prompts where a model reads text alone: what is independent.

    The loss of a sample is 1 where the plan changes the model's answer. The plans of each kind
    (their evidence says which) are a sequence of their own; the sequences share delta and lend it
    to each other where they agree (`redundancy.risk.certify_sequences`): "the plan changes at most
    a share alpha of answers" is wrong with probability at most delta, however many plans were
    proposed. A sequence that a misleading measure ordered badly then costs little to the others.

    Parameters
    ----------
    model, processor
        As from `vlm.model.load`.
    data : path or iterable of mapping
        Held-out rows; none of their groups may have ordered the plans.
    plans : sequence of SkipPlan
        Candidates, safest first, as from `redundancy.planning.propose`.
    alpha : float
        Share of answers that may change.
    delta : float
        Probability that the certificate is wrong.
    used_groups : iterable of str
        Groups that ordered the plans; meeting one of them in `data` is an error.
    batch_size, max_new_tokens : int
        As for `vlm.evaluate.evaluate`.
    progress : callable, optional
        Called with (plans tried, plans in all).

    Raises
    ------
    InputError
        If there is no plan to try, alpha or delta is not in (0, 1), an image ordered the plans, or
        there are too few images to certify any (the message says how many are needed); before the
        model is asked anything.
    """
    from vlm.data import rows_of
    from vlm.evaluate import evaluate

    if not plans:
        raise InputError("there is no plan to certify; raise the thresholds, or name plans")
    rows = list(rows_of(data))
    chains = sequences(plans)
    blind = all(plan.drops_only for plan in plans) and not any(len(row["images"]) for row in rows)
    units = "prompts" if blind else "images"
    _check(rows, alpha, delta, chains, used_groups, units)
    run = partial(
        evaluate,
        model,
        processor,
        rows,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        nll=False,
    )
    full = run()
    tried: dict[SkipPlan, Evaluation] = {}
    # Of plans that several kinds propose, the first kind's keeps its evidence.
    named = {_name(plan): plan for plan in reversed(plans)}

    def losses(name: str) -> NDArray[np.float64]:
        plan = named[name]
        tried[plan] = run(plan, baseline=full)
        if progress is not None:
            progress(len(tried), len(named))
        return 1.0 - _known(tried[plan].agrees)

    certificate = risk.certify_sequences(
        losses,
        [[_name(plan) for plan in chain] for chain in chains],
        alpha=alpha,
        delta=delta,
        groups=list(full.groups),
        savings=lambda name: _saving(tried[named[name]], full),
        used_groups=used_groups,
    )
    if progress is not None:
        progress(len(named), len(named))
    plan = SkipPlan(plans[0].n_layers)
    if certificate.chosen is not None:
        plan = named[str(certificate.chosen)]
    evidence = {
        **(plan.evidence or {}),
        "certificate": {
            **certificate.to_dict(),
            "sequences": [[_name(plan) for plan in chain] for chain in chains],
        },
    }
    return Choice(
        plan=replace(plan, model_type=plans[0].model_type, evidence=evidence),
        alpha=alpha,
        delta=delta,
        certificate=certificate,
        tried=tuple(tried.values()),
        units=units,
    )


def _check(
    rows: Sequence[Mapping[str, Any]],
    alpha: float,
    delta: float,
    chains: Sequence[Sequence[SkipPlan]],
    used_groups: Iterable[str],
    units: str,
) -> None:
    """Refuse what no run of the model could mend, before it costs any time."""
    check_probability(alpha, "alpha", "the share of answers that may change, e.g. 0.02")
    check_probability(delta, "delta", "the probability that the certificate is wrong, e.g. 0.1")
    groups = [str(row["group"]) for row in rows]
    check_used(groups, used_groups, len(groups), units)
    found = len(set(groups))
    least = risk.least_groups(alpha, largest_share(chains, delta))
    if found < least:
        shared = f", which {len(chains)} kinds of plan share" if len(chains) > 1 else ""
        raise InputError(
            f"{found} {units} cannot certify any plan at alpha {alpha:g} and delta {delta:g}"
            f"{shared}, not even one that changes nothing; at least {least} are needed"
        )


def _name(plan: SkipPlan) -> str:
    return plan.describe().rstrip(".")


def sequences(plans: Sequence[SkipPlan]) -> list[list[SkipPlan]]:
    """Group plans by their kind, in order of first appearance: each is tested on its own."""
    chains: dict[object, list[SkipPlan]] = {}
    for plan in plans:
        chains.setdefault((plan.evidence or {}).get("kind"), []).append(plan)
    return list(chains.values())


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _saving(evaluation: Evaluation, full: Evaluation) -> float:
    return 1.0 - float(evaluation.prefill_flops.sum() / full.prefill_flops.sum())


def _known(agrees: NDArray[np.float64] | None) -> NDArray[np.float64]:
    if agrees is None:
        raise InputError("an evaluation without a baseline says nothing of agreement")
    return agrees
