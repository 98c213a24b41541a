"""Mutual information of continuous variables by the recommended route, in one call.

No estimator is best everywhere: copulas are sharp where their law holds, nearest neighbours see
any law in few dimensions, held-out CCA finds a few strong directions among thousands. The route
runs what applies, trusts the parametric value unless an alternative beats it by more than their
common noise, and says which one it took and what the others said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import digamma

from estimators._arrays import (
    IntArray,
    check_ci,
    check_lengths,
    check_varies,
    group_codes,
    matrix,
)
from estimators._knn import ties
from estimators._linear import canonical_correlations, whitened
from estimators._resample import block_jackknife, blocks, few_groups, t_interval
from estimators._route import (
    CANDIDATES,
    FEW_DIRECTIONS,
    NEIGHBOUR_BRANCHES,
    Candidate,
    K,
    below_screen,
)
from estimators._sides import Side, study
from estimators._types import Diagnostic, Estimate, Interval

__all__ = ["mutual_information"]

Float = npt.NDArray[np.float64]
_MIN_SAMPLES = 20
_NOISE = 1.2  # local terms understate the spread of a k-NN statistic by about this factor
_FILLED_AND_UNSEEN = 40.0  # dimensions of both sides together, where n cannot use them at once


@dataclass(frozen=True, slots=True)
class _Outcome:
    candidate: Candidate
    local: Float

    @property
    def value(self) -> float:
        return float(self.local.mean())


def mutual_information(
    x: Any, y: Any, *, groups: Any = None, ci: float | None = 0.95, seed: int = 0
) -> Estimate:
    r"""Mutual information of two continuous variables by the recommended route, in nats.

    .. math:: I(X; Y) = \int p(x, y) \log \frac{p(x, y)}{p(x)\, p(y)} \,dx\,dy

    1. *Reduce*: drop constant coordinates, standardise, project on the numerical rank, find the
       intrinsic dimension of each side.
    2. *Base*: the largest of a Gaussian copula, Student copulas, held-out ridge CCA and a copula
       of screened coordinates, where they apply.
    3. *Alternatives*: copula-KSG extrapolated along n, a residual form for additive noise, and KSG
       on held-out kernel-CCA variates. One of them is taken only if it exceeds the base by more
       than twice (kernel CCA: three times) the noise of the difference.

    Too low where strong nonlinear dependence is spread over more than about four dimensions:
    no method knows that from thousands of samples. Such results carry a diagnostic. Negative
    values are noise around a small information and are not clipped.

    Parameters
    ----------
    x, y : float array, shape (n, dx) and (n, dy)
        Samples of two variables, row i of each from the same sample; n from 20, 500 and more
        advised; any width.
    groups : array, shape (n,), optional
        Cluster of each sample (the image or prompt a token came from): folds and intervals keep
        clusters together.
    ci : float or None
        Level of the interval of the branch taken; None skips it, and most of the time.
    seed : int
        Seed of folds, blocks and random features.

    Returns
    -------
    Estimate
        In nats; ``params["branch"]`` names the branch taken, ``params["candidates"]`` all values,
        ``params["why"]`` the reason in words, besides ranks and dimensions of both sides.

    Raises
    ------
    InputError
        On integers, NaN, unequal lengths, constant sides, fewer than 20 samples, groups of wrong
        length.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(1000, 2))
    >>> y = 0.8 * x + 0.6 * rng.normal(size=(1000, 2))
    >>> e = mutual_information(x, y, ci=None)
    >>> abs(e.value - 1.02) < 0.1
    True
    >>> sorted(e.params["candidates"])[:2]
    ['Gaussian copula', 'Student copula']

    References
    ----------
    Ince et al. 2017; Kraskov et al. 2004; Facco et al. 2017; Czyz et al. 2023 (benchmark).
    """
    level = check_ci(ci)
    a = matrix(x, "x", min_samples=_MIN_SAMPLES)
    b = matrix(y, "y", min_samples=_MIN_SAMPLES)
    n = check_lengths(x=a, y=b)
    check_varies(a, "x")
    check_varies(b, "y")
    members, n_groups = group_codes(groups, n)
    rng = np.random.default_rng(seed)
    sides = study(a, rng), study(b, rng)
    shape: dict[str, float | bool] = {
        "rank_x": sides[0].rank,
        "rank_y": sides[1].rank,
        "dimension_x": sides[0].dimension,
        "dimension_y": sides[1].dimension,
        "manifold_x": sides[0].manifold,
        "manifold_y": sides[1].manifold,
    }
    found: list[Diagnostic] = list(few_groups(n_groups))
    found.extend(_copies(a, b))
    if _shares_direction(*sides):
        found.append(
            Diagnostic(
                code="deterministic",
                severity="error",
                message="a linear combination of y is an exact function of x, so the information "
                "is infinite; drop shared coordinates or compare at the precision you care about",
            )
        )
        return Estimate(
            value=None,
            unit="nats",
            kind="estimate",
            n=n,
            n_groups=n_groups,
            method="recommended route: no branch",
            params=shape,
            diagnostics=tuple(found),
        )
    fold = blocks(n, members, 2, seed=seed) == 0
    outcomes = []
    for candidate in CANDIDATES:
        local = candidate.local(*sides, fold, seed)
        if len(local) == n and bool(np.isfinite(local).all()):
            outcomes.append(_Outcome(candidate, local))
    winner, why = _choose(outcomes)
    unseen = below_screen(*sides, fold) if winner.candidate.name == "screened copula" else None
    if unseen is not None:
        shape["below_screen"] = unseen
    found.extend(_doubts(winner, outcomes, sides, n, fold, seed, unseen))
    interval = None
    if level is not None and (n_groups or n) >= 10:
        interval = _interval(winner, sides, members, level, seed)
    return Estimate(
        value=winner.value,
        unit="nats",
        kind="estimate",
        n=n,
        n_groups=n_groups,
        method=f"recommended route: {winner.candidate.name}",
        ci=interval,
        params={
            "branch": winner.candidate.name,
            "why": why,
            "candidates": {o.candidate.name: o.value for o in outcomes},
            **shape,
        },
        seed=seed,
        diagnostics=tuple(found),
    )


def _choose(outcomes: list[_Outcome]) -> tuple[_Outcome, str]:
    """The largest base, unless an alternative is above it by more than the noise between them."""
    bases = [o for o in outcomes if o.candidate.base]
    alternatives = [o for o in outcomes if not o.candidate.base]
    if not bases:
        # Every side that no base takes is either wide or a manifold, and then held-out CCA is one;
        # it drops out only where its variates coincide.
        best = max(alternatives, key=lambda o: o.value)
        return best, "no parametric branch applies"
    base = max(bases, key=lambda o: o.value)
    best, why = base, f"no alternative exceeds {base.candidate.name} by more than noise"
    for o in alternatives:
        # Against the best so far, not the base: the largest of several noisy values is too large.
        gap = o.local - best.local
        noise = max(_NOISE * float(gap.std()) / math.sqrt(len(gap)), 1e-12)
        excess = float(gap.mean())
        # What keeps nulls at 0 is the distance to the base; past it, alternatives are on a level.
        margin = o.candidate.margin if best.candidate.base else 2.0
        if excess > margin * noise:
            why = (
                f"{o.candidate.name} exceeds {best.candidate.name} by {excess:.3f} nats, "
                f"{excess / noise:.1f} standard errors"
            )
            best = o
    return best, why


def _interval(
    winner: _Outcome,
    sides: tuple[Side, Side],
    members: IntArray | None,
    level: float,
    seed: int,
) -> Interval:
    """Interval of the branch taken, the choice itself held fixed."""
    n = len(winner.local)
    label = f" ({winner.candidate.name}, choice of branch held fixed)"
    if winner.candidate.name in FEW_DIRECTIONS:
        label += "; of the directions kept, not of those left out"
    elif sides[0].filled + sides[1].filled > 4:
        label += "; covers the estimator's expectation, the information is likely larger"
    if winner.candidate.name in FEW_DIRECTIONS:
        # Refitting thousands of directions ten times is minutes; given the held-out variates the
        # local terms are the influence function of a Gaussian information.
        terms = winner.local - winner.value
        sums = terms if members is None else np.bincount(members, weights=terms)
        count = len(sums)
        se = math.sqrt(count / (count - 1) * float((sums * sums).sum())) / n
        unit = "samples" if members is None else "groups"
        method = f"influence terms of {unit}{label}"
        return t_interval(winner.value, se, max(count - 1, 1), level, method)

    def statistic(rows: IntArray) -> float:
        inner = blocks(len(rows), None if members is None else _dense(members[rows]), 2, seed=seed)
        local = winner.candidate.local(sides[0].take(rows), sides[1].take(rows), inner == 0, seed)
        return float(local.mean()) if len(local) else winner.value

    return block_jackknife(statistic, winner.value, n, members, level=level, seed=seed, label=label)


def _dense(codes: IntArray) -> IntArray:
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def _shares_direction(x: Side, y: Side) -> bool:
    n = len(x.scores)
    if x.rank + y.rank > n // 2:
        return False  # so many directions always share some; held-out CCA decides
    r = canonical_correlations(whitened(x.scores), whitened(y.scores))
    return bool(r[0] ** 2 > 1.0 - 1e-10)


def _copies(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[Diagnostic, ...]:
    return ties(
        {"x": a, "y": b},
        code="duplicates",
        harmful=0.1,
        because="which a continuous variable never does; remove the copies, or use mixed_mi if "
        "values are meant to repeat",
    )


def _doubts(
    winner: _Outcome,
    outcomes: list[_Outcome],
    sides: tuple[Side, Side],
    n: int,
    fold: npt.NDArray[np.bool_],
    seed: int,
    unseen: float | None,
) -> list[Diagnostic]:
    """Everything that should make a reader hesitate."""
    x, y = sides
    filled = x.filled + y.filled
    name = winner.candidate.name
    out: list[Diagnostic] = []

    def say(code: str, severity: Any, message: str) -> None:
        out.append(Diagnostic(code=code, severity=severity, message=message))

    if n < 500:
        say(
            "few-samples",
            "warning",
            f"{n} samples leave an error of a few tenths of a nat, more in several dimensions; "
            "500 and more are advised",
        )
    ceiling = float(digamma(n) - digamma(K))
    if name in NEIGHBOUR_BRANCHES and winner.value > 0.6 * ceiling:
        say(
            "saturated",
            "error",
            f"the value {winner.value:.2f} is close to {ceiling:.2f} nats, the most that nearest "
            f"neighbours of {n} samples can show; the information is larger",
        )
    if name == "kernel CCA and KSG":
        say(
            "reduced",
            "warning",
            "the value is that of at most three pairs of learned nonlinear variates; the "
            "information of all coordinates can only be larger",
        )
    if name in FEW_DIRECTIONS:
        wide = x.rank + y.rank > n / 4
        # Spread over all the directions it fills, the information would be missed nearly whole:
        # 16 of 228 nats at 1,024 dimensions a side and 5,000 samples.
        say(
            "reduced",
            "error" if wide and filled > _FILLED_AND_UNSEEN else "warning",
            (
                f"{x.rank} + {y.rank} dimensions are too many for {n} samples to use at once, so "
                if wide
                else "the samples keep close to far fewer dimensions than they have, so "
            )
            + "value and interval are those of a few directions fitted on other samples; read them "
            "as 'likely at least', and use more samples to see weaker directions"
            + (
                f" (correlations too weak for the screen could add up to {unseen:.2g} nats)"
                if unseen is not None
                else ""
            ),
        )
    if name in NEIGHBOUR_BRANCHES and n >= 200:
        rows = [np.flatnonzero(f) for f in (fold, ~fold)]
        parts = []
        for inside in rows:
            inner = blocks(len(inside), None, 2, seed=seed) == 0
            local = winner.candidate.local(x.take(inside), y.take(inside), inner, seed)
            if len(local):
                parts.append(float(local.mean()))
        drift = winner.value - float(np.mean(parts)) if parts else 0.0
        if drift > max(0.03, 0.05 * winner.value):
            say(
                "rising-with-n",
                "warning",
                f"with half the samples the value is {drift:.2f} nats lower, so it is still "
                "rising; the information is larger, collect more samples",
            )
    if filled > 12:
        say(
            "high-dimension",
            "warning",
            f"the two sides fill {filled:.0f} dimensions together, where only dependence of the "
            "kind a Gaussian copula has can be seen in thousands of samples; other dependence "
            "would add to the value",
        )
    elif filled > 4.5:
        say(
            "biased-in-dimension",
            "warning",
            f"the two sides fill {filled:.0f} dimensions together; curved or periodic dependence "
            "in that many is seen only in part, and would add to the value",
        )
    others = [o for o in outcomes if o is not winner and o.value > winner.value + 0.2]
    if others:
        best = max(others, key=lambda o: o.value)
        say(
            "disagreement",
            "warning",
            f"{best.candidate.name} says {best.value:.2f}, well above, within its noise; look at "
            "params['candidates'] and use more samples to decide",
        )
    if winner.value < -0.05:
        say(
            "negative",
            "warning",
            "the value is below 0, which information never is: noise around a small value, or too "
            "few samples; read it as 0",
        )
    return out
