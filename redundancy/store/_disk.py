"""A folder of shards as the source of a store."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy._remote import AnyPath
from redundancy._rows import LazyRows
from redundancy.store._gather import expected_shape, place_rows, runs, say, whereabouts
from redundancy.store._schema import (
    Manifest,
    SampleRow,
    Sidecar,
    read_manifest,
    read_sidecar,
    sample_order,
    sidecars,
)
from redundancy.store._statistics import STACKED, Statistics
from redundancy.store._tensors import TensorFile, TensorInfo

__all__ = ["DiskSource", "open_shard"]


@dataclass(slots=True)
class _Shard:
    path: AnyPath
    sidecar: Sidecar
    # Index of each of its samples in the store; -1 where an earlier shard has that sample.
    places: NDArray[np.int64]
    file: TensorFile | None = None

    def tensors(self) -> TensorFile:
        if self.file is None:
            self.file = open_shard(self.path, self.sidecar)
        return self.file


def check_size(path: AnyPath, sidecar: Sidecar) -> None:
    """Hold the size of a shard against its sidecar."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing, only its sidecar is there; restore it from a copy, or delete "
            f"{path.with_suffix('.json').name} and run the extraction again with --resume"
        ) from None
    if size != sidecar.bytes:
        raise InputError(
            f"{path} is damaged: it has {size:,} bytes, its sidecar says {sidecar.bytes:,}; "
            "restore it from a copy, or delete it with its sidecar and run the extraction again "
            "with --resume"
        )


def open_shard(path: AnyPath, sidecar: Sidecar) -> TensorFile:
    """Open a shard and hold its size and its list of arrays against the sidecar."""
    check_size(path, sidecar)
    file = TensorFile(path, sidecar.crc32)
    if file.tensors.keys() != sidecar.crc32.keys():
        raise InputError(
            f"{path} is damaged: it and its sidecar list different arrays; delete both and run the "
            "extraction again with --resume"
        )
    return file


