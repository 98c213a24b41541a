"""Lipschitz constants: exact for matrices, estimates from below for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators import InputError
from redundancy.theory._result import TheoryResult

__all__ = [
    "jacobian_norm",
    "power_iteration",
    "secant_constant",
    "segment_norm",
    "spectral_norm",
]

Array = NDArray[np.float64]
Map = Callable[[Array], ArrayLike]

_HONESTY = (
    "a lower estimate of the Lipschitz constant, not an upper bound of it: a bound built on it is "
    "an estimate"
)


def spectral_norm(weight: ArrayLike) -> TheoryResult:
    r"""Lipschitz constant of a linear map: its largest singular value, exactly.

    .. math:: \|W\|_2 = \max_{|v| = 1} |W v|

    Parameters
    ----------
    weight : array_like, shape (m, n)

    Returns
    -------
    TheoryResult
        Of kind ``"exact"``.

    Raises
    ------
    InputError
        If `weight` is not a finite matrix.

    Examples
    --------
    >>> round(spectral_norm([[3.0, 0.0], [0.0, 4.0]]).value, 9)
    4.0
    """
    w = np.asarray(weight, dtype=np.float64)
    if w.ndim != 2 or w.size == 0 or not bool(np.isfinite(w).all()):
        raise InputError(f"weight has shape {w.shape}; give a finite matrix")
    value = float(np.linalg.norm(w, 2))
    return TheoryResult(
        value=value,
        kind="exact",
        unit="output norm per input norm",
        statement="Lip = ||W||_2 = value",
        forms={"corrected": value, "sharpest": value},
    )


def power_iteration(
    jvp: Map, vjp: Map, dim: int, *, iterations: int = 100, tolerance: float = 1e-9, seed: int = 0
) -> TheoryResult:
    r"""Estimate the norm of a Jacobian from products with it, from below.

    .. math:: |J v| / |v| \le \sigma_{\max}(J(x)) \le \mathrm{Lip}(f)

    Power iteration on :math:`J^\top J`; every iterate is on the left of the chain.

    When it lies: always in the same direction. It is a *lower* estimate of the norm at one point,
    which is itself a lower estimate of the Lipschitz constant; self-attention has no finite one
    globally (Kim et al. 2021), and normalisation layers blow up near zero input. A bound built on
    it holds along the trajectories measured at best.

    Parameters
    ----------
    jvp : callable
        v -> J v, taking and returning flat arrays.
    vjp : callable
        u -> J^T u.
    dim : int
        Length of v.
    iterations : int
        At most this many products with J and with J^T.
    tolerance : float
        Stop when the estimate grows by less than this share of itself.
    seed : int
        Of the starting vector.

    Returns
    -------
    TheoryResult
        Of kind ``"estimate"``; ``forms["iterations"]`` were used, ``forms["last_growth"]`` is the
        relative growth in the last of them.

    Raises
    ------
    InputError
        If a product is not finite, or `dim` or `iterations` is below 1.

    Examples
    --------
    >>> w = np.diag([3.0, 4.0])
    >>> result = power_iteration(lambda v: w @ v, lambda u: w.T @ u, 2)
    >>> round(result.value, 6), result.kind
    (4.0, 'estimate')

    References
    ----------
    Kim, Papamakarios, Mnih (2021), "The Lipschitz constant of self-attention".
    """
    if dim < 1 or iterations < 1:
        raise InputError(f"dim is {dim} and iterations {iterations}; both are at least 1")
    v = np.random.default_rng(seed).normal(size=dim)
    v /= np.linalg.norm(v)
    value, growth, used = 0.0, math.inf, 0
    for i in range(iterations):
        used = i + 1
        forward = _finite(jvp(v), "jvp")
        norm = float(np.linalg.norm(forward))
        growth = (norm - value) / norm if norm > 0.0 else 0.0
        value = max(value, norm)
        if norm == 0.0 or (i > 0 and growth < tolerance):
            break
        backward = _finite(vjp(forward / norm), "vjp")
        size = float(np.linalg.norm(backward))
        if size == 0.0:
            break
        v = backward / size
    notes = [_HONESTY]
    if growth >= tolerance and used == iterations:
        notes.append(f"still growing by {growth:.1g} when the iterations ended: give more")
    return TheoryResult(
        value=value,
        kind="estimate",
        unit="output norm per input norm",
        statement="Lip >= sigma_max(J) >= value",
        forms={"sharpest": value, "iterations": float(used), "last_growth": max(growth, 0.0)},
        notes=tuple(notes),
    )


def jacobian_norm(
    function: Callable[[Any], Any], x: Any, *, iterations: int = 50, seed: int = 0
) -> TheoryResult:
    """Estimate the norm of a torch function's Jacobian at `x`, from below.

    :func:`power_iteration` with the products taken by automatic differentiation.

    Parameters
    ----------
    function : callable
        A tensor to a tensor, differentiable.
    x : torch.Tensor
        Where the Jacobian is taken; any shape.
    iterations : int
    seed : int

    Returns
    -------
    TheoryResult
        Of kind ``"estimate"``.

    Raises
    ------
    InputError
        If a product is not finite.

    Examples
    --------
    >>> import torch
    >>> w = torch.diag(torch.tensor([3.0, 4.0]))
    >>> round(jacobian_norm(lambda v: w @ v, torch.ones(2)).value, 4)
    4.0
    """
    import torch

    products: Any = torch.autograd.functional

    point = torch.as_tensor(x).detach()
    with torch.no_grad():
        out_shape = function(point).shape

    def tensor(a: Array, shape: Any) -> Any:
        return torch.as_tensor(a, dtype=point.dtype, device=point.device).reshape(shape)

    def flat(a: Any) -> Array:
        return np.asarray(a.detach().double().cpu().reshape(-1).numpy(), dtype=np.float64)

    return power_iteration(
        lambda v: flat(products.jvp(function, point, tensor(v, point.shape))[1]),
        lambda u: flat(products.vjp(function, point, tensor(u, out_shape))[1]),
        int(point.numel()),
        iterations=iterations,
        tolerance=1e-6,
        seed=seed,
    )


def segment_norm(
    norm_at: Callable[[float], TheoryResult], *, points: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1)
) -> TheoryResult:
    r"""Estimate a Lipschitz constant along the segment between two states.

    .. math:: |f(y) - f(x)| \le \sup_{0 \le s \le 1} \sigma_{\max}(J(x + s (y - x)))\, |y - x|

    The supremum bounds the change along this one segment; the maximum over finitely many points
    estimates it from below.

    Parameters
    ----------
    norm_at : callable
        s -> the norm of the Jacobian at x + s (y - x), e.g. by :func:`jacobian_norm`.
    points : sequence of float
        Values of s.

    Returns
    -------
    TheoryResult
        Of kind ``"estimate"``.

    Raises
    ------
    InputError
        If there are no points.

    Examples
    --------
    >>> result = segment_norm(lambda s: spectral_norm([[1.0 + s]]))
    >>> result.value, result.kind
    (2.0, 'estimate')
    """
    if len(points) == 0:
        raise InputError("points is empty; give values of s in [0, 1]")
    values = [norm_at(float(s)).value for s in points]
    value = max(values)
    return TheoryResult(
        value=value,
        kind="estimate",
        unit="output norm per input norm",
        statement="sup of sigma_max(J) on the segment >= value",
        forms={"sharpest": value, "least": min(values)},
        notes=(_HONESTY,),
    )


def secant_constant(*, fx: ArrayLike, fy: ArrayLike, x: ArrayLike, y: ArrayLike) -> TheoryResult:
    r"""Ratio by which a map stretched one difference: ``|f(x) - f(y)| / |x - y|``.

    Makes the recursion of Theorem 6 an identity for this sample, at the price of running the map
    at both points; for any other sample it is a lower estimate of the Lipschitz constant.

    Parameters
    ----------
    fx, fy : array_like
        The map's values.
    x, y : array_like
        Where they were taken.

    Returns
    -------
    TheoryResult
        Of kind ``"estimate"``; 0 where x = y and fx = fy.

    Raises
    ------
    InputError
        If x = y but fx differs from fy, so that the map is not a function of its argument.

    Examples
    --------
    >>> secant_constant(fx=[2.0], fy=[0.0], x=[1.0], y=[0.0]).value
    2.0
    """
    out = float(np.linalg.norm(np.asarray(fx, dtype=np.float64) - np.asarray(fy, dtype=np.float64)))
    into = float(np.linalg.norm(np.asarray(x, dtype=np.float64) - np.asarray(y, dtype=np.float64)))
    if into == 0.0 and out > 0.0:
        raise InputError("x and y agree but fx and fy do not; the map has another input besides")
    value = out / into if into > 0.0 else 0.0
    return TheoryResult(
        value=value,
        kind="estimate",
        unit="output norm per input norm",
        statement="Lip >= value",
        forms={"sharpest": value},
        notes=("exact for this sample; " + _HONESTY,),
    )


def _finite(a: ArrayLike, name: str) -> Array:
    out = np.asarray(a, dtype=np.float64).reshape(-1)
    if not bool(np.isfinite(out).all()):
        raise InputError(f"{name} returned values that are not finite; is the input near zero?")
    return out
