"""An exam for a BROJA solver: 38 hard distributions, and a judge that shares no code with it."""

from __future__ import annotations

import numpy as np

from tests.estimators.pid_problems import gate, near_copy


def _spread(shape: tuple[int, int, int], decades: float, seed: int) -> np.ndarray:
    """Masses over so many powers of ten."""
    p = 10.0 ** np.random.default_rng(seed).uniform(-decades, 0, size=shape)
    return p / p.sum()


def _uneven_copy(flip: float, shape: tuple[int, int], seed: int) -> np.ndarray:
    """A near-copy whose symbols differ in mass and whose errors are not uniform."""
    rng = np.random.default_rng(seed)
    n_x = shape[1]
    p_zx = rng.gamma(0.3, size=shape) + 1e-9
    channel = (1 - flip) * np.eye(n_x) + flip * rng.dirichlet(np.full(n_x, 0.3), n_x)
    p = (p_zx / p_zx.sum())[:, :, None] * channel
    return p / p.sum()


def _deterministic(n_z: int, n_x: int, n_y: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z = rng.integers(n_z, size=(n_x, n_y))
    p = np.zeros((n_z, n_x, n_y))
    x, y = np.indices(z.shape)
    p[z, x, y] = rng.gamma(0.5, size=z.shape)
    return p / p.sum()


def _empirical(n_z: int, k: int, n: int, agree: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.integers(k, size=n)
    y = np.where(rng.random(n) < agree, x, rng.integers(k, size=n))
    z = (x + rng.integers(3, size=n)) % n_z
    p = np.zeros((n_z, k, k))
    np.add.at(p, (z, x, y), 1 / n)
    return p


def _dense(shape: tuple[int, int, int], concentration: float, seed: int) -> np.ndarray:
    cells = int(np.prod(shape))
    return np.random.default_rng(seed).dirichlet(np.full(cells, concentration)).reshape(shape)


def exam() -> dict[str, np.ndarray]:
    """Return the 38 distributions by name."""
    uniform = np.full((16, 16), 1 / 256)
    out = {
        f"near copy {n_z}x{n_x}, flip {flip:g}": near_copy(flip, n_z, n_x, seed=7)
        for n_z, n_x in ((4, 8), (10, 32), (64, 16))
        for flip in (1e-2, 1e-4, 1e-5, 1e-6)
    }
    out |= {
        f"uneven copy {n_z}x{n_x}, flip {flip:g}": _uneven_copy(flip, (n_z, n_x), seed=8)
        for n_z, n_x in ((5, 12), (12, 24))
        for flip in (1e-3, 1e-5, 1e-6)
    }
    out |= {
        f"masses to 1e-{decades}, {shape}": _spread(shape, decades, seed)
        for seed, (decades, shape) in enumerate(
            [(12, (3, 4, 5)), (20, (2, 8, 8)), (20, (6, 10, 7)), (20, (16, 12, 12))]
        )
    }
    out |= {
        f"deterministic {shape}": _deterministic(*shape, seed)
        for seed, shape in enumerate([(3, 8, 8), (10, 20, 20), (64, 24, 24)])
    }
    out |= {
        "modulo sum": gate(lambda x, y: (x + y) % 16, uniform),
        "product": gate(lambda x, y: x * y, uniform),
        "both sources": gate(lambda x, y: (x, y), uniform),
    }
    out |= {
        f"empirical 10x256x256, n {n}, agree {agree}": _empirical(10, 256, n, agree, n)
        for n, agree in ((2000, 0.9), (5000, 0.9), (5000, 0.99), (20_000, 0.95))
    }
    out |= {f"empirical 64x{k}x{k}": _empirical(64, k, 8000, 0.9, k) for k in (24, 48)}
    out |= {
        f"dense {shape}, concentration {c:g}": _dense(shape, c, 3)
        for shape, c in (((64, 12, 12), 0.05), ((64, 24, 24), 1.0), ((64, 20, 40), 0.2))
    }
    out["tiny symbols"] = _dense((8, 10, 10), 1.0, 4) * np.logspace(0, -19, 10)[None, :, None]
    return {name: p / p.sum() for name, p in out.items()}


def judge(
    p_zx: np.ndarray, p_zy: np.ndarray, lam: np.ndarray, mu: np.ndarray, q: np.ndarray
) -> tuple[float, float]:
    """Bound f* from a coupling and a dual with loops and long doubles, trusting neither.

    The lower bound shifts mu, y by y (the package shifts lam); the upper repairs the coupling
    by the product of what is missing.
    """
    wide = np.longdouble
    a, b = p_zx.astype(wide), p_zy.astype(wide)
    upper = wide(0)
    fixed = np.zeros(q.shape, dtype=wide)
    for z in range(len(a)):
        block = np.maximum(q[z].astype(wide), 0)
        for x in range(block.shape[0]):
            if block[x].sum() > a[z, x]:
                block[x] *= a[z, x] / block[x].sum()
        for y in range(block.shape[1]):
            if block[:, y].sum() > b[z, y]:
                block[:, y] *= b[z, y] / block[:, y].sum()
        lack_x = np.maximum(a[z] - block.sum(axis=1), 0)
        lack_y = np.maximum(b[z] - block.sum(axis=0), 0)
        if lack_x.sum() > 0:
            block = block + np.outer(lack_x, lack_y) / lack_x.sum()
        fixed[z] = block
    # The repaired coupling must have the marginals that were asked for.
    assert np.abs(fixed.sum(axis=2) - a).max() < 1e-14
    assert np.abs(fixed.sum(axis=1) - b).max() < 1e-14
    pairs = fixed.sum(axis=0)
    for z in range(len(a)):
        there = fixed[z] > 0
        upper += (fixed[z][there] * np.log(fixed[z][there] / pairs[there])).sum()
    lower = wide(0)
    weight_x = np.where(a > 0, np.exp(np.where(a > 0, lam, 0.0).astype(wide)), 0)
    for y in range(b.shape[1]):
        seen = b[:, y] > 0
        if not seen.any():
            continue
        tops = np.where(seen, mu[:, y], -np.inf).max()
        weight_y = np.where(seen, np.exp((np.where(seen, mu[:, y], 0.0) - tops).astype(wide)), 0)
        worst = np.log(max((weight_x[:, x] @ weight_y for x in range(a.shape[1])), default=0))
        lower += (b[seen, y] * (mu[seen, y].astype(wide) - tops - worst)).sum()
    lower += (a[a > 0] * lam[a > 0].astype(wide)).sum()
    return float(lower), float(upper)
