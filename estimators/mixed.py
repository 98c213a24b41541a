"""Nearest-neighbour information where some variables are symbols, atoms or mixtures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import digamma

from estimators._arrays import FloatArray, IntArray, check_lengths, matrix, symbols
from estimators._errors import InputError
from estimators._knn import Prepared, assemble, interval_for, prepare, saturation
from estimators._mixture import Mixture, count_mixture, crowded
from estimators._neighbours import Metric, count_within, resolve_metric, search
from estimators._types import Diagnostic, Estimate

__all__ = ["mixed_cmi", "mixed_mi", "ross_cmi", "ross_mi"]

Float = npt.NDArray[np.float64]
Norm = Literal["chebyshev", "euclidean"]


def _ross(
    spaces: Sequence[FloatArray], codes: IntArray, k: int, norm: Norm
) -> tuple[float, int, int]:
    """Ross's estimate, the samples alone in their class, and those whose k-th copy is exact."""
    n = len(codes)
    sizes = np.bincount(codes)
    radius = np.zeros(n)
    used = np.zeros(n, dtype=np.int64)
    for label, size in enumerate(sizes):
        if size < 2:
            continue
        rows = np.flatnonzero(codes == label)
        own = min(k, size - 1)
        found = search([s[rows] for s in spaces], own, metric=norm)
        radius[rows] = found.radius
        used[rows] = own
    keep = used > 0
    alone = int(n - keep.sum())
    if not keep.any():
        raise InputError(
            f"each of the {n} samples has a label of its own, so no sample has a neighbour in its "
            "class; pass labels that repeat"
        )
    # Points alone in their class say nothing of their class's density and are left out.
    within = count_within([s[keep] for s in spaces], radius[keep], metric=norm)
    copies = int((radius[keep] == 0).sum())
    value = (
        digamma(keep.sum())
        + digamma(used[keep]).mean()
        - digamma(sizes[codes[keep]]).mean()
        - digamma(within + 1).mean()
    )
    return float(value), alone, copies


def _labelled(
    named: dict[str, Any], labels: Any, *, k: int, groups: Any, ci: Any, seed: int
) -> tuple[Prepared, IntArray, int]:
    p = prepare(named, k=k, groups=groups, ci=ci, seed=seed)
    codes, count = symbols(labels, "labels")
    check_lengths(**p.arrays, labels=codes)
    return p, codes, count


def _class_findings(
    codes: IntArray, alone: int, copies: int, n: int, k: int
) -> tuple[Diagnostic, ...]:
    out = []
    sizes = np.bincount(codes)
    small = int((sizes < 10 * k).sum())
    if alone or small:
        out.append(
            Diagnostic(
                code="small-classes",
                severity="error" if alone > 0.1 * n else "warning",
                message=f"{small} of {len(sizes)} classes have fewer than {10 * k} samples and "
                f"{alone} samples are alone in theirs (left out); merge rare classes",
            )
        )
    if copies:
        out.append(
            Diagnostic(
                code="duplicates",
                severity="error" if copies > 0.1 * n else "warning",
                message=f"{copies} of {n} samples are exact copies of others of their class, which "
                "have no density; use mixed_mi",
            )
        )
    return tuple(out)


def ross_mi(
    x: Any,
    labels: Any,
    *,
    k: int = 3,
    metric: Metric = "auto",
    groups: Any = None,
    ci: float | None = 0.95,
    seed: int = 0,
) -> Estimate:
    r"""Mutual information of a continuous variable and a symbol (Ross 2014), in nats.

    .. math:: \hat I = \psi(n) + \langle\psi(k_i)\rangle - \langle\psi(n_{c(i)})\rangle
        - \langle\psi(m_i)\rangle

    with m_i the samples of any class within the distance of the k-th neighbour of the own class.
    Falls towards 0 with the dimension (a true 0.64 reads 0.66, 0.55, 0.37 and 0.23 in 4, 16, 64
    and 256 dimensions): above about 8 use a cross-validated probe.

    Parameters
    ----------
    x : float array, shape (n, d)
    labels : array of int, str or bool, shape (n,)
        Classes; samples alone in their class are left out.
    k, metric, groups, ci, seed
        As in `estimators.ksg.ksg_mi`.

    Returns
    -------
    Estimate
        In nats.

    Raises
    ------
    InputError
        On integer x, float labels, NaN, unequal lengths, labels that never repeat.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(0, 2, size=1000)
    >>> x = rng.normal(size=1000) + 10 * labels
    >>> bool(abs(ross_mi(x, labels, ci=None).value - np.log(2)) < 0.01)
    True

    References
    ----------
    Ross 2014, eq. 6.
    """
    p, codes, count = _labelled({"x": x}, labels, k=k, groups=groups, ci=ci, seed=seed)
    a = p.arrays["x"]
    norm = resolve_metric(metric, p.dimension)
    value, alone, copies = _ross([a], codes, p.k, norm)
    return assemble(
        p,
        value,
        f"Ross, k = {p.k}, {norm}",
        interval=interval_for(p, lambda rows: _ross([a[rows]], codes[rows], p.k, norm)[0], value),
        params={"metric": norm, "dimension": p.dimension, "classes": count, "left_out": alone},
        found=(*_class_findings(codes, alone, copies, p.n, p.k), *_depth(p)),
    )


