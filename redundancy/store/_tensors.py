"""Safetensors files: written in one pass with their checksums, read by slices of a memory map.

The format is a length, a JSON header and raw bytes. It is read here rather than by the library
because a layer is to be mapped without a copy, every declared size is to be held against the file
before anything is allocated, and bfloat16 must not depend on torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import ml_dtypes
import msgspec
import numpy as np
from numpy.typing import NDArray

from estimators import InputError
from redundancy._files import decode_json, size_of
from redundancy._remote import AnyPath

try:
    from zlib_ng.zlib_ng import crc32  # the same number as zlib's, five times as fast
except ImportError:
    from zlib import crc32

__all__ = ["Digests", "Joined", "LazyArray", "TensorFile", "TensorInfo", "write_tensors"]

_MAX_HEADER = 2**24  # a hundred thousand arrays; the library takes six times as much
_CHUNK = 2**23
_BLOCK = 2**18  # is written and hashed while a core has it in its cache
_EARLY = 2**24  # the disk is set to work when so much has come together
_MAPPED = 2**20  # mapping a smaller array costs more than copying it
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class TensorInfo(msgspec.Struct, frozen=True):
    """One entry of a header: dtype, shape, and the bytes it takes after the header."""

    # The defaults are those of no array: ``__metadata__`` has none of these keys.
    dtype: str = ""
    shape: list[int] = msgspec.field(default_factory=list)
    data_offsets: tuple[int, int] = (-1, -1)

    @property
    def numpy(self) -> np.dtype[Any]:
        return _DTYPES[self.dtype]


@dataclass(frozen=True, slots=True)
class LazyArray:
    """An array whose shape is known and whose values are read when asked for."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], NDArray[Any]]

    @classmethod
    def of(cls, array: NDArray[Any]) -> LazyArray:
        return cls(array.shape, array.dtype, lambda: array)


@dataclass(frozen=True, slots=True)
class Joined:
    """Arrays of one dtype that follow each other in the file; nobody copies them together."""

    parts: Sequence[NDArray[Any]]

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(len(part) for part in self.parts), *self.parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parts[0].dtype


@dataclass(frozen=True, slots=True)
class Digests:
    """What a sidecar records of a shard."""

    size: int
    sha256: str
    crc32: dict[str, int]


