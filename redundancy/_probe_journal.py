"""What a probe run found so far: a line for each layer and pair, written as soon as it is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from estimators import InputError
from redundancy._probe_report import LayerScore, PairScore, PlantedScore

__all__ = ["JOURNAL", "Journal", "journal", "read_journal"]

JOURNAL = "probes.jsonl"

Item = LayerScore | PairScore | PlantedScore


def read_journal(folder: Path) -> list[Item]:
    """Return what an interrupted run left.

    A killed run leaves at most one broken line, its last; it is passed over and made again.
    """
    path = folder / JOURNAL
    found: list[Item] = []
    if not path.exists():
        return found
    with path.open("rb") as lines:
        for line in lines:
            try:
                found.append(_item(msgspec.json.decode(line)))
            except (msgspec.MsgspecError, UnicodeDecodeError, InputError):
                continue
    return found


@contextmanager
def journal(folder: Path, *, fresh: bool) -> Iterator[Journal]:
    """Open the journal of a run's folder; `fresh` drops what stands in it."""
    path = folder / JOURNAL
    if fresh:
        path.unlink(missing_ok=True)
    with path.open("ab") as handle:
        # A broken last line of a killed run must not swallow the first new one.
        if handle.tell() > 0:
            handle.write(b"\n")
        yield Journal(handle)


class Journal:
    """Appends one line per finding."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle

    def add(self, item: Item) -> None:
        """Write a finding and hand it to the operating system."""
        self._handle.write(msgspec.json.encode(item.to_dict()) + b"\n")
        self._handle.flush()


def _item(data: Any) -> Item:
    if not isinstance(data, dict):
        raise InputError("this line is no finding of a probe run")
    for key, kind in (("pair", PairScore), ("planted_in", PlantedScore), ("layer", LayerScore)):
        if key in data:
            return kind.from_dict(data)
    raise InputError("this line is no finding of a probe run")
