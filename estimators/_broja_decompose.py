"""From checked probabilities to a PID: the program's value, the four atoms, what they are worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from estimators._broja_solve import solve_marginals
from estimators._pid_result import NATS_PER_BIT, PID
from estimators._types import Diagnostic

__all__ = ["DEFAULT_TOLERANCE", "conditional_entropy", "decompose"]

FloatArray = NDArray[np.float64]

# One millionth of a bit.
DEFAULT_TOLERANCE = 1e-6 * NATS_PER_BIT
# The solver aims this much lower, so that rounding does not eat the tolerance.
_AIM = 1e-3
_ENOUGH = 0.05


def conditional_entropy(p: FloatArray) -> float:
    """H(first axis | the other axes) in nats."""
    return -float(rel_entr(p, np.broadcast_to(p.sum(axis=0), p.shape)).sum())


def decompose(p_zx: FloatArray, p_zy: FloatArray, joint: FloatArray | None, *, tol: float) -> PID:
    """Decompose checked probabilities, `joint` None where only the marginals are known."""
    solved = solve_marginals(p_zx, p_zy, aim=_AIM * tol, enough=_ENOUGH * tol)
    h_zx, h_zy = conditional_entropy(p_zx), conditional_entropy(p_zy)
    of_z = p_zx.sum(axis=1)
    h_z = -float(rel_entr(of_z, np.full_like(of_z, of_z.sum())).sum())
    info_x, info_y = h_z - h_zx, h_z - h_zy
    # Atoms are never negative, and the true joint is one of the couplings.
    low = max(solved.lower, -h_zx, -h_zy)
    high = min(solved.upper, info_x + info_y - h_z)
    info_xy = None
    if joint is not None:
        h_zxy = conditional_entropy(joint)
        info_xy = h_z - h_zxy
        high = min(high, -h_zxy)
    low, high = min(low, high), max(low, high)
    f = 0.5 * (low + high)
    unique_x, unique_y = h_zy + f, h_zx + f
    redundant = info_x - unique_x
    diagnostics: tuple[Diagnostic, ...] = ()
    if not solved.gap <= tol:
        diagnostics = (
            Diagnostic(
                code="uncertified",
                severity="error",
                message=f"the bounds on the decomposition are {solved.gap:.1e} nats apart, more "
                f"than the tolerance {tol:.1e}: use interval(atom), which is honest, or pass a "
                "larger tol",
            ),
        )
    return PID(
        redundant=redundant,
        unique_x=unique_x,
        unique_y=unique_y,
        synergistic=None if info_xy is None else info_xy - redundant - unique_x - unique_y,
        unit="nats",
        bounds=(low, high),
        gap=solved.gap,
        tolerance=tol,
        information_x=info_x,
        information_y=info_y,
        information_xy=info_xy,
        dual=(solved.lam, solved.mu),
        coupling=solved.coupling,
        params={
            "iterations": solved.iterations,
            "attempts": solved.attempts,
            "cells": solved.cells,
            "pairs": solved.pairs,
        },
        diagnostics=diagnostics,
    )