def write_tensors(
    handle: IO[bytes], tensors: Mapping[str, NDArray[Any] | LazyArray | Joined]
) -> Digests:
    """Write arrays as one safetensors file, one at a time; return its size and checksums."""
    header: dict[str, Any] = {}
    begin = 0
    # Widest dtype first keeps every tensor aligned, as the library does.
    for name in sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name)):
        one = tensors[name]
        dtype = one.dtype.newbyteorder("<") if one.dtype.kind in "iuf" else one.dtype
        if dtype not in _NAMES:
            raise InputError(f"array {name!r} has dtype {one.dtype}, which can't be stored")
        end = begin + math.prod(one.shape) * dtype.itemsize
        header[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(one.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    encoded = msgspec.json.encode(header)
    encoded += b" " * (-len(encoded) % 8)
    lead = len(encoded).to_bytes(8, "little") + encoded
    digest = hashlib.sha256(lead)
    handle.write(lead)
    checks = {}
    with _early(handle) as written:
        for name in header:
            check = 0
            for block in _blocks(_parts(tensors[name]), _DTYPES[header[name]["dtype"]]):
                handle.write(block)
                digest.update(block)
                check = crc32(block, check)
                written(len(block))
            checks[name] = check
    return Digests(len(lead) + begin, digest.hexdigest(), checks)


def _parts(value: NDArray[Any] | LazyArray | Joined) -> Sequence[NDArray[Any]]:
    if isinstance(value, Joined):
        return value.parts
    return [value.load() if isinstance(value, LazyArray) else value]


def _blocks(parts: Iterable[NDArray[Any]], dtype: np.dtype[Any]) -> Iterator[memoryview]:
    """The bytes of some arrays, one after another; small arrays are put together."""
    small: list[NDArray[Any]] = []
    waiting = 0
    for part in parts:
        flat = np.ascontiguousarray(part).astype(dtype, copy=False).reshape(-1).view(np.uint8)
        if flat.size < _BLOCK // 4:
            small.append(flat)
            waiting += flat.size
        if waiting and (flat.size >= _BLOCK // 4 or waiting >= _BLOCK):
            yield np.concatenate(small).data
            small, waiting = [], 0
        if flat.size >= _BLOCK // 4:
            for start in range(0, flat.size, _BLOCK):
                yield flat[start : start + _BLOCK].data
    if waiting:
        yield np.concatenate(small).data


@contextlib.contextmanager
def _early(handle: IO[bytes]) -> Iterator[Callable[[int], None]]:
    """Let the disk write what it has been given while the next blocks are hashed.

    Otherwise it waits for the fsync at the end, and then everybody waits for it. A failure is
    raised here: the system reports it once, and the fsync at the end might say nothing of it.
    """
    sync = getattr(os, "fdatasync", None)
    if sync is None:  # macOS, Windows
        yield lambda size: None
        return
    under_way: list[Future[None]] = []
    since = 0

    def written(size: int) -> None:
        nonlocal since
        since += size
        if since >= _EARLY and (not under_way or under_way[-1].done()):
            since = 0
            handle.flush()
            under_way.append(pool.submit(sync, handle.fileno()))

    with ThreadPoolExecutor(1, thread_name_prefix="store-sync") as pool:
        yield written
        for one in under_way:
            one.result()


class TensorFile:
    """Header of a safetensors file, held against the size of the file; tensors are read on demand.

    Parameters
    ----------
    path : Path or RemotePath
        The file. It is opened for each read, so thousands of shards need no open files.
    crc32 : mapping of str to int, optional
        Checksums; a tensor is checked the first time it is read.
    """

    def __init__(self, path: AnyPath, crc32: Mapping[str, int] | None = None) -> None:
        self.path = path
        self._crc32 = crc32
        self._checked: set[str] = set()
        try:
            with path.open("rb") as handle:
                size = size_of(handle)
                length = int.from_bytes(handle.read(8), "little")
                if size < 8 or length > min(_MAX_HEADER, size - 8):
                    raise self._damaged(f"a header of {length:,} bytes in a file of {size:,}")
                head = handle.read(length)
        except FileNotFoundError:
            raise InputError(f"there is no file {path}; check the path") from None
        except OSError as error:
            raise InputError(f"{path} can't be read: {error.strerror or error}") from error
        self._start = 8 + length
        self.tensors = self._parse(head, size - self._start)

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def open(self) -> IO[bytes]:
        """The file, to be handed to several reads."""
        return cast(IO[bytes], self.path.open("rb", buffering=0))

    def find(self, name: str) -> TensorInfo:
        """The header's entry of one tensor."""
        info = self.tensors.get(name)
        if info is None:
            raise InputError(f"{self.path} has no array {name!r}; it was not written by this tool")
        return info

    def read(
        self, name: str, out: NDArray[Any] | None = None, handle: IO[bytes] | None = None
    ) -> NDArray[Any]:
        """Read one tensor: into `out`, or as a read-only view of the mapped file."""
        info = self.find(name)
        begin = self._start + info.data_offsets[0]
        shape, dtype = tuple(info.shape), info.numpy
        nbytes = info.data_offsets[1] - info.data_offsets[0]
        if nbytes == 0:
            return np.empty(shape, dtype) if out is None else out
        try:
            if out is None and nbytes >= _MAPPED and isinstance(self.path, Path):
                raw = np.asarray(np.memmap(self.path, np.uint8, "r", begin, (nbytes,)))
            else:
                raw = np.empty(nbytes, np.uint8) if out is None else out.reshape(-1).view(np.uint8)
                with contextlib.nullcontext(handle) if handle else self.open() as file:
                    file.seek(begin)
                    self._fill(file, raw.data)
                if out is None:
                    raw.flags.writeable = False
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise self._damaged(f"array {name!r} can't be read ({error})") from error
        if self._crc32 is not None and name not in self._checked:
            if crc32(raw.data) != self._crc32.get(name):
                raise self._damaged(f"array {name!r} does not match its checksum")
            self._checked.add(name)
        if out is not None:
            return out
        return raw.view(dtype).reshape(shape)

    def read_rows(self, name: str, start: int, out: NDArray[Any]) -> None:
        """Read the rows of a tensor from `start` on into `out`, after one check of the whole."""
        info = self.find(name)
        if name not in self._checked:
            self._check_by_parts(name, info)
        row = math.prod(info.shape[1:]) * info.numpy.itemsize
        begin = self._start + info.data_offsets[0] + start * row
        if begin + out.nbytes > self._start + info.data_offsets[1]:
            raise self._damaged(f"array {name!r} has fewer rows than its file says")
        if out.nbytes:
            try:
                with self.open() as file:
                    file.seek(begin)
                    self._fill(file, out.reshape(-1).view(np.uint8).data)
            except OSError as error:
                raise self._damaged(f"array {name!r} can't be read ({error})") from error

    def _check_by_parts(self, name: str, info: TensorInfo) -> None:
        """Hold a tensor against its checksum without taking memory for it."""
        if self._crc32 is not None:
            buffer, check = memoryview(bytearray(_CHUNK)), 0
            left = info.data_offsets[1] - info.data_offsets[0]
            try:
                with self.open() as file:
                    file.seek(self._start + info.data_offsets[0])
                    while left:
                        part = buffer[: min(left, _CHUNK)]
                        self._fill(file, part)
                        check, left = crc32(part, check), left - len(part)
            except OSError as error:
                raise self._damaged(f"array {name!r} can't be read ({error})") from error
            if check != self._crc32.get(name):
                raise self._damaged(f"array {name!r} does not match its checksum")
        self._checked.add(name)

    def _fill(self, handle: Any, buffer: memoryview) -> None:
        done = 0
        while done < len(buffer):
            count = handle.readinto(buffer[done:])
            if not count:
                raise self._damaged("it ends too early")
            done += count

    def _damaged(self, what: str) -> InputError:
        remedy = "restore it from a copy or write it again"
        if self._crc32 is not None:
            remedy = (
                "restore it from a copy, or delete it with its sidecar and run the extraction "
                "again with --resume"
            )
        return InputError(f"{self.path} is damaged: {what}; {remedy}")

    def _parse(self, head: bytes, size: int) -> dict[str, TensorInfo]:
        tensors: dict[str, TensorInfo] = decode_json(head, dict[str, TensorInfo], self.path)
        tensors.pop("__metadata__", None)
        expected = 0
        for name, info in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
            begin, end = info.data_offsets
            if info.dtype not in _DTYPES:
                raise InputError(
                    f"{self.path}: array {name!r} has dtype {info.dtype!r}; supported are "
                    f"{', '.join(_DTYPES)}"
                )
            if len(info.shape) > 16 or min(info.shape, default=0) < 0:
                raise self._damaged(f"array {name!r} has shape {info.shape[:17]}")
            nbytes = math.prod(info.shape) * info.numpy.itemsize
            if begin != expected or end - begin != nbytes or end > size:
                raise self._damaged(
                    f"array {name!r} of {nbytes:,} bytes is said to lie at {begin:,} to {end:,} "
                    f"of {size:,} bytes"
                )
            expected = end
        if expected != size:
            raise self._damaged(f"its arrays take {expected:,} bytes, the file has {size:,}")
        return tensors
