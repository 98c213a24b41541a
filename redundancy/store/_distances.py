"""The matrix of mean cosine distances between all layers, and attention stacked over samples."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy.store._reader import StoreReader
from redundancy.store._source import Source
from redundancy.summary import summarise

__all__ = ["BlockArrays", "DistanceMatrix", "distances_from_states"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceMatrix:
    r"""Cosine distances between all pairs of layers, summed per sample.

    Parameters
    ----------
    layers : tuple of int, length L
        Rows and columns.
    rho_sum : ndarray of float64, shape (s, L, L)
        Sum of distances over the tokens of each sample; symmetric.
    n_defined : ndarray of int64, shape (s, L, L)
        Tokens whose distance is defined.
    groups : ndarray, shape (s,)
        Group of each sample: intervals resample these.
    """

    layers: tuple[int, ...]
    rho_sum: NDArray[np.float64]
    n_defined: NDArray[np.int64]
    groups: NDArray[Any]

    @property
    def token_weighted(self) -> NDArray[np.float64]:
        r"""Mean over all tokens, :math:`\sum_i \sum_k \rho_{ik} / \sum_i n_i`; shape (L, L)."""
        return _ratio(self.rho_sum.sum(axis=0), self.n_defined.sum(axis=0))

    @property
    def sample_weighted(self) -> NDArray[np.float64]:
        r"""Mean of the samples' own means, :math:`\frac1s \sum_i \bar\rho_i`; shape (L, L)."""
        means = _ratio(self.rho_sum, self.n_defined)
        return _ratio(np.nansum(means, axis=0), np.count_nonzero(self.n_defined, axis=0))

    def by_group(self) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.int64]]:
        """Distinct groups, and the sums and counts of each: shapes (g,), (g, L, L), (g, L, L)."""
        labels, code = np.unique(self.groups, return_inverse=True)
        shape = (len(labels), *self.rho_sum.shape[1:])
        rho, count = np.zeros(shape), np.zeros(shape, dtype=np.int64)
        np.add.at(rho, code, self.rho_sum)
        np.add.at(count, code, self.n_defined)
        return labels, rho, count


def _ratio(total: NDArray[Any], count: NDArray[Any]) -> NDArray[np.float64]:
    out = np.full(np.shape(total), np.nan)
    np.divide(total, count, out=out, where=np.asarray(count) > 0)
    return out


def distances_from_states(store: StoreReader, modality: str) -> DistanceMatrix:
    """Distances of every pair of layers from the states themselves, one pair at a time."""
    layers, groups = store.layers, store.groups(modality)
    labels = np.arange(store.n_tokens(modality)) if groups is None else np.unique(groups)
    shape = (len(labels), len(layers), len(layers))
    rho, count = np.zeros(shape), np.zeros(shape, dtype=np.int64)
    for i, lower in enumerate(layers):
        x_lower = store.states(lower, modality)
        own = summarise(x_lower, x_lower, groups, name=f"layer {lower} ({modality})")
        count[:, i, i] = own.n_defined
        for j, upper in enumerate(layers[i + 1 :], start=i + 1):
            name = f"layers {lower}→{upper} ({modality})"
            pair = summarise(x_lower, store.states(upper, modality), groups, name=name)
            rho[:, i, j] = rho[:, j, i] = pair.rho_sum
            count[:, i, j] = count[:, j, i] = pair.n_defined
    return DistanceMatrix(layers=layers, rho_sum=rho, n_defined=count, groups=labels)


class BlockArrays:
    """What capture kept per sample and block (attention, effect of vision), stacked when asked for.

    Block l hands on state l, so a pair of layers is given what belongs to its upper layer.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stacked: dict[str, NDArray[Any] | None] = {}

    def of(self, name: str, upper: int) -> NDArray[Any] | None:
        """Rows of the block below layer `upper`, shape (samples, columns); NaN: not captured."""
        if name not in self._stacked:
            self._stacked[name] = self._stack(name)
        kept = self._stacked[name]
        return None if kept is None or not 1 <= upper <= kept.shape[1] else kept[:, upper - 1]

    @functools.cached_property
    def vision_share(self) -> NDArray[np.float64] | None:
        """Vision tokens as a share of all keys, shape (samples,)."""
        vision, keys = self._source.per_sample("n_vision"), self._source.per_sample("n_keys")
        if vision is None or keys is None:
            return None
        share = np.full(len(vision), np.nan)
        for row, (some, every) in enumerate(zip(vision, keys, strict=True)):
            if (
                some is not None
                and every is not None
                and some.size == every.size == 1
                and every > 0
            ):
                share[row] = float(some.item()) / float(every.item())
        return share if np.isfinite(share).any() else None

    def _stack(self, name: str) -> NDArray[Any] | None:
        values = self._source.per_sample(name)
        if values is None:
            return None
        shapes = {value.shape for value in values if value is not None}
        if len(shapes) != 1 or len(min(shapes)) != 2:
            raise InputError(
                f"{name} was kept with the shapes {sorted(shapes)}; all samples must have the same "
                "(blocks, columns): extract again with --fresh"
            )
        missing = np.full(min(shapes), np.nan, dtype=np.float32)
        return np.stack([missing if value is None else value for value in values])
