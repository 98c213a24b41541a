r"""Primal-dual Newton method for the reduced BROJA program.

Dual: maximise ``<a, lam> + <b, mu> + <lump, theta>`` subject to ``g_k <= 0`` for every pair k,
``g_k = log(e^theta_k + sum_z e^(lam + mu))``. With slacks s and multipliers nu the central path is

    g + s = 0,    a = sum_y nu p,    b = sum_x nu p,    lump = nu p0,    nu s = tau,

p, p0 the softmax inside g; the coupling is q = nu p. A Newton step for it has, pair by pair, the
matrix ``nu [diag p + (1/s - 1) p p^T]``: the lumps are eliminated pair by pair, the cells of the
larger source symbol by symbol, and one dense Cholesky factorisation of the order of the support
of the smaller source remains.

Slacks are variables of their own (not -g): where a constraint is active its curvature is far
larger than its slack, and a method that keeps g < 0 exactly creeps along the boundary.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators import _broja_kernels as kernels
from estimators._broja_linear import CellMatrix, NewtonMatrix, newton_matrix
from estimators._broja_presolve import Program

__all__ = ["Settings", "Solution", "solve"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_FIRST_SLACK = 0.05
# Iterations without a better point after which there is none to come.
_STALLED_AFTER = 25
# As many with hardly any change at all: rounding has the last word, and will keep it.
_FROZEN_AFTER, _FROZEN = 5, 0.01
# A point so much worse than the best met: the next attempt, more patient, comes sooner to the end.
_LOST = 1e4
_BACKTRACKS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How boldly to step.

    A step may raise the merit as long as it stays below the largest of the last `remembered`
    merits: on near-copies this saves half of the iterations, and now and then it fails.
    `by_cells` asks for the more accurate of the two matrices.
    """

    to_boundary: float = 0.995
    least_centring: float = 1e-4
    centring_while_infeasible: float = 0.1
    remembered: int = 6
    by_cells: bool = False
    max_iterations: int = 150


@dataclass(frozen=True, slots=True)
class Solution:
    """Dual variables, coupling q in the order of ``program.ia``, and how it ended."""

    lam: FloatArray
    mu: FloatArray
    theta: FloatArray
    q: FloatArray
    iterations: int
    gap: float


@dataclass(slots=True)
class _Point:
    lam: FloatArray
    mu: FloatArray
    theta: FloatArray
    nu: FloatArray
    s: FloatArray
    p: FloatArray
    p0: FloatArray
    g: FloatArray


@dataclass(slots=True)
class _Step:
    lam: FloatArray
    mu: FloatArray
    theta: FloatArray
    nu: FloatArray
    s: FloatArray


