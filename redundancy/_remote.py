"""Files behind a URL, read only, through fsspec: as much of `pathlib.Path` as reading needs.

A server that ignores byte ranges sends everything, and one that breaks off sends too little, so the
length of every answer is held against what was asked for.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

from estimators import InputError

__all__ = ["AnyPath", "RangeReader", "RemotePath", "is_url", "place"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+(::|://).*", re.DOTALL)
_BLOCK = 2**23


def is_url(path: object) -> bool:
    """Whether a path names a place that only fsspec can reach.

    Examples
    --------
    >>> is_url("s3://bucket/acts"), is_url("acts"), is_url("C:/acts")
    (True, False, False)
    """
    return isinstance(path, str) and _URL.fullmatch(path) is not None


def place(path: str | Path | RemotePath) -> Path | RemotePath:
    """A path on this machine, or one behind a URL."""
    if isinstance(path, RemotePath):
        return path
    if isinstance(path, str) and is_url(path):
        return RemotePath.of(path)
    return Path(path)


class RemotePath:
    """A file or folder behind a URL.

    Parameters
    ----------
    system : fsspec.AbstractFileSystem
        What reads it.
    path : str
        Its path there.
    url : str
        How to name it to people, and to other processes.
    """

    def __init__(self, system: Any, path: str, url: str) -> None:
        self._system, self._path, self._url = system, path.rstrip("/"), url.rstrip("/")

    @classmethod
    def of(cls, url: str) -> RemotePath:
        """Find the file system that a URL belongs to.

        Raises
        ------
        InputError
            If fsspec, or what the protocol needs besides, is not installed, or the URL is none.
        """
        try:
            from fsspec.core import url_to_fs
        except ModuleNotFoundError as error:
            raise InputError(
                f"{url} is behind a URL; to read it, type: pip install 'redundancy[remote]'"
            ) from error
        try:
            system, path = url_to_fs(url)
        except (ImportError, ValueError, OSError, TypeError) as error:
            raise InputError(
                f"{url} can't be reached ({_say(error)}); name a folder, or a URL of a protocol "
                "that fsspec knows and its package is installed for (http://, s3://, gs://, ...)"
            ) from error
        # Another process may have written since this one looked.
        system.invalidate_cache()
        return cls(system, str(path), url)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(self._path).name

    @property
    def stem(self) -> str:
        """Its name without the suffix."""
        return PurePosixPath(self._path).stem

    @property
    def suffix(self) -> str:
        """The end of its name, from the last dot on."""
        return PurePosixPath(self._path).suffix

    @property
    def parent(self) -> RemotePath:
        """The folder it is in."""
        return RemotePath(self._system, self._path.rpartition("/")[0], self._url.rpartition("/")[0])

    def with_suffix(self, suffix: str) -> RemotePath:
        """Its neighbour of the same stem."""
        cut = len(self.suffix)
        return RemotePath(
            self._system,
            self._path[: len(self._path) - cut] + suffix,
            self._url[: len(self._url) - cut] + suffix,
        )

    def exists(self) -> bool:
        """Whether something is there; InputError if that cannot be told."""
        with self._errors():
            return bool(self._system.exists(self._path))

    def is_dir(self) -> bool:
        """Whether it is a folder. Over HTTP, where there are none, whether it lists files."""
        with self._errors():
            return bool(self._system.isdir(self._path))

    def is_file(self) -> bool:
        """Whether it is a file."""
        return self.exists() and not self.is_dir()

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Entries of this folder whose name fits the pattern."""
        with self._errors():
            try:
                entries = self._system.ls(self._path, detail=False)
            except FileNotFoundError:
                return
        seen = {str(entry).split("?")[0].rstrip("/").rpartition("/")[2] for entry in entries}
        for name in sorted(seen):
            if fnmatch.fnmatchcase(name, pattern):
                yield self / name

    def stat(self) -> SimpleNamespace:
        """Its size in bytes, as ``st_size``.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        """
        try:
            size = self._system.info(self._path).get("size")
        except FileNotFoundError:
            raise
        except Exception as error:
            raise self._unreadable(error) from error
        if size is None:
            raise InputError(
                f"{self} does not say how long it is; copy the folder to this machine, or serve it "
                "with content lengths"
            )
        return SimpleNamespace(st_size=int(size))

    def open(self, mode: str = "rb", buffering: int = -1) -> RangeReader:
        """Open it for reading of ranges; a file that is not there raises FileNotFoundError."""
        if mode != "rb":
            raise InputError(f"{self} is remote, and remote files are only read; copy it first")
        return RangeReader(self, self.stat().st_size)

    def read_range(self, begin: int, count: int) -> bytes:
        """Read `count` bytes from `begin` on; InputError if the answer has another length."""
        # Without a cache: what is asked for is what is fetched.
        options = {"block_size": _BLOCK, "cache_type": "none"}
        with self._errors(), self._system.open(self._path, "rb", **options) as handle:
            handle.seek(begin)
            data = bytes(handle.read(count))
        if len(data) != count:
            raise InputError(
                f"{self} answered with {len(data):,} bytes where {count:,} were asked for; the "
                "connection broke, or the server does not know byte ranges: try again, or copy "
                "the folder to this machine"
            )
        return data

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self._system, f"{self._path}/{name}", f"{self._url}/{name}")

    def __str__(self) -> str:
        return self._url

    def __repr__(self) -> str:
        return f"RemotePath({self._url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self._url == other._url

    def __lt__(self, other: RemotePath) -> bool:
        return self._url < other._url

    def __hash__(self) -> int:
        return hash(self._url)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Whatever a protocol's library raises becomes one sentence."""
        try:
            yield
        except (InputError, FileNotFoundError):
            raise
        except Exception as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(
            f"{self} can't be read: {_say(error)}; check the address, and that its server answers "
            "byte ranges"
        )


class RangeReader(io.RawIOBase):
    """A remote file as an unbuffered binary file: every read is one request, checked."""

    def __init__(self, path: RemotePath, size: int) -> None:
        super().__init__()
        self._path, self._size, self._at = path, size, 0

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self._size)[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(min(len(view), self._size - self._at, _BLOCK), 0)
        if count:
            view[:count] = self._path.read_range(self._at, count)
            self._at += count
        return count

    def read(self, size: int | None = -1) -> bytes:
        count = self._size - self._at if size is None or size < 0 else size
        out = bytearray(max(min(count, self._size - self._at), 0))
        view = memoryview(out)
        done = 0
        while done < len(out):
            done += self.readinto(view[done:])
        return bytes(out)


AnyPath = Path | RemotePath


def _say(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
