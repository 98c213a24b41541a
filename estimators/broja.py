"""BROJA partial information decomposition with a certificate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._broja_certificate import certificate
from estimators._broja_decompose import DEFAULT_TOLERANCE, decompose
from estimators._broja_input import as_joint, as_marginals
from estimators._errors import InputError
from estimators._pid_result import PID
from estimators.pid_samples import pid_from_samples

__all__ = ["PID", "broja_pid", "broja_pid_many", "verify_certificate"]

FloatArray = NDArray[np.float64]

# About a third of the time the solver holds the interpreter lock.
_THREADS_UP_TO = 4


def broja_pid(
    p: ArrayLike | None = None,
    *,
    p_zx: ArrayLike | None = None,
    p_zy: ArrayLike | None = None,
    samples: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    tol: float = DEFAULT_TOLERANCE,
    **options: Any,
) -> PID:
    r"""Decompose what two sources say of a target: the PID of Bertschinger et al. (BROJA).

    The target is Z: the FIRST axis of `p`, the first of `samples`. With Q over all joints that
    share P(z,x) and P(z,y),

    .. math:: f^* = \min_Q \sum q \log \frac{q_{zxy}}{q_{xy}}, \quad
              U_x = H(Z|Y) + f^*, \quad U_y = H(Z|X) + f^*, \quad
              R = I(Z;X) - U_x, \quad S = I(Z;X,Y) - R - U_x - U_y.

    The answer carries a coupling q, which bounds f* from above, and a dual (lam, mu), which bounds
    it from below; `certified` says whether the two meet within `tol`. Nothing else is claimed:
    an answer whose bounds do not meet comes back with status ``"uncertified"``, an error
    diagnostic and its honest interval. What can lie is the input: atoms of estimated
    probabilities are biased (synergy most), and all atoms depend on how states were quantised.

    Parameters
    ----------
    p : array_like, shape (n_z, n_x, n_y)
        Joint probabilities ``p[z, x, y]``.
    p_zx, p_zy : array_like, shapes (n_z, n_x) and (n_z, n_y)
        Instead of `p`: the two marginals, which determine everything but the synergy.
    samples : tuple (z, x, y)
        Instead of `p`: n samples of target and sources. Integers are taken as symbols, floating
        point states (n, d) are quantised; see `estimators.pid_samples.pid_from_samples` for the
        `options` (`n_states`, `quantiser`, `groups`, `bias`, `seed`, ...).
    tol : float
        Largest certified gap, in nats, that counts as certified. Default: one millionth of a bit.
        The solver aims a thousand times lower.

    Returns
    -------
    PID
        Atoms in nats; ``.to("bits")`` converts.

    Raises
    ------
    InputError
        If the input is no distribution (negative, NaN, sum off 1 by more than 1e-9), has the
        wrong rank, the marginals disagree on P(z), or the problem does not fit in memory.

    Examples
    --------
    >>> xor = np.zeros((2, 2, 2))
    >>> for x in range(2):
    ...     for y in range(2):
    ...         xor[x ^ y, x, y] = 1 / 4
    >>> pid = broja_pid(xor).to("bits")
    >>> round(pid.synergistic, 6), pid.certified
    (1.0, True)

    References
    ----------
    Bertschinger, Rauh, Olbrich, Jost, Ay 2014, "Quantifying unique information", eqs. (9)-(12).
    Makkeh, Theis, Vicente 2017 (duality). Altschuler, Weed, Rigollet 2017 (rounding).
    """
    given = sum(part is not None for part in (p, samples)) + (p_zx is not None or p_zy is not None)
    if given != 1:
        raise InputError(
            "broja_pid takes exactly one of p (p[z, x, y]), p_zx with p_zy, or samples=(z, x, y); "
            f"got {given}"
        )
    _check_tolerance(tol)
    if samples is not None:
        if not isinstance(samples, tuple | list) or len(samples) != 3:
            raise InputError(
                "samples is a tuple of three, (z, x, y): the target first, then the two sources"
            )
        return pid_from_samples(*samples, tol=tol, **options)
    if options:
        raise InputError(
            f"{', '.join(sorted(options))}: only broja_pid(samples=...) takes such options"
        )
    if p is not None:
        joint = as_joint(p)
        return decompose(joint.sum(axis=2), joint.sum(axis=1), joint, tol=tol)
    if p_zx is None or p_zy is None:
        missing = "p_zx" if p_zx is None else "p_zy"
        raise InputError(f"{missing} is missing; the program needs both marginals, p_zx and p_zy")
    a, b = as_marginals(p_zx, p_zy)
    return decompose(a, b, None, tol=tol)


def _check_tolerance(tol: float) -> None:
    if isinstance(tol, str) or not tol > 0:
        raise InputError(f"tol is {tol!r}; the tolerance is a positive number of nats, e.g. 1e-6")


def verify_certificate(pid: PID, p_zx: ArrayLike, p_zy: ArrayLike) -> tuple[float, float]:
    """Recompute the bounds on f*, in nats, from nothing but the answer and the marginals.

    The coupling is rounded to the marginals, lam is shifted until the dual constraints hold;
    neither step knows the solver.

    Parameters
    ----------
    pid : PID
        Only `coupling` and `dual` are read.
    p_zx, p_zy : array_like
        The marginals that were decomposed.

    Returns
    -------
    tuple of float
        (low, high) with ``low <= f* <= high``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = rng.dirichlet(np.ones(27)).reshape(3, 3, 3)
    >>> low, high = verify_certificate(broja_pid(p), p.sum(axis=2), p.sum(axis=1))
    >>> bool(high - low < 1e-6)
    True
    """
    a, b = as_marginals(p_zx, p_zy)
    return certificate(pid.coupling, *pid.dual, a, b)


def broja_pid_many(
    problems: Sequence[ArrayLike | tuple[ArrayLike, ArrayLike]],
    *,
    tol: float = DEFAULT_TOLERANCE,
    n_jobs: int = -1,
) -> list[PID]:
    """Decompose many distributions side by side, one BLAS thread each.

    Up to four at once run in threads of this process, which start at no cost: the solver spends
    most of its time outside the interpreter lock. More run in processes, which take about a second
    to start and then share nothing.

    Parameters
    ----------
    problems : sequence
        Each a joint ``p[z, x, y]`` or a tuple ``(p_zx, p_zy)``.
    tol : float
        As in `broja_pid`.
    n_jobs : int
        How many at once, as joblib counts them: -1 means one per core; 1 works one by one.

    Returns
    -------
    list of PID
        In the order of `problems`.

    Raises
    ------
    InputError
        As `broja_pid`, naming the problem; none is solved if one is bad.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> ps = [rng.dirichlet(np.ones(8)).reshape(2, 2, 2) for _ in range(3)]
    >>> [pid.certified for pid in broja_pid_many(ps, n_jobs=1)]
    [True, True, True]
    """
    from joblib import Parallel, delayed, effective_n_jobs
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships none

    _check_tolerance(tol)
    checked = [_checked(index, problem) for index, problem in enumerate(problems)]
    jobs = min(effective_n_jobs(n_jobs), len(checked))
    if jobs <= 1:
        return [decompose(*parts, tol=tol) for parts in checked]
    if jobs > _THREADS_UP_TO:
        workers = Parallel(n_jobs=jobs, backend="loky", inner_max_num_threads=1)
    else:
        workers = Parallel(n_jobs=jobs, backend="threading")
    with threadpool_limits(1, user_api="blas"):
        return list(workers(delayed(decompose)(*parts, tol=tol) for parts in checked))


def _checked(
    index: int, problem: ArrayLike | tuple[ArrayLike, ArrayLike]
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    try:
        if isinstance(problem, tuple):
            if len(problem) != 2:
                raise InputError(
                    f"a tuple of {len(problem)} is neither (p_zx, p_zy) nor p[z, x, y]; pass a "
                    "joint as an array"
                )
            return *as_marginals(*problem), None
        joint = as_joint(problem)
    except InputError as error:
        raise InputError(f"problem {index}: {error}") from error
    return joint.sum(axis=2), joint.sum(axis=1), joint
