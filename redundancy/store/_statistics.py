"""Running sums of many samples, stacked: what a store keeps of all tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy.pairs import PairSummary
from vlm.sample import TokenStatistics

__all__ = ["STACKED", "Statistics", "stack"]

# Whatever capture comes to sum is stored under its own name, without a change here.
STACKED = tuple(
    field.name for field in fields(TokenStatistics) if field.name not in ("n_tokens", "thresholds")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Sums of s samples over all their tokens of one modality.

    Parameters
    ----------
    layers : tuple of int
        Which states the matrices are about.
    thresholds : ndarray, shape (t,)
        Distances at which tokens were counted.
    n_tokens : ndarray of int64, shape (s,)
        Tokens per sample.
    arrays : mapping of str to ndarray, shape (s, ...)
        The sums, named as in `vlm.sample.TokenStatistics`.
    """

    layers: tuple[int, ...]
    thresholds: NDArray[np.float64]
    n_tokens: NDArray[np.int64]
    arrays: Mapping[str, NDArray[Any]]

    def pair(
        self,
        lower: int,
        upper: int,
        groups: NDArray[Any],
        sample_id: Callable[[int], str],
        name: str,
    ) -> PairSummary | None:
        """Sums of one pair of layers, or None where they were not kept for these layers."""
        if lower not in self.layers or upper not in self.layers:
            return None
        i, j = self.layers.index(lower), self.layers.index(upper)
        rho = self.arrays["rho_sum"][:, i, j]
        bad = ~np.isfinite(rho)
        if bad.any():
            raise InputError(
                f"{name}: the distances of {int(bad.sum()):,} of {len(rho):,} samples are NaN or "
                f"infinite, first in sample {sample_id(int(np.argmax(bad)))!r}; the model "
                "overflows there: capture it again in bfloat16 or float32, or remove those samples"
            )
        below = square = None
        if j == i + 1:
            below, square = self._column("adjacent", i)
        elif i == 0:
            below, square = self._column("first", j - 1)
        return PairSummary(
            groups=groups,
            n_tokens=self.n_tokens,
            n_defined=self.arrays["n_defined"][:, i, j].astype(np.int64),
            rho_sum=rho.astype(np.float64),
            thresholds=self.thresholds,
            sq_dist_sum=square,
            below=below,
        )

    def _column(self, which: str, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        below = self.arrays[f"below_{which}"][:, :, index].astype(np.int64)
        return below, self.arrays[f"sq_dist_{which}"][:, index].astype(np.float64)


def stack(samples: Sequence[TokenStatistics | None]) -> dict[str, NDArray[Any]] | None:
    """Stack the sums of samples of one kind; None stands for one without tokens of the modality."""
    known = next((one for one in samples if one is not None), None)
    if known is None:
        return None
    arrays = {
        name: np.zeros((len(samples), *getattr(known, name).shape), getattr(known, name).dtype)
        for name in STACKED
    }
    arrays["n_tokens"] = np.zeros(len(samples), dtype=np.int64)
    for row, one in enumerate(samples):
        if one is not None:
            arrays["n_tokens"][row] = one.n_tokens
            for name in STACKED:
                arrays[name][row] = getattr(one, name)
    return arrays
