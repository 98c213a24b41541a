"""The candidates of the recommended route: each turns two reduced sides into local information.

A candidate returns one number per sample whose mean is its estimate, so that the spread of the
*difference* of two candidates is known from the same samples; an empty array means that it does
not apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import digamma

from estimators._cca import held_out_variates, linear_information
from estimators._copulas import gaussian_copula, t_copula
from estimators._linear import normal_scores, whitened, wishart_bias
from estimators._neighbours import nearest, search
from estimators._psi import psi
from estimators._sides import Side

__all__ = [
    "CANDIDATES",
    "FEW_DIRECTIONS",
    "NEIGHBOUR_BRANCHES",
    "Candidate",
    "below_screen",
    "ksg_local",
]

Float = npt.NDArray[np.float64]
Fold = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]
K = 3
_SCREENED = 40
NONE: Float = np.empty(0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to estimate: its name, whether it is a base or an alternative, and its function."""

    name: str
    base: bool
    local: Callable[[Side, Side, Fold, int], Float]
    # How many standard errors above the base an alternative must be.
    margin: float = 2.0


def ksg_local(x: Float, y: Float, k: int = K) -> Float:
    """Local terms of KSG 1 with Euclidean norms within each side."""
    found = search([x, y], k, counts=[(0,), (1,)], metric="euclidean")
    near_x, near_y = found.counts
    shared = digamma(k) + digamma(len(x))
    return np.asarray(shared - psi(near_x + 1) - psi(near_y + 1))


def _entropy_local(x: Float, k: int = K) -> Float:
    """Local terms of the Kozachenko-Leonenko entropy, without what equal shapes share."""
    distances, _ = nearest(np.ascontiguousarray(x), k)
    return np.asarray(x.shape[1] * np.log(np.maximum(distances[:, -1], 1e-300)))


def gaussian(x: Side, y: Side, fold: Fold, seed: int) -> Float:
    """Gaussian copula of the coordinates; overcounts on manifolds, so not for those."""
    if x.manifold or y.manifold or _spread_thin(x, y) or x.rank + y.rank > len(fold) / 4:
        return NONE
    return gaussian_copula(x.normal(), y.normal())


def _spread_thin(x: Side, y: Side) -> bool:
    """Few dimensions carry nearly everything; a copula of all would add the noise of the rest."""
    return (x.thin or y.thin) and x.rank + y.rank > 40


def student(x: Side, y: Side, fold: Fold, seed: int) -> Float:
    """Student copulas of the joint and of both sides."""
    if x.manifold or y.manifold or x.rank + y.rank > 40:
        return NONE
    return t_copula(x.coordinates, y.coordinates)


def canonical(x: Side, y: Side, fold: Fold, seed: int) -> Float:
    """Held-out ridge CCA, with no more pairs than a manifold has dimensions."""
    wide = x.rank + y.rank > len(fold) / 4
    if not (wide or x.manifold or y.manifold or _spread_thin(x, y)):
        return NONE
    return linear_information(x.scores, y.scores, fold, min(x.pairs, y.pairs), seed=seed)[0]


def screened(x: Side, y: Side, fold: Fold, seed: int) -> Float:
    """Gaussian copula of the few coordinates that correlate across, chosen on other samples.

    Finds sparse dependence among thousands of coordinates, where CCA drowns. Not for sides near few
    dimensions, whose ranks overcount. Normal scores of n ranks weaken a correlation by about 1 / n;
    scores by ranks among all samples and among a fold's half of them lie on that line, which is
    followed to its end: 0.03 of 2.49 nats at n = 600.
    """
    if x.thin or y.thin or x.rank + y.rank <= len(fold) / 4:
        return NONE
    a, b = normal_scores(x.standard), normal_scores(y.standard)
    local = np.zeros(len(fold))
    for inside in (fold, ~fold):
        rows, columns = _kept_by_screen(a[~inside], b[~inside])
        if len(rows) == 0:
            continue
        u, v = a[inside][:, rows], b[inside][:, columns]
        among_all = gaussian_copula(u, v)
        among_half = gaussian_copula(normal_scores(u), normal_scores(v))
        if len(among_all) == 0 or len(among_half) == 0:
            return NONE
        local[inside] = 2.0 * among_all - among_half
    return local