class DiskSource:
    """Shards of one folder, read in one fixed order of samples whatever process wrote which.

    Parameters
    ----------
    folder : Path or RemotePath
        The store.
    skip_damaged : bool
        Read every byte once, and leave damaged shards out, instead of raising InputError.
    known : mapping of str to Sidecar
        Sidecars that were read before, by shard.
    only : collection of str, optional
        Shards to read, all by default.
    """

    def __init__(
        self,
        folder: AnyPath,
        *,
        skip_damaged: bool = False,
        known: Mapping[str, Sidecar] = MappingProxyType({}),
        only: Collection[str] | None = None,
    ) -> None:
        self.folder, self._skip_damaged = folder, skip_damaged
        self.manifest: Manifest = read_manifest(folder)
        self._shards: list[_Shard] = []
        rows: dict[str, tuple[int, int, SampleRow]] = {}
        for path in sidecars(folder):
            if only is not None and path.stem not in only:
                continue
            try:
                sidecar = known.get(path.stem) or read_sidecar(path)
                self._check(sidecar, path)
                places = np.full(len(sidecar.samples), -1)
                shard = _Shard(path.with_suffix(".safetensors"), sidecar, places)
                check_size(shard.path, sidecar)
                if skip_damaged:
                    for name in shard.tensors().tensors:
                        shard.tensors().read(name)
            except InputError:
                if skip_damaged:
                    continue
                raise
            for place, row in enumerate(sidecar.samples):
                rows.setdefault(row.id, (len(self._shards), place, row))
            self._shards.append(shard)
        self._rows = sorted(rows.values(), key=lambda entry: sample_order(entry[2].id))
        for index, (number, place, _) in enumerate(self._rows):
            self._shards[number].places[place] = index
        self.layers = tuple(self.manifest.layers)
        self.n_layers = self.manifest.n_layers
        self.modalities = tuple(self.manifest.modalities)
        self.independent = self.manifest.independent
        self.handle = str(folder)
        self.model = self.manifest.model
        self._tokens: dict[str, tuple[list[NDArray[np.int64]], NDArray[np.int64]]] = {}
        self._where: dict[str, tuple[NDArray[np.int32], NDArray[np.int64]]] = {}
        self._groups: NDArray[np.int64] | None = None
        self._statistics: dict[str, Statistics | None] = {}

    def reopen(self) -> DiskSource:
        """The folder as it is now; sidecars never change, so only new ones are read."""
        known = {shard.sidecar.shard: shard.sidecar for shard in self._shards}
        return DiskSource(self.folder, skip_damaged=self._skip_damaged, known=known)

    @property
    def n_samples(self) -> int:
        if self.independent:  # arrays without groups: every token is a sample of its own
            return max(self.n_tokens(modality) for modality in self.modalities)
        return len(self._rows)

    def done_ids(self) -> set[str]:
        """Ids of the samples that are there."""
        return {row.id for _, _, row in self._rows}

    def describe(self) -> dict[str, Any]:
        manifest, digest = self.manifest, hashlib.sha256()
        for shard in self._shards:
            digest.update(f"{shard.sidecar.shard} {shard.sidecar.sha256}\n".encode())
        return {
            "path": str(self.folder),
            "sha256": digest.hexdigest(),
            "model": manifest.model,
            "revision": manifest.revision,
            "dataset": manifest.dataset,
            "tokens": manifest.tokens,
            "seed": manifest.seed,
            "settings": manifest.settings,
            "packages": manifest.packages,
        }

    def samples(self) -> list[dict[str, Any]]:
        if self.independent:
            return [{"id": str(index), "group": str(index)} for index in range(self.n_samples)]
        return [{**row.row, "id": row.id, "group": row.group} for _, _, row in self._rows]

    def sample_groups(self) -> NDArray[Any]:
        if self.independent:
            return np.arange(self.n_samples)
        if self._groups is None:
            codes: dict[str, int] = {}
            groups = [codes.setdefault(row.group, len(codes)) for _, _, row in self._rows]
            self._groups = np.array(groups, dtype=np.int64)
        return self._groups

    def n_tokens(self, modality: str) -> int:
        return len(self._token_index(modality)[1])

    def token_samples(self, modality: str) -> NDArray[np.int64]:
        samples = self._token_index(modality)[1]
        return np.arange(len(samples)) if self.independent else samples

    def positions(self, modality: str) -> NDArray[np.int64] | None:
        positions: NDArray[np.int64] = self._gather(f"tokens/{modality}/position", modality)
        return positions.astype(np.int64)

    def dtype(self, modality: str) -> str | None:
        info = self._first_states(modality)
        return None if info is None else info.numpy.name

    def dim(self, modality: str) -> int:
        info = self._first_states(modality)
        return 0 if info is None or not info.shape else info.shape[-1]

    def arrays(self) -> tuple[Any, Any, Any]:
        raise InputError(f"{self.folder} is on disk; open it there")

    def read(self, layer: int, modality: str) -> NDArray[Any]:
        return self._gather(f"states/{modality}/{layer}", modality)

    def target(self, modality: str) -> NDArray[Any] | None:
        name = f"target/{modality}"
        shards = self._with_tokens(modality)
        if not shards or name not in shards[0].sidecar.crc32:
            return None
        value = self._gather(name, modality)
        labels = self.manifest.target_labels
        if labels is None:
            return value
        if value.size and not 0 <= int(value.min()) <= int(value.max()) < len(labels):
            raise InputError(f"{self.folder}: the target has codes without a label")
        words: NDArray[Any] = np.asarray(labels, dtype=np.str_)[value]
        return words

    def statistics(self, modality: str) -> Statistics | None:
        if modality not in self._statistics:
            self._statistics[modality] = self._read_statistics(modality)
        return self._statistics[modality]

    def per_sample(self, name: str) -> list[NDArray[Any] | None] | None:
        found: list[NDArray[Any] | None] = [None] * self.n_samples
        seen = False
        for shard in self._shards:
            if f"sample/{name}" not in shard.sidecar.crc32:
                continue
            seen = True
            file = shard.tensors()
            flat, shapes = file.read(f"sample/{name}").reshape(-1), file.read(f"shape/{name}")
            sound = shapes.dtype == np.int64 and shapes.ndim == 2 and shapes.shape[1] <= 16
            self._expect(shard, sound and len(shapes) == len(shard.places), name)
            start = 0
            for place, shape in zip(shard.places.tolist(), shapes.tolist(), strict=True):
                if min(shape, default=0) < 0:
                    continue
                size = math.prod(shape)
                self._expect(shard, start + size <= flat.size, name)
                if place >= 0:
                    found[place] = flat[start : start + size].reshape(shape)
                start += size
        return found if seen else None

    def _check(self, sidecar: Sidecar, path: AnyPath) -> None:
        every = list(range(self.manifest.n_layers + 1))
        if tuple(sidecar.layers) != tuple(self.manifest.layers):
            raise InputError(
                f"{path} holds the layers {sidecar.layers}, store.json names "
                f"{self.manifest.layers}; it belongs to another store: move it out"
            )
        if sidecar.statistics_layers not in ([], every, self.manifest.layers):
            raise InputError(f"{path} holds sums about unknown layers; it belongs to another store")
        unknown = set(sidecar.tokens) - set(self.manifest.modalities)
        if unknown:
            raise InputError(
                f"{path} holds modality {min(unknown)!r}, which store.json does not name; it "
                "belongs to another store: move it out"
            )

    def _expect(self, shard: _Shard, sound: bool, name: str) -> None:
        if not sound:
            raise InputError(
                f"{shard.path} is not what this tool writes: array {name!r} does not fit its "
                "samples; delete it with its sidecar and run the extraction again with --resume"
            )

    def _first_states(self, modality: str) -> TensorInfo | None:
        for shard in self._with_tokens(modality):
            return shard.tensors().tensors.get(f"states/{modality}/{self.layers[0]}")
        return None

    def _with_tokens(self, modality: str) -> list[_Shard]:
        return [shard for shard in self._shards if shard.sidecar.tokens.get(modality)]

    def _token_index(self, modality: str) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        """Per shard the row of the result that each of its tokens goes to (-1: left out); and the
        sample of each row of the result."""
        if modality in self._tokens:
            return self._tokens[modality]
        samples, positions = [], []
        for shard in self._with_tokens(modality):
            file, count = shard.tensors(), shard.sidecar.tokens[modality]
            local = file.read(f"tokens/{modality}/sample").astype(np.int64)
            place = file.read(f"tokens/{modality}/position").astype(np.int64)
            self._expect(shard, local.shape == place.shape == (count,), "tokens")
            self._expect(shard, 0 <= local.min() <= local.max() < len(shard.places), "tokens")
            samples.append(shard.places[local])
            positions.append(place)
        empty = np.empty(0, dtype=np.int64)
        flat, where = np.concatenate([empty, *samples]), np.concatenate([empty, *positions])
        key = where if self.manifest.order == "rows" else flat
        order = np.argsort(key, kind="stable")
        order = order[flat[order] >= 0]
        rows = np.full(len(flat), -1)
        rows[order] = np.arange(len(order))
        bounds = np.cumsum([len(one) for one in samples])[:-1]
        result = (np.split(rows, bounds) if samples else [], flat[order])
        self._tokens[modality] = result
        return result

    def _gather(self, name: str, modality: str) -> NDArray[Any]:
        """One array per token, put in line over all shards; a view of the file where possible."""
        rows, samples = self._token_index(modality)
        shards, first = self._agreeing(name, modality)
        if len(shards) == 1 and np.array_equal(rows[0], np.arange(len(samples))):
            return shards[0].tensors().read(name)
        out = np.empty((len(samples), *first.shape[1:]), dtype=first.numpy)
        for shard, place in zip(shards, rows, strict=True):
            place_rows(shard.tensors(), name, place, out)
        return out

    def lazy(self, layer: int, modality: str) -> LazyRows:
        """States of one layer, read from the shards as they are asked for."""
        name = f"states/{modality}/{layer}"
        shards, first = self._agreeing(name, modality)
        self._expect(shards[0], len(first.shape) == 2, name)
        if modality not in self._where:
            self._where[modality] = whereabouts(*self._token_index(modality))
        number, local = self._where[modality]
        width, dtype = first.shape[1], first.numpy

        def read(rows: NDArray[np.int64]) -> NDArray[Any]:
            out = np.empty((len(rows), width), dtype)
            for begin, end in runs(number[rows], local[rows]):
                row = int(rows[begin])
                shards[number[row]].tensors().read_rows(name, int(local[row]), out[begin:end])
            return out

        return LazyRows((len(number), width), dtype, read)

    def _agreeing(self, name: str, modality: str) -> tuple[list[_Shard], TensorInfo]:
        """The shards that keep tokens, once it is known that their arrays fit together."""
        rows, _ = self._token_index(modality)
        shards = self._with_tokens(modality)
        if not shards:
            raise InputError(
                f"{self.folder} keeps no {modality} states, only sums over all tokens; extract "
                "again with --tokens K to keep K tokens per sample"
            )
        infos = [shard.tensors().tensors.get(name) for shard in shards]
        first = shards[0].tensors().find(name)
        for shard, info, place in zip(shards, infos, rows, strict=True):
            if info is None or (info.dtype, info.shape[1:]) != (first.dtype, first.shape[1:]):
                raise InputError(
                    f"{shard.path}: array {name!r} is {say(info)}, in {shards[0].path.name} "
                    f"{say(first)}; they belong to different stores: move one out"
                )
            self._expect(shard, info.shape[:1] == [len(place)], name)
        return shards, first

    def _read_statistics(self, modality: str) -> Statistics | None:
        prefix = f"statistics/{modality}/"
        shards = [shard for shard in self._shards if f"{prefix}n_tokens" in shard.sidecar.crc32]
        if not shards:
            return None
        layers = shards[0].sidecar.statistics_layers
        arrays: dict[str, NDArray[Any]] = {}
        for shard in shards:
            file, kept = shard.tensors(), shard.places >= 0
            self._expect(shard, shard.sidecar.statistics_layers == layers, "statistics")
            with file.open() as handle:
                values = {
                    name: file.read(prefix + name, handle=handle) for name in ("n_tokens", *STACKED)
                }
            for name, value in values.items():
                shape = expected_shape(name, len(layers), len(self.manifest.thresholds))
                shape = value.shape[1:] if shape is None else shape
                self._expect(shard, value.shape == (len(shard.places), *shape), prefix + name)
                if name not in arrays:
                    dtype = np.dtype(np.int64) if name == "n_tokens" else value.dtype
                    arrays[name] = np.zeros((self.n_samples, *shape), dtype=dtype)
                arrays[name][shard.places[kept]] = value[kept]
        return Statistics(
            layers=tuple(layers),
            thresholds=np.asarray(self.manifest.thresholds, dtype=np.float64),
            n_tokens=arrays.pop("n_tokens"),
            arrays=arrays,
        )
