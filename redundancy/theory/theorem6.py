"""Theorem 6: what leaving out early vision, late vision or whole blocks does to the output."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import InputError
from redundancy.theory._result import Given, InputKind, Number, TheoryResult

__all__ = [
    "text_drift",
    "theorem6",
    "theorem6_direct",
    "theorem6_early_exit",
    "theorem6_measured",
    "theorem6_skip_blocks",
]

PerLayer = Number | Sequence[Number] | NDArray[np.float64]

_VACUOUS = "two outputs of that norm are never further apart than this"


def text_drift(*, delta: PerLayer, lam: PerLayer, n_layers: int | None = None) -> float:
    r"""Bound how far the text drifts over layers that do not see the vision tokens.

    .. math:: E_L \le \sum_{l=1}^L \delta_l \prod_{j=l+1}^L \lambda_j, \qquad
              \text{uniform: } \delta\, \frac{\lambda^L - 1}{\lambda - 1}
              \ (\lambda = 1:\ L \delta)

    Parameters
    ----------
    delta : float or sequence of float
        What the vision tokens add to the text's update, layer by layer.
    lam : float or sequence of float
        Lipschitz constants of the text-only layers.
    n_layers : int, optional
        L, needed if both are single numbers.

    Returns
    -------
    float
        Infinite where the product overflows.

    Raises
    ------
    InputError
        If a number is negative or the lengths differ.

    Examples
    --------
    >>> round(text_drift(delta=0.05, lam=1.1, n_layers=4), 5)
    0.23205
    >>> text_drift(delta=[1.0, 1.0], lam=[5.0, 2.0])
    3.0
    """
    given = Given()
    (deltas, lams), count = _layers(given, n_layers, delta=delta, lam=lam)
    return _drift(deltas, lams, count)


def theorem6(
    *,
    eps: PerLayer,
    delta: PerLayer,
    lam: PerLayer,
    mu: Number,
    n_layers: int | None = None,
    mu_v: Number | None = None,
    mu_t: Number | None = None,
    output_norm: Number | None = None,
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Bound the output error of late entry: vision tokens that join after layer L.

    The first L layers run on text alone,
    :math:`\tilde T_l = f^l_{text}(\emptyset, \tilde T_{l-1})`, and the rest, phi, on the *input*
    vision states :math:`V_0` and :math:`\tilde T_L`. With
    :math:`\epsilon_l = |V_l - V_{l-1}|`, :math:`\delta_l` what vision adds to the text's update on
    the true trajectory, :math:`\lambda_j` Lipschitz constants of the text-only layers and
    :math:`\mu` one of phi,

    .. math::
        D_V = |V_L - V_0| \le \sum_{l=1}^L \epsilon_l, \quad
        E_L \le \sum_{l=1}^L \delta_l \prod_{j=l+1}^L \lambda_j, \quad
        |Y - Y_{skip}| \le \min\bigl\{\mu \sqrt{D_V^2 + E_L^2},\ \mu_V D_V + \mu_T E_L\bigr\} .

    The paper states :math:`\mu ((L-1) \epsilon + \delta (\lambda^L - 1)/(\lambda - 1))`: its L - 1
    vision terms insert V_1, not V_0, which is no late entry (with L = 1 and f_vis(V, T) = V + 10 it
    gives 0 where the error is 10), and it proves the smaller square-root form. "Without vision" is
    removal by masking, text keeping its positions: vectors set to zero still draw attention.

    First tier: numbers supposed a priori. Second tier: eps and delta measured, lam and mu from
    power iteration, which makes the result an estimate (see :mod:`redundancy.theory.lipschitz`:
    self-attention has no global Lipschitz constant). Third and fourth tier, with less to suppose:
    :func:`theorem6_measured` and :func:`theorem6_direct`.

    Parameters
    ----------
    eps, delta, lam : float, or sequence of float of length L
        Per layer, or one number for all. Results of power iteration keep their kind.
    mu : float
        Lipschitz constant of the layers after L, from the stacked (V, T) to the output.
    n_layers : int, optional
        L, needed if all three are single numbers.
    mu_v, mu_t : float, optional
        Lipschitz constants of phi in V alone and in T alone; give both.
    output_norm : float, optional
        \|Y\|; the bound is vacuous from twice that on.
    inputs : {"exact", "certified", "estimate"}
        How well the numbers are known.

    Returns
    -------
    TheoryResult
        `value` in units of the output norm. ``forms``: ``"paper"`` (= ``"paper_sum"``),
        ``"paper_sqrt"``, ``"corrected"`` (= ``"corrected_sqrt"``), ``"corrected_sum"``,
        ``"bound_split"``, ``"sharpest"``, ``"D_V"``, ``"E_L"``. The paper's forms are no bounds.

    Raises
    ------
    InputError
        If a number is negative or the lengths differ.

    Examples
    --------
    >>> result = theorem6(eps=0.1, delta=0.05, lam=1.1, mu=2.0, n_layers=4)
    >>> round(result.forms["paper"], 4), round(result.value, 4)
    (1.0641, 0.9249)

    References
    ----------
    Theorem 6 of the paper, equations (33) to (40).
    """
    given = Given(inputs)
    (epss, deltas, lams), count = _layers(given, n_layers, eps=eps, delta=delta, lam=lam)
    tail = given.nonnegative(mu, "mu")
    d_v = _sum(epss, count)
    drift = _drift(deltas, lams, count)
    forms = _combine(given, d_v, drift, tail, mu_v, mu_t)
    # As printed, with one number for all layers: the largest.
    paper_v = (count - 1) * float(np.max(epss))
    paper_t = _drift(np.array([np.max(deltas)]), np.array([np.max(lams)]), count)
    forms["paper"] = forms["paper_sum"] = _product(tail, paper_v + paper_t)
    forms["paper_sqrt"] = _product(tail, math.hypot(paper_v, paper_t))
    return _late_entry(
        given,
        forms,
        output_norm,
        (
            "lam_j and mu are Lipschitz constants on the states that occur",
            "vision is removed by masking; text keeps its positions",
        ),
        ("the paper's forms insert V_1 in place of V_0 and are no bounds of late entry",),
    )


