"""The laws that refute what one might read into Figure 1, each in a few lines."""

from __future__ import annotations

import math

import numpy as np

from estimators import InputError
from redundancy.synthetic.finite import FiniteLaw

__all__ = [
    "circle_code",
    "constant_target",
    "forgotten_target",
    "rotation",
    "sign_flip",
    "sphere_tip",
]

_SIGNS = np.array([[1.0], [-1.0]])


def rotation() -> FiniteLaw:
    """Build X = -X', Z = X: F = 0 and H(X|X') = 0 at the largest distance there is.

    Functional and informational redundancy do not imply geometric redundancy, nor that the layer
    can be skipped: with tail phi(x) = x the squared error is 4.

    Examples
    --------
    >>> law = rotation()
    >>> law.functional, law.h_cond, law.geometric, law.sq_dist
    (0.0, 0.0, 2.0, 4.0)
    """
    p = np.zeros((2, 2, 2))
    p[0, 0, 1] = p[1, 1, 0] = 0.5
    return FiniteLaw(p, _SIGNS, _SIGNS, _SIGNS)


def sign_flip(p: float = 0.3) -> FiniteLaw:
    """Build X' = X with probability 1 - p and -X else: Proposition 1 needs M = 2.

    P[rho > 0] = p and E rho = 2 p; the paper's M = 1 gives p.

    Examples
    --------
    >>> round(sign_flip(0.3).geometric, 12)
    0.6
    """
    if not 0.0 <= p <= 1.0:
        raise InputError(f"p is {p}; a probability lies in [0, 1]")
    joint = 0.5 * np.array([[1 - p, p], [p, 1 - p]])
    return FiniteLaw(joint[None], _SIGNS, _SIGNS, [[0.0]])


def circle_code(*, points: int = 360, neighbours: int = 5) -> FiniteLaw:
    """Build X' uniform on a circle of points, X uniform on the nearest few to it.

    Arbitrarily close, with P[rho > t] = 0 for small t, and H(X|X') = log(neighbours): proximal
    redundancy does not give a small conditional entropy.

    Parameters
    ----------
    points : int
        N, points on the circle.
    neighbours : int
        m, an odd number below N.

    Examples
    --------
    >>> import math
    >>> law = circle_code()
    >>> law.p_close(0.001), math.isclose(law.h_cond, math.log(5))
    (1.0, True)
    """
    if neighbours % 2 != 1 or not 1 <= neighbours < points:
        raise InputError(f"neighbours is {neighbours}; give an odd number below points = {points}")
    angle = 2 * math.pi * np.arange(points) / points
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    joint = np.zeros((points, points))
    for shift in range(-(neighbours // 2), neighbours // 2 + 1):
        joint[(np.arange(points) + shift) % points, np.arange(points)] = 1.0
    return FiniteLaw((joint / joint.sum())[None], circle, circle, [[0.0]])


def sphere_tip(eta: float = 0.01) -> FiniteLaw:
    """Build X = (sqrt(1 - eta^2), eta S), X' = (1, 0), Z = S for a fair sign S.

    E rho vanishes with eta and F = 1 throughout: geometric redundancy implies functional
    redundancy only with a Lipschitz regression, whose constant here is 1 / eta.

    Examples
    --------
    >>> law = sphere_tip(0.01)
    >>> law.functional, law.geometric < 1e-4
    (1.0, True)
    """
    if not 0.0 < eta <= 1.0:
        raise InputError(f"eta is {eta}; give a number in (0, 1]")
    side = math.sqrt(1 - eta * eta)
    upper = [[side, eta], [side, -eta]]
    p = np.zeros((2, 2, 1))
    p[0, 0, 0] = p[1, 1, 0] = 0.5
    return FiniteLaw(p, upper, [[1.0, 0.0]], _SIGNS)


def constant_target(k: int = 4) -> FiniteLaw:
    """Build independent layers, uniform on k points, and a constant target.

    F = 0 and H(X|X') = log k: functional redundancy does not imply informational redundancy.

    Examples
    --------
    >>> law = constant_target(4)
    >>> law.functional, round(law.h_cond, 6)
    (0.0, 1.386294)
    """
    if k < 2:
        raise InputError(f"k is {k}; give at least two points")
    return FiniteLaw(np.full((1, k, k), 1.0 / k**2), np.eye(k), np.eye(k), [[1.0]])


def forgotten_target() -> FiniteLaw:
    """Build Z = X' = ±1 and a constant X: a layer that erases what the target needs.

    H(X|X') = 0, I(Z; X|X') = 0 and F = 1: informational redundancy implies functional redundancy
    only under the Markov chain X' - X - Z, and the paper's Theorem 5 fails here.

    Examples
    --------
    >>> law = forgotten_target()
    >>> law.h_cond, law.cmi, law.functional
    (0.0, 0.0, 1.0)
    """
    p = np.zeros((2, 1, 2))
    p[0, 0, 0] = p[1, 0, 1] = 0.5
    return FiniteLaw(p, [[1.0]], _SIGNS, _SIGNS)