def ross_cmi(
    x: Any,
    labels: Any,
    given: Any,
    *,
    k: int = 3,
    metric: Metric = "auto",
    groups: Any = None,
    ci: float | None = 0.95,
    seed: int = 0,
) -> Estimate:
    r"""Conditional information I(Z; X | Y) of a symbol Z by Ross's chain, in nats.

    .. math:: I(Z; X | Y) = I(Z; X, Y) - I(Z; Y)

    The bias of the joint term grows with the dimension and does not cancel: a true 0.27 reads
    0.25, 0.16, 0.10 and 0.05 with 4, 16, 64 and 256 dimensions a side.

    Parameters
    ----------
    x, given : float array, shape (n, dx) and (n, dy)
    labels : array of int, str or bool, shape (n,)
    k, metric, groups, ci, seed
        As in `estimators.ksg.ksg_mi`.

    Returns
    -------
    Estimate
        In nats.

    Raises
    ------
    InputError
        As `ross_mi`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(0, 2, size=1000)
    >>> y = rng.normal(size=1000) + 10 * labels
    >>> bool(abs(ross_cmi(rng.normal(size=1000), labels, y, ci=None).value) < 0.03)
    True

    References
    ----------
    Ross 2014.
    """
    p, codes, count = _labelled(
        {"x": x, "given": given}, labels, k=k, groups=groups, ci=ci, seed=seed
    )
    a, b = p.arrays["x"], p.arrays["given"]
    norm = resolve_metric(metric, p.dimension)

    def chain(rows: Any) -> float:
        joint = _ross([a[rows], b[rows]], codes[rows], p.k, norm)[0]
        return joint - _ross([b[rows]], codes[rows], p.k, norm)[0]

    _, alone, copies = _ross([a, b], codes, p.k, norm)
    value = chain(slice(None))
    return assemble(
        p,
        value,
        f"Ross chain, k = {p.k}, {norm} within each side",
        interval=interval_for(p, chain, value),
        params={"metric": norm, "dimension": p.dimension, "classes": count, "left_out": alone},
        found=(*_class_findings(codes, alone, copies, p.n, p.k), *_depth(p)),
    )


def _depth(p: Prepared) -> tuple[Diagnostic, ...]:
    return tuple(d for d in saturation(-np.inf, p.n, p.k, p.dimension))


def _number_or_codes(a: Any, name: str) -> FloatArray:
    """Read a variable that may be continuous, symbolic or both; symbols become unit vectors."""
    from estimators._arrays import to_numpy

    raw = to_numpy(a, name)
    if raw.dtype.kind in "US":
        codes, count = symbols(raw, name)
        return np.eye(count)[codes] if count <= 64 else codes[:, None].astype(np.float64)
    if raw.dtype.kind in "iub":
        raw = raw.astype(np.float64)
    return matrix(raw, name)


