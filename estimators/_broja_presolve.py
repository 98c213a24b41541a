"""Exact reductions of the BROJA program, and the way back from the small problem to the user's.

Four reductions are made before any iteration:

1. cells of P(z,x) and P(z,y) that hold nothing are dropped; cells below `NEGLIGIBLE` are left out
   too, and the certificate (computed on the user's own marginals) pays for them;
2. symbols of a source with the same posterior P(z|.) are merged: the program is homogeneous, so
   their shares of the dual are equal and their shares of the coupling proportional;
3. a target symbol z that occurs with one x only, or one y only, leaves no freedom in q(z,.,.):
   all such mass on a pair (x, y) acts like a single known term, here called the pair's lump;
4. a pair (x, y) with no free target symbol has nothing left to choose and drops out.

Target = (X, Y), X = f(Z) and a target equal to a source are solved by these alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Lift", "Program", "lift", "presolve"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# A cell of this mass moves the value by at most about 60 times as much, far below any tolerance.
NEGLIGIBLE = 1e-15
# Posteriors that agree to this many decimals are merged; the certificate pays for the difference.
_POSTERIOR_DECIMALS = 13
# log-weight given to cells that were left out: e^-60 = 9e-27 disturbs no constraint.
_LEFT_OUT = -60.0


@dataclass(frozen=True, slots=True)
class Program:
    """The reduced program, in the layout the Newton kernels read.

    Cells of P(z,x) with free z are numbered x by x (`a_ptr` marks where each x starts), those of
    P(z,y) likewise. Pair k couples the cells ``ia[t], ib[t]`` for t in ``ptr[k]:ptr[k+1]``;
    `pair` holds k for every t, `lump` the fixed mass of every pair.
    """

    a: FloatArray
    b: FloatArray
    a_z: IntArray
    b_z: IntArray
    a_ptr: IntArray
    b_ptr: IntArray
    pair_x: IntArray
    pair_y: IntArray
    ptr: IntArray
    pair: IntArray
    ia: IntArray
    ib: IntArray
    lump: FloatArray

    @property
    def n_pairs(self) -> int:
        """Number of pairs (x, y) that are still to be decided."""
        return len(self.lump)

    def to_cells(self, t: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Sum over triples into the cells of a and of b."""
        return _sums(self.ia, t, len(self.a)), _sums(self.ib, t, len(self.b))

    def to_pairs(self, t: FloatArray) -> FloatArray:
        """Sum over the triples of each pair."""
        return _sums(self.pair, t, self.n_pairs)


def _sums(index: IntArray, weights: FloatArray, n: int) -> FloatArray:
    return np.bincount(index, weights, n).astype(np.float64, copy=False)


@dataclass(frozen=True, slots=True)
class Lift:
    """What `lift` needs to write a solution of the reduced program in the user's symbols."""

    p_zx: FloatArray
    p_zy: FloatArray
    group_x: IntArray
    group_y: IntArray
    merged_zx: FloatArray
    merged_zy: FloatArray
    free: NDArray[np.bool_]
    lump: FloatArray


def _merge(p: FloatArray) -> tuple[IntArray, FloatArray]:
    """Group columns with equal posteriors; return the group of each column and the sums."""
    mass = p.sum(axis=0)
    group = np.full(p.shape[1], -1, dtype=np.int64)
    kept = np.flatnonzero(mass > 0)
    posterior = np.round(p[:, kept] / mass[kept], _POSTERIOR_DECIMALS)
    # 1 is added so that a cell that is present but rounds to zero differs from an absent one;
    # whole columns are compared as bytes, which is much faster than unique(axis=...).
    keys = np.ascontiguousarray(np.where(p[:, kept] > 0, 1.0 + posterior, 0.0).T)
    columns = keys.view(np.dtype((np.void, keys.itemsize * keys.shape[1]))).reshape(-1)
    unique, inverse = np.unique(columns, return_inverse=True)
    group[kept] = inverse.reshape(-1)
    merged = np.zeros((p.shape[0], len(unique)))
    np.add.at(merged.T, group[kept], p[:, kept].T)
    return group, merged


