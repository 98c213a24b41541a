"""Centred kernel alignment of the states of two layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators import Diagnostic, Estimate, InputError
from redundancy.measures._grouped import (
    FEW_GROUPS,
    check_level,
    group_diagnostics,
    state_diagnostics,
)
from redundancy.measures._neighbour import spread
from redundancy.measures._spec import Column, MeasureSpec, Reading
from redundancy.pairs import LayerPair

if TYPE_CHECKING:
    from redundancy.store import ActivationStore

__all__ = ["SPEC", "matrix", "measure"]

SPEC = MeasureSpec(
    title="centred kernel alignment of two layers, debiased, linear kernel",
    symbol="CKA",
    unit="similarity",
    needs=frozenset({"states"}),
    streams=True,
    # Sums of products, one block of rows of each side, and the products of rows with 20 means.
    working_set=lambda n, d: 6 * 8 * d * d + 2**28 + 4 * 8 * 24 * n,
    redundant_when="above",
    default_threshold=None,
    paper="section 4 (there 'centralized')",
    columns=(Column("biased", "CKA biased"),),
)


def measure(
    pair: LayerPair,
    *,
    threshold: float | None = None,
    ci: float | None = 0.95,
    seed: int = 0,
) -> Reading:
    r"""Centred kernel alignment between the states of two layers, with the bias removed.

    .. math:: \text{CKA} = \frac{\text{HSIC}_1(X, Y)}
              {\sqrt{\text{HSIC}_1(X, X)\, \text{HSIC}_1(Y, Y)}}

    Blind to rotation, scale and shift, so it can call layers similar that cannot replace one
    another.

    When it lies: a few directions of large variance (outlier features of language models) decide
    it alone; it near 1 says nothing of the small directions that a later layer may read. For that
    reason no threshold is set by default. The usual, biased CKA tends to 1 as soon as the width
    passes the number of tokens; it is among the extras for comparison with published figures.

    Parameters
    ----------
    pair : LayerPair
        With states; the two layers may differ in width.
    threshold : float, optional
        Similarity in (0, 1) above which the pair counts as redundant.
    ci : float or None
        Level of the interval (jackknife over blocks of groups).
    seed : int
        Seed of the blocks.

    Returns
    -------
    Reading
        A similarity, at most 1 and possibly negative; extra ``biased``. The p-values are by t with
        the jackknife's standard error; with fewer than 20 groups they are 1.

    Raises
    ------
    InputError
        If the pair carries no states or a state is not finite.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 4))
    >>> rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    >>> round(measure(LayerPair(0, 1, x, x @ rotation)).estimate.value, 6)
    1.0

    References
    ----------
    Kornblith et al. (2019); Song et al. (2012), eq. (5); Murphy et al. (2024).
    """
    from estimators.cka import cka_pair

    check_level(ci)
    if threshold is not None and not 0.0 < threshold < 1.0:
        raise InputError(f"threshold is {threshold!r}; a CKA to exceed lies in (0, 1), e.g. 0.98")
    if pair.x_lower is None or pair.x_upper is None:
        raise InputError(
            f"layers {pair.label} carry no token states, which CKA needs; extract with --tokens"
        )
    constant = state_diagnostics(pair)
    if constant:
        return Reading(estimate=_nothing(pair, *constant))
    x, y = (
        a if hasattr(a, "memo") or a.dtype.itemsize <= 4 else np.asarray(a, dtype=np.float64)
        for a in (pair.x_lower, pair.x_upper)
    )
    options: dict[str, Any] = {
        "groups": pair.groups,
        "seed": seed,
        "memo_x": getattr(x, "memo", None),
        "memo_y": getattr(y, "memo", None),
    }
    alone: tuple[Diagnostic, ...] = ()
    if pair.groups is not None and len(np.unique(pair.groups)) == 1:
        # One group has nothing to leave out; the value stands, marked, without an interval.
        alone = group_diagnostics(1, pair.n)
        options["groups"], ci = None, None
    debiased, biased = cka_pair(x, y, ci=ci, **options)
    debiased = debiased.with_diagnostics(*alone)
    if debiased.ci is not None and debiased.value is not None and debiased.ci.high > 1.0:
        debiased = replace(debiased, ci=replace(debiased.ci, high=max(1.0, debiased.value)))
    p_redundant = p_needed = None
    if threshold is not None and debiased.value is not None:
        p_redundant, p_needed = _p_values(debiased, threshold)
    return Reading(
        estimate=debiased,
        extras={"biased": biased},
        p_redundant=p_redundant,
        p_needed=p_needed,
    )


def matrix(
    store: ActivationStore,
    modality: str | None = None,
    *,
    layers: Sequence[int] | None = None,
    tokens: int = 800,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Debiased CKA between all layers of a store, as in the paper's Figure 12.

    Made from the inner products of some tokens rather than from features, so that a layer costs one
    product whatever the number of layers; for the picture, without intervals.

    Parameters
    ----------
    store : ActivationStore
        With states.
    modality : str, optional
        May be left out where there is only one.
    layers : sequence of int, optional
        All by default.
    tokens : int
        At most so many, one of every group before a second of any.
    seed : int
        Of that choice.

    Returns
    -------
    ndarray of float64, shape (L, L)
        Symmetric; NaN where a layer does not vary.

    Raises
    ------
    InputError
        If the store has no states, or fewer than 4 tokens of them.

    Examples
    --------
    >>> from redundancy.store import ActivationStore
    >>> x = np.random.default_rng(0).normal(size=(60, 4))
    >>> store = ActivationStore.from_arrays({0: x, 1: 2 * x, 2: x + 10 * x[:, ::-1] ** 2})
    >>> np.round(matrix(store), 2).tolist()[0][:2]
    [1.0, 1.0]

    References
    ----------
    Song et al. (2012), eq. (5), as the inner product of U-centred matrices (Szekely and Rizzo
    2014).
    """
    chosen = list(store.layers if layers is None else layers)
    states = store.states(chosen[0], modality)
    if len(states) < 4:
        raise InputError(
            f"CKA between all layers needs at least 4 token states and there are {len(states)}; "
            "extract with --tokens"
        )
    given = store.groups(modality)
    codes = (
        np.arange(len(states)) if given is None else np.unique(given, return_inverse=True)[1]
    ).astype(np.int64)
    rows = spread(codes, seed, tokens)
    flat = np.empty((len(chosen), len(rows) ** 2), dtype=np.float32)
    for i, layer in enumerate(chosen):
        flat[i] = _u_centred(np.asarray(store.states(layer, modality)[rows], dtype=np.float64))
    products = np.asarray(flat @ flat.T, dtype=np.float64)
    own = np.diag(products)
    own = np.sqrt(np.where(own > 0, own, np.nan))
    return np.asarray(products / np.outer(own, own))


