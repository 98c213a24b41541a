"""Usable information: how much of a target a family of probes can read from a state."""

from __future__ import annotations

from typing import Any

import numpy as np

from estimators import Diagnostic, Estimate, InputError
from estimators._arrays import FloatArray, IntArray, check_ci, check_lengths, group_codes
from estimators._resample import few_groups, shuffle_labels
from estimators.intervals import ClusterMean, cluster_mean
from probes._base import states
from probes._crossfit import cross_fit, logistic, prior_log_proba
from probes._principal import Principal, joined, principal
from probes._split import grouped_folds
from probes._target import Target, read_target

__all__ = [
    "conditional_losses",
    "conditional_v_information",
    "held_out_losses",
    "joint_losses",
    "narrowed",
    "v_information",
]

_NARROW = 512


def v_information(
    x: Any,
    target: Any,
    *,
    groups: Any = None,
    kind: str = "linear",
    folds: int = 5,
    ci: float | None = 0.95,
    seed: int = 0,
    control: bool = True,
) -> Estimate:
    r"""Information about a class that a family V of probes can use.

    .. math:: I_V(X \to Z) = H_V(Z|\emptyset) - H_V(Z|X)

    in nats, both terms mean log losses on samples not fitted on: of the class shares, and of the
    probe. It can be negative, where the probe learned what does not hold elsewhere, and never
    exceeds I(Z;X) by more than sampling error. Unlike mutual information it may *grow* from layer
    to layer: processing makes information usable.

    When it lies: it is a lower estimate, also for its own family, because the probe was fitted on
    finitely many samples; two values compare only at the same n, kind and folds. A powerful family
    reads labels off anything that names the image: ``params["control"]`` is the value for labels
    shuffled over groups and should be near 0, or below.

    Parameters
    ----------
    x : array_like, shape (n, d)
    target : array_like of int or str, shape (n,)
        Classes; or distributions over classes, float, shape (n, k).
    groups : array_like, shape (n,), optional
        Cluster of each sample: folds and intervals keep clusters whole.
    kind : {"linear", "logistic", "mlp"}
        V.
    folds : int
        At least 3; penalties are chosen inside the training folds.
    ci : float or None
        Level of the cluster-t interval. It holds the probes fixed.
    seed : int
        Of folds, control and MLP.
    control : bool
        Whether to fit the shuffled-label control, which doubles the time.

    Returns
    -------
    Estimate
        In nats; ``params`` has ``entropy`` (:math:`H_V(Z|\emptyset)`), ``log_loss``, ``accuracy``,
        ``control``, ``penalties``.

    Raises
    ------
    InputError
        If there is one class, the target is neither classes nor distributions, groups are fewer
        than folds, or shapes disagree.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(1000, 3))
    >>> z = (x[:, 0] > 0).astype(int)
    >>> 0.6 < v_information(x, z, control=False).value < 0.6931
    True

    References
    ----------
    Xu, Zhao, Song, Stewart, Ermon 2020, eq. (1) and Definition 2; Hewitt and Liang 2019 (controls).
    """
    level = check_ci(ci)
    ready, z, codes, n_groups, fold_of = _read([("x", x)], target, groups, folds, seed)
    loss, scores, penalties = held_out_losses(ready[0], z, fold_of, folds, kind, codes, seed)
    prior = -np.einsum("ij,ij->i", z.z, prior_log_proba(z, fold_of, folds))
    null = None
    if control:
        null = _shuffled(ready[0], z, fold_of, folds, kind, codes, seed)
    mean = cluster_mean(prior - loss, groups=codes, weighting="token", level=level)
    return Estimate(
        value=mean.value,
        unit="nats",
        kind="estimate",
        n=len(loss),
        n_groups=n_groups,
        method=f"held-out log loss of {kind} probes, {folds} folds",
        ci=mean.interval,
        params={
            "entropy": float(prior.mean()),
            "log_loss": float(loss.mean()),
            "accuracy": _accuracy(scores, z),
            "control": null,
            "family": kind,
            "folds": folds,
            "penalties": penalties,
        },
        seed=seed,
        diagnostics=(*few_groups(n_groups), *_control_finding(null, mean)),
    )


def conditional_v_information(
    x_upper: Any,
    x_lower: Any,
    target: Any,
    *,
    groups: Any = None,
    kind: str = "linear",
    folds: int = 5,
    ci: float | None = 0.95,
    seed: int = 0,
) -> Estimate:
    r"""What probes can use of the upper layer beyond what they can use of the lower.

    .. math:: I_V(X_l \to Z | X_{l-1}) = H_V(Z|X_{l-1}) - H_V(Z|X_{l-1}, X_l)

    The V-version of :math:`I(Z; X_l | X_{l-1})`: of a target computed upstream of both layers
    the latter is 0, while a layer that makes it easier to read has conditional V-information.

    When it lies: the probe of both layers has twice the coefficients to learn, so on few samples
    the value is too low and may be negative; it is not clipped. Linear probes see the leading
    principal components of each layer, a twelfth of the samples to fit on but at least 512.

    Parameters
    ----------
    x_upper, x_lower : array_like, shape (n, d)
    target, groups, kind, folds, ci, seed
        As in :func:`v_information`.

    Returns
    -------
    Estimate
        In nats; ``params`` has ``log_loss_lower``, ``log_loss_upper``, ``log_loss_both`` and
        ``entropy``.

    Raises
    ------
    InputError
        As :func:`v_information`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(1000, 3))
    >>> z = (2 * x[:, 0] + 2 * x[:, 1] + rng.logistic(size=1000) > 0).astype(int)
    >>> conditional_v_information(x, x[:, :1], z).value > 0.1
    True
    >>> abs(conditional_v_information(x[:, :1], x, z).value) < 0.02
    True

    References
    ----------
    Hewitt, Ethayarajh, Liang, Manning 2021, Definition 2.
    """
    level = check_ci(ci)
    ready, z, codes, n_groups, fold_of = _read(
        [("x_upper", x_upper), ("x_lower", x_lower)], target, groups, folds, seed
    )
    upper, lower = ready
    losses = conditional_losses(upper, lower, z, fold_of, folds, kind, codes, seed)
    prior = -np.einsum("ij,ij->i", z.z, prior_log_proba(z, fold_of, folds))
    mean = cluster_mean(
        losses["lower"] - losses["both"], groups=codes, weighting="token", level=level
    )
    return Estimate(
        value=mean.value,
        unit="nats",
        kind="estimate",
        n=len(prior),
        n_groups=n_groups,
        method=f"held-out log losses of {kind} probes, {folds} folds",
        ci=mean.interval,
        params={f"log_loss_{name}": float(loss.mean()) for name, loss in losses.items()}
        | {"entropy": float(prior.mean()), "family": kind, "folds": folds},
        seed=seed,
        diagnostics=few_groups(n_groups),
    )


