"""Distributions that make a BROJA solver fail, made from a seed."""

from __future__ import annotations

import numpy as np

KINDS = (
    "dense",
    "sparse",
    "near copy",
    "deterministic",
    "tiny masses",
    "empirical",
    "chain",
    "tiny symbols",
)


def random_pmf(seed: int, largest: int = 20) -> tuple[str, np.ndarray]:
    """Return (kind, p[z, x, y]); the kind cycles with the seed, alphabets are 2..largest."""
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    n_z, n_x, n_y = (
        max(2, round(np.exp(rng.uniform(np.log(2), np.log(largest))))) for _ in range(3)
    )
    shape = (n_z, n_x, n_y)
    if kind == "dense":
        p = rng.gamma(10 ** rng.uniform(-1.5, 1), size=shape)
    elif kind == "sparse":
        p = rng.gamma(1, size=shape) * (rng.random(shape) < 10 ** rng.uniform(-2, -0.3))
    elif kind == "near copy":
        flip = 10.0 ** -rng.uniform(1, 7)
        p_zx = rng.gamma(10 ** rng.uniform(-1.5, 1), size=(n_z, n_x))
        channel = (1 - flip) * np.eye(n_x) + flip * rng.dirichlet(np.ones(n_x), n_x)
        p = p_zx[:, :, None] * channel
    elif kind == "deterministic":
        p = np.zeros(shape)
        z = rng.integers(n_z, size=(n_x, n_y))
        if rng.random() < 0.5:
            z = np.add.outer(np.arange(n_x), np.arange(n_y)) % n_z
        x, y = np.indices(z.shape)
        p[z, x, y] = rng.gamma(1, size=z.shape)
    elif kind == "tiny masses":
        p = 10.0 ** rng.uniform(-20, 0, size=shape)
    elif kind == "empirical":
        cells = rng.gamma(0.3, size=n_z * n_x * n_y) + 1e-12
        p = rng.multinomial(int(10 ** rng.uniform(1, 4)), cells / cells.sum()).reshape(shape) * 1.0
    elif kind == "chain":
        p_zx = rng.gamma(0.5, size=(n_z, n_x))
        p = p_zx[:, :, None] * rng.dirichlet(np.full(n_y, 0.2), n_x)
    else:
        p = rng.gamma(1, size=shape)
        for axis, depth in enumerate((10, 20, 20)):
            scale = 10.0 ** -rng.uniform(0, depth, size=shape[axis])
            p = p * np.expand_dims(scale, tuple({0, 1, 2} - {axis}))
    if p.sum() == 0:
        p[0, 0, 0] = 1.0
    return kind, p / p.sum()


def near_copy(flip: float, n_z: int = 4, n_x: int = 8, seed: int = 0) -> np.ndarray:
    """Y is X, replaced by a uniform symbol with probability `flip`."""
    rng = np.random.default_rng(seed)
    p_zx = rng.dirichlet(np.ones(n_z * n_x)).reshape(n_z, n_x)
    channel = (1 - flip) * np.eye(n_x) + flip / n_x
    return p_zx[:, :, None] * channel


def gate(function, p_xy: np.ndarray) -> np.ndarray:
    """The joint of Z = function(x, y), any hashable values, and sources with joint p_xy."""
    values = {}
    for x, y in np.ndindex(*p_xy.shape):
        if p_xy[x, y] > 0:
            values.setdefault(function(x, y), len(values))
    p = np.zeros((len(values), *p_xy.shape))
    for x, y in np.ndindex(*p_xy.shape):
        if p_xy[x, y] > 0:
            p[values[function(x, y)], x, y] = p_xy[x, y]
    return p
