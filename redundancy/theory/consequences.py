"""What measured redundancies imply: the sentences under a table of results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from estimators import InputError
from estimators._types import Kind
from redundancy.theory._reading import Known, read
from redundancy.theory._result import TheoryResult
from redundancy.theory.consistency import check_pair
from redundancy.theory.proposition1 import proposition1, proposition1_converse
from redundancy.theory.theorem1 import theorem1
from redundancy.theory.theorem5 import theorem5

__all__ = ["Consequence", "consequences"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    """One sentence about what a reading implies.

    Parameters
    ----------
    source : str
        Measure it starts from.
    target : str
        Notion it speaks of.
    statement : str or None
        Function of :mod:`redundancy.theory` behind it; None where nothing follows.
    sentence : str
    value : float or None
        The bound; None where there is no number.
    kind : {"exact", "certified", "bound_under_assumption", "estimate"} or None
        Kind of `value`.
    vacuous : bool
        True if the sentence says nothing new about these numbers.
    """

    source: str
    target: str
    statement: str | None
    sentence: str
    value: float | None = None
    kind: Kind | None = None
    vacuous: bool = False

    def __str__(self) -> str:
        return self.sentence


def consequences(
    readings: Mapping[str, Any],
    *,
    t: float = 0.05,
    bound: float = 2.0,
    alpha: float | None = None,
    beta: float = 0.0,
    n_classes: int | None = None,
    markov: bool = False,
    label: str = "",
) -> tuple[Consequence, ...]:
    """Say in sentences what readings of one pair of layers imply, and what they do not.

    Where a reading has an interval, the end that makes the bound weaker is used; the result is an
    estimate unless the readings are exact or certified.

    Parameters
    ----------
    readings : mapping of str to float, (low, high), Interval or Estimate
        By name of the measure: ``"geometric"`` (E rho), ``"proximal"`` (P[rho < t]),
        ``"informational"`` (H(X_l | X_{l-1}), nats), ``"functional"`` (F), ``"cmi"``
        (I(Z; X_l | X_{l-1}), nats), ``"pid"`` (Uni(Z: X_l \\ X_{l-1}), nats), ``"var"``,
        ``"vision_effect"``. Other measures have no consequences. An estimate without a value is
        passed over.
    t : float
        Threshold of the proximal reading, and of the consequence of the geometric one.
    bound : float
        Largest possible distance; 2 for the cosine distance.
    alpha, beta : float, optional
        Lipschitz constants of E[Z | X_l, X_{l-1}], if supposed known.
    n_classes : int, optional
        Number of equally likely classes of a one-hot target; tells vacuous bounds apart.
    markov : bool
        True where X_{l-1} - X_l - Z is supposed.
    label : str
        Put in front of every sentence, e.g. ``"3→4: "``.

    Returns
    -------
    tuple of Consequence

    Raises
    ------
    InputError
        If a reading cannot be one (a probability above 1, a negative distance).

    Examples
    --------
    >>> found = consequences({"geometric": 0.002, "proximal": 0.99, "functional": 0.1})
    >>> for c in found:
    ...     if c.target in ("proximal", "geometric", "informational"):
    ...         print(c)
    geometric 0.002 → proximal: P[rho >= 0.05] <= 0.04 (always)
    proximal 0.99 → geometric: E rho <= 0.0695 (rho <= 2)
    proximal 0.99 → informational: only I(X_l; X_{l-1}) is bounded, from below ...
    functional 0.1 → informational: nothing follows (a constant target is predicted alike ...)
    """
    options = _Options(t, bound, alpha, beta, n_classes, markov)
    found: list[Consequence] = []
    known = {
        name: reading
        for name, value in readings.items()
        if (reading := read(value, name)) is not None
    }
    for name, rule in _RULES.items():
        if name in known:
            found += rule(known[name], options)
    if "geometric" in known and "proximal" in known:
        found += _consistency(known["geometric"], known["proximal"], options)
    if not label:
        return tuple(found)
    return tuple(
        Consequence(
            source=c.source,
            target=c.target,
            statement=c.statement,
            sentence=label + c.sentence,
            value=c.value,
            kind=c.kind,
            vacuous=c.vacuous,
        )
        for c in found
    )


@dataclass(frozen=True, slots=True)
class _Options:
    t: float
    bound: float
    alpha: float | None
    beta: float
    n_classes: int | None
    markov: bool

    @property
    def tr_cov_z(self) -> float | None:
        return None if self.n_classes is None else 1.0 - 1.0 / self.n_classes


def _head(source: str, r: Known, end: float, target: str) -> str:
    shown = f"{r.value:.4g}" + (f" (interval end {end:.4g})" if r.interval else "")
    return f"{source} {shown} → {target}: "


def _of(r: Known, kind: Kind) -> Kind:
    return "estimate" if r.kind == "estimate" else kind


def _geometric(r: Known, o: _Options) -> list[Consequence]:
    high = min(max(r.high, 0.0), o.bound)
    converse = proposition1_converse(mean=high, t=o.t, bound=o.bound)
    out = [
        Consequence(
            source="geometric",
            target="proximal",
            statement="proposition1_converse",
            sentence=_head("geometric", r, high, "proximal")
            + f"P[rho >= {o.t:g}] <= {converse.value:.3g} (always"
            + (", says nothing here)" if converse.vacuous else ")"),
            value=converse.value,
            kind=_of(r, "exact"),
            vacuous=converse.vacuous,
        )
    ]
    if o.alpha is None:
        unit = theorem1(alpha=1.0, mean_rho=min(high, 2.0))
        sentence = (
            f"F <= {unit.value:.3g} (alpha + beta)^2, if the target's regression is Lipschitz with "
            "these constants"
        )
        value, kind, vacuous = None, None, False
    else:
        result = theorem1(alpha=o.alpha, beta=o.beta, mean_rho=min(high, 2.0), tr_cov_z=o.tr_cov_z)
        sentence = (
            f"F <= {result.value:.3g} if the target's regression is Lipschitz with alpha = "
            f"{o.alpha:g}, beta = {o.beta:g}" + _vacuous(result, o)
        )
        value, vacuous = result.value, result.vacuous
        kind = _of(r, result.kind)
    out.append(
        Consequence(
            source="geometric",
            target="functional",
            statement="theorem1",
            sentence=_head("geometric", r, high, "functional") + sentence,
            value=value,
            kind=kind,
            vacuous=vacuous,
        )
    )
    out.append(
        Consequence(
            source="geometric",
            target="skip",
            statement="theorem6_skip_blocks",
            sentence=_head("geometric", r, high, "skip")
            + f"the output changes by at most mu times {math.sqrt(2 * high):.3g} (root mean "
            "square, states of norm 1), if the later layers are Lipschitz with constant mu",
        )
    )
    return out


def _proximal(r: Known, o: _Options) -> list[Consequence]:
    low = min(max(r.low, 0.0), 1.0)
    result = proposition1(p_gt=1.0 - low, t=o.t, bound=o.bound)
    return [
        Consequence(
            source="proximal",
            target="geometric",
            statement="proposition1",
            sentence=_head("proximal", r, low, "geometric")
            + f"E rho <= {result.value:.3g} (rho <= {o.bound:g})",
            value=result.value,
            kind=_of(r, result.kind),
            vacuous=result.vacuous,
        ),
        Consequence(
            source="proximal",
            target="informational",
            statement="certified_mi_lower_bound",
            sentence=_head("proximal", r, low, "informational")
            + "only I(X_l; X_{l-1}) is bounded, from below (certified_mi_lower_bound); "
            "H(X_l | X_{l-1}) may be anything",
        ),
    ]


def _informational(r: Known, o: _Options) -> list[Consequence]:
    high = max(r.high, 0.0)
    result = theorem5(h_cond=high, diam=math.sqrt(2.0), tr_cov_z=o.tr_cov_z, markov=True)
    needs = "supposing" if o.markov else "only if"
    return [
        Consequence(
            source="informational",
            target="functional",
            statement="theorem5",
            sentence=_head("informational", r, high, "functional")
            + f"F <= {result.value:.3g} for a one-hot target, {needs} X_(l-1) - X_l - Z is a "
            "Markov chain" + _vacuous(result, o),
            value=result.value,
            kind=_of(r, result.kind),
            vacuous=result.vacuous,
        ),
        _nothing("informational", r, "skip"),
    ]


def _cmi(r: Known, o: _Options) -> list[Consequence]:
    high = max(r.high, 0.0)
    result = theorem5(cmi=high, diam=math.sqrt(2.0), tr_cov_z=o.tr_cov_z, markov=True)
    needs = "supposing" if o.markov else "only if"
    return [
        Consequence(
            source="cmi",
            target="functional",
            statement="theorem5",
            sentence=_head("cmi", r, high, "functional")
            + f"F <= {result.value:.3g} for a one-hot target, {needs} X_(l-1) - X_l - Z is a "
            "Markov chain (else add I(Z; X_(l-1) | X_l): theorem5)" + _vacuous(result, o),
            value=result.value,
            kind=_of(r, result.kind),
            vacuous=result.vacuous,
        )
    ]


def _pid(r: Known, o: _Options) -> list[Consequence]:
    high = max(r.high, 0.0)
    result = theorem5(cmi=high, diam=math.sqrt(2.0), tr_cov_z=o.tr_cov_z, markov=True)
    needs = "supposing" if o.markov else "only if"
    return [
        Consequence(
            source="pid",
            target="functional",
            statement="theorem5",
            sentence=_head("pid", r, high, "functional")
            + f"F <= {result.value:.3g} for a one-hot target and the quantised states, {needs} "
            "X_(l-1) - X_l - Z is a Markov chain, which makes Uni = I(Z; X_l | X_(l-1))"
            + _vacuous(result, o),
            value=result.value,
            kind=_of(r, result.kind),
            vacuous=result.vacuous,
        )
    ]


def _functional(r: Known, o: _Options) -> list[Consequence]:
    return [_nothing("functional", r, "informational"), _nothing("functional", r, "skip")]


def _var(r: Known, o: _Options) -> list[Consequence]:
    return [
        Consequence(
            source="var",
            target="skip",
            statement="var_to_delta",
            sentence=_head("var", r, r.high, "skip")
            + f"removing the vision keys moves this query's attention output by at most "
            f"{r.high:.3g} C, C = max over heads of |W_O| times the spread of values; early exit "
            "needs it for all text tokens",
        )
    ]


def _vision_effect(r: Known, o: _Options) -> list[Consequence]:
    high = max(r.high, 0.0)
    return [
        Consequence(
            source="vision_effect",
            target="skip",
            statement="theorem6_early_exit",
            sentence=_head("vision_effect", r, high, "skip")
            + f"this block's term of Theorem 6 is {high:.3g} of its output's norm, times the "
            "Lipschitz constants of the text-only layers after it",
        )
    ]


def _nothing(source: str, r: Known, target: str) -> Consequence:
    why = {
        "skip": "a rotated state has the same information and another output; run the skip",
        "informational": "a constant target is predicted alike from unrelated layers",
    }[target]
    return Consequence(
        source=source,
        target=target,
        statement=None,
        sentence=f"{source} {r.value:.4g} → {target}: nothing follows ({why})",
        vacuous=True,
    )


def _vacuous(result: TheoryResult, o: _Options) -> str:
    if not result.vacuous:
        return ""
    limit = "1" if o.tr_cov_z is None else f"tr Cov(Z) = {o.tr_cov_z:.3g}"
    return f"; vacuous, as F is below {limit} anyway"


def _consistency(mean: Known, p: Known, o: _Options) -> list[Consequence]:
    if not (0.0 <= p.value <= 1.0):
        raise InputError(f"the reading of proximal is {p.value:g}; a probability lies in [0, 1]")
    check = check_pair(mean.value, p.value, o.t, o.bound, rounding=1e-6)
    if check.consistent:
        return []
    return [
        Consequence(
            source="geometric and proximal",
            target="consistency",
            statement="check_pair",
            sentence=f"geometric and proximal contradict each other: {check.message}",
            value=check.value,
            kind="exact",
        )
    ]


_RULES = {
    "geometric": _geometric,
    "proximal": _proximal,
    "informational": _informational,
    "cmi": _cmi,
    "functional": _functional,
    "pid": _pid,
    "var": _var,
    "vision_effect": _vision_effect,
}
