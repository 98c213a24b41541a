"""`ActivationStore`: layer states and their running sums, on disk or in memory, pair by pair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy.pairs import LayerPair, PairSummary
from redundancy.store._arrays import source_from_arrays
from redundancy.store._create import create_folder, save_folder
from redundancy.store._disk import DiskSource
from redundancy.store._distances import (
    BlockArrays,
    DistanceMatrix,
    distances_from_states,
)
from redundancy.store._reader import StoreReader, span
from redundancy.store._source import Source
from redundancy.store._verify import Finding, verify_store
from redundancy.store._writer import StoreWriter
from redundancy.summary import summarise
from vlm.sample import DEFAULT_THRESHOLDS

__all__ = ["ActivationStore"]


class ActivationStore(StoreReader):
    """Activations of a model, layer by layer: the door through which every measure gets its data.

    Make one with `create` (to write captured samples), `open` (a folder written before),
    `from_arrays` (arrays at hand) or `open_source` (a folder, or an .npz, .npy or .safetensors).
    Layer 0 is what enters the first block, layer l what block l hands on.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(6, 4))
    >>> store = ActivationStore.from_arrays({0: x, 1: x + 0.01}, groups=[0, 0, 1, 1, 2, 2])
    >>> store
    ActivationStore(in memory: 3 samples, text 6 tokens, layers 0 to 1, float64)
    >>> [pair.label for pair in store.pairs()]
    ['0→1']
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._blocks = BlockArrays(source)

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        n_layers: int,
        model: str | None = None,
        revision: str | None = None,
        layers: Sequence[int] | None = None,
        dims: int | None = None,
        modalities: Sequence[str] = ("vision", "text"),
        tokens: int | Literal["all"] = 0,
        seed: int = 0,
        thresholds: Sequence[float] = DEFAULT_THRESHOLDS,
        dataset: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        packages: Mapping[str, str] | None = None,
        fresh: bool = False,
        resume: bool = False,
    ) -> ActivationStore:
        """Make a store on disk, or take up one that was made with the same settings.

        Parameters
        ----------
        path : str or Path
            Folder; made if it is not there.
        n_layers : int
            Decoder blocks of the model, which has n_layers + 1 states.
        model, revision : str, optional
            Hub id or folder, and commit.
        layers : sequence of int, optional
            States that samples bring; all n_layers + 1 by default.
        dims : int, optional
            Width of the states.
        modalities : sequence of str
            Kinds of token.
        tokens : int or "all"
            Token states kept per sample and modality; 0 keeps sums only.
        seed : int
            Of the choice of tokens.
        thresholds : sequence of float
            Cosine distances at which tokens are counted.
        dataset : mapping, optional
            What was run: name, digest, number of rows.
        settings : mapping, optional
            Whatever else must agree when an extraction resumes.
        packages : mapping, optional
            Versions, for the record; a resumed extraction may run under others.
        fresh : bool
            Delete what an earlier extraction left there. Files of other origin are never deleted.
        resume : bool
            Continue an earlier extraction.

        Raises
        ------
        InputError
            If the folder holds something and neither `fresh` nor `resume` is given, if it holds
            something else than a store, or if a setting differs from the store's.
        """
        folder = create_folder(
            Path(path),
            fresh=fresh,
            resume=resume,
            model=model,
            revision=revision,
            n_layers=n_layers,
            layers=layers,
            dims=dims,
            modalities=modalities,
            tokens=tokens,
            seed=seed,
            thresholds=thresholds,
            dataset=dataset,
            settings=settings,
            packages=packages,
        )
        return cls(DiskSource(folder))

    @classmethod
    def open(cls, path: str | Path, *, skip_damaged: bool = False) -> ActivationStore:
        """Open a store on disk; a path to a file goes to `open_source`.

        Parameters
        ----------
        path : str or Path
            Its folder.
        skip_damaged : bool
            Leave damaged shards out instead of raising InputError.
        """
        if Path(path).is_file():
            from redundancy.store._plain import open_source

            return open_source(path)
        return cls(DiskSource(Path(path), skip_damaged=skip_damaged))

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[Any, Any],
        modality: str = "text",
        groups: Any = None,
        target: Any = None,
    ) -> ActivationStore:
        """Take arrays at hand.

        Parameters
        ----------
        arrays : mapping
            ``{layer: array}`` or ``{modality: {layer: array}}``; arrays of shape (n, d), or
            (samples, tokens, d), which makes a group of each sample. NumPy, torch (bfloat16 too)
            or anything with DLPack; layers as ``3``, ``"layer_3"``, ``"layers.3"``.
        modality : str
            Name of the one modality, where only one is given.
        groups : array or mapping of str to array, optional
            What makes tokens dependent: one label per token, or per sample of 3-D arrays; by
            modality where they differ.
        target : array or mapping of str to array, optional
            The variable that functional measures predict: shape (n,) or (n, k).

        Raises
        ------
        InputError
            If shapes do not agree, or a value is NaN or infinite (which layer, how many).
        """
        store = cls(source_from_arrays(arrays, modality, groups, target))
        store.check_finite()
        return store

    def pair(
        self, lower: int, upper: int, modality: str | None = None, *, states: bool = True
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
        """
        word = self._modality(modality)
        have = self._source.n_tokens(word) > 0
        x = [
            self.states(layer, word) if states and have and layer in self.layers else None
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

    def save(self, path: str | Path, *, fresh: bool = False) -> ActivationStore:
        """Write arrays to disk as a store and return it; tokens keep their order.

        Labels of groups become integers 0, 1, ... in the store; `samples` has them as text.
        """
        source = self._source
        if isinstance(source, DiskSource):
            raise InputError(f"the store is on disk already, at {source.folder}; copy the folder")
        return ActivationStore(DiskSource(save_folder(source, Path(path), fresh=fresh)))

    def verify(self) -> list[Finding]:
        """Read everything and list what is wrong; an empty list means that the store is sound."""
        if isinstance(self._source, DiskSource):
            return verify_store(self._source.folder)
        try:
            self.check_finite()
        except InputError as error:
            advice = "capture again in bfloat16 or float32, or leave those samples out"
            what = str(error).partition("; ")[0]
            return [Finding(self.handle or "memory", "warning", what, advice)]
        return []

    def done_ids(self) -> set[str]:
        """Ids of the samples that are written, by whatever process, at this moment."""
        self._source = self._on_disk("done_ids").reopen()
        return self._on_disk("done_ids").done_ids()

    def writer(self, rank: int = 0, **limits: Any) -> StoreWriter:
        """A `StoreWriter` on this store; samples that are there already are not written again.

        Parameters
        ----------
        rank : int
            Rank of this process; several may write one store at a time.
        **limits
            ``max_bytes``, ``max_samples``, ``flush_seconds`` of `StoreWriter`.
        """
        source = self._on_disk("writer")
        return StoreWriter(source.folder, source.manifest, self.done_ids(), rank=rank, **limits)

    def refresh(self) -> ActivationStore:
        """The store as it is on disk now."""
        return ActivationStore(self._on_disk("refresh").reopen())

    def __reduce__(self) -> tuple[Any, ...]:
        if self._source.handle is not None:
            return _reopen, (self._source.handle, self._target)
        arrays, groups, target = self._source.arrays()
        return _rebuild, (arrays, groups, target)

    def __repr__(self) -> str:
        kept = " + ".join(f"{word} {self.n_tokens(word):,}" for word in self.modalities)
        where = "in memory" if self.handle is None else self.handle
        model = f" {self._source.model}," if self._source.model else ""
        dtype = self._source.dtype(self.modalities[0]) or "sums only"
        return (
            f"ActivationStore({where}:{model} {self.n_samples:,} samples, {kept} tokens, layers "
            f"{span(self.layers)}, {dtype})"
        )

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

    def _on_disk(self, what: str) -> DiskSource:
        if not isinstance(self._source, DiskSource):
            raise InputError(f"{what} needs a store on disk; make one with save(path)")
        return self._source


def _reopen(path: str, target: str | None) -> ActivationStore:
    store = ActivationStore.open(path)
    return store if target is None else store.with_target(target)


def _rebuild(arrays: Any, groups: Any, target: Any) -> ActivationStore:
    return ActivationStore(source_from_arrays(arrays, groups=groups, target=target))