def theorem6_measured(
    *,
    d_v: Number,
    e_l: Number,
    mu: Number,
    mu_v: Number | None = None,
    mu_t: Number | None = None,
    output_norm: Number | None = None,
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Bound the error of late entry from measured states (Theorem 6, third tier).

    .. math:: |Y - Y_{skip}| \le \mu \sqrt{D_V^2 + E_L^2}, \qquad
              D_V = |V_L - V_0|,\ E_L = |T_L - \tilde T_L|

    One run of the first L layers on text alone replaces the sums over layers, which add up
    movements that largely cancel, and all their Lipschitz constants; mu remains.

    Parameters
    ----------
    d_v, e_l : float
        Measured distances, Frobenius norms over tokens.
    mu, mu_v, mu_t, output_norm, inputs
        As in :func:`theorem6`.

    Returns
    -------
    TheoryResult

    Raises
    ------
    InputError
        If a number is negative.

    Examples
    --------
    >>> theorem6_measured(d_v=3.0, e_l=4.0, mu=1.5).value
    7.5
    """
    given = Given(inputs)
    forms = _combine(
        given,
        given.nonnegative(d_v, "d_v"),
        given.nonnegative(e_l, "e_l"),
        given.nonnegative(mu, "mu"),
        mu_v,
        mu_t,
    )
    return _late_entry(
        given,
        forms,
        output_norm,
        ("mu is a Lipschitz constant of the layers after L on the states that occur",),
        (),
    )


def theorem6_direct(*, y: ArrayLike, y_skip: ArrayLike) -> TheoryResult:
    r"""Measure the output error of a skip by running it (Theorem 6, fourth tier).

    .. math:: |Y - Y_{skip}|

    Nothing is supposed, and nothing follows for other inputs.

    Parameters
    ----------
    y, y_skip : array_like
        Outputs of the full and of the skipping run, of one shape.

    Returns
    -------
    TheoryResult
        Of kind ``"exact"``; ``forms["relative"]`` is the error over \|Y\|.

    Raises
    ------
    InputError
        If the shapes differ or a value is not finite.

    Examples
    --------
    >>> theorem6_direct(y=[3.0, 4.0], y_skip=[0.0, 0.0]).value
    5.0
    """
    full, skipped = np.asarray(y, dtype=np.float64), np.asarray(y_skip, dtype=np.float64)
    if full.shape != skipped.shape or full.size == 0:
        raise InputError(
            f"y has shape {full.shape} and y_skip {skipped.shape}; give the outputs of one input"
        )
    value = float(np.linalg.norm(full - skipped))
    if not math.isfinite(value):
        raise InputError("y or y_skip holds values that are not finite")
    norm = float(np.linalg.norm(full))
    return TheoryResult(
        value=value,
        kind="exact",
        unit="output norm",
        statement="|Y - Y_skip| = value",
        forms={"sharpest": value, "relative": value / norm if norm > 0.0 else math.inf},
        notes=("holds for this input alone",),
    )


def theorem6_early_exit(
    *,
    delta: PerLayer,
    lam: PerLayer,
    mu_head: Number = 1.0,
    n_layers: int | None = None,
    output_norm: Number | None = None,
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Bound the error of early exit: vision tokens removed after layer K.

    .. math:: |Y - Y_{exit}| \le \mu_{head} \sum_{l=K+1}^n \delta_l \prod_{j=l+1}^n \lambda_j

    Only the text is read out, so how much the vision tokens themselves would have changed does not
    matter: there is no epsilon. Not in the paper, which has it in words.

    Parameters
    ----------
    delta, lam : float, or sequence of float of length n - K
        For layers K + 1 to n: what vision adds to *all* text tokens' update on the true
        trajectory (Frobenius norm), and Lipschitz constants of the text-only layers. The attention
        of the answer token alone bounds neither.
    mu_head : float
        Lipschitz constant of what reads the text out.
    n_layers : int, optional
        n - K, needed if both are single numbers.
    output_norm, inputs
        As in :func:`theorem6`.

    Returns
    -------
    TheoryResult

    Raises
    ------
    InputError
        If a number is negative or the lengths differ.

    Examples
    --------
    >>> round(theorem6_early_exit(delta=[0.1, 0.1], lam=[1.0, 2.0]).value, 6)
    0.3
    """
    given = Given(inputs)
    (deltas, lams), count = _layers(given, n_layers, delta=delta, lam=lam)
    drift = _drift(deltas, lams, count)
    value = _product(given.nonnegative(mu_head, "mu_head"), drift)
    assumptions = (
        "lam_j and mu_head are Lipschitz constants on the states that occur",
        "the output reads text alone, and vision is removed by masking",
    )
    return _bound(
        given,
        value,
        {"corrected": value, "sharpest": value, "E_n": drift},
        output_norm,
        "|Y - Y_exit| <= value",
        assumptions,
        (),
    )


def theorem6_skip_blocks(
    *,
    change: PerLayer,
    mu_after: PerLayer,
    output_norm: Number | None = None,
    inputs: InputKind = "exact",
) -> TheoryResult:
    r"""Bound the error of leaving out whole blocks.

    .. math:: |Y - Y_{skip}| \le \sum_{l \in S} \mu_{>l}\, |f^l(\tilde x_l) - \tilde x_l|

    with :math:`\tilde x_l` the state that reaches block l in the *skipping* run and
    :math:`\mu_{>l}` a Lipschitz constant of all later layers of the full model. For a single block
    :math:`\tilde x_l = X_{l-1}`, and the bound is :math:`\mu_{>l} |X_l - X_{l-1}|`: geometric
    redundancy with a Lipschitz tail is what makes a skip safe.

    Parameters
    ----------
    change : float or sequence of float
        What each left-out block would have changed.
    mu_after : float or sequence of float
        Lipschitz constant of all that follows it in the full model.
    output_norm, inputs
        As in :func:`theorem6`.

    Returns
    -------
    TheoryResult

    Raises
    ------
    InputError
        If a number is negative or the lengths differ.

    Examples
    --------
    >>> theorem6_skip_blocks(change=[0.25, 0.5], mu_after=[2.0, 1.0]).value
    1.0
    """
    given = Given(inputs)
    (changes, mus), count = _layers(
        given, None, single_is_one=True, change=change, mu_after=mu_after
    )
    parts = [
        _product(m, c)
        for m, c in zip(np.broadcast_to(mus, count), np.broadcast_to(changes, count), strict=True)
    ]
    value = math.fsum(parts)
    assumptions = (
        "mu_after are Lipschitz constants of the later layers on the states that occur",
        "changes are measured in the skipping run",
    )
    return _bound(
        given,
        value,
        {"corrected": value, "sharpest": value},
        output_norm,
        "|Y - Y_skip| <= value",
        assumptions,
        (),
    )


def _layers(
    given: Given, n_layers: int | None, *, single_is_one: bool = False, **values: PerLayer
) -> tuple[list[NDArray[np.float64]], int]:
    """Read numbers per layer; return the arrays, each of length 1 or L, and L."""
    arrays: list[NDArray[np.float64]] = []
    per_layer = single_is_one
    for name, value in values.items():
        if isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim == 1):
            per_layer = True
            items = [given.nonnegative(v, f"{name}[{i}]") for i, v in enumerate(value)]
        else:
            items = [given.nonnegative(value, name)]
        arrays.append(np.array(items, dtype=np.float64))
    lengths = {name: a.size for name, a in zip(values, arrays, strict=True) if a.size != 1}
    if n_layers is not None:
        if not isinstance(n_layers, int | np.integer) or n_layers < 1:
            raise InputError(f"n_layers is {n_layers!r}; give an integer of at least 1")
        lengths["n_layers"] = int(n_layers)
    sizes = set(lengths.values())
    if len(sizes) > 1 or 0 in sizes:
        listing = ", ".join(f"{name}: {size}" for name, size in lengths.items())
        raise InputError(
            f"numbers of layers differ ({listing}); give one number, or one per layer, for each"
        )
    if not sizes and not per_layer:
        raise InputError("give n_layers, or one number per layer")
    return arrays, sizes.pop() if sizes else 1


