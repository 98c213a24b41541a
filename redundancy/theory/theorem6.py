"""Theorem 6: what letting the vision tokens join late does to the output, in four tiers."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from estimators import InputError
from redundancy.theory._per_layer import (
    PerLayer,
    drift_bound,
    error_bound,
    product,
    read_layers,
    total,
)
from redundancy.theory._result import Given, InputKind, Number, TheoryResult

__all__ = [
    "text_drift",
    "theorem6",
    "theorem6_direct",
    "theorem6_measured",
]


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
    (deltas, lams), count = read_layers(given, n_layers, delta=delta, lam=lam)
    return drift_bound(deltas, lams, count)


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
    (epss, deltas, lams), count = read_layers(given, n_layers, eps=eps, delta=delta, lam=lam)
    tail = given.nonnegative(mu, "mu")
    d_v = total(epss, count)
    drift = drift_bound(deltas, lams, count)
    forms = _combine(given, d_v, drift, tail, mu_v, mu_t)
    # As printed, with one number for all layers: the largest.
    paper_v = (count - 1) * float(np.max(epss))
    paper_t = drift_bound(np.array([np.max(deltas)]), np.array([np.max(lams)]), count)
    forms["paper"] = forms["paper_sum"] = product(tail, paper_v + paper_t)
    forms["paper_sqrt"] = product(tail, math.hypot(paper_v, paper_t))
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


def _combine(
    given: Given, d_v: float, drift: float, mu: float, mu_v: Number | None, mu_t: Number | None
) -> dict[str, float]:
    forms = {"D_V": d_v, "E_L": drift}
    forms["corrected"] = forms["corrected_sqrt"] = product(mu, math.hypot(d_v, drift))
    forms["corrected_sum"] = product(mu, d_v + drift)
    candidates = [forms["corrected"]]
    if (mu_v is None) != (mu_t is None):
        raise InputError("give both mu_v and mu_t, or neither")
    if mu_v is not None and mu_t is not None:
        split = product(given.nonnegative(mu_v, "mu_v"), d_v)
        split += product(given.nonnegative(mu_t, "mu_t"), drift)
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
    return error_bound(given, forms["sharpest"], forms, output_norm, statement, assumptions, notes)
