"""From a store to a plan with a guarantee: measure, propose, try, certify."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from estimators import InputError
from redundancy import risk
from redundancy.results import Results
from redundancy.run import estimate
from redundancy.store import ActivationStore
from vlm.plan import SkipPlan

if TYPE_CHECKING:
    from vlm.evaluate import Evaluation

__all__ = ["Choice", "certify", "readings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A plan, and the certificate it rests on.

    Parameters
    ----------
    plan : SkipPlan
        The certified plan that saves most; one that skips nothing if none was certified. Its
        evidence carries the certificate.
    certificate : RiskCertificate
    tried : tuple of Evaluation
        The plans that were run, in order.
    """

    plan: SkipPlan
    certificate: risk.RiskCertificate
    tried: tuple[Evaluation, ...]

    @property
    def sentence(self) -> str:
        """What is certified, and on what, in one or two sentences."""
        found = self.certificate
        if found.chosen is None:
            return found.message
        return (
            f"{self.plan.describe()} It changes at most {found.alpha:.0%} of the answers, with "
            f"{1 - found.delta:.0%} confidence: {len(found.certified)} of {len(found.order)} plans "
            f"tried passed on {found.n_groups} images that had no part in proposing them."
        )


def readings(store: ActivationStore, *, ci: float | None = 0.95, seed: int = 0) -> Results:
    """Measure what planning reads: distances of neighbours and from layer 0, and vision's effect.

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
        If the store holds no vision tokens.
    """
    if "vision" not in store.modalities:
        raise InputError(
            "this source holds no vision tokens, so there are no vision tokens to skip; extract "
            "with --modality vision"
        )
    found = list(estimate(store, "geometric", ci=ci, seed=seed))
    found += estimate(store, "geometric", modality="vision", pairs="first", ci=ci, seed=seed)
    lower, upper = store.layers[:2]
    summary = store.pair(lower, upper, "vision", states=False).summary
    if summary is not None and summary.vision_effect is not None:
        found += estimate(store, "vision_effect", modality="vision", ci=ci, seed=seed)
    if summary is not None and summary.var_per_head is not None:
        found += estimate(store, "var", modality="vision", ci=ci, seed=seed)
    return Results(found)


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

    The loss of a sample is 1 where the plan changes the model's answer. Plans are tested in the
    given order until one fails (a fixed sequence, Angelopoulos et al. 2021), so that the
    statement "the plan changes at most a share alpha of answers" is wrong with probability at most
    delta, however many plans were proposed.

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
        If there is no plan to try, or the data cannot certify any (how many images are needed).
    """
    from vlm.data import rows_of
    from vlm.evaluate import evaluate

    if not plans:
        raise InputError("there is no plan to certify; raise the thresholds, or name plans")
    rows = list(rows_of(data))
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
    losses: dict[str, np.ndarray[Any, Any]] = {}
    savings: dict[str, float] = {}
    named: dict[str, SkipPlan] = {}
    tried: list[Evaluation] = []
    for number, plan in enumerate(plans, start=1):
        name = plan.describe().rstrip(".")
        evaluation = run(plan, baseline=full)
        tried.append(evaluation)
        named[name] = plan
        losses[name] = 1.0 - _known(evaluation.agrees)
        savings[name] = 1.0 - float(evaluation.prefill_flops.sum() / full.prefill_flops.sum())
        certificate = risk.certify_plans(
            losses,
            alpha=alpha,
            delta=delta,
            order=list(losses),
            groups=list(full.groups),
            savings=savings,
            used_groups=used_groups,
        )
        if progress is not None:
            progress(number, len(plans))
        if name not in certificate.certified:
            # A fixed sequence ends at its first failure; later plans can no longer be certified.
            break
    chosen = certificate.chosen
    plan = named[chosen] if isinstance(chosen, str) else SkipPlan(plans[0].n_layers)
    evidence = {**(plan.evidence or {}), "certificate": certificate.to_dict()}
    return Choice(
        plan=replace(plan, model_type=plans[0].model_type, evidence=evidence),
        certificate=certificate,
        tried=tuple(tried),
    )


def _known(agrees: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]:
    if agrees is None:
        raise InputError("an evaluation without a baseline says nothing of agreement")
    return agrees
