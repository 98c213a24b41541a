r"""Functional redundancy from pairs of probes that were fitted on different samples.

A fitted probe is the optimal one plus noise, and the mean squared difference of two fitted probes
counts that noise as redundancy lost. In the *product* of two differences, each made of probes
fitted on samples the other has not seen, the noise averages out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from estimators import InputError
from estimators._arrays import FloatArray, IntArray
from probes._ridge import FoldedRidge, RidgeFit

__all__ = ["Layer", "SplitProbe", "fit_layer", "fold_sets", "split_probe"]

Regularisation = float | str
_COLUMNS = 64  # columns of the target held at a time
_REPLICATES = 20


@dataclass(frozen=True, slots=True)
class Layer:
    """Probes of one layer, one per set of folds.

    Parameters
    ----------
    fits : dict of tuple to fitted probe
        A `RidgeFit`, or anything with its `predict` where no influence is asked for.
    penalties : dict of tuple to float
        0 where least squares was used.
    """

    fits: dict[tuple[int, ...], RidgeFit]
    penalties: dict[tuple[int, ...], float]

    @property
    def regularised(self) -> bool:
        """Whether any of the probes was shrunk."""
        return any(p > 0.0 for p in self.penalties.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitProbe:
    """What the split probes of two layers say, row by row.

    Parameters
    ----------
    product : ndarray, shape (n,)
        Products of the two differences (E2), averaged over fold triples; their mean estimates F.
    plug_in : ndarray, shape (n,)
        Squared difference of the probes (E1), biased upwards.
    error_upper, error_lower : ndarray, shape (n,)
        Squared error of each layer's probes on samples they have not seen.
    one_step : ndarray, shape (n,)
        Squared difference of the probes, corrected to first order (E4); NaN without `influence`.
    spread_upper, spread_lower : ndarray, shape (n,)
        Half the squared distance of two probes of the same layer: their variance.
    influence : ndarray, shape (n,)
        What each sample contributes to the mean of `product`, as evaluated and as fitted on.
    noise : float
        Variance of the part of the mean that is quadratic in the probes' errors, which sums over
        `influence` count twice.
    """

    product: FloatArray
    plug_in: FloatArray
    one_step: FloatArray
    error_upper: FloatArray
    error_lower: FloatArray
    spread_upper: FloatArray
    spread_lower: FloatArray
    influence: FloatArray
    noise: float = 0.0

    @property
    def value(self) -> float:
        """The estimate of F, which may be negative."""
        return float(self.product.mean())

    def se(self, codes: IntArray | None) -> float:
        """Standard error over groups."""
        sums = self.influence if codes is None else np.bincount(codes, weights=self.influence)
        g = len(sums)
        variance = g / (g - 1) * float(((sums - sums.mean()) ** 2).sum())
        return math.sqrt(max(variance - self.noise, 0.5 * variance))


def fold_sets(n_folds: int) -> list[tuple[int, ...]]:
    """Sets of folds that probes are fitted on: all of size m, for n_folds = 2m + 1.

    Examples
    --------
    >>> fold_sets(3), len(fold_sets(5))
    ([(0,), (1,), (2,)], 10)
    """
    if n_folds < 3 or n_folds % 2 == 0:
        raise InputError(
            f"the number of folds is {n_folds}; split probes need an odd number, 3 or more: two "
            "sets of equal size to fit on and one fold to compare on"
        )
    return list(combinations(range(n_folds), n_folds // 2))


def fit_layer(ridge: FoldedRidge, regularisation: Regularisation = "auto") -> Layer:
    """Fit the probes of one layer.

    Parameters
    ----------
    ridge : FoldedRidge
        With an odd number of folds.
    regularisation : "auto", "none", "cv" or float
        ``"auto"`` is least squares with 1.25 samples per coordinate and ``"cv"`` below. ``"cv"``
        chooses a penalty for each probe inside its own folds, so that probes stay independent.
    """
    fits, penalties = {}, {}
    for folds in fold_sets(ridge.n_folds):
        if isinstance(regularisation, str):
            if regularisation not in ("auto", "none", "cv"):
                raise InputError(
                    f"regularisation is {regularisation!r}; use 'auto', 'none', 'cv' or a penalty"
                )
            free = regularisation == "none" or (regularisation == "auto" and ridge.ample(folds))
            penalty = 0.0 if free else ridge.choose(folds)
        else:
            if not 0.0 <= regularisation < math.inf:
                raise InputError(
                    f"regularisation is {regularisation!r}; a penalty is a number of at least 0"
                )
            penalty = float(regularisation)
        fits[folds] = ridge.fit(folds, penalty)
        penalties[folds] = penalty
    return Layer(fits, penalties)


def split_probe(
    upper: Layer,
    lower: Layer,
    z: FloatArray,
    fold_of: IntArray,
    n_folds: int,
    *,
    influence: bool = True,
    groups: IntArray | None = None,
    seed: int = 0,
) -> SplitProbe:
    r"""Compare the probes of two layers.

    For every fold c and every way to part the other folds into two sets P, Q of equal size,

    .. math:: u_i = \langle \hat f^P_l - \hat f^P_{l-1},\ \hat f^Q_l - \hat f^Q_{l-1} \rangle(x_i),
              \qquad i \in c,

    averaged over the partitions; both orders of a triple (P, Q, c) give the same.

    Parameters
    ----------
    upper, lower : Layer
        Fitted on the same folds and target.
    z : ndarray, shape (n, k)
    fold_of : ndarray of int64, shape (n,)
    n_folds : int
    influence : bool
        Whether to compute each sample's influence (the infinitesimal jackknife: one more solve
        per probe) and the variance of the quadratic part (wild bootstrap); zeros otherwise.
    groups : ndarray of int64, shape (n,), optional
        Cluster codes, which share a sign in the bootstrap.
    seed : int
        Of those signs.

    Returns
    -------
    SplitProbe
    """
    n = len(z)
    members = [np.flatnonzero(fold_of == f) for f in range(n_folds)]
    names = [name for name in SplitProbe.__dataclass_fields__ if name != "noise"]
    out = {name: np.zeros(n) for name in names}
    count = n if groups is None else int(groups.max()) + 1
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(count, _REPLICATES))
    signs = signs if groups is None else signs[groups]
    null = np.zeros(_REPLICATES)
    gradient: dict[tuple[int, ...], FloatArray] = {}
    for columns in _chunks(z.shape[1]):
        part = z[:, columns]
        of_upper = {p: fit.predict(columns=columns) for p, fit in upper.fits.items()}
        of_lower = {p: fit.predict(columns=columns) for p, fit in lower.fits.items()}
        gap = {p: of_upper[p] - of_lower[p] for p in of_upper}
        for c, rows in enumerate(members):
            others = [f for f in range(n_folds) if f != c]
            pairs = list(_partitions(others))
            share = 1.0 / len(pairs)
            for p, q in pairs:
                out["product"][rows] += share * _dot(gap[p][rows], gap[q][rows])
                for name, of in (("spread_upper", of_upper), ("spread_lower", of_lower)):
                    apart = of[p][rows] - of[q][rows]
                    out[name][rows] += share * 0.5 * _dot(apart, apart)
                for one in (p, q):
                    half = 0.5 * share
                    d = gap[one][rows]
                    out["plug_in"][rows] += half * _dot(d, d)
                    for name, of in (("error_upper", of_upper), ("error_lower", of_lower)):
                        e = part[rows] - of[one][rows]
                        out[name][rows] += half * _dot(e, e)
        if influence:
            for p in gap:
                gradient[p] = np.zeros_like(part)
            for c, rows in enumerate(members):
                pairs = list(_partitions([f for f in range(n_folds) if f != c]))
                for p, q in pairs:
                    gradient[p][rows] = gap[q][rows] / (n * len(pairs))
                    gradient[q][rows] = gap[p][rows] / (n * len(pairs))
            residuals = {}
            for sign, layer, of in ((1.0, upper, of_upper), (-1.0, lower, of_lower)):
                for p, fit in layer.fits.items():
                    outside = np.flatnonzero(~np.isin(fold_of, p))
                    pull = fit.adjoint(outside, gradient[p][outside])
                    # Fitted residuals are too small by the share of samples the fit used up.
                    residual = fit.released((part - of[p])[fit.rows], groups)
                    out["influence"][fit.rows] += sign * _dot(pull, residual)
                    residuals[sign, p] = residual
            for c, rows in enumerate(members):
                pairs = list(_partitions([f for f in range(n_folds) if f != c]))
                for p, q in [*pairs, *((q, p) for p, q in pairs)]:
                    found = _corrections(upper, lower, q, of_upper[p], of_lower[p], part, rows)
                    out["one_step"][rows] += found / (2 * len(pairs))
            null += _null_products(upper, lower, residuals, signs, members)
    if influence:
        out["one_step"] += out["plug_in"]
    else:
        out["one_step"][:] = np.nan
    out["influence"] += (out["product"] - out["product"].mean()) / n
    return SplitProbe(**out, noise=float(np.mean(null**2)))


def _corrections(
    upper: Layer,
    lower: Layer,
    q: tuple[int, ...],
    of_upper: FloatArray,
    of_lower: FloatArray,
    z: FloatArray,
    rows: IntArray,
) -> FloatArray:
    """Terms that take the probes' own errors out of the plug-in, on rows that nothing has seen.

    Each layer's probe is in turn predicted from the other layer, by fits on further folds `q`; what
    it knows beyond that prediction is held against what its layer left unexplained.
    """
    above, below = upper.fits[q], lower.fits[q]
    lower_from_upper = above.smooth(of_lower[above.rows], rows)
    upper_from_lower = below.smooth(of_upper[below.rows], rows)
    return np.asarray(
        2.0 * _dot(of_upper[rows] - lower_from_upper, z[rows] - of_upper[rows])
        + 2.0 * _dot(of_lower[rows] - upper_from_lower, z[rows] - of_lower[rows])
    )


def _null_products(
    upper: Layer,
    lower: Layer,
    residuals: Mapping[tuple[float, tuple[int, ...]], FloatArray],
    signs: FloatArray,
    members: list[IntArray],
) -> FloatArray:
    """Means of products of pure noise: the probes' residuals under random signs, fitted again."""
    n, replicates = signs.shape
    total = np.zeros(replicates)
    k = next(iter(residuals.values())).shape[1]
    step = max(1, 2 * _COLUMNS // k)
    for start in range(0, replicates, step):
        some = signs[:, start : start + step]
        noise = {}
        for p, fit in upper.fits.items():
            outside = np.setdiff1d(np.arange(n), fit.rows, assume_unique=True)
            drawn = [
                one.fits[p].smooth(
                    (residuals[sign, p][:, None, :] * some[fit.rows][:, :, None]).reshape(
                        len(fit.rows), -1
                    ),
                    outside,
                )
                for sign, one in ((1.0, upper), (-1.0, lower))
            ]
            noise[p] = np.zeros((n, some.shape[1] * k))
            noise[p][outside] = drawn[0] - drawn[1]
        for c, rows in enumerate(members):
            pairs = list(_partitions([f for f in range(len(members)) if f != c]))
            for p, q in pairs:
                product = (noise[p][rows] * noise[q][rows]).sum(0).reshape(-1, k).sum(1)
                total[start : start + step] += product / (n * len(pairs))
    return total


def _chunks(k: int) -> Iterator[slice]:
    for start in range(0, k, _COLUMNS):
        yield slice(start, min(k, start + _COLUMNS))


def _partitions(folds: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Ways to part an even number of folds into two halves, each once."""
    first, rest = folds[0], folds[1:]
    for chosen in combinations(rest, len(folds) // 2 - 1):
        p = (first, *chosen)
        yield p, tuple(f for f in folds if f not in p)


def _dot(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("ij,ij->i", a, b), dtype=np.float64)
