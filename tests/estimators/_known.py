"""Families with known mutual information, each (rng, n) -> x, y, truth in nats.

None is one-dimensional luck: closed forms, maps that preserve information, or quadrature.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import digamma, gammaln, ndtr, ndtri


def gaussian(rng, n, d, r):
    x = rng.normal(size=(n, d))
    y = r * x + math.sqrt(1 - r * r) * rng.normal(size=(n, d))
    return x, y, -d / 2 * math.log(1 - r * r)


def sparse(rng, n, d, r, m):
    x, y = rng.normal(size=(2, n, d))
    y[:, :m] = r * x[:, :m] + math.sqrt(1 - r * r) * y[:, :m]
    return x, y, -m / 2 * math.log(1 - r * r)


def student(rng, n, d, r, nu):
    """One chi-square for both sides: dependent even at r = 0."""
    x, y, linear = gaussian(rng, n, d, r)
    w = np.sqrt(nu / rng.chisquare(nu, size=(n, 1)))

    def entropy(k):
        constant = gammaln((nu + k) / 2) - gammaln(nu / 2) - k / 2 * math.log(nu * math.pi)
        return -constant + (nu + k) / 2 * (digamma((nu + k) / 2) - digamma(nu / 2))

    return x * w, y * w, linear + 2 * entropy(d) - entropy(2 * d)


def uniform_noise(rng, n, e, d=1):
    """x uniform on [0, 1], y = x + uniform noise of half-width e, in each of d coordinates."""
    x = rng.uniform(size=(n, d))
    one = 1 / (4 * e) if e >= 0.5 else e - math.log(2 * e)
    return x, x + rng.uniform(-e, e, size=(n, d)), d * one


def rotated(rng, family):
    x, y, truth = family
    turn = [np.linalg.qr(rng.normal(size=(v.shape[1],) * 2))[0] for v in (x, y)]
    return x @ turn[0], y @ turn[1], truth


def spiral(rng, n, d):
    """A sparse Gaussian whose first two coordinates turn by an angle equal to the norm."""

    def turn(v):
        angle = np.linalg.norm(v, axis=1)
        c, s = np.cos(angle), np.sin(angle)
        out = v.copy()
        out[:, 0], out[:, 1] = c * v[:, 0] - s * v[:, 1], s * v[:, 0] + c * v[:, 1]
        return out

    x, y, truth = sparse(rng, n, d, 0.8, 2)
    return turn(x), turn(y), truth


def half_cube(rng, n, d, r):
    x, y, truth = gaussian(rng, n, d, r)
    return np.sign(x) * np.abs(x) ** 1.5, np.sign(y) * np.abs(y) ** 1.5, truth


def swiss_roll(rng, n, r):
    x, y, truth = gaussian(rng, n, 1, r)
    t = 1.5 * math.pi * (1 + 2 * ndtr(x[:, 0]))
    return np.column_stack([t * np.cos(t), t * np.sin(t)]) / 10, y, truth


def embedded(rng, n, d, wide, r, *, curved):
    def embed(z):
        if not curved:
            return z @ rng.normal(size=(d, wide))
        hidden = np.tanh(z @ rng.normal(size=(d, 64)) / math.sqrt(d) + 0.5 * rng.normal(size=64))
        return hidden @ rng.normal(size=(64, wide)) / 8

    x, y, truth = gaussian(rng, n, d, r)
    return embed(x), embed(y), truth


def noisy_embedding(rng, n, d, wide, r, noise):
    """Noise small enough to leave the truth unchanged to three digits."""
    x, y, truth = embedded(rng, n, d, wide, r, curved=False)
    return x + noise * rng.normal(size=x.shape), y + noise * rng.normal(size=y.shape), truth


def circle(rng, n, s, turns=1):
    """Angles a and a + N(0, s^2), wrapped noise negligible for small s."""
    a = rng.uniform(0, 2 * math.pi, size=(n, turns))
    b = a + s * rng.normal(size=(n, turns))
    truth = turns * (math.log(2 * math.pi) - 0.5 * math.log(2 * math.pi * math.e * s * s))
    return np.hstack([np.cos(a), np.sin(a)]), np.hstack([np.cos(b), np.sin(b)]), truth


def function_plus_noise(rng, n, f, s, *, laplace=False):
    """y = f(x) + noise with x standard normal; the entropy of y by quadrature."""
    x = rng.normal(size=(n, 1))
    noise = rng.laplace(size=(n, 1)) if laplace else rng.normal(size=(n, 1))
    centres = f(ndtri((np.arange(4000) + 0.5) / 4000))
    grid = np.linspace(centres.min() - 9 * s, centres.max() + 9 * s, 4001)
    z = (grid[:, None] - centres) / s
    kernel = np.exp(-np.abs(z)) / 2 if laplace else np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    density = kernel.mean(axis=1) / s
    entropy = -float((density * np.log(density + 1e-300)).sum()) * (grid[1] - grid[0])
    own = 1 + math.log(2 * s) if laplace else 0.5 * math.log(2 * math.pi * math.e * s * s)
    return x, f(x) + s * noise, entropy - own


def clayton(rng, n, theta=2.0):
    u, w = rng.uniform(size=(2, n))
    v = ((w ** (-theta / (1 + theta)) - 1) * u**-theta + 1) ** (-1 / theta)
    # The truth by Monte Carlo over the closed density of the copula.
    q = np.random.default_rng(1).uniform(size=(2, 400_000))
    b = ((q[1] ** (-theta / (1 + theta)) - 1) * q[0] ** -theta + 1) ** (-1 / theta)
    log_c = math.log(1 + theta) - (1 + theta) * np.log(q[0] * b)
    log_c -= (2 + 1 / theta) * np.log(q[0] ** -theta + b**-theta - 1)
    return ndtri(u)[:, None], np.log(v)[:, None], float(log_c.mean())


def four_clouds(rng, n, gap=4.0):
    """A shared label moves both sides; the truth by Monte Carlo over exact densities."""
    centres = gap * np.array([[0, 0], [1, 0], [0, 1], [1, 1]])

    def draw(generator, size):
        label = generator.integers(0, 4, size=size)
        return (centres[label] + generator.normal(size=(size, 2)) for _ in range(2))

    x, y = draw(rng, n)
    a, b = draw(np.random.default_rng(1), 200_000)
    pa, pb = (np.exp(-((v[:, None] - centres) ** 2).sum(-1) / 2) for v in (a, b))
    log_ratio = np.log((pa * pb).mean(1)) - np.log(pa.mean(1)) - np.log(pb.mean(1))
    return x, y, float(log_ratio.mean())


FAMILIES = {
    "normal 1": lambda g, n: gaussian(g, n, 1, 0.6),
    "normal 1, strong": lambda g, n: gaussian(g, n, 1, 0.98),
    "normal 5": lambda g, n: gaussian(g, n, 5, 0.6),
    "normal 10, strong": lambda g, n: gaussian(g, n, 10, 0.9),
    "normal 64": lambda g, n: gaussian(g, n, 64, 0.3),
    "sparse 2 in 25": lambda g, n: sparse(g, n, 25, 0.8, 2),
    "sparse 3 in 1024": lambda g, n: sparse(g, n, 1024, 0.9, 3),
    "none 1": lambda g, n: gaussian(g, n, 1, 0.0),
    "none 5": lambda g, n: gaussian(g, n, 5, 0.0),
    "none 64": lambda g, n: gaussian(g, n, 64, 0.0),
    "Student 1": lambda g, n: student(g, n, 1, 0.5, 1),
    "Student 2": lambda g, n: student(g, n, 2, 0.6, 3),
    "Student 5": lambda g, n: student(g, n, 5, 0.4, 2),
    "Student 3, r = 0": lambda g, n: student(g, n, 3, 0.0, 3),
    "uniform noise .1": lambda g, n: uniform_noise(g, n, 0.1),
    "uniform noise .75": lambda g, n: uniform_noise(g, n, 0.75),
    "rotated uniform noise": lambda g, n: rotated(g, uniform_noise(g, n, 0.3, 3)),
    "four clouds": lambda g, n: four_clouds(g, n),
    "parabola": lambda g, n: function_plus_noise(g, n, np.square, 0.3),
    "sine": lambda g, n: function_plus_noise(g, n, lambda v: np.sin(3 * v), 0.3),
    "Laplace noise": lambda g, n: function_plus_noise(g, n, lambda v: v, 0.5, laplace=True),
    "absolute value": lambda g, n: function_plus_noise(g, n, np.abs, 0.2, laplace=True),
    "Clayton": lambda g, n: clayton(g, n),
    "half-cube 5": lambda g, n: half_cube(g, n, 5, 0.6),
    "spiral 2": lambda g, n: spiral(g, n, 2),
    "spiral 3": lambda g, n: spiral(g, n, 3),
    "spiral 5": lambda g, n: spiral(g, n, 5),
    "swiss roll": lambda g, n: swiss_roll(g, n, 0.8),
    "circle": lambda g, n: circle(g, n, 0.3),
    "torus": lambda g, n: circle(g, n, 0.4, turns=2),
    "4 in 512": lambda g, n: embedded(g, n, 4, 512, 0.6, curved=False),
    "2 curved in 50": lambda g, n: embedded(g, n, 2, 50, 0.8, curved=True),
    "4 curved in 200": lambda g, n: embedded(g, n, 4, 200, 0.6, curved=True),
    "4 in 100, noisy": lambda g, n: noisy_embedding(g, n, 4, 100, 0.6, 0.01),
    "4 in 512, noisy": lambda g, n: noisy_embedding(g, n, 4, 512, 0.6, 0.01),
}


def draw(name, n, seed):
    return FAMILIES[name](np.random.default_rng([seed, list(FAMILIES).index(name)]), n)
