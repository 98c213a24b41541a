"""Are states uniform on the sphere? The assumption of Theorem 3, held against data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from estimators import InputError
from estimators._arrays import group_codes, matrix
from redundancy.theory.spherical_cap import log_spherical_cap

__all__ = ["SphereCheck", "check_uniform_sphere"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SphereCheck:
    """What `check_uniform_sphere` found.

    Parameters
    ----------
    plausible : bool
        True if the directions look uniform by both tests; never a proof that they are.
    mean_cos : float
        Mean cosine of pairs from different groups; 0 if uniform.
    p_value : float
        Of Rayleigh's test that the mean direction is zero (one sample per group).
    effective_dimension : float
        Participation ratio of the uncentred second moment; d if uniform.
    d, n, t : int, int, float
        Dimension, samples in the test (one per group), threshold.
    q_hat : float
        Share of pairs from different groups within distance t.
    log_cap : float
        Logarithm of what that share would be for uniform directions.
    message : str
        The finding in one sentence.
    """

    plausible: bool
    mean_cos: float
    p_value: float
    effective_dimension: float
    d: int
    n: int
    t: float
    q_hat: float
    log_cap: float
    message: str

    def __bool__(self) -> bool:
        return self.plausible

    def __str__(self) -> str:
        return self.message


def check_uniform_sphere(
    x: Any,
    *,
    t: float,
    groups: ArrayLike | None = None,
    max_samples: int = 2000,
    seed: int = 0,
) -> SphereCheck:
    r"""Test whether the directions of states could be uniform on the unit sphere.

    Two tests at level 0.01, on one sample per group: Rayleigh's, of the mean direction
    (:math:`d\, n\, |\bar u|^2 \sim \chi^2_d` if uniform, for large n d), and a binomial test of the
    share of pairs closer than t against :math:`\mathrm{cap}(d, t)`, over disjoint pairs. States of
    language models fail the first at once: their mean cosine is far from 0.

    Parameters
    ----------
    x : array_like, shape (n, d)
        States; their lengths do not matter.
    t : float
        The threshold Theorem 3 is used at.
    groups : array_like, shape (n,), optional
        Cluster of each state (its image or prompt).
    max_samples : int
        At most this many samples are compared pairwise.
    seed : int
        Of the choice of one sample per group.

    Returns
    -------
    SphereCheck

    Raises
    ------
    InputError
        If a state is zero, or there are fewer than four groups.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(300, 16))
    >>> bool(check_uniform_sphere(x, t=0.5)), bool(check_uniform_sphere(x + 2.0, t=0.5))
    (True, False)

    References
    ----------
    Mardia, Jupp (2000), "Directional Statistics", section 10.4.1.
    """
    from scipy.stats import binom, chi2

    states = matrix(x, "x", min_samples=4)
    n, d = states.shape
    if d < 2:
        raise InputError("x has one coordinate; a sphere needs at least two")
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    codes, _ = group_codes(groups, n)
    if codes is not None:
        order = order[np.unique(codes[order], return_index=True)[1]]
        order = rng.permutation(order)
    order = order[:max_samples]
    n = len(order)
    if n < 4:
        raise InputError(f"there are {n} groups; the check needs at least four")
    chosen = states[order].astype(np.float64)
    norms = np.linalg.norm(chosen, axis=1)
    if not bool((norms > 0).all()):
        raise InputError("a state of x is zero and has no direction; remove such samples")
    unit = chosen / norms[:, None]
    log_cap = float(log_spherical_cap(d, t))
    total = unit.sum(0)
    mean_cos = (float(total @ total) - n) / (n * (n - 1))
    p_mean = float(chi2.sf(d * float(total @ total) / n, d))
    gram = unit @ unit.T
    effective = n * n / float((gram * gram).sum())
    # The sample's own term 1/n is taken out, or it would cap the ratio at n.
    inverse = (1.0 / effective - 1.0 / n) * n / (n - 1)
    effective = min(1.0 / inverse if inverse > 0 else math.inf, float(d))
    close = gram >= 1.0 - t
    q_hat = (float(close.sum()) - n) / (n * (n - 1))
    pairs = n // 2
    hits = int(close[np.arange(pairs), np.arange(pairs) + pairs].sum())
    cap = math.exp(log_cap)
    p_pairs = min(1.0, 2 * min(float(binom.sf(hits - 1, pairs, cap)), binom.cdf(hits, pairs, cap)))
    plausible = bool(p_mean >= 0.01 and p_pairs >= 0.01)
    message = (
        f"mean cosine of unrelated states {mean_cos:.3f} (uniform: 0, p = {p_mean:.2g}); share "
        f"within {t:g} of each other {q_hat:.3g} (uniform: exp({log_cap:.1f})); effective "
        f"dimension {effective:.0f} of {d}: "
        + ("uniformity is not contradicted" if plausible else "these states are not uniform")
    )
    return SphereCheck(
        plausible=plausible,
        mean_cos=mean_cos,
        p_value=p_mean,
        effective_dimension=effective,
        d=d,
        n=n,
        t=t,
        q_hat=q_hat,
        log_cap=log_cap,
        message=message,
    )
