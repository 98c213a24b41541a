"""`StoreReader`: what is in a store, by layer, modality and sample."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy._remote import is_url
from redundancy.store._source import Source
from redundancy.summary import check_finite

__all__ = ["StoreReader", "span"]


_LAZY = 3


class StoreReader:
    """The contents of a store, layer by layer; `PairReader` makes pairs of them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._sound: set[tuple[int, str]] = set()
        self._target: str | None = None
        self._lazy: dict[tuple[int, str], Any] = {}

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers whose states are kept, ascending; 0 is what enters the first block."""
        return self._source.layers

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks; for plain arrays the highest layer."""
        return self._source.n_layers

    @property
    def modalities(self) -> tuple[str, ...]:
        """Kinds of token."""
        return self._source.modalities

    @property
    def n_samples(self) -> int:
        """Number of samples; for arrays the number of groups, or of tokens without groups."""
        return self._source.n_samples

    @property
    def samples(self) -> list[dict[str, Any]]:
        """One dictionary per sample: id, group, and what its row held (question, answer, ...)."""
        return self._source.samples()

    @property
    def sample_groups(self) -> NDArray[Any]:
        """Group of each sample, shape (n_samples,), as `groups` codes them."""
        return self._source.sample_groups()

    @property
    def handle(self) -> str | None:
        """Path under which `open` finds it in another process; None where a path is not enough.

        A store itself can travel too: it takes its path and target with it, or its arrays.
        """
        return self._source.handle if self._target is None else None

    @property
    def path(self) -> Path | None:
        """Folder or file; None for arrays and for what is behind a URL."""
        handle = self._source.handle
        return None if handle is None or is_url(handle) else Path(handle)

    @property
    def address(self) -> tuple[str, str | None] | None:
        """Path or URL, and column of the target: what another process needs to open it too."""
        handle = self._source.handle
        return None if handle is None else (handle, self._target)

    @property
    def info(self) -> dict[str, Any]:
        """Provenance as run records keep it: path, checksum, model, layers, counts, dtypes."""
        found = [self._source.dtype(modality) for modality in self.modalities]
        dtypes = sorted({dtype for dtype in found if dtype is not None})
        return {
            **self._source.describe(),
            "layers": list(self.layers),
            "n_layers": self.n_layers,
            "n": self.n_samples,
            "n_tokens": {modality: self.n_tokens(modality) for modality in self.modalities},
            "dtype": "/".join(dtypes) or None,
            "target": self._target,
        }

    def n_tokens(self, modality: str) -> int:
        """Number of tokens whose states are kept."""
        return self._source.n_tokens(self._modality(modality))

    def dim(self, modality: str | None = None) -> int:
        """Width of the states; 0 where only sums are kept."""
        return self._source.dim(self._modality(modality))

    def has_statistics(self, modality: str | None = None) -> bool:
        """Whether sums over all tokens were gathered while capturing."""
        return self._source.statistics(self._modality(modality)) is not None

    def groups(self, modality: str | None = None) -> NDArray[Any] | None:
        """Group of each kept token, shape (n_tokens,); None if tokens are independent."""
        if self._source.independent:
            return None
        return self.sample_groups[self._source.token_samples(self._modality(modality))]

    def token_samples(self, modality: str | None = None) -> NDArray[np.int64]:
        """Index into `samples` of each kept token, shape (n_tokens,)."""
        return self._source.token_samples(self._modality(modality))

    def positions(self, modality: str | None = None) -> NDArray[np.int64] | None:
        """Position of each kept token in its own sequence, where known."""
        return self._source.positions(self._modality(modality))

    def per_sample(self, name: str) -> list[NDArray[Any] | None] | None:
        """Optional arrays that capture kept for each sample, e.g. ``"var_per_head"``; or None."""
        return self._source.per_sample(name)

    def states(
        self, layer: int, modality: str | None = None, *, check: bool = True
    ) -> NDArray[Any]:
        """States of one layer, shape (n_tokens, d); a view of the file where that is possible.

        Raises
        ------
        InputError
            If the store has no such layer or keeps no states, if the bytes are damaged, or, with
            `check`, if a value is NaN or infinite.
        """
        word = self._modality(modality)
        if layer not in self.layers:
            raise InputError(f"the store has no layer {layer}; it has {span(self.layers)}")
        x = self._source.read(layer, word)
        if check and (layer, word) not in self._sound:
            check_finite(x, f"layer {layer} ({word})")
            self._sound.add((layer, word))
        return x

    def rows(self, layer: int, modality: str | None = None) -> Any:
        """States of one layer, to be read by blocks: for layers that do not fit into memory.

        Returns
        -------
        LazyRows or ndarray, shape (n_tokens, d)
            Indexed by slices, masks and row numbers; checked for NaN, block by block.

        Raises
        ------
        InputError
            As for `states`.
        """
        word = self._modality(modality)
        if layer not in self.layers:
            raise InputError(f"the store has no layer {layer}; it has {span(self.layers)}")
        key = (layer, word)
        if key not in self._lazy:
            while len(self._lazy) >= _LAZY:  # the two layers of a pair, and the next
                self._lazy.pop(next(iter(self._lazy)))
            self._lazy[key] = self._source.lazy(layer, word)
        if key not in self._sound:
            check_finite(self._lazy[key], f"layer {layer} ({word})")
            self._sound.add(key)
        return self._lazy[key]

    @property
    def target(self) -> NDArray[Any] | dict[str, NDArray[Any]] | None:
        """The variable Z per token; by modality where there are several; None if there is none."""
        found = {word: self.target_of(word) for word in self.modalities}
        known = {word: value for word, value in found.items() if value is not None}
        if len(self.modalities) == 1 and known:
            return next(iter(known.values()))
        return known or None

    def target_of(self, modality: str | None = None) -> NDArray[Any] | None:
        """The variable Z of each kept token of one modality, or None."""
        word = self._modality(modality)
        if self._target is None:
            return self._source.target(word)
        values = [row.get(self._target) for row in self.samples]
        missing = sum(value is None for value in values)
        if missing:
            have = sorted({key for row in self.samples[:100] for key in row})
            raise InputError(
                f"{missing:,} of {len(values):,} samples have no {self._target!r}; their records "
                f"hold {', '.join(have)}"
            )
        column = np.asarray(values)
        if column.dtype == object or column.ndim > 2:
            raise InputError(f"column {self._target!r} is not one number or word per sample")
        return column[self._source.token_samples(word)]

    def with_target(self, column: str) -> Self:
        """The same store with a column of `samples`, e.g. ``"answer"``, as target of its pairs."""
        other = copy.copy(self)
        other._target = column
        for word in other.modalities:
            other.target_of(word)
        return other

    def check_finite(self) -> None:
        """Read every layer; InputError if a value is NaN or infinite (which layer, how many)."""
        for word in self.modalities:
            for layer in self.layers if self.n_tokens(word) else ():
                self.states(layer, word)

    def _modality(self, modality: str | None) -> str:
        if modality is None:
            if len(self.modalities) > 1:
                raise InputError(
                    f"the store has the modalities {', '.join(self.modalities)}; name one"
                )
            return self.modalities[0]
        if modality not in self.modalities:
            raise InputError(
                f"the store has no modality {modality!r}; it has {', '.join(self.modalities)}"
            )
        return modality


def span(layers: Sequence[int]) -> str:
    if list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]} to {layers[-1]}"
    return ", ".join(map(str, layers))