def _kept_by_screen(a: Float, b: Float) -> tuple[Int, Int]:
    """Coordinates of either side whose correlation across is beyond chance."""
    n = len(a)
    cross = np.abs(a.T @ b) / n
    # The largest of so many chance correlations stays below this.
    limit = math.sqrt(2.2 * math.log(cross.size) / n)
    i, j = np.nonzero(cross > limit)
    strongest = np.argsort(-cross[i, j], kind="stable")
    return _leading(i[strongest], _SCREENED), _leading(j[strongest], _SCREENED)


def below_screen(x: Side, y: Side, fold: Fold) -> float:
    """Upper 97.5% limit, in nats, of what correlations that the screen left out could add.

    Weak correlations add half their squares each. The squares left out, less what chance makes of
    them, are summed on samples that had no part in the screen; the spread of the sum under chance
    takes account of correlations within the sides. Dependence without correlation is not in it.
    """
    a, b = normal_scores(x.standard), normal_scores(y.standard)
    found: list[float] = []
    variance = 0.0
    for inside in (fold, ~fold):
        rows, columns = _kept_by_screen(a[~inside], b[~inside])
        u, v = _unit_columns(a[inside]), _unit_columns(b[inside])
        n, squares = len(u), np.square(u.T @ v)
        kept = np.ix_(rows, columns)
        count = squares.size - len(rows) * len(columns)
        found.append(0.5 * float(squares.sum() - squares[kept].sum() - count / (n - 1)))
        variance += 0.5 * _spread(u) * _spread(v) / n**2
    return max(0.5 * (found[0] + found[1]), 0.0) + 1.96 * math.sqrt(variance) / 2


def _unit_columns(a: Float) -> Float:
    moved = a - a.mean(axis=0)
    return np.asarray(moved / np.maximum(np.sqrt((moved * moved).sum(axis=0)), 1e-300))


def _spread(u: Float) -> float:
    """Sum of squared correlations within a side, its own bias taken off; d if there are none."""
    n, d = int(u.shape[0]), int(u.shape[1])
    gram = u.T @ u if d <= n else u @ u.T
    squares: float = np.square(gram).sum().item()
    return max(squares - d * (d - 1) / (n - 1), float(d))


def _leading(indices: Int, most: int) -> Int:
    """The first `most` distinct values, in order of appearance."""
    _, first = np.unique(indices, return_index=True)
    return np.asarray(indices[np.sort(first)[:most]])


def _geometry(side: Side) -> Float:
    """What neighbours are sought in: normal scores, or, near few dimensions, their own metric."""
    if side.thin:
        return np.asarray(side.scores / side.scores.std())
    return side.normal()


def neighbours(x: Side, y: Side, fold: Fold, seed: int) -> Float:
    """Copula-KSG, extrapolated along the n-scaling curve beyond 1 x 1."""
    dimension = x.filled + y.filled
    if dimension > 12:
        return NONE
    a, b = _geometry(x), _geometry(y)
    if x.manifold or y.manifold:
        # Curvature makes up for part of the loss, so a manifold is carried a step less far.
        dimension = 0.0 if dimension <= 4.5 else 4.0
    return _extrapolated(lambda rows: ksg_local(a[rows], b[rows]), fold, dimension)


def _extrapolated(local: Callable[[Any], Float], fold: Fold, dimension: float) -> Float:
    """Carry a k-NN estimate a step further along its n-scaling curve.

    Between n / 2 and n it gained something; a bias that falls like 1 / n hides as much again, and
    in more dimensions, where it falls more slowly, at least twice as much.
    """
    whole = local(slice(None))
    steps = 0.0 if dimension <= 2.5 else 1.0 if dimension <= 4.5 else 2.0
    if steps == 0.0 or len(whole) == 0:
        return whole
    half = np.empty(len(whole))
    for inside in (fold, ~fold):
        part = local(inside)
        if len(part) == 0:
            return whole
        half[inside] = part
    return np.asarray(whole + steps * (whole - half))


def residual(x: Side, y: Side, fold: Fold, seed: int) -> Float:
    """Gaussian part, shape of the residual, and what the residual still knows: exact for
    additive noise of any law, and the entropies' errors cancel between equal dimensions."""
    if x.manifold or y.manifold or not 2 <= x.rank + y.rank <= 12:
        return NONE
    # The direction whose residual depends less on its cause leaves less to the last term.
    forward = _residual_one_way(x, y)[1] <= _residual_one_way(y, x)[1]
    cause, effect = (x, y) if forward else (y, x)

    def local(rows: Any) -> Float:
        if isinstance(rows, slice):
            return _residual_one_way(cause, effect)[0]
        inside = np.flatnonzero(rows)
        return _residual_one_way(cause.take(inside), effect.take(inside))[0]

    return _extrapolated(local, fold, x.rank + y.rank)


