"""From a path to what is there: a folder of shards, a user's own file, either behind a URL."""

from __future__ import annotations

from estimators import InputError
from redundancy._remote import AnyPath, RemotePath, place
from redundancy.store._arrays import ArraySource
from redundancy.store._datasets import saved_dataset, source_from_dataset
from redundancy.store._disk import DiskSource
from redundancy.store._plain import SUFFIXES, plain_source
from redundancy.store._schema import MANIFEST

__all__ = ["source_of"]


def source_of(path: str | AnyPath, *, skip_damaged: bool = False) -> DiskSource | ArraySource:
    """Open what a path or URL names: a store, a file with one array per layer, a data set."""
    where = place(path)
    if isinstance(where, RemotePath):
        if where.suffix.lower() in SUFFIXES:
            raise InputError(
                f"{where} is a single file behind a URL, and only stores are read from there; copy "
                "it to this machine first"
            )
        return DiskSource(where, skip_damaged=skip_damaged)
    if where.is_dir():
        saved = None if (where / MANIFEST).exists() else saved_dataset(where)
        if saved is not None:
            return source_from_dataset(saved, str(where))
        return DiskSource(where, skip_damaged=skip_damaged)
    if not where.exists():
        raise InputError(f"there is nothing at {where}; check the path")
    return plain_source(where)
