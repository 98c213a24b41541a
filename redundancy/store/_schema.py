"""The two JSON files of a store: `store.json` at its root, and one sidecar beside each shard."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from estimators import InputError
from redundancy._files import check_seal, decode_json, read_bytes
from redundancy._remote import AnyPath

__all__ = [
    "MANIFEST",
    "SCHEMA_VERSION",
    "SHARD_NAME",
    "Manifest",
    "SampleRow",
    "Sidecar",
    "encode_row",
    "read_manifest",
    "read_sidecar",
    "sample_order",
    "sidecars",
]

SCHEMA_VERSION = 1
MANIFEST = "store.json"
SHARD_NAME = re.compile(r"r[0-9]{1,6}-[0-9a-f]{8,32}-[0-9]{6,9}")
"""Stem of a shard: rank, run, sequence number."""

Count = Annotated[int, Meta(ge=0, le=2**53)]
Layer = Annotated[int, Meta(ge=0, le=100_000)]
Word = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_\-]+$")]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a store is: written first, and never changed.

    `n_layers` counts decoder blocks; `layers` names the states kept, 0 being what enters block 1.
    `order` says how tokens are put in line when several shards are read: by sample id, or (for
    stores made from arrays) by the row they had there.
    """

    kind: Literal["redundancy.activations"] = "redundancy.activations"
    schema_version: Annotated[int, Meta(ge=1)] = SCHEMA_VERSION
    model: str | None
    revision: str | None
    n_layers: Layer
    layers: Annotated[list[Layer], Meta(min_length=1, max_length=100_000)]
    dims: Annotated[int, Meta(ge=1, le=2**31)] | None
    modalities: Annotated[list[Word], Meta(min_length=1, max_length=1000)]
    tokens: Count | Literal["all"]
    seed: Count
    thresholds: list[float]
    dataset: dict[str, Any] | None
    settings: dict[str, Any]
    packages: dict[str, str]
    order: Literal["samples", "rows"] = "samples"
    independent: bool = False
    target_labels: list[str] | None = None
    created: str | None = None


class SampleRow(msgspec.Struct, frozen=True, kw_only=True):
    """One sample in a sidecar; `row` is its own record (question, answer, prediction, ...)."""

    id: Annotated[str, Meta(max_length=4096)]
    group: Annotated[str, Meta(max_length=4096)]
    row: dict[str, Any]


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a shard count: its size, checksums and samples.

    `crc32` holds one checksum per tensor, so that reading one layer can check that layer alone.
    """

    schema_version: Annotated[int, Meta(ge=1)] = SCHEMA_VERSION
    shard: str
    bytes: Count
    sha256: Digest
    crc32: dict[str, Annotated[int, Meta(ge=0, lt=2**32)]]
    layers: list[Layer]
    statistics_layers: list[Layer]
    dtype: str | None
    tokens: dict[Word, Count]
    samples: Annotated[list[SampleRow], Meta(min_length=1, max_length=10_000_000)]


def read_manifest(folder: AnyPath) -> Manifest:
    """Read and check ``store.json``."""
    path = folder / MANIFEST
    if isinstance(folder, Path):  # behind a URL there may be no folders, only files
        if not folder.exists():
            raise InputError(f"there is no store at {folder}; check the path")
        if not folder.is_dir():
            raise InputError(f"{folder} is a file, not the folder of a store")
    if not path.exists():
        raise InputError(
            f"{folder} is not an activation store: it has no {MANIFEST}; name a folder made by "
            "`redundancy extract`, or a .npz, .npy or .safetensors file"
        )
    manifest: Manifest = _load(path, Manifest)
    layers = manifest.layers
    if sorted(set(layers)) != layers or layers[-1] > manifest.n_layers:
        raise InputError(
            f"{path} lists the layers {layers} of a model of {manifest.n_layers} blocks; they must "
            "ascend from 0 to that number"
        )
    if len(set(manifest.modalities)) != len(manifest.modalities):
        raise InputError(f"{path} names a modality twice: {manifest.modalities}")
    return manifest


def sidecars(folder: AnyPath) -> list[AnyPath]:
    """Sidecars of a store, in the order that decides which shard has a sample."""
    found: list[AnyPath] = [
        path for path in folder.glob("r*.json") if SHARD_NAME.fullmatch(path.stem)
    ]
    return sorted(found, key=lambda path: path.name)


def read_sidecar(path: AnyPath) -> Sidecar:
    """Read and check one sidecar."""
    sidecar: Sidecar = _load(path, Sidecar)
    if sidecar.shard != path.stem:
        raise InputError(
            f"{path} belongs to shard {sidecar.shard!r}: it was renamed; give it its name back"
        )
    return sidecar


class _Version(msgspec.Struct):
    schema_version: int


def _load(path: AnyPath, type: Any) -> Any:
    data = read_bytes(path)
    # Before the seal and the schema: a newer version may have changed both.
    found = decode_json(data, _Version, path).schema_version
    if found > SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema version {found}, this version of redundancy reads up to "
            f"{SCHEMA_VERSION}; update redundancy"
        )
    check_seal(data, path)
    return decode_json(data, type, path)


def encode_row(row: Mapping[str, Any], sample: str) -> dict[str, Any]:
    """A sample's record as plain JSON values; NumPy values become lists and numbers."""
    try:
        plain = msgspec.json.encode({str(key): value for key, value in row.items()}, enc_hook=_hook)
        return dict(msgspec.json.decode(plain))
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InputError(
            f"the record of sample {sample!r} can't be kept as JSON ({error}); leave that field out"
        ) from None


def _hook(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"values of type {type(value).__name__} are not JSON")


def sample_order(sample: str) -> tuple[tuple[int, str], ...]:
    """Sort key under which ``"q9"`` comes before ``"q10"``."""
    # Text and digits alternate, text first; a number is ordered by its length, then its digits.
    parts = re.split(r"([0-9]+)", sample)
    keys = [
        (len(part.lstrip("0")), part.lstrip("0")) if index % 2 else (0, part)
        for index, part in enumerate(parts)
    ]
    return (*keys, (0, sample))
