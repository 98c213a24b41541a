"""The user's own files as a store: .npz, .npy and .safetensors with one array per layer."""

from __future__ import annotations

import contextlib
import math
import os
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from estimators import InputError
from redundancy.store._arrays import ArraySource, layer_number, source_from_arrays
from redundancy.store._tensors import LazyArray, TensorFile

__all__ = ["SUFFIXES", "plain_source"]

# Real activations hardly compress; what unpacks to a hundred times its size is a bomb, or zeros.
_MAX_RATIO = 100
_FREE_BYTES = 2**28
SUFFIXES = (".npz", ".npy", ".safetensors")
_EXTRAS = ("groups", "target")


def plain_source(path: Path) -> ArraySource:
    """The layers of an .npz, .npy or .safetensors file; see `redundancy.store.open_source`."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{path} is not a store folder, .npz, .npy or .safetensors file; save activations with "
            "numpy.savez(file, layer_0=..., layer_1=...)"
        )
    reader = {".npz": _read_npz, ".npy": _read_npy, ".safetensors": _read_safetensors}[suffix]
    try:
        arrays, extras = _sort(reader(path), path)
        loaded: dict[str, Any] = {
            name: {word: one.load() for word, one in found.items()} or None
            for name, found in extras.items()
        }
        loaded = {name: _common(value, arrays) for name, value in loaded.items()}
        return source_from_arrays(
            arrays,
            groups=loaded["groups"],
            target=loaded["target"],
            path=str(path),
        )
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error


def _common(value: dict[str, Any] | None, arrays: dict[str, Any]) -> Any:
    """``groups`` without a modality serves all of them; ``vision/groups`` serves one."""
    if value is None or "" not in value:
        return value
    return {word: value.get(word, value[""]) for word in arrays}


def _sort(
    found: dict[str, LazyArray], path: Path
) -> tuple[dict[str, dict[str, LazyArray]], dict[str, dict[str, LazyArray]]]:
    """Arrays by modality and layer, and the optional extras by modality."""
    arrays: dict[str, dict[str, LazyArray]] = {}
    extras: dict[str, dict[str, LazyArray]] = {name: {} for name in _EXTRAS}
    for key, array in found.items():
        modality, inner = "", key
        if layer_number(key) is None and key not in _EXTRAS:
            match = re.fullmatch(r"([A-Za-z][A-Za-z0-9_\-]*)[/.:](.+)", key)
            if match:
                modality, inner = match[1], match[2]
        if inner in _EXTRAS:
            extras[inner][modality] = array
        elif layer_number(inner) is not None:
            arrays.setdefault(modality or "text", {})[inner] = array
        else:
            raise InputError(
                f"{path}: array {key!r} names no layer; name arrays 'layer_0', 'layer_1', ... (or "
                "'vision/layer_0'), besides optional 'groups' and 'target'"
            )
    if not arrays:
        raise InputError(f"{path} holds no layers; name its arrays 'layer_0', 'layer_1', ...")
    return arrays, extras


def _read_safetensors(path: Path) -> dict[str, LazyArray]:
    file = TensorFile(path)

    def loader(name: str) -> Callable[[], NDArray[Any]]:
        return lambda: file.read(name)

    return {
        name: LazyArray(tuple(info.shape), info.numpy, loader(name))
        for name, info in file.tensors.items()
    }


def _read_npy(path: Path) -> dict[str, LazyArray]:
    with path.open("rb") as handle:
        shape, fortran, dtype = _npy_header(handle, str(path))
        offset, size = handle.tell(), os.fstat(handle.fileno()).st_size
    _check_size(shape, dtype, size - offset, str(path))
    if len(shape) not in (3, 4):
        raise InputError(
            f"{path} has shape {shape}; expected (layers, tokens, features) or (layers, samples, "
            "tokens, features)"
        )
    if 0 in shape:
        raise InputError(f"{path} has shape {shape}: it holds nothing")
    whole = np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")

    def loader(layer: int) -> Callable[[], NDArray[Any]]:
        return lambda: np.asarray(whole[layer])

    return {str(layer): LazyArray(shape[1:], dtype, loader(layer)) for layer in range(shape[0])}


def _read_npz(path: Path) -> dict[str, LazyArray]:
    found: dict[str, LazyArray] = {}
    size = path.stat().st_size
    with _zip(path) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > max(_FREE_BYTES, _MAX_RATIO * size):
            raise InputError(
                f"{path} has {size:,} bytes and would unpack to {total:,}; that is not what "
                "activations look like, so it is not unpacked: use numpy.savez without compression"
            )
        for member in members:
            key = member.filename.removesuffix(".npy")
            if key == member.filename:
                raise InputError(f"{path} holds {key!r}, which is not an array")
            if key in found:
                raise InputError(f"{path} holds array {key!r} twice")
            name = f"{path}, array {key!r}"
            with archive.open(member) as handle:
                shape, fortran, dtype = _npy_header(handle, name)
                _check_size(shape, dtype, member.file_size - handle.tell(), name)
            found[key] = LazyArray(
                shape, dtype, _member(path, member.filename, shape, fortran, dtype)
            )
    return found


def _member(
    path: Path, member: str, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]
) -> Callable[[], NDArray[Any]]:
    def load() -> NDArray[Any]:
        name = f"{path}, array {member.removesuffix('.npy')!r}"
        flat = np.empty(math.prod(shape), dtype)
        with _zip(path) as archive, archive.open(member) as handle:
            _npy_header(handle, name)
            buffer = memoryview(flat.view(np.uint8).data) if flat.size else memoryview(b"")
            done = 0
            while done < len(buffer):
                count = handle.readinto(buffer[done : done + 2**24])
                if not count:
                    raise InputError(f"{name} ends too early; write the file again")
                done += count
            handle.read(1)  # the checksum of a member is compared at its end
        return flat.reshape(shape, order="F" if fortran else "C")

    return load


@contextlib.contextmanager
def _zip(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        struct.error,
        NotImplementedError,
        RuntimeError,
        KeyError,
        UnicodeDecodeError,
    ) as error:
        raise InputError(
            f"{path} is damaged or not an .npz ({error}); write it again with numpy.savez"
        ) from None


def _npy_header(handle: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = npy.read_magic(handle)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"format version {version}")
        shape, fortran, dtype = read(handle)
    except (
        ValueError,
        TypeError,
        SyntaxError,
        RecursionError,
        MemoryError,
        OverflowError,
        tokenize.TokenError,
    ) as error:
        raise InputError(f"{name} has no readable NumPy header ({_first_line(error)})") from None
    if dtype.hasobject:
        raise InputError(
            f"{name} holds pickled Python objects, which are never loaded; save plain arrays of "
            "numbers"
        )
    return shape, fortran, dtype


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _check_size(shape: tuple[int, ...], dtype: np.dtype[Any], have: int, name: str) -> None:
    need = math.prod(shape) * dtype.itemsize
    if len(shape) > 8 or min(shape, default=0) < 0 or need != have:
        raise InputError(
            f"{name} declares shape {shape[:9]} of {dtype}, {need:,} bytes, but has {have:,}; it "
            "is damaged: write it again"
        )
