"""Making the folder of a store: new, taken up again, or from arrays."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy._files import (
    TEMPORARY_PREFIX,
    fsync_directory,
    is_abandoned,
    unused,
    write_sealed,
)
from redundancy._remote import AnyPath
from redundancy.store._schema import MANIFEST, SHARD_NAME, Manifest, SampleRow, read_manifest
from redundancy.store._source import Source
from redundancy.store._tensors import LazyArray
from redundancy.store._writer import write_shard

__all__ = ["create_folder", "orphans", "remove_empty", "save_folder", "temporaries"]

_COMPARED = (
    "model",
    "revision",
    "n_layers",
    "layers",
    "dims",
    "modalities",
    "tokens",
    "seed",
    "thresholds",
    "dataset",
    "order",
    "independent",
)


def create_folder(
    folder: Path,
    *,
    fresh: bool,
    resume: bool,
    model: str | None,
    revision: str | None,
    n_layers: int,
    layers: Sequence[int] | None,
    dims: int | None,
    modalities: Sequence[str],
    tokens: int | Literal["all"],
    seed: int,
    thresholds: Sequence[float],
    dataset: Mapping[str, Any] | None,
    settings: Mapping[str, Any] | None,
    packages: Mapping[str, str] | None,
) -> Path:
    """Write ``store.json``, or hold the one that is there against the settings."""
    if n_layers < 1:
        raise InputError(f"n_layers is {n_layers}; a model has at least one block")
    kept = list(range(n_layers + 1)) if layers is None else sorted({int(one) for one in layers})
    if not kept or kept[0] < 0 or kept[-1] > n_layers:
        raise InputError(
            f"layers {list(layers or [])} are out of range; a model of {n_layers} blocks has the "
            f"states 0 to {n_layers}"
        )
    if tokens != "all" and (not isinstance(tokens, int) or tokens < 0):
        raise InputError(f"tokens is {tokens!r}; give a number per sample, 0 or more, or 'all'")
    if len(set(modalities)) != len(modalities):
        raise InputError(f"modalities names one twice: {list(modalities)}")
    cuts = [float(one) for one in thresholds]
    if not all(0 < one <= 2 for one in cuts):
        raise InputError(f"thresholds are cosine distances above 0 and at most 2; got {cuts}")
    manifest = Manifest(
        model=model,
        revision=revision,
        n_layers=n_layers,
        layers=kept,
        dims=dims,
        modalities=list(modalities),
        tokens=tokens,
        seed=seed,
        thresholds=cuts,
        dataset=_plain(dataset, "dataset"),
        settings=_plain(settings, "settings") or {},
        packages=dict(packages or {}),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    return put_manifest(folder, manifest, fresh=fresh, resume=resume)


def put_manifest(folder: Path, manifest: Manifest, *, fresh: bool, resume: bool) -> Path:
    """Make the folder and its ``store.json``, or check that the one there says the same."""
    if fresh and resume:
        raise InputError("fresh deletes the old store, resume continues it; choose one of the two")
    _round_trips(manifest)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        entries = [path for path in folder.iterdir() if not path.name.startswith(TEMPORARY_PREFIX)]
        if fresh and entries:
            _remove_store(folder, entries)
            entries = []
        if entries and not (folder / MANIFEST).exists():
            raise InputError(
                f"{folder} is not empty and not an activation store (it holds "
                f"{min(path.name for path in entries)!r}); choose another folder"
            )
        if not entries:
            # If another process was faster, its settings are compared below.
            with contextlib.suppress(FileExistsError):
                write_sealed(folder / MANIFEST, manifest, replace=False)
                return folder
        elif not resume:
            raise InputError(
                f"{folder} holds an activation store already; add --resume to continue it, "
                "--fresh to delete it and start over, or choose another folder"
            )
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder} is a file; choose a folder") from None
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror or error}") from error
    _compare(read_manifest(folder), manifest, folder)
    _remove_abandoned(folder)
    return folder


def _compare(old: Manifest, new: Manifest, folder: Path) -> None:
    before, now = msgspec.to_builtins(old), msgspec.to_builtins(new)
    pairs = [(name, before[name], now[name]) for name in _COMPARED]
    data = [before["dataset"] or {}, now["dataset"] or {}]
    if all("digest" in one for one in data):  # the same rows may lie elsewhere today
        pairs = [pair for pair in pairs if pair[0] != "dataset"]
        pairs.append(("dataset digest", data[0]["digest"], data[1]["digest"]))
    pairs += [
        (name, old.settings.get(name), new.settings.get(name))
        for name in sorted({*old.settings, *new.settings})
    ]
    for name, had, wanted in pairs:
        if had != wanted:
            raise InputError(
                f"{folder} was made with {name} = {_short(had)}, this run has {name} = "
                f"{_short(wanted)}; use the same setting to resume, --fresh to delete the store "
                "and start over, or another folder"
            )


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 120 else text[:117] + "..."


def _plain(value: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        return dict(msgspec.json.decode(msgspec.json.encode(dict(value))))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{name} can't be kept as JSON ({error})") from None


def _round_trips(manifest: Manifest) -> None:
    try:
        msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise InputError(f"the settings of the store are not valid: {error}") from None


def _remove_store(folder: Path, entries: Sequence[Path]) -> None:
    """Delete a store; sidecars go first and store.json last, so a kill leaves a smaller store."""
    sidecars = [path for path in entries if path.suffix == ".json" and _is_shard(path)]
    shards = [path for path in entries if path.suffix == ".safetensors" and _is_shard(path)]
    manifest = folder / MANIFEST
    foreign = set(entries) - {*sidecars, *shards, manifest}
    if foreign:
        raise InputError(
            f"{folder} holds {min(path.name for path in foreign)!r}, which no extraction wrote; "
            "nothing was deleted: move it away or choose another folder"
        )
    for path in (*sidecars, *shards, manifest):
        path.unlink(missing_ok=True)
    fsync_directory(folder)


def remove_empty(folder: Path, made: Sequence[Path]) -> None:
    """Delete a store that holds nothing, if nobody writes to it; and of the folders `made` what is
    empty then."""
    with contextlib.suppress(OSError), unused(folder / MANIFEST) as free:
        if free and [path.name for path in folder.iterdir()] == [MANIFEST]:
            (folder / MANIFEST).unlink()
            for path in made:
                path.rmdir()


def _is_shard(path: Path) -> bool:
    return SHARD_NAME.fullmatch(path.stem) is not None and path.is_file()


def temporaries(folder: AnyPath) -> list[AnyPath]:
    """Files under a temporary name: being written, or left by a killed process."""
    return sorted(folder.glob(f"{TEMPORARY_PREFIX}*"))


def orphans(folder: AnyPath) -> list[AnyPath]:
    """Shards without a sidecar: they do not count."""
    return sorted(
        path
        for path in folder.glob("r*.safetensors")
        if SHARD_NAME.fullmatch(path.stem) and not path.with_suffix(".json").exists()
    )


def _remove_abandoned(folder: Path) -> None:
    for path in (*temporaries(folder), *orphans(folder)):
        if isinstance(path, Path) and is_abandoned(path):
            with contextlib.suppress(OSError):
                path.unlink()


def save_folder(source: Source, folder: Path, *, fresh: bool) -> Path:
    """Write a source of arrays as a store of one shard, one layer in memory at a time."""
    widths = {source.read(layer, source.modalities[0]).shape[1] for layer in source.layers[:1]}
    labels: list[str] | None = None
    targets: dict[str, NDArray[Any]] = {}
    for modality in source.modalities:
        target = source.target(modality)
        if target is not None:
            targets[modality] = target
    if any(target.dtype.kind in "US" for target in targets.values()):
        words = np.unique(np.concatenate([one.astype(np.str_).ravel() for one in targets.values()]))
        labels = [str(word) for word in words]
        targets = {
            modality: np.searchsorted(words, one.astype(np.str_)).astype(np.int64)
            for modality, one in targets.items()
        }
    manifest = Manifest(
        model=None,
        revision=None,
        n_layers=max(1, source.n_layers),
        layers=list(source.layers),
        dims=min(widths),
        modalities=list(source.modalities),
        tokens="all",
        seed=0,
        thresholds=[],
        dataset=None,
        settings={},
        packages={},
        order="rows",
        independent=source.independent,
        target_labels=labels,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    put_manifest(folder, manifest, fresh=fresh, resume=False)
    tensors: dict[str, NDArray[Any] | LazyArray] = {}
    for modality in source.modalities:
        count = source.n_tokens(modality)
        samples = np.zeros(count) if source.independent else source.token_samples(modality)
        tensors[f"tokens/{modality}/sample"] = samples.astype(np.int32)
        tensors[f"tokens/{modality}/position"] = np.arange(count, dtype=np.int64)
        if modality in targets:
            tensors[f"target/{modality}"] = targets[modality]
        for layer in source.layers:
            tensors[f"states/{modality}/{layer}"] = _lazy(source, layer, modality)
    rows = [SampleRow(id="rows", group="", row={})]
    if not source.independent:
        rows = [
            SampleRow(id=sample["id"], group=sample["group"], row={}) for sample in source.samples()
        ]
    write_shard(folder, "r0-00000000-000001", manifest, tensors, rows, [])
    return folder


def _lazy(source: Source, layer: int, modality: str) -> LazyArray:
    x = source.read(layer, modality)
    return LazyArray(x.shape, x.dtype, lambda: source.read(layer, modality))
