"""Predictions for samples that the probe has not seen, with the penalty chosen without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from estimators import InputError
from estimators._arrays import FloatArray, IntArray
from probes._choice import choose_all, judges
from probes._folded import RidgeSolver
from probes._logistic import LogisticSolver, Task
from probes._principal import Principal, principal
from probes._target import Target

__all__ = [
    "KINDS",
    "CrossFit",
    "cross_fit",
    "cross_fit_all",
    "logistic",
    "prior_log_proba",
    "resolve",
]

KINDS = ("linear", "ridge", "logistic", "mlp")
_MANY_COORDINATES = 1024
_TOL = 5e-6  # nats, a hundredth of what an interval over 10,000 samples can see


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
    x: FloatArray, target: Target, fold_of: IntArray, n_folds: int, kinds: Sequence[str], **how: Any
) -> dict[str, CrossFit]:
    """Cross-fit several kinds of probe to one target, as `cross_fit_all` does to many."""
    return cross_fit_all(x, [target], fold_of, n_folds, kinds, **how)[0]


def cross_fit_all(
    x: FloatArray,
    targets: Sequence[Target],
    fold_of: IntArray,
    n_folds: int,
    kinds: Sequence[str],
    *,
    groups: IntArray | None = None,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    layer: Principal | None = None,
) -> list[dict[str, CrossFit]]:
    """Cross-fit several kinds of probe to several targets on the same folds, from one rotation.

    Parameters
    ----------
    x : ndarray, shape (n, d)
    targets : sequence of Target
        Of one kind and width: a target and its shuffled control.
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
    layer : Principal, optional
        Of the same states and folds, where it is known.

    Returns
    -------
    list of dict of str to CrossFit
        For each target, by the kinds asked for.
    """
    if n_folds < 3:
        raise InputError(f"the number of folds is {n_folds}; nested selection needs at least 3")
    named = {kind: resolve(kind, targets[0]) for kind in kinds}
    wanted = set(named.values())
    found: list[dict[str, CrossFit]] = [{} for _ in targets]
    if wanted & {"ridge", "logistic"}:
        layer = principal(x, fold_of, n_folds) if layer is None else layer
        z = np.stack([target.z[layer.order] for target in targets], axis=1)
        for name, fit in (("ridge", _ridge), ("logistic", logistic)):
            if name in wanted:
                for mine, one in zip(found, fit(layer, z), strict=True):
                    mine[name] = one
    if "mlp" in wanted:
        for mine, target in zip(found, targets, strict=True):
            mine["mlp"] = _mlp(x, target, fold_of, n_folds, groups, seed, options or {})
    return [{kind: mine[name] for kind, name in named.items()} for mine in found]


def _ridge(layer: Principal, z: FloatArray) -> list[CrossFit]:
    n_folds, m = len(layer.folds), z.shape[1]
    solver = RidgeSolver(layer, z)
    chosen = choose_all(_judges(layer), m, solver.errors)
    scores = np.empty_like(z)
    for test in range(n_folds):
        train = tuple(f for f in range(n_folds) if f != test)
        coef, intercept = solver.fit(train, [10.0 ** chosen[test, i] for i in range(m)])
        for i in range(m):
            guess = solver.predict(test, coef[i][:, i], intercept[i, i])
            scores[layer.samples(test), i] = guess
    return [
        CrossFit(
            kind="ridge",
            scores=np.ascontiguousarray(scores[:, i]),
            log_proba=None,
            penalties=tuple(10.0 ** chosen[test, i] for test in range(n_folds)),
        )
        for i in range(m)
    ]


def logistic(layer: Principal, z: FloatArray) -> list[CrossFit]:
    """Cross-fit logistic probes to targets of shape (n, m, k), rows in the layer's order."""
    n_folds, m = len(layer.folds), z.shape[1]
    solver = LogisticSolver(layer, z, tol=_TOL)
    chosen = choose_all(_judges(layer), m, solver.errors)
    tasks = [
        Task(tuple(f for f in range(n_folds) if f != test), i, 10.0 ** chosen[test, i])
        for i in range(m)
        for test in range(n_folds)
    ]
    fits = solver.fit(tasks)
    log_p = np.empty_like(z)
    for j, fit in enumerate(fits):
        log_p[layer.samples(j % n_folds), j // n_folds] = solver.log_proba(fit, j % n_folds)
    return [
        CrossFit(
            kind="logistic",
            scores=(mine := np.ascontiguousarray(log_p[:, i])),
            log_proba=mine,
            penalties=tuple(10.0 ** chosen[test, i] for test in range(n_folds)),
            converged=all(fit.converged for fit in fits[i * n_folds : (i + 1) * n_folds]),
        )
        for i in range(m)
    ]


def _judges(layer: Principal) -> Any:
    return judges(len(layer.folds), thorough=layer.rank <= _MANY_COORDINATES)


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