def _u_centred(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """Inner products of rows, U-centred, scaled to norm one, flat; 0 where all rows are alike."""
    moved = x - x.mean(axis=0)
    scale = float(np.abs(moved).max())
    if not scale > 0:
        return np.zeros(len(x) ** 2, dtype=np.float32)
    gram = (moved / scale) @ (moved / scale).T
    np.fill_diagonal(gram, 0.0)
    n = len(gram)
    sums = gram.sum(axis=1)
    gram -= (sums[:, None] + sums[None, :]) / (n - 2)
    gram += sums.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(gram, 0.0)
    size = float(np.linalg.norm(gram))
    return np.asarray((gram / (size or 1.0)).ravel(), dtype=np.float32)


def _nothing(pair: LayerPair, *reasons: Diagnostic) -> Estimate:
    return Estimate(
        value=None,
        unit=SPEC.unit,
        kind="estimate",
        n=pair.n,
        method="debiased CKA",
        diagnostics=reasons,
    )


def _p_values(estimate: Estimate, threshold: float) -> tuple[float, float]:
    """p-values from the t interval, whose half-width and method are all that is known of it."""
    interval, value = estimate.ci, estimate.value
    units = estimate.n if estimate.n_groups is None else estimate.n_groups
    if interval is None or value is None or units < FEW_GROUPS or not interval.width > 0:
        return 1.0, 1.0
    from scipy.special import stdtr, stdtrit

    # CKA ends at 1, where its interval may have been cut: the lower half is the whole one.
    blocks = min(20, units)
    se = (value - interval.low) / float(stdtrit(blocks - 1, 0.5 + interval.level / 2))
    if not se > 0 or not math.isfinite(se):
        return 1.0, 1.0
    t = (value - threshold) / se
    return float(stdtr(blocks - 1, -t)), float(stdtr(blocks - 1, t))
