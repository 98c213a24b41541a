"""`ActivationStore`: layer states and their running sums, on disk or in memory, pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from estimators import InputError
from redundancy.store._arrays import source_from_arrays
from redundancy.store._create import create_folder, save_folder
from redundancy.store._datasets import is_dataset, source_from_dataset
from redundancy.store._disk import DiskSource
from redundancy.store._open import source_of
from redundancy.store._pairs import PairReader
from redundancy.store._reader import span
from redundancy.store._verify import Finding, verify_store
from redundancy.store._writer import StoreWriter
from vlm.sample import DEFAULT_THRESHOLDS

__all__ = ["ActivationStore", "open_source"]


class ActivationStore(PairReader):
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
        """Open a store, as `open_source` does.

        Parameters
        ----------
        path : str or Path
            Its folder or URL, or a file with one array per layer.
        skip_damaged : bool
            Leave damaged shards out instead of raising InputError.
        """
        return cls(source_of(path, skip_damaged=skip_damaged))

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
        if not isinstance(source.folder, Path):
            raise InputError(f"{source.folder} is remote, and remote stores are only read")
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

    def _repr_html_(self) -> str:
        from estimators._html import table

        rows = [
            [word, f"{self.n_tokens(word):,}", self.dim(word), self._source.dtype(word) or "–"]
            for word in self.modalities
        ]
        where = "in memory" if self.handle is None else str(self.handle)
        of = [self._source.model, f"{self.n_samples:,} samples", f"layers {span(self.layers)}"]
        head = ["", "token states", "width", "dtype"]
        return table(f"Activations, {where}", head, rows, " · ".join(filter(None, of)))

    def _on_disk(self, what: str) -> DiskSource:
        if not isinstance(self._source, DiskSource):
            raise InputError(f"{what} needs a store on disk; make one with save(path)")
        return self._source


def _reopen(path: str, target: str | None) -> ActivationStore:
    store = ActivationStore.open(path)
    return store if target is None else store.with_target(target)


def _rebuild(arrays: Any, groups: Any, target: Any) -> ActivationStore:
    return ActivationStore(source_from_arrays(arrays, groups=groups, target=target))


def open_source(path: str | Path | ActivationStore | Any) -> ActivationStore:
    """Open whatever holds activations: a store, a file with one array per layer, a data set.

    Parameters
    ----------
    path : str, Path, ActivationStore or datasets.Dataset
        - the folder of a store, here or behind a URL that fsspec reads (``s3://...``,
          ``https://...``; `pip install 'redundancy[remote]'`);
        - ``.npz`` or ``.safetensors`` with arrays (n, d) or (samples, tokens, d) named ``0``,
          ``layer_0``, ``layers.0`` or ``hidden_0``, optionally after a modality
          (``vision/3``), and optionally ``groups`` and ``target`` (or ``vision/groups``);
        - ``.npy`` of shape (layers, n, d) or (layers, samples, tokens, d);
        - a Hugging Face ``Dataset``, or the folder where one was saved, with a column of vectors
          per layer (``layer_0``, ...) and optionally ``groups`` and ``target``.

    Returns
    -------
    ActivationStore
        Layers of a file are read when they are asked for.

    Raises
    ------
    InputError
        If there is nothing of that kind, or it is damaged, or its header declares more than the
        file can hold; pickled arrays are never loaded.
    """
    if is_dataset(path):
        return ActivationStore(source_from_dataset(path))
    return path if isinstance(path, ActivationStore) else ActivationStore.open(path)
