"""Samples to shards: what is written is complete, what is not complete is not there."""

from __future__ import annotations

import contextlib
import math
import secrets
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy._files import atomic_file, held, in_use, write_sealed
from redundancy.store._schema import (
    MANIFEST,
    Manifest,
    SampleRow,
    Sidecar,
    encode_row,
    sample_order,
)
from redundancy.store._statistics import STACKED, stack
from redundancy.store._tensors import Joined, LazyArray, write_tensors
from vlm.sample import CapturedSample

__all__ = ["StoreWriter", "write_shard"]

_BUILT_IN = {"id", "group", "statistics", "states", "positions", "layers", "row"}
# Rows live in a sidecar, which must stay well below what readers accept.
_MAX_ROW_BYTES = 2**24


_Entries = list[tuple[CapturedSample, SampleRow]]
_UNDER_WAY = 2  # shards; more would cost memory and gain nothing


class StoreWriter:
    """Collects captured samples and writes them as immutable shards; use it in a ``with`` block.

    A shard is written when `max_bytes` or `max_samples` have come together, or when the oldest
    sample has waited `flush_seconds`, so that a killed process loses at most that much work. It is
    written in the background, two at a time at most, while further samples come in; a failure is
    raised by the next call. On leaving the block, on an exception or Ctrl-C too, all is written.

    Parameters
    ----------
    folder, manifest
        The store.
    done : set of str
        Samples that the store holds already; they are not written again.
    rank : int
        Rank of this process; part of the names of its shards.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        done: set[str],
        *,
        rank: int = 0,
        max_bytes: int = 2**27,
        max_samples: int = 1024,
        flush_seconds: float = 60.0,
    ) -> None:
        if not 0 <= rank < 10**6:
            raise InputError(f"rank is {rank}; it must lie between 0 and 999,999")
        self._folder, self._manifest, self._done = folder, manifest, set(done)
        self._rank, self._run, self._sequence = rank, secrets.token_hex(6), 0
        self._max_bytes, self._max_samples = max_bytes, max_samples
        self._flush_seconds = flush_seconds
        self._buffer: _Entries = []
        self._bytes = self._row_bytes = 0
        self._since = 0.0
        self._kinds: dict[str, Any] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: deque[tuple[Future[None], _Entries]] = deque()
        self._open = contextlib.ExitStack()
        self.n_written = 0

    def add(self, sample: CapturedSample) -> bool:
        """Take one sample; False if the store has it already.

        Raises
        ------
        InputError
            If the sample does not fit the store (layers, widths, modalities, thresholds), or if
            the disk refused a shard.
        """
        if sample.id in self._done:
            return False
        row, row_bytes = self._check(sample)
        if not self._buffer:
            self._since = time.monotonic()
        self._buffer.append((sample, row))
        self._done.add(sample.id)
        self._row_bytes += row_bytes
        self._bytes += _nbytes(sample)
        if (
            self._bytes >= self._max_bytes
            or self._row_bytes >= _MAX_ROW_BYTES
            or len(self._buffer) >= self._max_samples
            or time.monotonic() - self._since >= self._flush_seconds
        ):
            self._hand_over()
        return True

    def flush(self) -> None:
        """Write what was collected, and wait until all of it is on disk."""
        self._hand_over()
        while self._under_way:
            self._settle()

    def _hand_over(self) -> None:
        """Let a thread write what was collected; hashing, writing and syncing free the others."""
        if not self._buffer:
            return
        while len(self._under_way) >= _UNDER_WAY:
            self._settle()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_UNDER_WAY, thread_name_prefix="store-writer")
        entries, self._buffer = self._buffer, []
        self._bytes = self._row_bytes = 0
        self._under_way.append(
            (self._pool.submit(self._write, self._next_name(), entries), entries)
        )

    def _settle(self) -> None:
        """Wait for the oldest shard; if it could not be written, its samples are kept for later."""
        future, entries = self._under_way[0]
        wait([future])  # a Ctrl-C here leaves it where it is
        self._under_way.popleft()
        failure = future.exception()
        if failure is not None:
            self._buffer = entries + self._buffer
            raise failure
        self.n_written += len(entries)

    def _write(self, name: str, entries: _Entries) -> None:
        ordered = sorted(entries, key=lambda entry: sample_order(entry[0].id))
        tensors, layers = _pack([sample for sample, _ in ordered], self._manifest)
        rows = [row for _, row in ordered]
        write_shard(self._folder, name, self._manifest, tensors, rows, layers)

    def _next_name(self) -> str:
        self._sequence += 1
        return f"r{self._rank}-{self._run}-{self._sequence:06d}"

    def __enter__(self) -> StoreWriter:
        try:
            # So that no other process takes an empty store for one that failed.
            self._open.enter_context(in_use(self._folder / MANIFEST))
        except OSError as error:
            raise InputError(
                f"{self._folder} is no store any more ({error.strerror or error}); run the command "
                "again"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.flush()
                return
            # The error that ended the block is the one to report; a full disk would only hide it.
            with contextlib.suppress(InputError, OSError):
                self.flush()
        finally:
            if self._pool is not None:
                self._pool.shutdown()
            self._open.close()

    def _check(self, sample: CapturedSample) -> tuple[SampleRow, int]:
        name, manifest = f"sample {sample.id!r}", self._manifest
        if not sample.id or len(sample.id) > 4096 or len(sample.group) > 4096:
            raise InputError(f"{name[:80]}: ids have 1 to 4,096 characters, groups at most 4,096")
        unknown = (set(sample.statistics) | set(sample.states)) - set(manifest.modalities)
        if unknown:
            raise InputError(
                f"{name} has modality {min(unknown)!r}; the store keeps {manifest.modalities}"
            )
        if sample.layers and list(sample.layers) != manifest.layers:
            raise InputError(
                f"{name} keeps the layers {list(sample.layers)}, the store {manifest.layers}"
            )
        for modality, states in sample.states.items():
            if states.ndim != 3 or len(states) != len(manifest.layers):
                raise InputError(
                    f"{name}: {modality} states have shape {states.shape}; the store keeps "
                    f"({len(manifest.layers)} layers, tokens, features)"
                )
            if manifest.dims is not None and states.shape[2] != manifest.dims:
                raise InputError(
                    f"{name}: {modality} states have {states.shape[2]} features; the store keeps "
                    f"{manifest.dims}"
                )
            positions = sample.positions.get(modality)
            if positions is not None and positions.shape != (states.shape[1],):
                raise InputError(
                    f"{name}: {modality} has {states.shape[1]} tokens but positions of shape "
                    f"{positions.shape}"
                )
        row = SampleRow(id=sample.id, group=sample.group, row=encode_row(sample.row, sample.id))
        try:
            size = len(msgspec.json.encode(row))
        except (UnicodeEncodeError, ValueError) as error:
            raise InputError(f"{name}: its id or group is not valid text ({error})") from None
        if size > _MAX_ROW_BYTES:
            raise InputError(
                f"{name}: its record has {size:,} bytes as JSON, at most {_MAX_ROW_BYTES:,} are "
                "kept; leave out the largest field"
            )
        self._check_kinds(sample)
        return row, size

    def _check_kinds(self, sample: CapturedSample) -> None:
        """Refuse a sample that the shard could not hold now, not when others wait with it."""
        thresholds = np.asarray(self._manifest.thresholds)
        kinds: dict[str, Any] = {}
        for modality, states in sample.states.items():
            kinds[f"dtype and width of {modality} states"] = (states.dtype.name, states.shape[2])
        for one in sample.statistics.values():
            if not np.array_equal(one.thresholds, thresholds):
                raise InputError(
                    f"sample {sample.id!r} was counted at the thresholds "
                    f"{np.asarray(one.thresholds).tolist()}, the store keeps "
                    f"{thresholds.tolist()}; capture with the store's thresholds"
                )
            size = len(one.rho_sum)
            if size not in (self._manifest.n_layers + 1, len(self._manifest.layers)):
                raise InputError(
                    f"the sums of sample {sample.id!r} are about {size} layers; the store is about "
                    f"{self._manifest.n_layers + 1}, and keeps {len(self._manifest.layers)}"
                )
            kinds["layers of the sums"] = size
            for field in STACKED:
                kinds[f"shape of {field}"] = getattr(one, field).shape
        for name, had in self._kinds.items():
            if name in kinds and kinds[name] != had:
                raise InputError(
                    f"{name}: {kinds[name]} in sample {sample.id!r}, {had} in those before; one "
                    "store holds one kind"
                )
        self._kinds.update(kinds)


def write_shard(
    folder: Path,
    name: str,
    manifest: Manifest,
    tensors: Mapping[str, NDArray[Any] | LazyArray | Joined],
    rows: Sequence[SampleRow],
    statistics_layers: Sequence[int],
) -> None:
    """Write one shard, then its sidecar; until the sidecar stands, the shard does not count."""
    shard = folder / f"{name}.safetensors"
    states = [key for key in tensors if key.startswith("states/")]
    try:
        with contextlib.ExitStack() as undo:
            # Undone from the last to the first: a sidecar must never stand without its shard.
            undo.callback(shard.unlink, missing_ok=True)
            undo.callback((folder / f"{name}.json").unlink, missing_ok=True)
            with atomic_file(shard, replace=False) as handle:
                digests = write_tensors(handle, tensors)
            sidecar = Sidecar(
                shard=name,
                bytes=digests.size,
                sha256=digests.sha256,
                crc32=digests.crc32,
                layers=list(manifest.layers),
                statistics_layers=list(statistics_layers),
                dtype=tensors[states[0]].dtype.name if states else None,
                tokens={
                    key.split("/")[1]: math.prod(value.shape)
                    for key, value in tensors.items()
                    if key.startswith("tokens/") and key.endswith("/sample")
                },
                samples=list(rows),
            )
            with held(shard):
                write_sealed(folder / f"{name}.json", sidecar, indent=None, replace=False)
            undo.pop_all()
    except OSError as error:
        raise InputError(
            f"shard {shard} can't be written: {error.strerror or error}; every shard that stands "
            "is complete: make room, then run the command again with --resume"
        ) from error


def _nbytes(sample: CapturedSample) -> int:
    total = 0
    for value in (getattr(sample, field.name) for field in fields(sample)):
        if isinstance(value, np.ndarray):
            total += value.nbytes
        elif isinstance(value, Mapping):
            for one in value.values():
                if isinstance(one, np.ndarray):
                    total += one.nbytes
                elif hasattr(one, "rho_sum"):
                    total += one.rho_sum.nbytes * 3
    return total


def _pack(
    samples: Sequence[CapturedSample], manifest: Manifest
) -> tuple[dict[str, NDArray[Any] | Joined], list[int]]:
    """The tensors of a shard, and the layers that its sums are about."""
    tensors: dict[str, NDArray[Any] | Joined] = {}
    every = list(range(manifest.n_layers + 1))
    statistics_layers = manifest.layers
    for modality in manifest.modalities:
        stacked = stack([sample.statistics.get(modality) for sample in samples])
        for name, array in (stacked or {}).items():
            tensors[f"statistics/{modality}/{name}"] = array
        if stacked is not None:
            size = stacked["rho_sum"].shape[1]
            statistics_layers = every if size == len(every) else manifest.layers
        tensors.update(_pack_states(samples, modality, manifest))
    names = [field.name for field in fields(CapturedSample) if field.name not in _BUILT_IN]
    for name in names:
        values = [getattr(sample, name) for sample in samples]
        if any(isinstance(value, Mapping) for value in values):
            keys = sorted({key for value in values for key in value or ()})
            for key in keys:
                _pack_ragged(tensors, f"{name}.{key}", [(value or {}).get(key) for value in values])
        else:
            _pack_ragged(tensors, name, values)
    return tensors, list(statistics_layers)


def _pack_states(
    samples: Sequence[CapturedSample], modality: str, manifest: Manifest
) -> dict[str, NDArray[Any] | Joined]:
    kept = [
        (index, sample)
        for index, sample in enumerate(samples)
        if modality in sample.states and sample.states[modality].shape[1]
    ]
    if not kept:
        return {}
    states = [sample.states[modality] for _, sample in kept]
    counts = [value.shape[1] for value in states]
    tensors: dict[str, NDArray[Any] | Joined] = {
        f"states/{modality}/{layer}": Joined([value[row] for value in states])
        for row, layer in enumerate(manifest.layers)
    }
    indices = np.array([index for index, _ in kept], dtype=np.int32)
    tensors[f"tokens/{modality}/sample"] = np.repeat(indices, counts)
    tensors[f"tokens/{modality}/position"] = np.concatenate(
        [
            np.asarray(sample.positions.get(modality, np.arange(count)), dtype=np.int64)
            for (_, sample), count in zip(kept, counts, strict=True)
        ]
    )
    return tensors


def _pack_ragged(
    tensors: dict[str, NDArray[Any] | Joined], name: str, values: Sequence[Any]
) -> None:
    """Optional arrays of any shape, flattened one after another, with the shape of each."""
    arrays = [None if value is None else np.asarray(value) for value in values]
    known = [array for array in arrays if array is not None]
    if not known:
        return
    depth = max(array.ndim for array in known)
    shapes = np.full((len(arrays), depth), -1, dtype=np.int64)
    for row, array in enumerate(arrays):
        if array is not None:
            shapes[row, depth - array.ndim :] = array.shape
            shapes[row, : depth - array.ndim] = 1
    tensors[f"sample/{name}"] = np.concatenate([array.reshape(-1) for array in known])
    tensors[f"shape/{name}"] = shapes
