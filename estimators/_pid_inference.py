"""Sampling error and bias of PID atoms estimated from counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from estimators._resample import blocks

__all__ = ["extrapolated", "influence", "shuffle_bias", "standard_errors"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def _log_ratio(p: FloatArray, q: FloatArray) -> FloatArray:
    """log(p / q), and 0 where p = 0: such cells hold no sample."""
    out = np.zeros(np.broadcast_shapes(p.shape, q.shape))
    p, q = np.broadcast_arrays(p, q)
    present = p > 0
    out[present] = np.log(p[present] / q[present])
    return out


def influence(
    joint: FloatArray, lam: FloatArray, mu: FloatArray, z: IntArray, x: IntArray, y: IntArray
) -> dict[str, FloatArray]:
    """Return each sample's influence on each atom, up to a constant.

    By the envelope theorem the derivative of f* by P(z,x) is lam and by P(z,y) is mu; those of the
    entropies are log-probabilities.
    """
    p_zx, p_zy, p_z = joint.sum(axis=2), joint.sum(axis=1), joint.sum(axis=(1, 2))
    f = lam[z, x] + mu[z, y]
    given_x = _log_ratio(p_zx, p_zx.sum(axis=0))[z, x]
    given_y = _log_ratio(p_zy, p_zy.sum(axis=0))[z, y]
    given_both = _log_ratio(joint, joint.sum(axis=0))[z, x, y]
    log_z = np.log(p_z[z])
    unique_x, unique_y = f - given_y, f - given_x
    redundant = given_x - log_z - unique_x
    return {
        "redundant": redundant,
        "unique_x": unique_x,
        "unique_y": unique_y,
        "synergistic": given_both - log_z - redundant - unique_x - unique_y,
    }


def standard_errors(
    influences: Mapping[str, FloatArray], groups: IntArray | None
) -> dict[str, float]:
    """Return the standard error of the mean influence, groups being the independent units."""
    out = {}
    for atom, values in influences.items():
        centred = values - values.mean()
        sums = centred if groups is None else np.bincount(groups, centred)
        units = len(sums)
        variance = float((sums**2).sum()) * units / max(units - 1, 1)
        out[atom] = float(np.sqrt(variance)) / len(values)
    return out


def shuffle_bias(z: IntArray, x: IntArray, y: IntArray, joint: FloatArray, seed: int) -> float:
    """Return the plug-in bias of I(Z;X,Y), in nats, as shuffling within classes of z shows it.

    Shuffled, X and Y are independent given Z, so the truth is known from the marginals; what the
    plug-in finds above it is bias. Where X and Y copy each other the shuffled table has more
    occupied cells than the true one and the bias is overrated.
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(z)), z))
    shuffled = np.empty_like(y)
    shuffled[np.argsort(z, kind="stable")] = y[order]
    counts = np.zeros(joint.shape)
    np.add.at(counts, (z, x, shuffled), 1.0 / len(z))
    p_z = joint.sum(axis=(1, 2))
    independent = joint.sum(axis=2)[:, :, None] * joint.sum(axis=1)[:, None, :] / p_z[:, None, None]
    return float(_information(counts) - _information(independent))


def _information(joint: FloatArray) -> float:
    p_z = joint.sum(axis=(1, 2), keepdims=True)
    return float(rel_entr(joint, p_z * joint.sum(axis=0)).sum())


def extrapolated(
    atoms: Callable[[IntArray], FloatArray],
    whole: FloatArray,
    n: int,
    groups: IntArray | None,
    *,
    order: int,
    seed: int,
) -> FloatArray:
    """Extrapolate atoms to infinitely many samples from halves (and quarters) of the groups.

    The bias is modelled as a/n (`order` 1) or a/n + b/n^2 (`order` 2).
    """

    def mean_of(parts: int) -> FloatArray:
        block = blocks(n, groups, parts, seed=seed)
        values = [atoms(np.flatnonzero(block == part)) for part in range(parts)]
        return np.asarray(np.mean(values, axis=0))

    half = mean_of(2)
    if order == 1:
        return np.asarray(2.0 * whole - half)
    return np.asarray((8.0 * whole - 6.0 * half + mean_of(4)) / 3.0)
