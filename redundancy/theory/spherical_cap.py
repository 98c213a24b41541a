r"""Share of the unit sphere within a cosine distance of a point, on a logarithmic scale.

With :math:`a = (d-1)/2`, :math:`u = 1 - t` and :math:`z = t(2-t) = 1 - u^2`, the share is
:math:`\tfrac12 I_z(a, \tfrac12)` for t <= 1 and one minus that of 2 - t beyond. It underflows
long before d reaches the width of a language model (at d = 4096 and t = 0.05 it is
:math:`e^{-4771}`), and I_z as a function of z loses digits near t = 1, so neither is computed by
way of the other: near t = 1 as a function of u, elsewhere from the continued fraction with its
prefactor in logarithms.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from estimators import InputError
from redundancy.theory._gamma import gamma_ratio

__all__ = ["log_spherical_cap"]

_LOG2 = math.log(2.0)
_SPLITTER = 134217729.0  # 2**27 + 1, Dekker's constant for splitting a double in two halves


def log_spherical_cap(d: ArrayLike, t: ArrayLike) -> Any:
    r"""Logarithm of the share of the unit sphere within cosine distance t of a given point.

    .. math::
        \log \mathrm{cap}(d, t) = \log \tfrac12 I_{t(2-t)}\!\left(\tfrac{d-1}2, \tfrac12\right)
        \ (0 \le t \le 1), \qquad
        \mathrm{cap}(d, t) = 1 - \mathrm{cap}(d, 2 - t) \ (1 < t \le 2).

    It is the probability that two independent directions, one of them uniform, fall within t of
    each other, which Theorem 3 compares with. States of a network are not uniform on the sphere:
    on real data this is a reference value, never a bound. Accurate to a relative 1e-13 for
    d = 2 .. 8192 and every t in (0, 2].

    Parameters
    ----------
    d : int or array_like of int
        Dimension of the space (the sphere has d - 1), at least 2.
    t : float or array_like of float
        Cosine distance; broadcast against `d`.

    Returns
    -------
    float or ndarray of float64
        In nats, at most 0; minus infinity for t <= 0, and 0 for t >= 2. A float if both arguments
        are scalars.

    Raises
    ------
    InputError
        If d is not an integer of at least 2, or t is NaN.

    Examples
    --------
    >>> round(log_spherical_cap(4096, 0.05), 3)
    -4771.408
    >>> log_spherical_cap(3, [0.5, 1.0, 2.0]).round(6)
    array([-1.386294, -0.693147,  0.      ])

    References
    ----------
    Li (2011), "Concise formulas for the area and volume of a hyperspherical cap", eq. (1).
    """
    dims, distances = np.broadcast_arrays(np.asarray(d), np.asarray(t, dtype=np.float64))
    if dims.dtype.kind not in "iuf" or not bool(np.all((dims == np.floor(dims)) & (dims >= 2))):
        raise InputError(f"d is {d!r}; the dimension is an integer of at least 2")
    if bool(np.isnan(distances).any()):
        raise InputError("t holds NaN; a cosine distance is a number in [0, 2]")
    values = [_log_cap(int(i), float(x)) for i, x in zip(dims.flat, distances.flat, strict=True)]
    if dims.ndim == 0:
        return values[0]
    return np.array(values, dtype=np.float64).reshape(dims.shape)


def _log_cap(d: int, t: float) -> float:
    from scipy.special import betaincc

    if t <= 0.0:
        return -math.inf
    if t >= 2.0:
        return 0.0
    if d == 2:  # arcs have a closed form, and betaincc(1/2, 1/2, .) loses digits near 0
        arc = 2.0 * math.asin(math.sqrt(0.5 * min(t, 2.0 - t))) / math.pi
        return math.log(arc) if t <= 1.0 else math.log1p(-arc)
    a = 0.5 * (d - 1)
    u = 1.0 - t  # exact for t >= 0.5, and for smaller t its rounding does no harm
    if u * u <= 0.5 and a * u * u < 50.0:
        smaller = 0.5 * float(betaincc(0.5, a, u * u))
        return math.log(smaller) if t <= 1.0 else math.log1p(-smaller)
    if t < 1.0:
        log_z = math.log(t * (2.0 - t)) if t < 0.5 else math.log1p(-u * u)
        return a * log_z + math.log(_factor(a, t, u)) - _LOG2
    # Beyond a half sphere the value is about minus the opposite cap, whose own relative error
    # counts: there a * log z, correct to a relative 1e-16, would lose three digits.
    s = 2.0 - t
    return math.log1p(-0.5 * _power_of_z(s, d - 1) * _factor(a, s, u)) + 0.0


def _factor(a: float, t: float, u: float) -> float:
    """I_z(a, 1/2) divided by z**a, for t below 1."""
    return abs(u) * gamma_ratio(a) / math.sqrt(math.pi) * _continued_fraction(a, t * (2.0 - t))


def _continued_fraction(a: float, x: float) -> float:
    """Lentz's evaluation of the continued fraction of I_x(a, 1/2), prefactor left out."""
    b = 0.5
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if d != 0.0 else tiny)
    h = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        change = 1.0
        for coefficient in (even, odd):
            d = 1.0 + coefficient * d
            c = 1.0 + coefficient / c
            d = 1.0 / (d if d != 0.0 else tiny)
            c = c if c != 0.0 else tiny
            change = d * c
            h *= change
        if abs(change - 1.0) < 1e-16:
            break
    return h


def _two_product(a: float, b: float) -> tuple[float, float]:
    """Return a * b as the sum of a double and its rounding error (Dekker)."""
    p = a * b
    t = _SPLITTER * a
    a_high = t - (t - a)
    t = _SPLITTER * b
    b_high = t - (t - b)
    a_low, b_low = a - a_high, b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def _multiply(x: tuple[float, float], y: tuple[float, float]) -> tuple[float, float]:
    p, e = _two_product(x[0], y[0])
    e += x[0] * y[1] + x[1] * y[0]
    high = p + e
    return high, e - (high - p)


def _power_of_z(s: float, n: int) -> float:
    """(s (2 - s))**(n / 2) in doubled precision: an error of z counts n / 2 times in its power."""
    two_minus = 2.0 - s
    missing = (2.0 - two_minus) - s  # what the rounding of 2 - s left out
    product, error = _two_product(s, two_minus)
    z = (product, error + s * missing)
    root = math.sqrt(z[0])
    square, error = _two_product(root, root)
    base = (root, ((z[0] - square) - error + z[1]) / (2.0 * root))
    result = (1.0, 0.0)
    for bit in bin(n)[2:]:
        result = _multiply(result, result)
        if bit == "1":
            result = _multiply(result, base)
    return result[0] + result[1]
