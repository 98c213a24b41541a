"""Compiled inner loops of the BROJA Newton solver.

The functions are plain Python until `compiled` is called for them, so importing this module does
not import numba.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["assemble", "back_substitute", "compiled", "constraints", "forward_substitute"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` with numba at its first use, keeping the result on disk."""
    import numba

    return cast(Callable[..., Any], numba.njit(cache=True, nogil=True)(function))


def constraints(
    ptr: IntArray,
    ia: IntArray,
    ib: IntArray,
    lump: FloatArray,
    lam: FloatArray,
    mu: FloatArray,
    theta: FloatArray,
    p: FloatArray,
    p0: FloatArray,
    g: FloatArray,
) -> None:
    """Fill g with logsumexp_z(lam + mu) per pair (lump included), p and p0 with its softmax."""
    for k in range(len(lump)):
        lo, hi = ptr[k], ptr[k + 1]
        top = theta[k] if lump[k] > 0.0 else -np.inf
        for t in range(lo, hi):
            u = lam[ia[t]] + mu[ib[t]]
            p[t] = u
            if u > top:
                top = u
        total = 0.0
        p0[k] = 0.0
        if lump[k] > 0.0:
            p0[k] = np.exp(theta[k] - top)
            total += p0[k]
        for t in range(lo, hi):
            p[t] = np.exp(p[t] - top)
            total += p[t]
        g[k] = top + np.log(total)
        for t in range(lo, hi):
            p[t] /= total
        p0[k] /= total


def assemble(
    ptr: IntArray,
    ia: IntArray,
    ib: IntArray,
    pair_x: IntArray,
    pair_y: IntArray,
    a_ptr: IntArray,
    b_ptr: IntArray,
    p: FloatArray,
    nu: FloatArray,
    c: FloatArray,
    haa: FloatArray,
    hbb: FloatArray,
    hba: FloatArray,
) -> int:
    """Build the Newton matrix and eliminate the blocks of the larger source.

    Each pair adds ``nu diag(p) + c p p^T``. On return `hbb` holds, source by source, the Cholesky
    factor L_y of its block, `hba` the matrix L_y^{-1} H_ba, and `haa` the blocks of the other
    source (lower triangle, before the Schur correction). Returns 0, or 1 + y where the block of y
    was not positive definite.
    """
    haa[:] = 0.0
    hba[:] = 0.0
    hbb[:] = 0.0
    for k in range(len(nu)):
        y0 = b_ptr[pair_y[k]]
        for t in range(ptr[k], ptr[k + 1]):
            i, j = ia[t], ib[t]
            diagonal = nu[k] * p[t]
            haa[i, i] += diagonal
            hbb[j, j - y0] += diagonal
            hba[j, i] += diagonal
            cp = c[k] * p[t]
            for s in range(ptr[k], ptr[k + 1]):
                v = cp * p[s]
                hba[j, ia[s]] += v
                if s <= t:
                    haa[i, ia[s]] += v
                    hbb[j, ib[s] - y0] += v
    n_a = haa.shape[0]
    chunk = 1024
    for y in range(len(b_ptr) - 1):
        start, n = b_ptr[y], b_ptr[y + 1] - b_ptr[y]
        for i in range(n):
            for j in range(i + 1):
                v = hbb[start + i, j]
                for m in range(j):
                    v -= hbb[start + i, m] * hbb[start + j, m]
                if i == j:
                    if not v > 0.0:
                        return 1 + y
                    hbb[start + i, i] = np.sqrt(v)
                else:
                    hbb[start + i, j] = v / hbb[start + j, j]
        for first in range(0, n_a, chunk):
            last = min(first + chunk, n_a)
            for i in range(n):
                row = hba[start + i]
                for j in range(i):
                    f = hbb[start + i, j]
                    if f != 0.0:
                        other = hba[start + j]
                        for m in range(first, last):
                            row[m] -= f * other[m]
                f = 1.0 / hbb[start + i, i]
                for m in range(first, last):
                    row[m] *= f
    return 0


def forward_substitute(b_ptr: IntArray, hbb: FloatArray, v: FloatArray) -> None:
    """Replace v by L^{-1} v, block by block."""
    for y in range(len(b_ptr) - 1):
        start, n = b_ptr[y], b_ptr[y + 1] - b_ptr[y]
        for i in range(n):
            s = v[start + i]
            for j in range(i):
                s -= hbb[start + i, j] * v[start + j]
            v[start + i] = s / hbb[start + i, i]


def back_substitute(b_ptr: IntArray, hbb: FloatArray, v: FloatArray) -> None:
    """Replace v by L^{-T} v, block by block."""
    for y in range(len(b_ptr) - 1):
        start, n = b_ptr[y], b_ptr[y + 1] - b_ptr[y]
        for i in range(n - 1, -1, -1):
            s = v[start + i]
            for j in range(i + 1, n):
                s -= hbb[start + j, i] * v[start + j]
            v[start + i] = s / hbb[start + i, i]
