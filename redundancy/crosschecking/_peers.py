"""Who is asked: the peers, whether they are installed, and how to call them repeatably."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from estimators import InputError
from redundancy.registry import unknown

__all__ = ["PEERS", "available", "missing_sentence", "seeded"]

PEERS = ("scikit-learn", "npeet_plus", "dit")


def available(peers: Sequence[str] | None) -> dict[str, str | None]:
    """Return the version of each peer asked for, None where it is not installed.

    Raises
    ------
    InputError
        If a name is not one of `PEERS`, or none of them is installed.
    """
    asked = tuple(dict.fromkeys(PEERS if peers is None else peers))
    found: dict[str, str | None] = {}
    for name in asked:
        if name not in PEERS:
            raise InputError(unknown("peer", name, PEERS))
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    if not any(found.values()):
        raise InputError(missing_sentence(list(found)))
    return found


def missing_sentence(names: Sequence[str]) -> str:
    """Say which peers are missing and how to get them."""
    verb = "is" if len(names) == 1 else "are"
    return (
        f"{' and '.join(names) or 'every peer'} {verb} not installed, so nothing was compared with "
        f"{'it' if len(names) == 1 else 'them'}; type: pip install 'redundancy[reference]'"
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a peer that draws from NumPy's global generator, and put that back as it was."""
    before = np.random.get_state()  # noqa: NPY002  npeet_plus knows no other generator
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
