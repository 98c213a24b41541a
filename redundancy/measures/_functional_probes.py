"""The probes behind functional redundancy: fitted once per layer, compared for every pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from estimators._arrays import FloatArray, IntArray
from probes._base import states
from probes._principal import Principal, principal
from probes._ridge import AMPLE, FoldedRidge
from probes._split_probe import Layer, SplitProbe, fit_layer, fold_sets, split_probe
from probes._target import Target

__all__ = ["KINDS", "LayerProbes", "Probed", "compare_layers", "probe_layer"]

KINDS = ("linear", "mlp")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProbes:
    """Probes of one layer on all the sets of folds, with rows in the order of the folds.

    Parameters
    ----------
    layer : Layer
    kind : {"linear", "mlp"}
    order : ndarray of int64, shape (n,)
        Sample of each row.
    folds : tuple of slice
        Rows of each fold.
    components : int or None
        Leading components that the probes see, where they do not see all.
    fitted_on : int
        Samples behind the smallest fit.
    maps : mapping of tuple to ndarray, shape (d, k), or None
        Linear probes as maps of the raw states.
    """

    layer: Layer
    kind: Literal["linear", "mlp"]
    order: IntArray
    folds: tuple[slice, ...]
    components: int | None
    fitted_on: int
    maps: Mapping[tuple[int, ...], FloatArray] | None


@dataclass(frozen=True, slots=True)
class Probed:
    """Rows of the comparison, and what the probes were."""

    rows: SplitProbe
    kind: str
    penalties: dict[str, list[float]]
    per_fit: int
    components: int | None
    dim: int
    transfer: FloatArray | None
    transfer_bound: float | None
    kept_class: bool

    @property
    def shrunk(self) -> bool:
        """Whether a penalty shrank any of the probes."""
        return any(p > 0.0 for values in self.penalties.values() for p in values)


def probe_layer(
    x: NDArray[Any],
    target: Target,
    fold_of: IntArray,
    folds: int,
    *,
    kind: str = "linear",
    regularisation: float | str = "auto",
    groups: IntArray | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    rotated: Principal | None = None,
) -> LayerProbes:
    """Fit the probes of one layer, which serve the pair above and the pair below.

    Parameters
    ----------
    x : ndarray, shape (n, d)
    target : Target
    fold_of : ndarray of int64, shape (n,)
    folds : int
    kind : {"linear", "mlp"}
    regularisation
        Of linear probes.
    groups, seed, options
        Of MLPs.
    rotated : Principal, optional
        Of the same states and folds, where it is known.
    """
    if kind not in KINDS:
        raise InputError(f"kind is {kind!r}; use 'linear' or 'mlp'")
    counts = np.sort(np.bincount(fold_of, minlength=folds))
    fitted = int(counts[: folds // 2].sum())
    if kind == "mlp":
        return _mlp_layer(x, target, fold_of, folds, fitted, groups, seed, dict(options or {}))
    whole = principal(states(x), fold_of, folds) if rotated is None else rotated
    seen, components = whole, None
    if regularisation == "auto" and fitted < AMPLE * whole.rank + 10:
        components = min(max(1, fitted // 3), whole.rank)
        seen = whole.leading(components)
    layer = fit_layer(FoldedRidge(seen, target.z[whole.order]), regularisation)
    return LayerProbes(
        layer=layer,
        kind="linear",
        order=whole.order,
        folds=whole.folds,
        components=components,
        fitted_on=fitted,
        maps={p: seen.to_states(fit.coef) for p, fit in layer.fits.items()},
    )


def compare_layers(
    upper: LayerProbes,
    lower: LayerProbes,
    x_upper: NDArray[Any],
    x_lower: NDArray[Any],
    target: Target,
    codes: IntArray | None,
    *,
    ci: float | None,
    seed: int,
) -> Probed:
    """Compare the probes of two layers on samples that they have not seen."""
    order, folds = upper.order, upper.folds
    fold_of = np.repeat(np.arange(len(folds)), [rows.stop - rows.start for rows in folds])
    rows = split_probe(
        upper.layer,
        lower.layer,
        target.z[order],
        fold_of,
        len(folds),
        influence=ci is not None and upper.kind == "linear",
        groups=None if codes is None else codes[order],
        seed=seed,
    )
    transfer = bound = None
    if x_lower.shape == x_upper.shape:
        transfer, bound = _transfer(upper, x_lower, x_upper, fold_of)
    present = target.codes is None or all(
        len(np.unique(fold_of[target.codes[order] == c])) == len(folds) for c in range(target.k)
    )
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    return Probed(
        rows=replace(
            rows,
            **{
                f.name: getattr(rows, f.name)[back] for f in fields(SplitProbe) if f.name != "noise"
            },
        ),
        kind=upper.kind,
        penalties={
            "upper": sorted(set(upper.layer.penalties.values())),
            "lower": sorted(set(lower.layer.penalties.values())),
        },
        per_fit=upper.fitted_on,
        components=upper.components if lower.components is None else lower.components,
        dim=max(x_lower.shape[1], x_upper.shape[1]),
        transfer=None if transfer is None else transfer[back],
        transfer_bound=bound,
        kept_class=present,
    )


def _transfer(
    upper: LayerProbes, x_lower: NDArray[Any], x_upper: NDArray[Any], fold_of: IntArray
) -> tuple[FloatArray, float]:
    """Squared change of the upper layer's probes when the lower layer's states are put in."""
    n = len(x_lower)
    total, seen, square = np.zeros(n), np.zeros(n), 0.0
    step = max(1, 2**22 // x_lower.shape[1])
    sets = list(upper.layer.fits)
    stacked = None if upper.maps is None else np.concatenate(list(upper.maps.values()), axis=1)
    mlps = [fit for fit in upper.layer.fits.values() if isinstance(fit, _MLPFit)]
    for i in range(0, n, step):
        part = slice(i, min(n, i + step))
        take = upper.order[part]
        high, low = (np.asarray(x[take], dtype=np.float64) for x in (x_upper, x_lower))
        gap = high - low
        square += float(np.einsum("ij,ij->", gap, gap))
        if stacked is None:
            change = np.stack([fit.say(high) - fit.say(low) for fit in mlps], axis=1)
        else:
            change = (gap @ stacked).reshape(len(gap), len(sets), -1)
        for j, p in enumerate(sets):
            outside = ~np.isin(fold_of[part], p)
            total[part] += outside * np.einsum("ij,ij->i", change[:, j], change[:, j])
            seen[part] += outside
    if upper.maps is None:
        lipschitz = [fit.lipschitz for fit in mlps]
    else:
        lipschitz = [float(np.linalg.norm(w, 2)) for w in upper.maps.values()]
    return total / seen, float(np.mean(np.square(lipschitz))) * square / n


class _MLPFit:
    """An MLP fitted on a union of folds, and what it says of every sample."""

    def __init__(self, probe: Any, x: NDArray[Any], soft: bool, k: int) -> None:
        self._probe, self._soft, self._k = probe, soft, k
        self._said = self.say(x)

    def say(self, x: NDArray[Any]) -> FloatArray:
        """Predict probabilities or values."""
        got = self._probe.predict_proba(x) if self._soft else self._probe.predict(x)
        return np.asarray(got, dtype=np.float64).reshape(len(x), self._k)

    def predict(self, x: None = None, *, columns: slice = slice(None)) -> FloatArray:
        """Return what it says of the samples it was made with."""
        return self._said[:, columns]

    @property
    def lipschitz(self) -> float:
        """Bound on the change of what it says per unit of the states."""
        return float(self._probe.lipschitz_bound())


def _mlp_layer(
    x: NDArray[Any],
    target: Target,
    fold_of: IntArray,
    folds: int,
    fitted: int,
    groups: IntArray | None,
    seed: int,
    options: dict[str, Any],
) -> LayerProbes:
    from probes.mlp import MLPProbe

    ready = states(x)
    order = np.argsort(fold_of, kind="stable")
    soft = target.kind == "classes" or (target.k > 1 and target.distribution)
    fits = {}
    for p in fold_sets(folds):
        inside = np.flatnonzero(np.isin(fold_of, p))
        if target.codes is not None and len(np.unique(target.codes[inside])) < target.k:
            raise InputError(
                "a class of the target is absent from the folds that a probe is fitted on; merge "
                "or leave out rare classes"
            )
        probe = MLPProbe(**({"seed": seed} | options))
        # One-hot floats keep the columns in the order of the target's classes.
        probe.fit(
            ready[inside], target.z[inside], groups=None if groups is None else groups[inside]
        )
        fits[p] = _MLPFit(probe, ready[order], soft, target.k)
    ends = np.cumsum(np.bincount(fold_of, minlength=folds))
    return LayerProbes(
        layer=Layer(fits, dict.fromkeys(fits, 0.0)),  # type: ignore[arg-type]  # predict is enough
        kind="mlp",
        order=order,
        folds=tuple(slice(int(a), int(b)) for a, b in zip(np.r_[0, ends[:-1]], ends, strict=True)),
        components=None,
        fitted_on=fitted,
        maps=None,
    )
