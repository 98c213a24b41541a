"""Predictions for samples that the probe has not seen, with the penalty chosen without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from estimators import InputError
from estimators._arrays import FloatArray, IntArray
from probes._logistic import FoldedLogistic
from probes._ridge import FoldedRidge, compact, standardised
from probes._target import Target

__all__ = ["KINDS", "CrossFit", "cross_fit", "prior_log_proba", "resolve", "shared_products"]

KINDS = ("linear", "ridge", "logistic", "mlp")
_MANY_COORDINATES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossFit:
    """Out-of-fold predictions of one kind of probe.

    Parameters
    ----------
    kind : {"ridge", "logistic", "mlp"}
    scores : ndarray, shape (n, k)
        Predicted values; the larger, the more probable, for classes.
    log_proba : ndarray, shape (n, k), or None
        Where the probe gives probabilities.
    penalties : tuple of float
        One per fold; the epochs for an MLP.
    converged : bool
    """

    kind: str
    scores: FloatArray
    log_proba: FloatArray | None
    penalties: tuple[float, ...]
    converged: bool = True


def resolve(kind: str, target: Target) -> str:
    """What ``"linear"`` means for a target: logistic for classes, ridge for values."""
    if kind not in KINDS:
        raise InputError(f"no kind of probe named {kind!r}; have {', '.join(KINDS)}")
    if kind == "linear":
        return "logistic" if target.kind == "classes" else "ridge"
    if kind == "logistic" and target.kind == "values" and not target.distribution:
        raise InputError(
            "a logistic probe needs classes or distributions over them, and the target holds other "
            "real numbers; use 'ridge' or 'mlp'"
        )
    return kind


def cross_fit(
    x: FloatArray,
    target: Target,
    fold_of: IntArray,
    n_folds: int,
    kinds: Sequence[str],
    *,
    groups: IntArray | None = None,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    products: FoldedRidge | None = None,
) -> dict[str, CrossFit]:
    """Cross-fit several kinds of probe on the same folds; the linear ones share their products.

    Parameters
    ----------
    x : ndarray, shape (n, d)
    target : Target
    fold_of : ndarray of int64, shape (n,)
        At least three folds: one to test on, one to choose the penalty on, one to fit on.
    n_folds : int
    kinds : sequence of str
    groups : ndarray, optional
        For the nested split of an MLP.
    seed : int
        Of an MLP.
    options : dict, optional
        Further options of an MLP.
    products : FoldedRidge, optional
        `shared_products` of the same states and folds, for a second target.

    Returns
    -------
    dict of str to CrossFit
        By the kinds asked for.
    """
    if n_folds < 3:
        raise InputError(f"the number of folds is {n_folds}; nested selection needs at least 3")
    named = {kind: resolve(kind, target) for kind in kinds}
    wanted = set(named.values())
    found: dict[str, CrossFit] = {}
    if wanted & {"ridge", "logistic"}:
        ridge = (
            shared_products(x, target, fold_of, n_folds)
            if products is None
            else products.retarget(target.z)
        )
        if "ridge" in wanted:
            found["ridge"] = _ridge(ridge)
        if "logistic" in wanted:
            found["logistic"] = _logistic(ridge, target)
    if "mlp" in wanted:
        found["mlp"] = _mlp(x, target, fold_of, n_folds, groups, seed, options or {})
    return {kind: found[name] for kind, name in named.items()}


def shared_products(x: FloatArray, target: Target, fold_of: IntArray, n_folds: int) -> FoldedRidge:
    """Cross-products of a layer, from which all linear probes on these folds are fitted."""
    ready = standardised(x)[0]
    wide = ready.shape[1] > len(ready)
    return FoldedRidge(
        compact(ready) if wide else ready, target.z, fold_of, n_folds, dual=False, isotropic=wide
    )


def _ridge(ridge: FoldedRidge) -> CrossFit:
    scores, penalties = np.empty_like(ridge.z), []
    for test, rows in enumerate(ridge.members):
        train = tuple(f for f in range(ridge.n_folds) if f != test)
        penalty = ridge.choose(train, rotate=ridge.d > _MANY_COORDINATES)
        scores[rows] = ridge.fit(train, penalty, df=False).predict(ridge.x[rows])
        penalties.append(penalty)
    return CrossFit(kind="ridge", scores=scores, log_proba=None, penalties=tuple(penalties))


def _logistic(ridge: FoldedRidge, target: Target) -> CrossFit:
    logistic = FoldedLogistic(ridge, target.z, tol=1e-6)
    log_p, penalties, converged = np.empty_like(target.z), [], True
    for test, rows in enumerate(ridge.members):
        train = tuple(f for f in range(ridge.n_folds) if f != test)
        penalty = logistic.choose(train, rotate=ridge.d > _MANY_COORDINATES)
        fit = logistic.fit(train, penalty)
        log_p[rows] = fit.log_proba(ridge.x[rows])
        penalties.append(penalty)
        converged = converged and fit.converged
    return CrossFit(
        kind="logistic",
        scores=log_p,
        log_proba=log_p,
        penalties=tuple(penalties),
        converged=converged,
    )


def _mlp(
    x: FloatArray,
    target: Target,
    fold_of: IntArray,
    n_folds: int,
    groups: IntArray | None,
    seed: int,
    options: dict[str, Any],
) -> CrossFit:
    from probes.mlp import MLPProbe

    soft = target.kind == "classes" or (target.k > 1 and target.distribution)
    scores, epochs = np.empty_like(target.z), []
    for test in range(n_folds):
        rows, train = np.flatnonzero(fold_of == test), np.flatnonzero(fold_of != test)
        probe = MLPProbe(**({"seed": seed} | options))
        if target.codes is not None and len(np.unique(target.codes[train])) < target.k:
            raise InputError(
                f"a class of the target is absent outside fold {test}, so a probe cannot learn "
                "it; merge or leave out rare classes, or use fewer folds"
            )
        y = target.codes[train] if target.codes is not None else target.z[train]
        probe.fit(x[train], y, groups=None if groups is None else groups[train])
        got = probe.predict_log_proba(x[rows]) if soft else probe.predict(x[rows])
        scores[rows] = got.reshape(len(rows), -1)
        epochs.append(float(probe.n_epochs_))
    return CrossFit(
        kind="mlp", scores=scores, log_proba=scores if soft else None, penalties=tuple(epochs)
    )


def prior_log_proba(target: Target, fold_of: IntArray, n_folds: int) -> FloatArray:
    """Log of the class shares on the other folds: what is known without any state."""
    out = np.empty_like(target.z)
    for test in range(n_folds):
        train = fold_of != test
        share = target.z[train].sum(0) + 1.0 / target.k
        out[~train] = np.log(share / share.sum())
    return out
