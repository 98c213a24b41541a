"""The Newton system of the BROJA program, factored in one of two orders.

The matrix is ``H = sum over pairs of nu diag(p) + c p p^T`` in the unknowns (lam, mu), one per
cell of P(z,x) and of P(z,y).

`CellMatrix` eliminates the cells of Y, symbol by symbol, and factors the Schur complement in the
cells of X: order ``|supp P(z,x)|``. `PairMatrix` takes the slices ``nu diag(p)``, one z at a time,
as the part that is easily inverted and the pairs' rank-one terms as the correction: order
``|X||Y|``, whatever |Z| is. `newton_matrix` takes the cheaper of the two.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from estimators import _broja_kernels as kernels
from estimators._broja_presolve import Program
from estimators._lapack import cholesky, cholesky_solve, subtract_gram

__all__ = ["CellMatrix", "NewtonMatrix", "PairMatrix", "newton_matrix"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Relative to the diagonal; tried in turn until the factorisation succeeds.
_JITTER = (1e-15, 1e-12, 1e-9)
# What the pair matrix may leave of a right-hand side, and how often it may try.
_REFINED = 1e-10
_REFINEMENTS = 12
# One entry of the pair matrix costs about as much as this many operations in BLAS.
_ENTRY_COST = 40.0


class NewtonMatrix(Protocol):
    """What the iteration needs of a matrix."""

    def factor(self, p: FloatArray, nu: FloatArray, c: FloatArray) -> bool:
        """Factor the matrix of the pairs' ``nu diag(p) + c p p^T``; False where it failed."""

    def solve(self, ra: FloatArray, rb: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Solve for (da, db), up to the freedom lam_z + v, mu_z - v."""


class CellMatrix:
    """Eliminates the cells of Y, factors a Schur complement in the cells of X."""

    def __init__(self, program: Program) -> None:
        self.program = program
        n_a, n_b = len(program.a), len(program.b)
        width = int(np.max(np.diff(program.b_ptr), initial=1))
        self.haa = np.zeros((n_a, n_a), order="F")
        self.hba = np.zeros((n_b, n_a))
        self.hbb = np.zeros((n_b, width))

    def factor(self, p: FloatArray, nu: FloatArray, c: FloatArray) -> bool:
        """See `NewtonMatrix`."""
        return any(self._factor(p, nu, c, jitter) for jitter in _JITTER)

    def _factor(self, p: FloatArray, nu: FloatArray, c: FloatArray, jitter: float) -> bool:
        g = self.program
        failed = kernels.compiled(kernels.assemble)(
            g.ptr, g.ia, g.ib, g.pair_x, g.pair_y, g.a_ptr, g.b_ptr,
            p, nu, c, self.haa, self.hbb, self.hba,
        )  # fmt: skip
        if failed:
            return False
        s = self.haa
        d = s.diagonal().copy()
        subtract_gram(self.hba.T, s)
        # lam_z + v, mu_z - v changes nothing: the gauge fixes that freedom.
        kernels.compiled(kernels.add_gauge)(g.a_z, d, jitter, s)
        return cholesky(s)

    def solve(self, ra: FloatArray, rb: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `NewtonMatrix`."""
        g = self.program
        yb = rb.copy()
        kernels.compiled(kernels.forward_substitute)(g.b_ptr, self.hbb, yb)
        da = cholesky_solve(self.haa, ra - self.hba.T @ yb)
        db = yb - self.hba @ da
        kernels.compiled(kernels.back_substitute)(g.b_ptr, self.hbb, db)
        return da, db


class PairMatrix:
    """Inverts the slices of z, corrects by the pairs' rank-one terms, refines the result.

    A slice is the Laplacian of a bipartite graph, up to signs; its factors are formed without
    subtraction. Where a pair's c is negative (slack above 1) the matrix is built with 0 in its
    place: conjugate gradients on the true matrix remove the difference, and rounding errors too.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        g = program
        self.n_a, self.n_b = len(g.a), len(g.b)
        z = g.a_z[g.ia]
        # Within a slice the triples run over x, then y: a full m by n block.
        self.triples = np.argsort(z, kind="stable")
        targets = np.unique(z)
        self.t_ptr = np.searchsorted(z[self.triples], [*targets, targets[-1] + 1])
        self.a_cells = np.argsort(g.a_z, kind="stable")
        self.b_cells = np.argsort(g.b_z, kind="stable")
        self.a_start = np.searchsorted(g.a_z[self.a_cells], [*targets, targets[-1] + 1])
        self.b_start = np.searchsorted(g.b_z[self.b_cells], [*targets, targets[-1] + 1])
        m, n = np.diff(self.a_start), np.diff(self.b_start)
        self.k_ptr = np.concatenate([[0], np.cumsum(m * m)])
        self.k = np.empty(self.k_ptr[-1])
        self.q = np.empty(len(z))
        self.of_y = np.empty(self.n_b)
        self.gram = np.zeros((g.n_pairs, g.n_pairs))
        self.m_max, self.n_max = int(m.max()), int(n.max())

    def factor(self, p: FloatArray, nu: FloatArray, c: FloatArray) -> bool:
        """See `NewtonMatrix`."""
        g = self.program
        self.p, self.nu, self.c = p, nu, c
        self.root = np.sqrt(np.maximum(c, 0.0))
        self.gram[:] = 0.0
        kernels.compiled(kernels.pair_gram)(
            self.t_ptr, self.a_start, self.b_start, self.k_ptr, self.m_max, self.n_max,
            g.pair[self.triples], (nu[g.pair] * p)[self.triples],
            (self.root[g.pair] * p)[self.triples],
            self.k, self.q, self.of_y, self.gram,
        )  # fmt: skip
        self.gram[np.diag_indices(len(self.gram))] += 1.0
        if not np.isfinite(self.gram.diagonal()).all():
            return False
        # Row-major lower is column-major upper.
        return cholesky(self.gram.T, lower=False)

    def _slices(self, ra: FloatArray, rb: FloatArray) -> tuple[FloatArray, FloatArray]:
        da, db = np.empty(self.n_a), np.empty(self.n_b)
        a, b = ra[self.a_cells], rb[self.b_cells]
        kernels.compiled(kernels.solve_slices)(
            self.t_ptr, self.a_start, self.b_start, self.k_ptr, self.k, self.q, self.of_y, a, b
        )
        da[self.a_cells], db[self.b_cells] = a, b
        return da, db

    def _along(self, da: FloatArray, db: FloatArray) -> FloatArray:
        g = self.program
        return g.to_pairs(self.p * (da[g.ia] + db[g.ib]))

    def _times(self, da: FloatArray, db: FloatArray) -> tuple[FloatArray, FloatArray]:
        g = self.program
        u = da[g.ia] + db[g.ib]
        along = g.to_pairs(self.p * u)
        return g.to_cells(self.p * (self.nu[g.pair] * u + (self.c * along)[g.pair]))

    def _approximate(self, ra: FloatArray, rb: FloatArray) -> tuple[FloatArray, FloatArray]:
        g = self.program
        da, db = self._slices(ra, rb)
        y = cholesky_solve(self.gram.T, self.root * self._along(da, db), lower=False)
        xa, xb = self._slices(*g.to_cells(self.p * (self.root * y)[g.pair]))
        return da - xa, db - xb

    def solve(self, ra: FloatArray, rb: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `NewtonMatrix`."""
        r = np.concatenate([ra, rb])
        n, goal = self.n_a, _REFINED * float(np.abs(r).max())
        d = np.zeros_like(r)
        direction, last = np.zeros_like(r), 1.0
        for _ in range(_REFINEMENTS):
            preconditioned = np.concatenate(self._approximate(r[:n], r[n:]))
            product = float(r @ preconditioned)
            if not product > 0.0:
                break
            direction = preconditioned + (product / last) * direction if d.any() else preconditioned
            last = product
            image = np.concatenate(self._times(direction[:n], direction[n:]))
            length = product / float(direction @ image)
            d += length * direction
            r = r - length * image
            if np.abs(r).max() <= goal:
                break
        return d[:n], d[n:]


def newton_matrix(program: Program) -> NewtonMatrix:
    """Return the matrix that is cheaper to factor."""
    n_a, n_b, pairs = len(program.a), len(program.b), program.n_pairs
    of_z = np.bincount(program.a_z[program.ia])
    by_cells = n_a**2 * n_b + n_a**3 / 3
    by_pairs = pairs**3 / 3 + _ENTRY_COST * float((of_z.astype(float) ** 2).sum()) / 2
    return PairMatrix(program) if by_pairs < by_cells else CellMatrix(program)
