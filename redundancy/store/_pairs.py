"""`PairReader`: two layers of a store at a time, with the sums that were kept of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy.pairs import LayerPair, PairSummary
from redundancy.store._distances import BlockArrays, DistanceMatrix, distances_from_states
from redundancy.store._reader import StoreReader, span
from redundancy.store._source import Source
from redundancy.summary import summarise

__all__ = ["PairReader"]


class PairReader(StoreReader):
    """A store seen as pairs of layers; `ActivationStore` adds making and writing."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._blocks = BlockArrays(source)

    def pair(
        self,
        lower: int,
        upper: int,
        modality: str | None = None,
        *,
        states: bool = True,
        stream: bool = False,
    ) -> LayerPair:
        """Two layers, the same tokens.

        Parameters
        ----------
        lower, upper : int
            Layers.
        modality : str, optional
            May be left out where there is only one.
        states : bool
            Whether to read the states; without, the pair carries sums only (made from the states
            where none were stored).
        stream : bool
            Read the states by blocks, when they are used: see `rows`.
        """
        word = self._modality(modality)
        have = self._source.n_tokens(word) > 0
        read = self.rows if stream else self.states
        x = [
            read(layer, word) if states and have and layer in self.layers else None
            for layer in (lower, upper)
        ]
        return self._join(lower, upper, word, x[0], x[1], states=states)

    def pairs(
        self,
        layers: Sequence[int] | None = None,
        modality: str | None = None,
        stride: int = 1,
        states: bool = True,
    ) -> Iterator[LayerPair]:
        """Pairs (l, l + stride steps) of each modality in turn; neighbours share their array.

        Parameters
        ----------
        layers : sequence of int, optional
            Layers to pair, all by default.
        modality : str, optional
            One modality, all by default.
        stride : int
            How many places apart in `layers` the two layers of a pair are.
        states : bool
            As in `pair`.
        """
        held: tuple[int, str] | None = None
        held_states: NDArray[Any] | None = None
        for lower, upper, word in self.pair_keys(layers, modality, stride):
            if not states or self._source.n_tokens(word) == 0:
                yield self._join(lower, upper, word, None, None, states=states)
                continue
            x_lower = held_states if held == (lower, word) else None
            held_states = None  # at most two layers are alive, also while the next is read
            if x_lower is None:
                x_lower = self.states(lower, word)
            x_upper = self.states(upper, word)
            held, held_states = (upper, word), x_upper
            yield self._join(lower, upper, word, x_lower, x_upper, states=True)
            del x_lower, x_upper

    def pair_keys(
        self, layers: Sequence[int] | None = None, modality: str | None = None, stride: int = 1
    ) -> list[tuple[int, int, str]]:
        """What `pairs` goes through: (lower, upper, modality), for those who spread the work."""
        if stride < 1:
            raise InputError(f"stride is {stride}; it must be at least 1")
        words = self.modalities if modality is None else (self._modality(modality),)
        keys = []
        for word in words:
            known = self._all_layers(word)
            default = self.layers if self._source.n_tokens(word) else known
            chosen = sorted({int(layer) for layer in (default if layers is None else layers)})
            absent = [layer for layer in chosen if layer not in known]
            if absent:
                raise InputError(f"the store has no layer {absent[0]}; it has {span(known)}")
            if len(chosen) <= stride:
                raise InputError(
                    f"{len(chosen)} layer(s) make no pair at stride {stride}; name more layers"
                )
            keys += [(low, high, word) for low, high in zip(chosen, chosen[stride:], strict=False)]
        return keys

    def summary(self, lower: int, upper: int, modality: str | None = None) -> PairSummary | None:
        """Stored sums over all tokens of a pair, with attention where it was captured."""
        word = self._modality(modality)
        statistics = self._source.statistics(word)
        if statistics is None:
            return None
        name = f"layers {lower}→{upper} ({word})"
        found = statistics.pair(
            lower, upper, self.sample_groups, lambda index: str(self.samples[index]["id"]), name
        )
        if found is None:
            return None
        return replace(
            found,
            var_per_head=self._blocks.of("var_per_head", upper),
            vision_share=self._blocks.vision_share,
            vision_effect=self._blocks.of("vision_effect", upper),
            text_norm=self._blocks.of("text_norm", upper),
        )

    def distances(self, modality: str | None = None) -> DistanceMatrix:
        """Mean cosine distance between all pairs of layers; over all tokens where sums were kept.

        Arrays without sums cost one pass over the states for each pair of layers.
        """
        word = self._modality(modality)
        statistics = self._source.statistics(word)
        if statistics is not None:
            return DistanceMatrix(
                layers=statistics.layers,
                rho_sum=np.asarray(statistics.arrays["rho_sum"], dtype=np.float64),
                n_defined=statistics.arrays["n_defined"].astype(np.int64),
                groups=self.sample_groups,
            )
        return distances_from_states(self, word)

    def _join(
        self,
        lower: int,
        upper: int,
        word: str,
        x_lower: NDArray[Any] | None,
        x_upper: NDArray[Any] | None,
        *,
        states: bool,
    ) -> LayerPair:
        known = self._all_layers(word)
        for layer in (lower, upper):
            if layer not in known:
                raise InputError(f"the store has no layer {layer}; it has {span(known)}")
        summary = self.summary(lower, upper, word)
        groups = target = None
        if x_lower is not None and x_upper is not None:
            groups, target = self.groups(word), self.target_of(word)
        elif summary is None and not states:
            summary = summarise(
                self.states(lower, word),
                self.states(upper, word),
                self.groups(word),
                name=f"layers {lower}→{upper} ({word})",
            )
        return LayerPair(lower, upper, x_lower, x_upper, word, groups, target, summary)

    def _all_layers(self, word: str) -> tuple[int, ...]:
        """Layers with states or sums: sums may cover more than the layers kept."""
        statistics = self._source.statistics(word)
        return tuple(sorted({*self.layers, *(statistics.layers if statistics else ())}))
