"""A linear vision-text network: skips whose output error is known exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from estimators import InputError
from redundancy.synthetic._samples import Array

__all__ = ["EarlyExit", "LateEntry", "LinearNetwork"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LateEntry:
    """What late entry does to one input, and everything that Theorem 6 asks for.

    Parameters
    ----------
    error : float
        ``|Y - Y_skip|``, exactly.
    eps, delta, lam : tuple of float
        Per layer 1 to L: movement of the vision state, vision's share in the text's update, norm
        of the text-only layer.
    mu, mu_v, mu_t : float
        Norms of the remaining layers, in both states, in vision alone, in text alone.
    d_v, e_l : float
        Distances of the states that enter the remaining layers.
    """

    error: float
    eps: tuple[float, ...]
    delta: tuple[float, ...]
    lam: tuple[float, ...]
    mu: float
    mu_v: float
    mu_t: float
    d_v: float
    e_l: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyExit:
    """What early exit does to one input's text.

    Parameters
    ----------
    error : float
        Distance of the final text states, exactly.
    delta, lam : tuple of float
        Per layer K + 1 to n: vision's share in the text's update, norm of the text-only layer.
    """

    error: float
    delta: tuple[float, ...]
    lam: tuple[float, ...]


class LinearNetwork:
    r"""Layers :math:`v' = W_{vv} v + W_{vt} t`, :math:`t' = W_{tt} t + W_{tv} v`.

    Parameters
    ----------
    layers : sequence of (W_vv, W_vt, W_tt, W_tv)
        Matrices of each layer.

    Examples
    --------
    >>> network = LinearNetwork.random(n_layers=6, seed=0)
    >>> v, t = network.random_input(seed=1)
    >>> skip = network.late_entry(v, t, 3)
    >>> from redundancy.theory import theorem6
    >>> bound = theorem6(eps=skip.eps, delta=skip.delta, lam=skip.lam, mu=skip.mu)
    >>> 0 < skip.error <= bound.value
    True
    """

    def __init__(self, layers: Sequence[Sequence[ArrayLike]]) -> None:
        self.layers: list[tuple[Array, Array, Array, Array]] = []
        for i, layer in enumerate(layers):
            if len(layer) != 4:
                raise InputError(f"layer {i} has {len(layer)} matrices; give Wvv, Wvt, Wtt, Wtv")
            vv, vt, tt, tv = (np.asarray(w, dtype=np.float64) for w in layer)
            v, t = len(vv), len(tt)
            if (vv.shape, vt.shape, tt.shape, tv.shape) != ((v, v), (v, t), (t, t), (t, v)):
                raise InputError(f"the matrices of layer {i} do not fit each other")
            self.layers.append((vv, vt, tt, tv))
        if not self.layers:
            raise InputError("a network needs at least one layer")

    @classmethod
    def random(
        cls,
        *,
        n_layers: int = 8,
        d_v: int = 6,
        d_t: int = 4,
        change: float = 0.1,
        vision_to_text: float = 0.05,
        seed: int = 0,
    ) -> LinearNetwork:
        """Draw a residual network: identity plus `change`, text fed by vision at the given rate."""
        rng = np.random.default_rng(seed)

        def near(base: Array, scale: float) -> Array:
            return np.asarray(base + scale * rng.normal(size=base.shape) / math.sqrt(base.shape[1]))

        return cls(
            [
                (
                    near(np.eye(d_v), change),
                    near(np.zeros((d_v, d_t)), change),
                    near(np.eye(d_t), change),
                    near(np.zeros((d_t, d_v)), vision_to_text),
                )
                for _ in range(n_layers)
            ]
        )

    def random_input(self, *, seed: int = 0) -> tuple[Array, Array]:
        """Draw a vision and a text state."""
        rng = np.random.default_rng(seed)
        vv, _, tt, _ = self.layers[0]
        return rng.normal(size=len(vv)), rng.normal(size=len(tt))

    def run(self, v: ArrayLike, t: ArrayLike, start: int = 0) -> list[tuple[Array, Array]]:
        """Return the states before layer `start` + 1 and after it and each later layer."""
        states = [(np.asarray(v, dtype=np.float64), np.asarray(t, dtype=np.float64))]
        for vv, vt, tt, tv in self.layers[start:]:
            vision, text = states[-1]
            states.append((vv @ vision + vt @ text, tt @ text + tv @ vision))
        return states

    def output_norm(self, v: ArrayLike, t: ArrayLike) -> float:
        """Norm of the final state, vision and text together."""
        vision, text = self.run(v, t)[-1]
        return float(math.hypot(np.linalg.norm(vision), np.linalg.norm(text)))

    def late_entry(self, v: ArrayLike, t: ArrayLike, n_skipped: int) -> LateEntry:
        """Run text alone for `n_skipped` layers, then join the input vision state, and compare."""
        count = len(self.layers)
        if not 1 <= n_skipped <= count:
            raise InputError(f"n_skipped is {n_skipped}; give 1 to {count}")
        full = self.run(v, t)
        text = full[0][1]
        for _, _, tt, _ in self.layers[:n_skipped]:
            text = tt @ text
        skipped = self.run(full[0][0], text, start=n_skipped)[-1]
        tail = np.eye(len(full[0][0]) + len(text))
        for vv, vt, tt, tv in self.layers[n_skipped:]:
            tail = np.block([[vv, vt], [tv, tt]]) @ tail
        width = len(full[0][0])
        return LateEntry(
            error=_distance(full[-1], skipped),
            eps=tuple(_norm(full[i + 1][0] - full[i][0]) for i in range(n_skipped)),
            delta=tuple(_norm(self.layers[i][3] @ full[i][0]) for i in range(n_skipped)),
            lam=tuple(float(np.linalg.norm(self.layers[i][2], 2)) for i in range(n_skipped)),
            mu=float(np.linalg.norm(tail, 2)),
            mu_v=float(np.linalg.norm(tail[:, :width], 2)),
            mu_t=float(np.linalg.norm(tail[:, width:], 2)),
            d_v=_norm(full[n_skipped][0] - full[0][0]),
            e_l=_norm(full[n_skipped][1] - text),
        )

    def early_exit(self, v: ArrayLike, t: ArrayLike, n_kept: int) -> EarlyExit:
        """Remove vision after `n_kept` layers and compare the final text states."""
        count = len(self.layers)
        if not 0 <= n_kept < count:
            raise InputError(f"n_kept is {n_kept}; give 0 to {count - 1}")
        full = self.run(v, t)
        text = full[n_kept][1]
        for _, _, tt, _ in self.layers[n_kept:]:
            text = tt @ text
        later = range(n_kept, count)
        return EarlyExit(
            error=_norm(full[-1][1] - text),
            delta=tuple(_norm(self.layers[i][3] @ full[i][0]) for i in later),
            lam=tuple(float(np.linalg.norm(self.layers[i][2], 2)) for i in later),
        )

    def drop(
        self, v: ArrayLike, t: ArrayLike, layers: Sequence[int]
    ) -> tuple[float, list[float], list[float]]:
        """Leave out whole layers (counted from 0).

        Returns the exact output error, what each left-out layer would have changed in the skipping
        run, and the norm of all that follows it in the full network.
        """
        dropped = sorted(set(layers))
        if not dropped or dropped[0] < 0 or dropped[-1] >= len(self.layers):
            raise InputError(f"layers is {list(layers)}; give indices 0 to {len(self.layers) - 1}")
        full = self.run(v, t)[-1]
        blocks = [np.block([[vv, vt], [tv, tt]]) for vv, vt, tt, tv in self.layers]
        state = np.concatenate([np.asarray(v, dtype=np.float64), np.asarray(t, dtype=np.float64)])
        change, after = [], []
        for i, block in enumerate(blocks):
            if i in dropped:
                change.append(_norm(block @ state - state))
                tail = np.eye(len(state))
                for later in blocks[i + 1 :]:
                    tail = later @ tail
                after.append(float(np.linalg.norm(tail, 2)))
            else:
                state = block @ state
        return _norm(np.concatenate(full) - state), change, after


def _norm(a: Array) -> float:
    return float(np.linalg.norm(a))


def _distance(a: tuple[Array, Array], b: tuple[Array, Array]) -> float:
    return float(math.hypot(_norm(a[0] - b[0]), _norm(a[1] - b[1])))