def _without_dust(p_zx: FloatArray, p_zy: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Leave out negligible cells and make the two marginals of Z agree again."""
    a = np.where(p_zx > NEGLIGIBLE, p_zx, 0.0)
    b = np.where(p_zy > NEGLIGIBLE, p_zy, 0.0)
    of_a, of_b = a.sum(axis=1), b.sum(axis=1)
    of_z = np.minimum(of_a, of_b)
    with np.errstate(invalid="ignore", divide="ignore"):
        a = np.where(of_z[:, None] > 0, a * (of_z / of_a)[:, None], 0.0)
        b = np.where(of_z[:, None] > 0, b * (of_z / of_b)[:, None], 0.0)
    return a, b


def _cells(merged: FloatArray, free: NDArray[np.bool_]) -> tuple[IntArray, IntArray, IntArray]:
    """Number the cells of free target symbols source by source: (index table, z, start)."""
    inside = (merged > 0) & free[:, None]
    source, z = np.nonzero(inside.T)
    index = np.full(merged.shape, -1, dtype=np.int64)
    index[z, source] = np.arange(len(z))
    start = np.concatenate([[0], np.cumsum(inside.sum(axis=0))]).astype(np.int64)
    return index, z.astype(np.int64), start


def presolve(p_zx: FloatArray, p_zy: FloatArray) -> tuple[Program, Lift]:
    """Reduce the program of the marginals P(z,x), P(z,y); see the module's docstring."""
    a_full, b_full = _without_dust(p_zx, p_zy)
    group_x, a_zx = _merge(a_full)
    group_y, b_zy = _merge(b_full)
    has_x, has_y = a_zx > 0, b_zy > 0
    free = (has_x.sum(axis=1) > 1) & (has_y.sum(axis=1) > 1)

    fixed = ~free & has_x.any(axis=1)
    of_z = a_zx.sum(axis=1)
    lump = np.einsum("zx,zy->xy", a_zx[fixed] / of_z[fixed, None], b_zy[fixed])

    index_a, a_z, a_start = _cells(a_zx, free)
    index_b, b_z, b_start = _cells(b_zy, free)
    common = (has_x & free[:, None]).T.astype(np.float64) @ (has_y & free[:, None])
    pair_x, pair_y = np.nonzero(common > 0)
    # Pairs are listed x by x; their triples pair by pair.
    z_of, x_of, y_of = np.nonzero(
        (has_x & free[:, None])[:, :, None] & (has_y & free[:, None])[:, None, :]
    )
    order = np.lexsort((z_of, y_of, x_of))
    z_of, x_of, y_of = z_of[order], x_of[order], y_of[order]
    ptr = np.concatenate([[0], np.cumsum(common[pair_x, pair_y])]).astype(np.int64)
    program = Program(
        a=a_zx[a_z, np.repeat(np.arange(a_zx.shape[1]), np.diff(a_start))],
        b=b_zy[b_z, np.repeat(np.arange(b_zy.shape[1]), np.diff(b_start))],
        a_z=a_z,
        b_z=b_z,
        a_ptr=a_start,
        b_ptr=b_start,
        pair_x=pair_x.astype(np.int64),
        pair_y=pair_y.astype(np.int64),
        ptr=ptr,
        pair=np.repeat(np.arange(len(pair_x)), np.diff(ptr)),
        ia=index_a[z_of, x_of],
        ib=index_b[z_of, y_of],
        lump=lump[pair_x, pair_y],
    )
    return program, Lift(p_zx, p_zy, group_x, group_y, a_zx, b_zy, free, lump)


def lift(
    program: Program,
    how: Lift,
    lam: FloatArray,
    mu: FloatArray,
    theta: FloatArray,
    q: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Write the dual (lam, mu) and the coupling of the reduced program in the user's symbols.

    Neither need be exactly feasible: the certificate repairs both.
    """
    merged_zx, merged_zy, free = how.merged_zx, how.merged_zy, how.free
    n_z, n_x = merged_zx.shape
    n_y = merged_zy.shape[1]
    of_z = merged_zx.sum(axis=1)
    present = of_z > 0
    rank_one = ~free & present
    coupling = np.zeros((n_z, n_x, n_y))
    coupling[rank_one] = (
        merged_zx[rank_one, :, None] * merged_zy[rank_one, None, :] / of_z[rank_one, None, None]
    )

    lam_zx = np.where(merged_zx > 0, 0.0, -np.inf)
    mu_zy = np.where(merged_zy > 0, 0.0, -np.inf)
    a_x = np.repeat(np.arange(n_x), np.diff(program.a_ptr))
    b_y = np.repeat(np.arange(n_y), np.diff(program.b_ptr))
    lam_zx[program.a_z, a_x] = lam
    mu_zy[program.b_z, b_y] = mu
    x, y = program.pair_x[program.pair], program.pair_y[program.pair]
    coupling[program.a_z[program.ia], x, y] = q

    # The lump of a pair is shared by its fixed target symbols in proportion to their mass.
    theta_xy = np.zeros((n_x, n_y))
    theta_xy[program.pair_x, program.pair_y] = theta
    one_x = rank_one & ((merged_zx > 0).sum(axis=1) == 1)
    z, x = np.flatnonzero(one_x), np.argmax(merged_zx[one_x], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mu_zy[z] = theta_xy[x] + np.log(coupling[z, x] / how.lump[x])
        z = np.flatnonzero(rank_one & ~one_x)
        y = np.argmax(merged_zy[z], axis=1)
        lam_zx[z] = (theta_xy[:, y] + np.log(coupling[z, :, y].T / how.lump[:, y])).T
    lam_zx[merged_zx == 0] = -np.inf
    mu_zy[merged_zy == 0] = -np.inf

    with np.errstate(divide="ignore", invalid="ignore"):
        weight_x = np.where(how.p_zx > 0, how.p_zx / merged_zx[:, how.group_x], 0.0)
        weight_y = np.where(how.p_zy > 0, how.p_zy / merged_zy[:, how.group_y], 0.0)
    weight_x[~np.isfinite(weight_x)] = 0.0
    weight_y[~np.isfinite(weight_y)] = 0.0
    weight_x[:, how.group_x < 0] = 0.0
    weight_y[:, how.group_y < 0] = 0.0
    full = coupling[:, how.group_x][:, :, how.group_y]
    full *= weight_x[:, :, None]
    full *= weight_y[:, None, :]

    def spread(values: FloatArray, group: IntArray, p: FloatArray) -> FloatArray:
        out = values[:, group]
        out[:, group < 0] = -np.inf
        out[~np.isfinite(out)] = _LEFT_OUT
        return np.where(p > 0, out, -np.inf)

    return (
        spread(lam_zx, how.group_x, how.p_zx),
        spread(mu_zy, how.group_y, how.p_zy),
        full,
    )
