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

__all__ = [
    "add_gauge",
    "assemble",
    "back_substitute",
    "compiled",
    "constraints",
    "forward_substitute",
    "pair_diagonal",
    "pair_gram",
    "pair_slices",
    "solve_slices",
]

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


def add_gauge(z: IntArray, d: FloatArray, jitter: float, s: FloatArray) -> None:
    """Add d d^T / sum(d) within the cells of each z, and the jitter, to the lower triangle of s."""
    n = len(d)
    total = np.zeros(z.max() + 1)
    for i in range(n):
        total[z[i]] += d[i]
    for j in range(n):
        scaled = d[j] / total[z[j]]
        s[j, j] += jitter * d[j]
        for i in range(j, n):
            if z[i] == z[j]:
                s[i, j] += d[i] * scaled


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


def pair_slices(
    t_ptr: IntArray,
    a_start: IntArray,
    b_start: IntArray,
    k_ptr: IntArray,
    l_ptr: IntArray,
    m_max: int,
    weight: FloatArray,
    k_out: FloatArray,
    q_out: FloatArray,
    of_y_out: FloatArray,
    kq_out: FloatArray,
    qkq_out: FloatArray,
) -> None:
    """Invert the slices L of z, up to their gauge.

    `weight` holds nu p, slice by slice, each slice an m by n block W. A slice is
    ``[[Dx, W], [W^T, Dy]]``. With Q = W Dy^{-1} its Schur complement in the cells of X is the
    Laplacian of ``W Q^T``; K is its inverse with the heaviest cell grounded. Of L^+ remain K, -K Q
    and Dy^{-1} + Q^T K Q.
    """
    lap = np.empty((m_max, m_max))
    x = np.empty(m_max)
    pivots = np.empty(m_max)
    order = np.empty(m_max, dtype=np.int64)
    for z in range(len(t_ptr) - 1):
        t0 = t_ptr[z]
        m, n = a_start[z + 1] - a_start[z], b_start[z + 1] - b_start[z]
        w = weight[t0 : t0 + m * n].reshape((m, n))
        q = q_out[t0 : t0 + m * n].reshape((m, n))
        kq = kq_out[t0 : t0 + m * n].reshape((m, n))
        k = k_out[k_ptr[z] : k_ptr[z] + m * m].reshape((m, m))
        qkq = qkq_out[l_ptr[z] : l_ptr[z] + n * n].reshape((n, n))
        of_y = of_y_out[b_start[z] : b_start[z] + n]
        of_y[:] = 0.0
        for i in range(m):
            for j in range(n):
                of_y[j] += w[i, j]
        for i in range(m):
            for j in range(n):
                q[i, j] = w[i, j] / of_y[j]
        ground, heaviest = 0, -1.0
        for i in range(m):
            total = 0.0
            for j in range(n):
                total += w[i, j]
            if total > heaviest:
                ground, heaviest = i, total
        for i in range(m):
            for h in range(i):
                v = 0.0
                for j in range(n):
                    v += w[i, j] * q[h, j]
                lap[i, h] = v
                lap[h, i] = v
            lap[i, i] = 0.0
        # Each pivot is the sum of what still leaves its cell, the ground included: nothing is
        # ever subtracted, so even nearly disconnected slices are inverted to full accuracy
        # (Grassmann, Taksar, Heyman 1985).
        count = 0
        for i in range(m):
            if i != ground:
                order[count] = i
                count += 1
        order[count] = ground
        for e in range(m - 1):
            i = order[e]
            pivot = 1e-300
            for f in range(e + 1, m):
                pivot += lap[i, order[f]]
            pivots[e] = pivot
            for f in range(e + 1, m):
                h = order[f]
                factor = lap[h, i] / pivot
                for f2 in range(e + 1, m):
                    lap[h, order[f2]] += factor * lap[i, order[f2]]
        k[:] = 0.0
        for column in range(m - 1):
            x[:m] = 0.0
            x[column] = 1.0
            for e in range(column, m - 1):
                x[e] /= pivots[e]
                for f in range(e + 1, m - 1):
                    x[f] += lap[order[f], order[e]] * x[e]
            for e in range(m - 2, -1, -1):
                v = 0.0
                for f in range(e + 1, m - 1):
                    v += lap[order[e], order[f]] * x[f]
                x[e] += v / pivots[e]
                k[order[e], order[column]] = x[e]
        kq[:] = 0.0
        for i in range(m):
            for h in range(m):
                v = k[i, h]
                for j in range(n):
                    kq[i, j] += v * q[h, j]
        qkq[:] = 0.0
        for i in range(m):
            for j in range(n):
                v = q[i, j]
                for j2 in range(n):
                    qkq[j, j2] += v * kq[i, j2]
        for j in range(n):
            qkq[j, j] += 1.0 / of_y[j]


