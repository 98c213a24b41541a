"""The Markov audit from states: fit the probes, on other samples than they are judged on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import InputError
from estimators._arrays import check_lengths, group_codes, matrix, symbols
from redundancy.theory.markov import MarkovAudit, markov_audit

__all__ = ["markov_audit_from_states"]

_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
_FLOOR = 1e-6


def markov_audit_from_states(
    x_lower: Any,
    x_upper: Any,
    target: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    folds: int = 5,
    level: float = 0.95,
    seed: int = 0,
) -> MarkovAudit:
    r"""Test whether X_{l-1} - X_l - Z can be a Markov chain, from states and class labels.

    Fits three multinomial logistic probes, on the lower layer, the upper layer and both, and hands
    their held-out log losses to :func:`markov_audit`. Folds keep groups together; states are
    standardised and the penalty is chosen inside the training folds, alike for all three.

    When it lies: as :func:`markov_audit`, for linear probes. The probe of both layers has twice the
    coefficients to learn, so with few samples its loss is too high and the chain is rejected too
    rarely.

    Parameters
    ----------
    x_lower, x_upper : array_like, shape (n, d)
        States of the same n samples.
    target : array_like of int or str, shape (n,)
        Class of each sample. For real-valued targets fit probes of your own and use
        :func:`markov_audit`.
    groups : array_like, shape (n,), optional
        Cluster of each sample.
    folds : int
        At least 3.
    level : float
        Level of the one-sided confidence limit.
    seed : int
        Of the assignment of groups to folds.

    Returns
    -------
    MarkovAudit
        With `forward`, the estimate of I_V(Z; X_l | X_{l-1}), so that ``theorem5(markov=audit,
        diam=2**0.5)`` needs no other information.

    Raises
    ------
    InputError
        If the arrays do not fit, a class is missing from some training fold, or there are fewer
        groups than folds.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x_lower = rng.normal(size=(400, 3))
    >>> z = (x_lower[:, 0] + 0.5 * rng.normal(size=400) > 0).astype(int)
    >>> x_upper = x_lower + rng.normal(size=x_lower.shape)         # Z - X_{l-1} - X_l
    >>> markov_audit_from_states(x_lower, x_upper, z).rejected
    True

    References
    ----------
    Xu et al. (2020); Hewitt et al. (2021).
    """
    lower = np.asarray(matrix(x_lower, "x_lower"), dtype=np.float64)
    upper = np.asarray(matrix(x_upper, "x_upper"), dtype=np.float64)
    labels, n_classes = symbols(target, "target")
    n = check_lengths(x_lower=lower, x_upper=upper, target=labels)
    if n_classes < 2:
        raise InputError("target has one class; there is nothing to predict")
    codes, n_groups = group_codes(groups, n)
    if codes is None or n_groups is None:
        codes, n_groups = np.arange(n), n
    if folds < 3 or n_groups < folds:
        raise InputError(
            f"there are {n_groups} groups for {folds} folds; use at least 3 folds and "
            "as many groups"
        )
    fold_of = np.random.default_rng(seed).permutation(n_groups)[codes] % folds
    both = np.concatenate([upper, lower], axis=1)
    losses = [_held_out(x, labels, n_classes, fold_of, folds) for x in (lower, upper, both)]
    return markov_audit(
        loss_lower=losses[0], loss_upper=losses[1], loss_both=losses[2], groups=groups, level=level
    )


def _held_out(
    x: NDArray[np.float64],
    labels: NDArray[np.int64],
    n_classes: int,
    fold_of: NDArray[np.int64],
    folds: int,
) -> NDArray[np.float64]:
    loss = np.empty(len(x))
    for fold in range(folds):
        train, test = fold_of != fold, fold_of == fold
        if len(np.unique(labels[train])) < n_classes:
            raise InputError(
                f"a class of target is absent outside fold {fold}; drop rare classes or give fewer "
                "folds"
            )
        # One training fold chooses the penalty; the test fold has no say in it.
        inner = train & (fold_of == (fold + 1) % folds)
        fit = train & ~inner
        if len(np.unique(labels[fit])) < n_classes:
            fit = train
        scores = [
            _losses(x[fit], labels[fit], x[inner], labels[inner], penalty).mean()
            for penalty in _PENALTIES
        ]
        best = _PENALTIES[int(np.argmin(scores))]
        loss[test] = _losses(x[train], labels[train], x[test], labels[test], best)
    return loss


def _losses(
    x: NDArray[np.float64],
    labels: NDArray[np.int64],
    x_test: NDArray[np.float64],
    labels_test: NDArray[np.int64],
    penalty: float,
) -> NDArray[np.float64]:
    """Fit on the first, return -log p on the second; `penalty` counts per sample."""
    from sklearn.linear_model import LogisticRegression

    centre, scale = x.mean(0), x.std(0)
    scale[scale == 0.0] = 1.0
    probe = LogisticRegression(C=1.0 / (penalty * len(x)), max_iter=300)
    probe.fit((x - centre) / scale, labels)
    p = probe.predict_proba((x_test - centre) / scale)
    chosen = p[np.arange(len(labels_test)), labels_test]
    return np.asarray(-np.log(np.maximum(chosen, _FLOOR)))