def held_out_losses(
    x: FloatArray,
    target: Target,
    fold_of: IntArray,
    folds: int,
    kind: str,
    groups: IntArray | None,
    seed: int,
) -> tuple[FloatArray, FloatArray, tuple[float, ...]]:
    """Log loss of each sample, the scores behind it, and the penalties."""
    kind = "logistic" if kind == "linear" else kind
    fit = cross_fit(x, target, fold_of, folds, [kind], groups=groups, seed=seed)[kind]
    if fit.log_proba is None:
        raise InputError(f"a {kind} probe gives no probabilities; use 'linear' or 'mlp'")
    return -np.einsum("ij,ij->i", target.z, fit.log_proba), fit.scores, fit.penalties


def conditional_losses(
    upper: FloatArray,
    lower: FloatArray,
    target: Target,
    fold_of: IntArray,
    folds: int,
    kind: str,
    groups: IntArray | None,
    seed: int,
) -> dict[str, FloatArray]:
    """Log loss of each sample from ``"lower"``, ``"upper"`` and ``"both"`` layers."""
    if kind == "mlp":
        both = np.concatenate([upper, lower], axis=1)
        return {
            name: held_out_losses(x, target, fold_of, folds, kind, groups, seed)[0]
            for name, x in (("lower", lower), ("upper", upper), ("both", both))
        }
    seen = {
        name: narrowed(principal(x, fold_of, folds))
        for name, x in (("lower", lower), ("upper", upper))
    }
    out = {name: joint_losses([layer], target, kind=kind) for name, layer in seen.items()}
    return out | {"both": joint_losses(list(seen.values()), target, kind=kind)}


def narrowed(layer: Principal) -> Principal:
    """Keep as many components as the probe of two layers has samples for."""
    folds = len(layer.folds)
    return layer.leading(max(_NARROW, layer.n * (folds - 1) // (12 * folds)))


def joint_losses(layers: list[Principal], target: Target, *, kind: str = "linear") -> FloatArray:
    """Log loss of each sample from one layer, or from two side by side, with linear probes."""
    if kind not in ("linear", "logistic"):
        raise InputError(f"a {kind} probe gives no probabilities; use 'linear' or 'mlp'")
    seen = layers[0] if len(layers) == 1 else joined(*layers)
    fit = logistic(seen, target.z[seen.order][:, None])[0]
    return np.asarray(-np.einsum("ij,ij->i", target.z, fit.scores))


def _read(
    named: list[tuple[str, Any]], target: Any, groups: Any, folds: int, seed: int
) -> tuple[list[FloatArray], Target, IntArray | None, int | None, IntArray]:
    ready = [states(x, name) for name, x in named]
    n = check_lengths(**{name: x for (name, _), x in zip(named, ready, strict=True)})
    z = read_target(target, n)
    if z.kind == "values" and not (z.k > 1 and z.distribution):
        raise InputError(
            "target holds real numbers, and usable information is read from log losses of classes; "
            "give integers, words, or distributions over classes"
        )
    codes, n_groups = group_codes(groups, n)
    fold_of = grouped_folds(n, folds, groups=codes, labels=z.codes, seed=seed)
    return ready, z, codes, n_groups, fold_of


def _shuffled(
    x: FloatArray,
    target: Target,
    fold_of: IntArray,
    folds: int,
    kind: str,
    groups: IntArray | None,
    seed: int,
) -> float:
    rows, _ = shuffle_labels(target.z, groups, seed=seed + 1)
    null = Target(
        kind=target.kind,
        z=target.z[rows],
        classes=target.classes,
        codes=None if target.codes is None else target.codes[rows],
    )
    loss = held_out_losses(x, null, fold_of, folds, kind, groups, seed)[0]
    prior = -np.einsum("ij,ij->i", null.z, prior_log_proba(null, fold_of, folds))
    return float((prior - loss).mean())


def _accuracy(scores: FloatArray, target: Target) -> float:
    return float(np.mean(scores.argmax(1) == target.z.argmax(1)))


def _control_finding(null: float | None, mean: ClusterMean) -> tuple[Diagnostic, ...]:
    if null is None or mean.se is None or null <= 3.0 * mean.se:
        return ()
    return (
        Diagnostic(
            code="control",
            severity="error",
            message=f"labels shuffled over groups gave {null:.3g} nats where 0 was due, so the "
            "value is not about the labels: are samples of one image spread over several groups?",
        ),
    )
