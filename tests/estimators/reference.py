"""Slow, readable estimators: full distance matrices, one line per step of the papers."""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, gammaln


def distance_matrix(x, norm):
    """All pairwise distances within one side; a point is infinitely far from itself."""
    x = np.asarray(x, dtype=np.float64)
    difference = np.abs(x[:, None, :] - x[None, :, :])
    d = difference.max(-1) if norm == "chebyshev" else np.sqrt((difference**2).sum(-1))
    np.fill_diagonal(d, np.inf)
    return d


def kth(d, k):
    return np.sort(d, axis=1)[:, k - 1]


def entropy(x, k, norm):
    n, dim = x.shape
    log_ball = dim * np.log(2)
    if norm == "euclidean":
        log_ball = dim / 2 * np.log(np.pi) - gammaln(dim / 2 + 1)
    eps = kth(distance_matrix(x, norm), k)
    return digamma(n) - digamma(k) + log_ball + dim * np.log(eps).mean()


def ksg(x, y, k, variant, norm):
    n = len(x)
    dx, dy = distance_matrix(x, norm), distance_matrix(y, norm)
    joint = np.maximum(dx, dy)
    if variant == 1:
        eps = kth(joint, k)[:, None]
        nx, ny = (dx < eps).sum(1), (dy < eps).sum(1)
        return digamma(k) + digamma(n) - (digamma(nx + 1) + digamma(ny + 1)).mean()
    who = np.argsort(joint, axis=1)[:, :k]
    ex = np.take_along_axis(dx, who, 1).max(1, keepdims=True)
    ey = np.take_along_axis(dy, who, 1).max(1, keepdims=True)
    nx, ny = (dx <= ex).sum(1), (dy <= ey).sum(1)
    return digamma(k) - 1 / k + digamma(n) - (digamma(nx) + digamma(ny)).mean()


def cmi(x, y, z, k, norm):
    dx, dy, dz = (distance_matrix(v, norm) for v in (x, y, z))
    eps = kth(np.maximum(np.maximum(dx, dy), dz), k)[:, None]
    nxz = (np.maximum(dx, dz) < eps).sum(1)
    nyz = (np.maximum(dy, dz) < eps).sum(1)
    nz = (dz < eps).sum(1)
    return digamma(k) - (digamma(nxz + 1) + digamma(nyz + 1) - digamma(nz + 1)).mean()


def ross(x, labels, k, norm):
    d = distance_matrix(x, norm)
    n, total = len(labels), 0.0
    for i in range(n):
        same = np.flatnonzero(labels == labels[i])
        own = min(k, len(same) - 1)
        eps = np.sort(d[i, same])[own - 1]
        m = (d[i] < eps).sum() + 1
        total += digamma(own) - digamma(len(same)) - digamma(m)
    return digamma(n) + total / n


def gao(x, y, k, norm):
    dx, dy = distance_matrix(x, norm), distance_matrix(y, norm)
    np.fill_diagonal(dx, 0)
    np.fill_diagonal(dy, 0)
    joint = np.maximum(dx, dy)
    n, total = len(x), 0.0
    for i in range(n):
        rho = np.sort(joint[i])[k]  # entry 0 is the point itself
        if rho == 0:
            own, nx, ny = (joint[i] == 0).sum(), (dx[i] == 0).sum(), (dy[i] == 0).sum()
        else:
            # The point itself counts as "the one at the radius" where there are no ties.
            own = (joint[i] <= rho).sum() - 1
            nx, ny = (max((d[i] < rho).sum(), (d[i] <= rho).sum() - 1) for d in (dx, dy))
        total += digamma(own) + np.log(n) - digamma(nx) - digamma(ny)
    return total / n


def mesner_shalizi(x, y, z, k, norm):
    dx, dy, dz = (distance_matrix(v, norm) for v in (x, y, z))
    for d in (dx, dy, dz):
        np.fill_diagonal(d, 0)
    joint = np.maximum(np.maximum(dx, dy), dz)
    n, total = len(x), 0.0
    for i in range(n):
        rho = np.sort(joint[i])[k]

        def count(*sides, i=i, rho=rho):
            d = np.max([s[i] for s in sides], axis=0)
            if rho == 0:
                return digamma((d == 0).sum())
            return digamma(max((d < rho).sum(), (d <= rho).sum() - 1))

        own = (joint[i] == 0).sum() if rho == 0 else (joint[i] <= rho).sum() - 1
        total += digamma(own) - count(dx, dz) - count(dy, dz) + count(dz)
    return total / n