class _Sums:
    """The sums over cells, pairs and symbols that every iteration needs."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.has_lump = program.lump > 0
        n_x, n_y = len(program.a_ptr) - 1, len(program.b_ptr) - 1
        self.x_of_a = np.repeat(np.arange(n_x), np.diff(program.a_ptr))
        self.y_of_b = np.repeat(np.arange(n_y), np.diff(program.b_ptr))
        self.mass_x = np.bincount(self.x_of_a, program.a, n_x) + np.bincount(
            program.pair_x, program.lump, n_x
        )
        self.mass_y = np.bincount(self.y_of_b, program.b, n_y) + np.bincount(
            program.pair_y, program.lump, n_y
        )
        # Pairs are listed x by x.
        self.first_pair = np.flatnonzero(np.diff(program.pair_x, prepend=-1))
        self.mass_first = self.mass_x[program.pair_x[self.first_pair]]

    def shift(self, g: FloatArray) -> float:
        """What it costs (or gains) to shift lam, x by x, until max_y g = 0."""
        return float(self.mass_first @ np.maximum.reduceat(g, self.first_pair))

    def excess(self, g: FloatArray) -> float:
        """What positive g would cost the dual value."""
        worst = np.maximum(np.maximum.reduceat(g, self.first_pair), 0.0)
        return float(self.mass_first @ worst)


def _evaluate(
    program: Program, lam: FloatArray, mu: FloatArray, theta: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    p, p0, g = np.empty(len(program.ia)), np.empty(program.n_pairs), np.empty(program.n_pairs)
    kernels.compiled(kernels.constraints)(
        program.ptr, program.ia, program.ib, program.lump, lam, mu, theta, p, p0, g
    )
    return p, p0, g


def _start(program: Program, sums: _Sums) -> _Point:
    """Begin at lam = log P(z|x) / 2, mu = log P(z|y) / 2.

    Then e^g is the Bhattacharyya coefficient of two posteriors, so g <= 0, with equality exactly
    where x and y say the same of z: the very pairs on which near-copies put their mass.
    """
    lam = 0.5 * np.log(program.a / sums.mass_x[sums.x_of_a])
    mu = 0.5 * np.log(program.b / sums.mass_y[sums.y_of_b])
    of_z = np.bincount(program.a_z, program.a)
    independent = program.a[program.ia] * program.b[program.ib] / of_z[program.a_z[program.ia]]
    nu = np.maximum(program.to_pairs(independent) + program.lump, 0.1 / program.n_pairs)
    share = np.where(sums.has_lump, program.lump / nu, 1.0)
    theta = np.where(sums.has_lump, np.log(share), 0.0)
    p, p0, g = _evaluate(program, lam, mu, theta)
    excess = max(0.0, float(g.max()) + _FIRST_SLACK)
    lam -= excess
    theta = np.where(sums.has_lump, theta - excess, 0.0)
    p, p0, g = _evaluate(program, lam, mu, theta)
    return _Point(lam, mu, theta, nu, -g, p, p0, g)


def _merit(
    program: Program, sums: _Sums, at: _Point
) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """Return distance from a solution in nats, and the residuals of a, b and the lumps.

    A positive g + s is priced as the certificate will price it, by the mass of x; priced by nu it
    would be invisible exactly where nu is tiny and the excess large.
    """
    qa, qb = program.to_cells(at.nu[program.pair] * at.p)
    ra, rb = program.a - qa, program.b - qb
    r0 = np.where(sums.has_lump, program.lump - at.nu * at.p0, 0.0)
    residual = float(np.abs(ra).sum() + np.abs(rb).sum() + np.abs(r0).sum())
    return residual + float(at.nu @ at.s) + sums.excess(at.g + at.s), ra, rb, r0


def _limit(v: FloatArray, dv: FloatArray) -> float:
    """Return the largest step in [0, 1] that keeps v >= 0."""
    falling = dv < 0
    return min(1.0, float(np.min(-v[falling] / dv[falling]))) if falling.any() else 1.0


class _Iteration:
    """The Newton system at one point, solved for several right-hand sides."""

    def __init__(self, program: Program, sums: _Sums, matrix: NewtonMatrix, at: _Point) -> None:
        self.program, self.sums, self.matrix, self.at = program, sums, matrix, at
        self.merit, self.ra, self.rb, self.r0 = _merit(program, sums, at)
        self.residual = float(np.abs(self.ra).sum() + np.abs(self.rb).sum() + np.abs(self.r0).sum())
        self.complementarity = float(at.nu @ at.s)
        self.gap = float(-(at.nu @ at.g)) + sums.shift(at.g)
        self.k = 1.0 / at.s - 1.0
        self.lumped = 1.0 + self.k * at.p0

    @property
    def score(self) -> float:
        """About what the certificate would find here: the gap, and the price of rounding."""
        return abs(self.gap) + self.complementarity + 10.0 * self.residual

    def factor(self) -> bool:
        """Build and factor the matrix; False where it is numerically singular."""
        at = self.at
        return self.matrix.factor(at.p, at.nu, at.nu * self.k / self.lumped)

    def direction(self, target: FloatArray | float, rg: FloatArray) -> _Step:
        """Solve for the step to ``nu s = target`` and ``g + s`` lower by rg."""
        g, sums, at = self.program, self.sums, self.at
        ratio = at.nu / at.s
        w = target / at.s - at.nu + ratio * rg
        rho = np.where(sums.has_lump, self.r0 - at.p0 * w, 0.0)
        xa, xb = g.to_cells(at.p * (w + self.k * rho / self.lumped)[g.pair])
        da, db = self.matrix.solve(self.ra - xa, self.rb - xb)
        moved = g.to_pairs(at.p * (da[g.ia] + db[g.ib]))
        dtheta = np.zeros_like(at.theta)
        np.divide(rho, at.nu * at.p0, out=dtheta, where=sums.has_lump)
        dtheta = np.where(sums.has_lump, (dtheta - self.k * moved) / self.lumped, 0.0)
        ds = -rg - moved - at.p0 * dtheta
        return _Step(da, db, dtheta, target / at.s - at.nu - ratio * ds, ds)

    def curvature(self, step: _Step) -> FloatArray:
        """Half the second derivative of g along the step: a softmax variance."""
        g, at = self.program, self.at
        u = step.lam[g.ia] + step.mu[g.ib]
        first = g.to_pairs(at.p * u) + at.p0 * step.theta
        second = g.to_pairs(at.p * u * u) + at.p0 * step.theta**2
        return 0.5 * np.maximum(second - first**2, 0.0)

    def predict_and_correct(self, settings: Settings, least_tau: float) -> _Step:
        """Mehrotra's predictor and corrector, the corrector also for the curvature of g."""
        at = self.at
        rg = at.g + at.s
        tau = self.complementarity / len(at.s)
        predicted = self.direction(0.0, rg)
        length = min(_limit(at.s, predicted.s), _limit(at.nu, predicted.nu))
        ahead = float((at.nu + length * predicted.nu) @ (at.s + length * predicted.s)) / len(at.s)
        centring = max(min(1.0, max(ahead / tau, 0.0)) ** 3, settings.least_centring)
        if self.residual > self.complementarity:
            # A residual that is left behind while tau shrinks cannot be removed any more: the
            # matrix has become too ill-conditioned by then.
            centring = max(centring, settings.centring_while_infeasible)
        goal = max(centring * tau, least_tau)
        cross = np.clip(length * predicted.s * predicted.nu, -5.0 * tau, 5.0 * tau)
        bend = length**2 * np.minimum(self.curvature(predicted), at.s)
        return self.direction(goal - cross, rg + bend)

    def advance(self, step: _Step, length: float, multiplicative: bool) -> _Point:
        """Move along the step; see `_multiplied` for the second way of moving the weights."""
        g, sums, at = self.program, self.sums, self.at
        lam, mu, theta = length * step.lam, length * step.mu, length * step.theta
        if multiplicative:
            q = at.nu[g.pair] * at.p
            qa, qb = g.to_cells(q)
            q2a, q2b = g.to_cells(q * at.p)
            lam, mu = _multiplied(lam, q2a / qa), _multiplied(mu, q2b / qb)
            theta = _multiplied(theta, np.where(sums.has_lump, at.p0, 1.0))
        lam, mu, theta = at.lam + lam, at.mu + mu, at.theta + theta
        p, p0, value = _evaluate(g, lam, mu, theta)
        return _Point(
            lam, mu, theta, at.nu + length * step.nu, at.s + length * step.s, p, p0, value
        )