def _sum(values: NDArray[np.float64], count: int) -> float:
    return count * float(values[0]) if values.size == 1 else math.fsum(values)


def _product(a: float, b: float) -> float:
    """a * b with 0 * inf = 0."""
    return 0.0 if a == 0.0 or b == 0.0 else a * b


def _drift(delta: NDArray[np.float64], lam: NDArray[np.float64], count: int) -> float:
    if delta.size == 1 and lam.size == 1:
        return _product(float(delta[0]), _geometric(float(lam[0]), count))
    drift = 0.0
    deltas, lams = np.broadcast_to(delta, count), np.broadcast_to(lam, count)
    for i in range(count):
        drift = _product(float(lams[i]), drift) + float(deltas[i]) if i else float(deltas[0])
    return drift


def _geometric(lam: float, count: int) -> float:
    """1 + lam + ... + lam**(count - 1), without cancellation near 1 and without overflow errors."""
    if lam == 0.0 or count == 1:
        return 1.0
    if lam == 1.0:
        return float(count)
    exponent = count * math.log(lam)
    return math.inf if exponent > 709.0 else math.expm1(exponent) / (lam - 1.0)


def _combine(
    given: Given, d_v: float, drift: float, mu: float, mu_v: Number | None, mu_t: Number | None
) -> dict[str, float]:
    forms = {"D_V": d_v, "E_L": drift}
    forms["corrected"] = forms["corrected_sqrt"] = _product(mu, math.hypot(d_v, drift))
    forms["corrected_sum"] = _product(mu, d_v + drift)
    candidates = [forms["corrected"]]
    if (mu_v is None) != (mu_t is None):
        raise InputError("give both mu_v and mu_t, or neither")
    if mu_v is not None and mu_t is not None:
        split = _product(given.nonnegative(mu_v, "mu_v"), d_v)
        split += _product(given.nonnegative(mu_t, "mu_t"), drift)
        forms["bound_split"] = split
        candidates.append(split)
    forms["sharpest"] = min(candidates)
    return forms


def _late_entry(
    given: Given,
    forms: dict[str, float],
    output_norm: Number | None,
    assumptions: tuple[str, ...],
    notes: tuple[str, ...],
) -> TheoryResult:
    statement = "|Y - Y_skip| <= value"
    return _bound(given, forms["sharpest"], forms, output_norm, statement, assumptions, notes)


def _bound(
    given: Given,
    value: float,
    forms: dict[str, float],
    output_norm: Number | None,
    statement: str,
    assumptions: tuple[str, ...],
    notes: tuple[str, ...],
) -> TheoryResult:
    vacuous = math.isinf(value)
    if output_norm is None:
        notes += ("output_norm was not given, so vacuity is unchecked",)
    else:
        limit = 2.0 * given.nonnegative(output_norm, "output_norm")
        if value >= limit:
            vacuous = True
            notes += (f"at least 2 |Y| = {limit:.4g}: {_VACUOUS}",)
    kind = given.kind(assumptions)
    if kind == "estimate":
        notes += ("a Lipschitz constant from below makes this an estimate, no bound",)
    return TheoryResult(
        value=value,
        kind=kind,
        unit="output norm",
        statement=statement,
        assumptions=assumptions,
        vacuous=vacuous,
        forms=forms,
        notes=notes,
    )
