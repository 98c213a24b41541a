"""What a store reads from: the few questions that shards, a user's file and arrays all answer."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from redundancy.store._statistics import Statistics

__all__ = ["Source"]


class Source(Protocol):
    """Where activations come from. Samples are in one fixed order; tokens name their sample."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers whose states or sums are there, ascending."""
        ...

    @property
    def n_layers(self) -> int:
        """Decoder blocks of the model; the highest layer, where the model is not known."""
        ...

    @property
    def modalities(self) -> tuple[str, ...]: ...

    @property
    def model(self) -> str | None: ...

    @property
    def n_samples(self) -> int: ...

    @property
    def independent(self) -> bool:
        """True if nothing is known that makes tokens dependent."""
        ...

    @property
    def handle(self) -> str | None:
        """Path to open it again in another process; None for arrays in memory."""
        ...

    def describe(self) -> dict[str, Any]:
        """Provenance, as records keep it."""
        ...

    def samples(self) -> list[dict[str, Any]]: ...

    def sample_groups(self) -> NDArray[Any]:
        """Group of each sample, shape (s,)."""
        ...

    def n_tokens(self, modality: str) -> int:
        """Tokens whose states are there."""
        ...

    def token_samples(self, modality: str) -> NDArray[np.int64]:
        """Index of the sample of each such token."""
        ...

    def positions(self, modality: str) -> NDArray[np.int64] | None: ...

    def dtype(self, modality: str) -> str | None: ...

    def dim(self, modality: str) -> int:
        """Width of the states; 0 if none are kept."""
        ...

    def arrays(self) -> tuple[Any, Any, Any]:
        """Arrays, groups and target of a source without a handle, to send to another process."""
        ...

    def read(self, layer: int, modality: str) -> NDArray[Any]:
        """States of one layer, shape (n_tokens, d), read-only if mapped."""
        ...

    def lazy(self, layer: int, modality: str) -> Any:
        """The same, read block by block as it is asked for; the array where it is at hand."""
        ...

    def target(self, modality: str) -> NDArray[Any] | None: ...

    def statistics(self, modality: str) -> Statistics | None: ...

    def per_sample(self, name: str) -> list[NDArray[Any] | None] | None:
        """Optional arrays that capture kept per sample, e.g. ``"var_per_head"``."""
        ...