def _residual_one_way(x: Side, y: Side) -> tuple[Float, float]:
    u, v = (whitened(s.coordinates) for s in (x, y))
    n = len(u)
    u, v = u * math.sqrt(n), v * math.sqrt(n)
    raw = v - u @ (u.T @ v / n)
    covariance = raw.T @ raw / n
    sign, log_det = np.linalg.slogdet(covariance)
    if sign <= 0 or log_det < -30 * v.shape[1]:
        return NONE, math.inf
    r = np.linalg.solve(np.linalg.cholesky(covariance), raw.T).T
    left = ksg_local(u, np.ascontiguousarray(r))
    shape = _entropy_local(v) - _entropy_local(r)
    gauss = -0.5 * log_det - wishart_bias(u.shape[1], v.shape[1], n)
    return np.asarray(gauss + shape + left), float(left.mean())


def kernel(x: Side, y: Side, fold: Fold, seed: int) -> Float:
    """KSG on a few held-out variates of kernel CCA: misses what the features miss, never invents.

    The number of variates is the one with the largest mean, from 1 to 3.
    """
    rng = np.random.default_rng([seed, 77])
    a, b = _features(x, rng), _features(y, rng)
    locals_ = [np.empty(len(fold)) for _ in range(3)]
    for inside in (fold, ~fold):
        found = held_out_variates(a, b, inside, 3, seed=seed)
        for m in range(3):
            kept = min(m + 1, found.u.shape[1])
            u, v = (normal_scores(w[:, :kept]) for w in (found.u, found.v))
            halves = rng.permutation(len(u)) < len(u) // 2

            def local(rows: Any, u: Float = u, v: Float = v) -> Float:
                return ksg_local(u[rows], v[rows])

            locals_[m][inside] = _extrapolated(local, halves, min(2.0 * kept, 4.0))
    return max(locals_, key=lambda part: float(part.mean()))


def _features(side: Side, rng: np.random.Generator) -> Float:
    """Linear, quadratic, cubic, Fourier and radial features of the leading coordinates."""
    linear = side.scores[:, :100] / side.scores[:, 0].std()
    z = side.normal()[:, :8] if not side.manifold else side.scores[:, :8] / side.scores[:, :8].std()
    d = z.shape[1]
    i, j = np.triu_indices(d)
    parts = [linear, z[:, i] * z[:, j], z**3]
    low = side.scores[:, :20] / side.scores[:, :20].std(axis=0).max()
    sample = low[rng.choice(len(low), min(400, len(low)), replace=False)]
    gaps = ((sample[:, None] - sample[None]) ** 2).sum(-1)
    width = math.sqrt(float(np.median(gaps[gaps > 0]))) if (gaps > 0).any() else 1.0
    for scale in (0.5, 1.0, 2.0):
        w = rng.standard_normal((low.shape[1], 30)) * scale * 1.5 / width
        phase = rng.uniform(0, 2 * math.pi, 30)
        parts.append(np.cos(low @ w + phase))
    radius = np.sqrt((low * low).sum(axis=1, keepdims=True))
    parts.extend([radius, np.log(radius + 1e-3)])
    full = np.concatenate(parts, axis=1)
    spread = full.std(axis=0)
    keep = spread > 1e-9
    return np.asarray((full[:, keep] - full[:, keep].mean(axis=0)) / spread[keep])


FEW_DIRECTIONS = frozenset({"held-out CCA", "screened copula"})
NEIGHBOUR_BRANCHES = frozenset({"copula KSG", "residual form", "kernel CCA and KSG"})

CANDIDATES: tuple[Candidate, ...] = (
    Candidate("Gaussian copula", True, gaussian),
    Candidate("Student copula", True, student),
    Candidate("held-out CCA", True, canonical),
    Candidate("screened copula", True, screened),
    Candidate("copula KSG", False, neighbours),
    Candidate("residual form", False, residual),
    Candidate("kernel CCA and KSG", False, kernel, margin=3.0),
)
