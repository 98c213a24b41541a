"""Images that are decoded when they are asked for, and never beyond a size."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from vlm._errors import VLMError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MAX_FILE_BYTES", "MAX_PIXELS", "LazyImages"]

MAX_PIXELS = 64_000_000
"""Pixels beyond which an image is refused undecoded: a small file can hold a huge picture."""
MAX_FILE_BYTES = 256 * 2**20
"""Encoded bytes beyond which an image is refused unread."""


class LazyImages(Sequence["Image"]):
    """Images that are opened when they are asked for, each as an RGB picture.

    Parameters
    ----------
    sources : sequence of path, bytes or PIL image
        Encoded bytes, files, or pictures that are open already.
    where : str
        What to call the row in an error message, e.g. ``"data.jsonl, line 3"``.
    """

    __slots__ = ("_sources", "_where")

    def __init__(self, sources: Sequence[Path | bytes | Image], where: str = "the row") -> None:
        self._sources = tuple(sources)
        self._where = where

    def __len__(self) -> int:
        return len(self._sources)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> LazyImages: ...
    def __getitem__(self, index: int | slice) -> Image | LazyImages:
        if isinstance(index, slice):
            return LazyImages(self._sources[index], self._where)
        return _open(self._sources[index], self._where)

    def __repr__(self) -> str:
        return f"LazyImages({len(self)} images of {self._where})"

    def digests(self) -> list[str]:
        """SHA-256 of every image: of the encoded bytes, or of size and pixels if it has none."""
        found = []
        for source in self._sources:
            if isinstance(source, bytes):
                found.append(hashlib.sha256(source).hexdigest())
            elif isinstance(source, Path):
                with source.open("rb") as stream:
                    found.append(hashlib.file_digest(stream, "sha256").hexdigest())
            else:
                picture = source.convert("RGB")
                shape = f"{picture.width}x{picture.height}:".encode()
                found.append(hashlib.sha256(shape + picture.tobytes()).hexdigest())
        return found


def _open(source: Path | bytes | Image, where: str) -> Image:
    from PIL import Image as pil
    from PIL import ImageOps

    if not isinstance(source, bytes | Path):
        _check_size(source, "the image", where)
        return source.convert("RGB")
    name = "the image" if isinstance(source, bytes) else str(source)
    try:
        n_bytes = len(source) if isinstance(source, bytes) else source.stat().st_size
        if n_bytes > MAX_FILE_BYTES:
            raise VLMError(
                f"{where}: {name} has {n_bytes:,} bytes; at most {MAX_FILE_BYTES:,} are read."
            )
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        with warnings.catch_warnings():
            # Pillow warns about sizes that are refused in the next line anyway.
            warnings.simplefilter("ignore", pil.DecompressionBombWarning)
            with pil.open(stream) as picture:
                _check_size(picture, name, where)
                # Cameras store how the picture was held beside its pixels.
                return ImageOps.exif_transpose(picture).convert("RGB")
    except VLMError:
        raise
    except pil.DecompressionBombError as error:
        raise VLMError(f"{where}: {name} is too large an image to open: {error}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise VLMError(f"{where}: cannot read {name} as an image: {error}") from error


def _check_size(picture: Image, name: str, where: str) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise VLMError(
            f"{where}: {name} has {picture.width} x {picture.height} pixels; at most "
            f"{MAX_PIXELS:,} are decoded. Make the image smaller."
        )
