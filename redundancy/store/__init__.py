"""Activations on disk and in memory: shards, plain files and arrays behind one door."""

from redundancy.store._distances import DistanceMatrix
from redundancy.store._store import ActivationStore, open_source
from redundancy.store._verify import Finding, verify_store
from redundancy.store._writer import StoreWriter

__all__ = [
    "ActivationStore",
    "DistanceMatrix",
    "Finding",
    "StoreWriter",
    "open_source",
    "verify_store",
]
