"""Files that are either there in full or not there: temporary name, fsync, rename, fsync of folder.

Everything this package leaves on disk (shards, sidecars, plans, records) goes through here, so a
killed process, a full disk or a power cut leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from estimators import InputError
from redundancy._remote import AnyPath, RangeReader, place
from vlm._seal import SEAL_LENGTH, seal, seal_holds

try:
    import fcntl
except ImportError:  # Windows has no flock: leftovers are then reported, never removed.
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "MAX_JSON_BYTES",
    "TEMPORARY_PREFIX",
    "atomic_file",
    "check_seal",
    "decode_json",
    "fsync_directory",
    "held",
    "in_use",
    "is_abandoned",
    "read_bytes",
    "read_json",
    "read_sealed",
    "sha256_file",
    "size_of",
    "unused",
    "write_atomic",
    "write_sealed",
]

MAX_JSON_BYTES = 64 * 2**20
"""Larger JSON files are refused before they are read."""

TEMPORARY_PREFIX = ".tmp-"


def fsync_directory(path: Path) -> None:
    """Make the renames inside a folder survive a power cut (Windows can't, and needs no call)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_file(path: str | Path, *, replace: bool = True) -> Iterator[IO[bytes]]:
    """Write a file that appears under its name only once it is complete and on disk.

    Parameters
    ----------
    path : str or Path
        Final name; its folder must exist.
    replace : bool
        Whether an existing file may be replaced; otherwise FileExistsError is raised at the end.

    Yields
    ------
    binary file
        The temporary file. It is locked while it is open, so `is_abandoned` tells the leftovers of
        a killed process from the work of a living one; on any error it is removed.
    """
    path = Path(path)
    _no_device(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}-{path.name}"[:200])
    handle = temporary.open("xb")
    try:
        _lock(handle)
        yield handle
        handle.flush()
        os.fsync(handle.fileno())
        if replace:
            os.replace(temporary, path)  # noqa: PTH105 - tests make exactly this call fail
        else:
            _rename_new(temporary, path)
        fsync_directory(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        handle.close()


def write_atomic(path: str | Path, data: bytes, *, replace: bool = True) -> None:
    """Write `data` to `path` so that a crash leaves the old content or the new one.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomic(Path(folder) / "plan.json", b"{}")
    ...     [entry.name for entry in Path(folder).iterdir()]
    ['plan.json']
    """
    with atomic_file(path, replace=replace) as handle:
        handle.write(data)


def size_of(handle: Any) -> int:
    """Length in bytes of an open file, here or behind a URL."""
    return handle.size if isinstance(handle, RangeReader) else os.fstat(handle.fileno()).st_size


def read_bytes(path: str | AnyPath, *, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Read a whole small file; one that is larger than `max_bytes` is refused before reading."""
    path = place(path)
    if isinstance(path, Path):
        _no_device(path)
    try:
        with path.open("rb") as handle:
            size = size_of(handle)
            if size > max_bytes:
                raise InputError(
                    f"{path} has {size:,} bytes, more than the {max_bytes:,} that such a file may "
                    "have; it is not what this tool wrote"
                )
            return handle.read(max_bytes + 1)[:max_bytes]
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; check the path") from None
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error


def read_json(path: str | AnyPath, type: Any = Any, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read JSON of bounded size into `type` (a msgspec Struct, a dataclass, or anything).

    Raises
    ------
    InputError
        If the file is missing, too large, not JSON, or not of that type; the sentence names the
        file and the field.
    """
    return decode_json(read_bytes(path, max_bytes=max_bytes), type, place(path))


def decode_json(data: bytes, type: Any, path: AnyPath) -> Any:
    """`read_json` for bytes that were already read from `path`."""
    try:
        return msgspec.json.decode(data, type=type)
    except msgspec.ValidationError as error:
        raise InputError(f"{path} is not what was expected: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is damaged or not JSON: {error}; restore it from a copy or write it again"
        ) from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply; it is not what this tool wrote") from None


def write_sealed(
    path: str | Path, value: Any, *, indent: int | None = 2, replace: bool = True
) -> None:
    """Write a JSON object whose last key, ``seal``, is the SHA-256 of all bytes before it.

    The file stays plain JSON; any later change of a byte is found by `read_sealed`.
    """
    body = msgspec.json.encode(value)
    if indent is not None:
        body = msgspec.json.format(body, indent=indent)
    if len(body) + SEAL_LENGTH > MAX_JSON_BYTES:
        raise InputError(
            f"{path} would have {len(body):,} bytes of JSON, more than {MAX_JSON_BYTES:,} can be "
            "read back; store less per sample"
        )
    write_atomic(path, seal(body), replace=replace)


def read_sealed(path: str | AnyPath, type: Any = Any, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read what `write_sealed` wrote; InputError if a single byte changed since."""
    path = place(path)
    data = read_bytes(path, max_bytes=max_bytes)
    check_seal(data, path)
    return decode_json(data, type, path)


def check_seal(data: bytes, path: AnyPath) -> None:
    """Raise InputError unless `data` ends in the seal of what precedes it."""
    if not seal_holds(data):
        raise InputError(
            f"{path} is damaged: its content does not match its seal; restore it from a copy or "
            "delete it and run the command again with --resume"
        )


def sha256_file(path: AnyPath, *, chunk: int = 2**20) -> str:
    """SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(chunk):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep a finished file from counting as abandoned while what belongs to it is written."""
    with path.open("rb") as handle:
        _lock(handle)
        yield


@contextlib.contextmanager
def in_use(path: Path) -> Iterator[None]:
    """Tell every process that asks `unused` that one needs this file; any number may."""
    with path.open("rb") as handle:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def unused(path: Path) -> Iterator[bool]:
    """Whether no process needs this file, and none can begin to; False where that is not known."""
    with path.open("rb") as handle:
        free = False
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = True
        yield free


def is_abandoned(path: Path, *, min_age_s: float = 60.0) -> bool:
    """Whether the process that was writing `path` is gone: nobody holds its lock any more.

    A file younger than `min_age_s` counts as alive: its writer may be between making and locking.
    """
    if fcntl is None:
        return False
    try:
        if time.time() - path.stat().st_mtime < min_age_s:
            return False
        with path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def _no_device(path: Path) -> None:
    """Refuse what would be waited for without end, or taken away from the system."""
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError):
        return  # not there, or not to be seen: opening it says why
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise InputError(f"{path} is a pipe or a device; name a file")


def _lock(handle: IO[bytes]) -> None:
    if fcntl is not None:
        # Some network folders know no locks; then nothing in them counts as abandoned either.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _rename_new(temporary: Path, path: Path) -> None:
    """Rename without replacing: of two processes that make the same file, one gets an error."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # no hard links here (FAT, some network folders)
        if path.exists():
            raise FileExistsError(str(path)) from None
        os.replace(temporary, path)  # noqa: PTH105
    else:
        temporary.unlink()
