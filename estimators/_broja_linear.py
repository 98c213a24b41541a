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
# A pair that adds less than this to the unit diagonal is left to the refinement.
_ACTIVE = 0.1
# Rows of the pair matrix that are built together.
_ROWS = 8
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
        # The matrix before its factorisation, kept once one has failed: the next will too.
        self.kept: FloatArray | None = None

    def factor(self, p: FloatArray, nu: FloatArray, c: FloatArray) -> bool:
        """See `NewtonMatrix`."""
        if not self._assemble(p, nu, c):
            return False
        if self.kept is not None:
            self.kept[:] = self.haa
        for number, jitter in enumerate(_JITTER):
            if number:
                if self.kept is not None:
                    self.haa[:] = self.kept
                else:
                    self._assemble(p, nu, c)
                    self.kept = self.haa.copy(order="F")
            # lam_z + v, mu_z - v changes nothing: the gauge fixes that freedom.
            kernels.compiled(kernels.add_gauge)(self.program.a_z, self.scale, jitter, self.haa)
            if cholesky(self.haa):
                return True
        return False

    def _assemble(self, p: FloatArray, nu: FloatArray, c: FloatArray) -> bool:
        g = self.program
        failed = kernels.compiled(kernels.assemble)(
            g.ptr, g.ia, g.ib, g.pair_x, g.pair_y, g.a_ptr, g.b_ptr,
            p, nu, c, self.haa, self.hbb, self.hba,
        )  # fmt: skip
        if failed:
            return False
        self.scale = self.haa.diagonal().copy()
        subtract_gram(self.hba.T, self.haa)
        return True

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
    subtraction. Where a pair's c is negative (slack above 1), or so small that the pair hardly
    changes the matrix (near the solution, most pairs whose constraint is not active), the matrix
    is built with 0 in its place: conjugate gradients on the true matrix remove the difference, and
    rounding errors too.
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
        self.l_ptr = np.concatenate([[0], np.cumsum(n * n)])
        self.k, self.qkq = np.empty(self.k_ptr[-1]), np.empty(self.l_ptr[-1])
        self.q, self.kq = np.empty(len(z)), np.empty(len(z))
        self.of_y = np.empty(self.n_b)
        # Where the triples, pair by pair, stand among those of the slices.
        self.place = np.empty(len(z), dtype=np.int64)
        self.place[self.triples] = np.arange(len(z))
        self.slice_of = np.searchsorted(targets, z)
        self.buffer, self.diagonal = np.empty((_ROWS, g.n_pairs)), np.empty(g.n_pairs)
        self.memory = np.empty(g.n_pairs**2)
        self.m_max = int(m.max())

    def factor(self, p: FloatArray, nu: FloatArray, c: FloatArray) -> bool:
        """See `NewtonMatrix`."""
        g = self.program
        self.p, self.nu, self.c = p, nu, c
        self.root = np.sqrt(np.maximum(c, 0.0))
        kernels.compiled(kernels.pair_slices)(
            self.t_ptr, self.a_start, self.b_start, self.k_ptr, self.l_ptr, self.m_max,
            (nu[g.pair] * p)[self.triples], self.k, self.q, self.of_y, self.kq, self.qkq,
        )  # fmt: skip
        along = (self.root[g.pair] * p)[self.triples]
        where = (g.ptr, self.place, self.slice_of, self.t_ptr, self.a_start, self.b_start,
                 self.k_ptr, self.l_ptr)  # fmt: skip
        inverse = (self.k, self.kq, self.qkq)
        kernels.compiled(kernels.pair_diagonal)(*where, along, *inverse, self.diagonal)
        if not np.isfinite(self.diagonal).all():
            return False
        # What a pair adds to the matrix is measured by its diagonal.
        self.active = np.flatnonzero(self.diagonal > _ACTIVE)
        n = len(self.active)
        self.gram = self.memory[: n * n].reshape(n, n)
        kernels.compiled(kernels.pair_gram)(
            self.active, *where, g.pair[self.triples], along, *inverse, self.buffer, self.gram
        )
        self.gram[np.diag_indices(n)] += 1.0
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
        along = (self.root * self._along(da, db))[self.active]
        y = np.zeros(g.n_pairs)
        y[self.active] = cholesky_solve(self.gram.T, along, lower=False)
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