def _multiplied(d: FloatArray, share: FloatArray) -> FloatArray:
    """Return the move of a log-weight that changes its term as the linear model says.

    A term with a small share of its constraint is linear in the weight e^u, not in u: where the
    linear model asks for d = 1e5 (a cell whose mass is far too small) the right move is log(1e5).
    """
    share = np.maximum(share, 1e-200)
    with np.errstate(over="ignore"):
        relative = np.expm1(np.minimum(share * d, 50.0)) / share
    return np.log1p(np.clip(relative, -0.95, 1e300))


def _search(now: _Iteration, step: _Step, settings: Settings, merit_before: float) -> _Point:
    """Shorten the step until the merit falls and no pair runs ahead of the others."""
    length = settings.to_boundary * min(_limit(now.at.s, step.s), _limit(now.at.nu, step.nu))
    if length >= settings.to_boundary:
        length = min(1.0, length / settings.to_boundary)
    for _ in range(_BACKTRACKS):
        for multiplicative in (False, True):
            there = now.advance(step, length, multiplicative)
            merit = _merit(now.program, now.sums, there)[0]
            products = there.nu * there.s
            if merit <= (1.0 - 1e-3 * length) * merit_before and (
                products.min() > 1e-5 * products.mean()
            ):
                return there
        length *= 0.7
    return there


def solve(program: Program, aim: float, settings: Settings | None = None) -> Solution:
    """Iterate until the gap is below `aim` (nats), or no longer falls.

    What it returns is the best point met, never a promise: the certificate decides.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # A point that is no longer finite ends the iteration; the best one before it is returned.
        return _solve(program, aim, settings or Settings())


def _solve(program: Program, aim: float, settings: Settings) -> Solution:
    sums = _Sums(program)
    matrix = CellMatrix(program) if settings.by_cells else newton_matrix(program)
    merits: deque[float] = deque(maxlen=settings.remembered)
    at = _start(program, sums)
    best, best_score, best_at = at, np.inf, 0
    last, frozen = 0.0, 0
    least_tau = 0.1 * aim / program.n_pairs
    iteration = 0
    for iteration in range(settings.max_iterations + 1):
        now = _Iteration(program, sums, matrix, at)
        score = now.score
        if not np.isfinite(score):
            break
        if score < 0.9 * best_score:
            best_at = iteration
        if score < best_score:
            best, best_score = at, score
        frozen = frozen + 1 if abs(score - last) <= _FROZEN * last else 0
        last = score
        lost = iteration - best_at > _STALLED_AFTER or score > _LOST * best_score
        lost = lost or frozen >= _FROZEN_AFTER
        if score < aim or lost or not now.factor():
            break
        merits.append(now.merit)
        step = now.predict_and_correct(settings, least_tau)
        at = _search(now, step, settings, max(merits))
    return Solution(
        best.lam, best.mu, best.theta, best.nu[program.pair] * best.p, iteration, best_score
    )
