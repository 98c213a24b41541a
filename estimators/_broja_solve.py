"""From two marginals to a certified bound: presolve, Newton, certificate, and what to try next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators._broja_certificate import certificate
from estimators._broja_newton import Settings, solve
from estimators._broja_presolve import lift, presolve
from estimators._errors import InputError

__all__ = ["Solved", "refuse_coupling", "solve_marginals"]

FloatArray = NDArray[np.float64]

# A matrix and a coupling beyond this are refused with the size they need.
MEMORY_LIMIT = 8 * 2**30

# Tried in turn until the certificate closes: bold first, then patient.
_ATTEMPTS = (
    Settings(),
    # Wide targets with near-copies: slack must not vanish before the residual does.
    Settings(least_centring=0.03, centring_while_infeasible=0.5),
    Settings(remembered=1, by_cells=True),
    Settings(
        to_boundary=0.9,
        least_centring=0.1,
        centring_while_infeasible=0.5,
        remembered=1,
        by_cells=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Solved:
    """Bounds on f*, the dual and the coupling that prove them, and the work it took."""

    lower: float
    upper: float
    lam: FloatArray
    mu: FloatArray
    coupling: FloatArray
    iterations: int
    attempts: int
    cells: tuple[int, int]
    pairs: int

    @property
    def gap(self) -> float:
        """Width of the bound; rounding errors may make it negative by some 1e-16."""
        return max(self.upper - self.lower, 0.0)


def _refuse(what: str, n_bytes: float, advice: str) -> None:
    if n_bytes > MEMORY_LIMIT:
        raise InputError(
            f"{what} would need {n_bytes / 2**30:.1f} GiB, above the limit of "
            f"{MEMORY_LIMIT / 2**30:.0f} GiB; {advice}"
        )


def refuse_coupling(n_z: int, n_x: int, n_y: int) -> None:
    """Raise where a coupling of these alphabets does not fit in memory."""
    _refuse(
        f"a coupling of {n_z} x {n_x} x {n_y} cells (with its working copies)",
        4 * 8.0 * n_z * n_x * n_y,
        "use fewer states per source",
    )


def solve_marginals(p_zx: FloatArray, p_zy: FloatArray, *, aim: float, enough: float) -> Solved:
    """Minimise -H_Q(Z|XY) over couplings of P(z,x) and P(z,y).

    Each attempt iterates to a gap of `aim`; further attempts follow while the certified gap is
    above `enough`. The best is returned, whatever it is.
    """
    n_z, n_x, n_y = len(p_zx), p_zx.shape[1], p_zy.shape[1]
    refuse_coupling(n_z, n_x, n_y)
    program, how = presolve(p_zx, p_zy)
    swapped = len(program.a) > len(program.b)
    if swapped:
        # The cells of the first source make the dense matrix: let it be the smaller one.
        program, how = presolve(p_zy, p_zx)
    cells = (len(program.a), len(program.b))
    _refuse(
        f"the Newton matrix of {cells[0]} by {sum(cells)} cells",
        8.0 * cells[0] * (2 * cells[0] + cells[1]),
        "use fewer states, or fewer target values",
    )
    nothing = np.zeros((n_z, n_x, n_y))
    best = Solved(-np.inf, np.inf, p_zx * 0.0, p_zy * 0.0, nothing, 0, 0, cells, program.n_pairs)
    iterations = 0
    for attempt, settings in enumerate(_ATTEMPTS, start=1):
        if program.n_pairs:
            found = solve(program, aim, settings)
            iterations += found.iterations
            lam, mu, coupling = lift(program, how, found.lam, found.mu, found.theta, found.q)
        else:
            lam, mu, coupling = lift(program, how, *4 * (np.zeros(0),))
        if swapped:
            lam, mu, coupling = mu, lam, np.swapaxes(coupling, 1, 2)
        lower, upper = certificate(coupling, lam, mu, p_zx, p_zy)
        solved = Solved(
            lower, upper, lam, mu, coupling, iterations, attempt, cells, program.n_pairs
        )
        if solved.gap < best.gap:
            best = solved
        if best.gap <= enough or not program.n_pairs:
            return best
    return best
