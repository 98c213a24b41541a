"""A run's folder: record, results as they come, report; resumable, and never somebody else's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from estimators import InputError
from redundancy._files import TEMPORARY_PREFIX, is_abandoned
from redundancy.record import ResultRecord, RunRecord, plain, read_record, write_record
from redundancy.results import PairResult

__all__ = ["RunFolder"]

_RECORD = "record.json"
_PAIRS = "pairs.jsonl"
_JOURNALS = {_PAIRS, "probes.jsonl"}
_CHECK = b',"crc32":"'
# What may stand in a folder that --fresh empties: our own files, nothing of the user's.
_OURS = {_RECORD, _PAIRS, "report.html", "results.csv", "plan.json", "acts", "data"}
_OURS |= {"validation.json", "studies", "stores", "probes.json", "probes.jsonl"}


class RunFolder:
    """The folder of one run.

    Parameters
    ----------
    path : Path
    resumed : bool
        Whether an earlier run of the same settings is being taken up.
    """

    def __init__(self, path: Path, *, resumed: bool = False) -> None:
        self.path = path
        self.resumed = resumed
        self._made: list[Path] = []

    @classmethod
    def prepare(
        cls,
        path: str | Path,
        *,
        resume: bool = False,
        fresh: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> RunFolder:
        """Make the folder, or take up what stands in it.

        Raises
        ------
        InputError
            If it is not empty and neither `resume` nor `fresh` was asked for; if `fresh` would
            delete files that no run of ours wrote; if `resume` meets other settings.
        """
        folder = Path(path)
        if resume and fresh:
            raise InputError("--resume and --fresh exclude each other; give one of them")
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; name a folder to write to")
        made = [one for one in (folder, *folder.parents) if not one.exists()]
        with _said(folder):
            folder.mkdir(parents=True, exist_ok=True)
            have = sorted(p.name for p in folder.iterdir())
        # What a killed run left under a temporary name is nobody's.
        have = [name for name in have if not name.startswith(TEMPORARY_PREFIX)]
        if not have:
            _tidy(folder)
            run = cls(folder)
            run._made = made
            return run
        if not resume and not fresh:
            raise InputError(
                f"{folder} is not empty; add --resume to go on with it, --fresh to replace it, or "
                "name another folder"
            )
        if fresh:
            foreign = [name for name in have if name not in _OURS]
            if foreign or _RECORD not in have:
                what = foreign[0] if foreign else have[0]
                raise InputError(
                    f"{folder} holds {what}, which this tool did not write; --fresh deletes only a "
                    "run's own folder, so name another one"
                )
            _tidy(folder)
            _remove(folder, have)
            return cls(folder)
        _tidy(folder)
        run = cls(folder, resumed=True)
        if _RECORD in have:
            run._check_settings(read_record(folder).run.options, settings or {})
        elif foreign := [name for name in have if name not in _OURS]:
            raise InputError(
                f"{folder} holds {foreign[0]} and no record.json, so there is no run to resume; "
                "name another folder"
            )
        return run

    @property
    def record_path(self) -> Path:
        """Where the record is."""
        return self.path / _RECORD

    @property
    def report_path(self) -> Path:
        """Where the report is."""
        return self.path / "report.html"

    def write(self, record: RunRecord) -> None:
        """Write the record; InputError if the disk refuses it."""
        with _said(self.record_path):
            write_record(record, self.record_path)

    def forget(self) -> None:
        """Delete the run if nothing came of it yet; it would stand in the way of the next one."""
        with contextlib.suppress(OSError):
            have = {one.name: one.lstat().st_size for one in self.path.iterdir()}
            have.pop(_RECORD, None)
            if self.resumed or any(have.values()) or not have.keys() <= _JOURNALS:
                return
            for name in (*have, _RECORD):
                (self.path / name).unlink(missing_ok=True)
            for folder in self._made:
                folder.rmdir()

    def done(self) -> dict[tuple[str, str, int, int], PairResult]:
        """Return the results that an earlier run left, by measure, modality and pair.

        The journal is appended to, so a killed run leaves at most one broken line, its last. A line
        that does not match its own checksum is passed over, and its pair computed again.
        """
        path = self.path / _PAIRS
        found: dict[tuple[str, str, int, int], PairResult] = {}
        if not self.resumed or not path.exists():
            return found
        decoder = msgspec.json.Decoder(ResultRecord)
        with path.open("rb") as lines:
            for line in lines:
                try:
                    if not _is_whole(line):
                        continue
                    result = PairResult.from_record(decoder.decode(line))
                except (msgspec.MsgspecError, UnicodeDecodeError, InputError):
                    continue
                found[(result.measure, result.modality, *result.pair)] = result
        return found

    def broken_lines(self) -> list[int]:
        """Numbers, from 1, of the lines of the journal that do not match their checksum."""
        path = self.path / _PAIRS
        with _said(path), path.open("rb") as lines:
            return [n for n, line in enumerate(lines, 1) if line.strip() and not _is_whole(line)]

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        """Open the journal of finished pairs."""
        path = self.path / _PAIRS
        with contextlib.ExitStack() as stack:
            with _said(path):
                if not self.resumed:
                    path.unlink(missing_ok=True)
                handle = stack.enter_context(path.open("ab", buffering=0))
            journal = Journal(handle, path)
            # A broken last line of a killed run must not swallow the first new one.
            if handle.tell() > 0:
                journal.write(b"\n")
            try:
                yield journal
            finally:
                with contextlib.suppress(OSError):
                    os.fsync(handle.fileno())

    def _check_settings(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        for name, value in now.items():
            if name in before and before[name] != plain(value):
                raise InputError(
                    f"{self.path} was begun with {name} = {json.dumps(before[name])} and is now "
                    f"asked to go on with {json.dumps(plain(value))}; give the earlier value, or "
                    "name another folder"
                )


class Journal:
    """Appends one line per finished pair, each with a checksum of its own."""

    def __init__(self, handle: IO[bytes], path: Path) -> None:
        self._handle, self._path = handle, path
        self._synced = time.monotonic()

    def add(self, result: PairResult) -> None:
        """Write one result and hand it to the operating system, to the disk once a second."""
        body = msgspec.json.encode(result.to_record())[:-1]
        self.write(body + _CHECK + f"{zlib.crc32(body):08x}".encode() + b'"}\n')
        if time.monotonic() - self._synced >= 1:
            with _said(self._path):
                os.fsync(self._handle.fileno())
            self._synced = time.monotonic()

    def write(self, line: bytes) -> None:
        """Append bytes; InputError if the disk refuses them."""
        with _said(self._path):
            done = 0
            while done < len(line):
                done += self._handle.write(line[done:])


def _is_whole(line: bytes) -> bool:
    body, found, check = line.rstrip(b"\n").rpartition(_CHECK)
    return bool(found) and check == f"{zlib.crc32(body):08x}".encode() + b'"}'


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Whatever the disk refuses is one sentence, and what is finished stays."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} can't be written: {error.strerror or error}; what is finished is kept: make "
            "room, then run the command again with --resume"
        ) from error


def _tidy(folder: Path) -> None:
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if path.is_file() and is_abandoned(path):
            with contextlib.suppress(OSError):
                path.unlink()


def _remove(folder: Path, names: list[str]) -> None:
    # The record goes last: a kill in between leaves a folder that is still known to be ours.
    for name in sorted(names, key=lambda n: n == _RECORD):
        entry = folder / name
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
