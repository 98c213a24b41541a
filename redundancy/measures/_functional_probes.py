"""The probes behind functional redundancy: fitted on both layers of a pair, on the same folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import FloatArray, IntArray
from probes._ridge import AMPLE, FoldedRidge, leading, standardised
from probes._split import grouped_folds
from probes._split_probe import Layer, SplitProbe, fit_layer, split_probe
from probes._target import Target

__all__ = ["Probed", "probe_pair"]


@dataclass(frozen=True, slots=True)
class Probed:
    """Rows of the comparison, and what the probes were."""

    rows: SplitProbe
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


def probe_pair(
    x_lower: NDArray[Any],
    x_upper: NDArray[Any],
    target: Target,
    codes: IntArray | None,
    folds: int,
    seed: int,
    regularisation: float | str,
    ci: float | None,
) -> Probed:
    """Fit split probes to both layers and compare them."""
    fold_of = grouped_folds(len(target.z), folds, groups=codes, labels=target.codes, seed=seed)
    layers: list[Layer] = []
    maps: list[tuple[FloatArray | None, FloatArray]] = []
    counts = np.sort(np.bincount(fold_of))
    fitted = int(counts[: folds // 2].sum())
    components = None
    for x in (x_upper, x_lower):
        ready, _, scale = standardised(x)
        basis: FloatArray | None = None
        if regularisation == "auto" and fitted < AMPLE * ready.shape[1] + 10:
            components = max(1, fitted // 3)
            ready, basis = leading(ready, min(components, ready.shape[1]), seed=seed)
        layers.append(fit_layer(FoldedRidge(ready, target.z, fold_of, folds), regularisation))
        maps.append((basis, scale))
    upper, lower = layers
    rows = split_probe(
        upper,
        lower,
        target.z,
        fold_of,
        folds,
        influence=ci is not None,
        groups=codes,
        seed=seed,
    )
    transfer = bound = None
    if x_lower.shape == x_upper.shape:
        transfer, bound = _transfer(x_lower, x_upper, upper, maps[0], fold_of)
    present = target.codes is None or all(
        len(np.unique(fold_of[target.codes == c])) == folds for c in range(target.k)
    )
    return Probed(
        rows=rows,
        penalties={
            "upper": sorted(set(upper.penalties.values())),
            "lower": sorted(set(lower.penalties.values())),
        },
        per_fit=fitted,
        components=components,
        dim=max(x_lower.shape[1], x_upper.shape[1]),
        transfer=transfer,
        transfer_bound=bound,
        kept_class=present,
    )


def _transfer(
    x_lower: NDArray[Any],
    x_upper: NDArray[Any],
    upper: Layer,
    to_fit: tuple[FloatArray | None, FloatArray],
    fold_of: IntArray,
) -> tuple[FloatArray, float]:
    """Squared change of the upper layer's probes when the lower layer's states are put in."""
    n = len(x_lower)
    total, seen, square = np.zeros(n), np.zeros(n), 0.0
    basis, scale = to_fit
    maps = {
        p: (fit.coef if basis is None else basis @ fit.coef) / scale[:, None]
        for p, fit in upper.fits.items()
    }
    step = max(1, 2**22 // x_lower.shape[1])
    for i in range(0, n, step):
        part = slice(i, min(n, i + step))
        gap = np.asarray(x_upper[part], dtype=np.float64) - np.asarray(
            x_lower[part], dtype=np.float64
        )
        square += float(np.einsum("ij,ij->", gap, gap))
        for p, w in maps.items():
            outside = ~np.isin(fold_of[part], p)
            change = gap @ w
            total[part] += outside * np.einsum("ij,ij->i", change, change)
            seen[part] += outside
    lipschitz = float(np.mean([np.linalg.norm(w, 2) ** 2 for w in maps.values()]))
    return total / seen, lipschitz * square / n
