"""From a path to what is there: a folder of shards, a user's own file, either behind a URL."""

from __future__ import annotations

from estimators import InputError
from redundancy._remote import AnyPath, RemotePath, place
from redundancy.store._arrays import ArraySource
from redundancy.store._disk import DiskSource
from redundancy.store._plain import SUFFIXES, plain_source

__all__ = ["source_of"]


def source_of(path: str | AnyPath, *, skip_damaged: bool = False) -> DiskSource | ArraySource:
    """Open what a path or URL names: a store's folder, or a file with one array per layer."""
    where = place(path)
    if isinstance(where, RemotePath):
        if where.suffix.lower() in SUFFIXES:
            raise InputError(
                f"{where} is a single file behind a URL, and only stores are read from there; copy "
                "it to this machine first"
            )
        return DiskSource(where, skip_damaged=skip_damaged)
    if where.is_dir():
        return DiskSource(where, skip_damaged=skip_damaged)
    if not where.exists():
        raise InputError(f"there is nothing at {where}; check the path")
    return plain_source(where)