def pair_diagonal(
    ptr: IntArray,
    place: IntArray,
    slice_of: IntArray,
    t_ptr: IntArray,
    a_start: IntArray,
    b_start: IntArray,
    k_ptr: IntArray,
    l_ptr: IntArray,
    along: FloatArray,
    k: FloatArray,
    kq: FloatArray,
    qkq: FloatArray,
    out: FloatArray,
) -> None:
    """Fill `out` with the diagonal of U^T L^+ U; arguments as for `pair_gram`."""
    for pair in range(len(out)):
        total = 0.0
        for t in range(ptr[pair], ptr[pair + 1]):
            z, at = slice_of[t], place[t]
            m, n = a_start[z + 1] - a_start[z], b_start[z + 1] - b_start[z]
            i, j = (at - t_ptr[z]) // n, (at - t_ptr[z]) % n
            v = qkq[l_ptr[z] + j * n + j] - 2.0 * kq[at] + k[k_ptr[z] + i * m + i]
            total += along[at] * along[at] * v
        out[pair] = total


def pair_gram(
    active: IntArray,
    ptr: IntArray,
    place: IntArray,
    slice_of: IntArray,
    t_ptr: IntArray,
    a_start: IntArray,
    b_start: IntArray,
    k_ptr: IntArray,
    l_ptr: IntArray,
    pair: IntArray,
    along: FloatArray,
    k: FloatArray,
    kq: FloatArray,
    qkq: FloatArray,
    buffer: FloatArray,
    gram: FloatArray,
) -> None:
    """Fill the lower triangle of `gram` with U^T L^+ U, its rows and columns the active pairs.

    `along` holds the entries of U and `pair` their pairs, slice by slice; `place` says for each
    triple, pair by pair, where it stands there, and `slice_of` in which slice.
    """
    row = np.empty(buffer.shape[1])
    at_t = np.empty(len(buffer), dtype=np.int64)
    for low in range(0, len(active), len(buffer)):
        # Several rows at a time: what they read of a slice is then still in the cache.
        high = min(low + len(buffer), len(active))
        buffer[:] = 0.0
        for r in range(high - low):
            at_t[r] = ptr[active[low + r]]
        for z in range(len(t_ptr) - 1):
            t0 = t_ptr[z]
            m, n = a_start[z + 1] - a_start[z], b_start[z + 1] - b_start[z]
            for r in range(high - low):
                t = at_t[r]
                if t == ptr[active[low + r] + 1] or slice_of[t] != z:
                    continue
                at_t[r] += 1
                at = place[t]
                u1 = along[at]
                if u1 == 0.0:
                    continue
                i, j = (at - t0) // n, (at - t0) % n
                of_j, of_i = l_ptr[z] + j * n, t0 + i * n
                for j2 in range(n):
                    row[j2] = u1 * (qkq[of_j + j2] - kq[of_i + j2])
                line = buffer[r]
                for h in range(i + 1):
                    first = t0 + h * n
                    shift = u1 * (k[k_ptr[z] + i * m + h] - kq[first + j])
                    # Pairs are numbered x by x, so what lies beyond (i, j) in the last row is
                    # the upper triangle, which nobody reads.
                    start = pair[first]
                    if pair[first + n - 1] - start == n - 1:
                        target, other = line[start : start + n], along[first : first + n]
                        for j2 in range(n):
                            target[j2] += other[j2] * (row[j2] + shift)
                    else:
                        for j2 in range(n):
                            line[pair[first + j2]] += along[first + j2] * (row[j2] + shift)
        for r in range(high - low):
            for column in range(low + r + 1):
                gram[low + r, column] = buffer[r, active[column]]


def solve_slices(
    t_ptr: IntArray,
    a_start: IntArray,
    b_start: IntArray,
    k_ptr: IntArray,
    k: FloatArray,
    q: FloatArray,
    of_y: FloatArray,
    a: FloatArray,
    b: FloatArray,
) -> None:
    """Replace (a, b), the cells ordered slice by slice, by L^+ (a, b)."""
    for z in range(len(t_ptr) - 1):
        m, n = a_start[z + 1] - a_start[z], b_start[z + 1] - b_start[z]
        block = q[t_ptr[z] : t_ptr[z] + m * n].reshape((m, n))
        inverse = k[k_ptr[z] : k_ptr[z] + m * m].reshape((m, m))
        va = a[a_start[z] : a_start[z] + m]
        vb = b[b_start[z] : b_start[z] + n]
        rhs = np.empty(m)
        for i in range(m):
            v = va[i]
            for j in range(n):
                v -= block[i, j] * vb[j]
            rhs[i] = v
        for i in range(m):
            v = 0.0
            for h in range(m):
                v += inverse[i, h] * rhs[h]
            va[i] = v
        for j in range(n):
            v = vb[j] / of_y[b_start[z] + j]
            for i in range(m):
                v -= block[i, j] * va[i]
            vb[j] = v
