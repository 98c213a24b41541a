"""Theorem 6 for other skips: vision removed early, and whole blocks left out."""

from __future__ import annotations

import math

import numpy as np

from redundancy.theory._per_layer import PerLayer, drift_bound, error_bound, product, read_layers
from redundancy.theory._result import Given, InputKind, Number, TheoryResult

__all__ = ["theorem6_early_exit", "theorem6_skip_blocks"]


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
    (deltas, lams), count = read_layers(given, n_layers, delta=delta, lam=lam)
    drift = drift_bound(deltas, lams, count)
    value = product(given.nonnegative(mu_head, "mu_head"), drift)
    assumptions = (
        "lam_j and mu_head are Lipschitz constants on the states that occur",
        "the output reads text alone, and vision is removed by masking",
    )
    return error_bound(
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
    (changes, mus), count = read_layers(
        given, None, single_is_one=True, change=change, mu_after=mu_after
    )
    parts = [
        product(m, c)
        for m, c in zip(np.broadcast_to(mus, count), np.broadcast_to(changes, count), strict=True)
    ]
    value = math.fsum(parts)
    assumptions = (
        "mu_after are Lipschitz constants of the later layers on the states that occur",
        "changes are measured in the skipping run",
    )
    return error_bound(
        given,
        value,
        {"corrected": value, "sharpest": value},
        output_norm,
        "|Y - Y_skip| <= value",
        assumptions,
        (),
    )