def mixed_mi(
    x: Any,
    y: Any,
    *,
    k: int = 3,
    metric: Metric = "auto",
    groups: Any = None,
    ci: float | None = 0.95,
    seed: int = 0,
) -> Estimate:
    r"""Mutual information of mixtures of atoms and densities (Gao et al. 2017), in nats.

    .. math:: \hat I = \langle \psi(\tilde k_i) + \log n - \psi(n_{x,i} + 1) - \psi(n_{y,i} + 1)
        \rangle

    with :math:`\tilde k_i` the size of the atom where the k-th neighbour is at distance 0, and k
    elsewhere. For continuous data it is `ksg_mi` up to :math:`\log n - \psi(n)`; it takes copies,
    integers and strings, and shares the bias of k-NN in high dimension.

    Where values repeat in one side only (rounded numbers, an integer), many samples lie at the
    very radius. The authors' code leaves them all out, and reads up to 0.2 nats too much (0.6 with
    both sides rounded); here they are all counted, in the joint too, as in the paper's algorithm.
    What remains is at most about 0.05 nats with one side rounded, 0.12 with both
    (docs/estimators.md), and a diagnostic says where.

    Parameters
    ----------
    x, y : array, shape (n, dx) and (n, dy)
        Floats, integers (as numbers on a line) or strings (as symbols).
    k, metric, groups, ci, seed
        As in `estimators.ksg.ksg_mi`.

    Returns
    -------
    Estimate
        In nats; ``params["atoms"]`` counts the samples on atoms, ``params["ties"]`` says whether
        any distances were tied. Diagnostics ``"small-atoms"`` and ``"smeared"`` say where values
        repeat too seldom to be atoms, or too many distances are equal.

    Raises
    ------
    InputError
        On NaN, unequal lengths, constant sides, fewer than k + 1 samples.

    Examples
    --------
    >>> x = np.random.default_rng(0).integers(0, 4, size=1000)
    >>> bool(abs(mixed_mi(x, x, ci=None).value - np.log(4)) < 0.01)
    True

    References
    ----------
    Gao, Kannan, Oh and Viswanath 2017, algorithm 1 (strict counts as in the
    authors' code where no distance is tied).
    """
    p = prepare({"x": x, "y": y}, k=k, groups=groups, ci=ci, seed=seed, read=_number_or_codes)

    def local(m: Mixture) -> Float:
        near_x, near_y = (digamma(c) for c in m.counts)
        return np.asarray(np.log(len(m.order)) + digamma(m.order) - near_x - near_y, np.float64)

    return _of_mixture(p, "Gao mixture", [(0,), (1,)], local, metric)


def _of_mixture(
    p: Prepared,
    name: str,
    subsets: Sequence[tuple[int, ...]],
    local: Callable[[Mixture], Float],
    metric: Metric,
) -> Estimate:
    norm = resolve_metric(metric, p.dimension)
    spaces = list(p.arrays.values())
    whole = count_mixture(spaces, subsets, p.k, norm)

    def statistic(rows: Any) -> float:
        part = count_mixture([s[rows] for s in spaces], subsets, p.k, norm, tied=whole.tied)
        return float(local(part).mean())

    value, atoms = float(local(whole).mean()), int(whole.atom.sum())
    return assemble(
        p,
        value,
        f"{name}, k = {p.k}, {norm} within each side",
        interval=interval_for(p, statistic, value),
        params={"metric": norm, "dimension": p.dimension, "atoms": atoms, "ties": whole.tied},
        found=(*crowded(whole, p.k), *(_depth(p) if atoms < p.n else ())),
    )


def mixed_cmi(
    x: Any,
    y: Any,
    z: Any,
    *,
    k: int = 3,
    metric: Metric = "auto",
    groups: Any = None,
    ci: float | None = 0.95,
    seed: int = 0,
) -> Estimate:
    r"""Conditional information I(X; Y | Z) of mixtures (Mesner and Shalizi 2020), in nats.

    .. math:: \hat I = \langle \psi(\tilde k_i) - \psi(n_{xz,i}) - \psi(n_{yz,i}) + \psi(n_{z,i})
        \rangle

    For I(Z; X_l | X_{l-1}) with a symbolic target pass the target as `x`. The authors clip at 0;
    here a negative value stays, as it shows the noise. Ties are counted as in `mixed_mi`. Falls
    towards 0 in high dimension.

    Parameters
    ----------
    x, y, z : array, shape (n, dx), (n, dy) and (n, dz)
        Floats, integers (as numbers on a line) or strings (as symbols).
    k, metric, groups, ci, seed
        As in `estimators.ksg.ksg_mi`.

    Returns
    -------
    Estimate
        In nats.

    Raises
    ------
    InputError
        As `mixed_mi`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, z = rng.integers(0, 2, size=1000), rng.integers(0, 2, size=1000)
    >>> bool(abs(mixed_cmi(x, x ^ z, z, ci=None).value - np.log(2)) < 0.02)
    True

    References
    ----------
    Mesner and Shalizi 2020, algorithm 1.
    """
    p = prepare(
        {"x": x, "y": y, "z": z}, k=k, groups=groups, ci=ci, seed=seed, read=_number_or_codes
    )

    def local(m: Mixture) -> Float:
        xz, yz, zz = (digamma(c) for c in m.counts)
        return np.asarray(digamma(m.order) - xz - yz + zz, np.float64)

    return _of_mixture(p, "Mesner-Shalizi mixture", [(0, 2), (1, 2), (2,)], local, metric)
