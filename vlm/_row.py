"""One row of questions about images: what it must hold, and what it is completed with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vlm._errors import VLMError
from vlm._images import LazyImages

__all__ = ["check_row", "checked"]

_IMAGE_KEYS = ("image", "images")


def checked(source: Iterable[tuple[str, Any]], home: Path) -> Iterator[dict[str, Any]]:
    """Check and complete rows, each with the place it stands at; no id may occur twice.

    Raises
    ------
    VLMError
        At the first unusable row.
    """
    seen: dict[str, str] = {}
    for number, (where, record) in enumerate(source):
        row = check_row(record, number, where, home)
        if row["id"] in seen:
            raise VLMError(
                f"{where}: the id {row['id']!r} was used before ({seen[row['id']]}); "
                "give every row its own id."
            )
        seen[row["id"]] = where
        yield row


def check_row(record: Any, number: int, where: str, home: Path) -> dict[str, Any]:
    """Check one row, the `number`-th from 0, and complete it with id, group and images.

    Raises
    ------
    VLMError
        For a row without a question, with images that are none, and the like.
    """
    if not isinstance(record, Mapping):
        raise VLMError(
            f"{where}: expected an object with a question, found {type(record).__name__}."
        )
    wanted = "text" if record.get("question") is None and "text" in record else "question"
    if not isinstance(record.get(wanted), str) or not record[wanted].strip():
        raise VLMError(
            f"{where}: a row needs a question (a text that is not empty), or a text; it has "
            f"{', '.join(map(str, record)) or 'no fields'}."
        )
    if all(record.get(key) is not None for key in _IMAGE_KEYS):
        raise VLMError(f"{where}: give image or images, not both.")
    given: Any = next((record[key] for key in _IMAGE_KEYS if record.get(key) is not None), [])
    if isinstance(given, LazyImages):
        images, names = given, None
    else:
        several = given if isinstance(given, list | tuple) else [given]
        sources = [_source(image, where, home) for image in several]
        images = LazyImages(sources, where)
        names = [str(image) for image in several if isinstance(image, str)]
    row = {key: value for key, value in record.items() if key not in _IMAGE_KEYS}
    for key in ("choices", "answer"):
        if row.get(key) is None:
            row.pop(key, None)
    answer = row.get("answer", "")
    if isinstance(answer, int | float):
        row["answer"] = str(answer)
    elif not isinstance(answer, str) and not (
        isinstance(answer, list | tuple) and all(isinstance(one, str) for one in answer)
    ):
        raise VLMError(f"{where}: answer must be a text or a list of texts; found {answer!r}.")
    choices = row.get("choices", ())
    if not isinstance(choices, list | tuple) or not all(isinstance(c, str) for c in choices):
        raise VLMError(f"{where}: choices must be a list of texts; found {choices!r}.")
    identity = record.get("id")
    row["id"] = str(number) if identity is None else str(identity)
    group = record.get("group")
    if group is None:
        # Rows about one image depend on each other even where nobody said so.
        named = names is not None and len(names) == len(images)
        parts = (names or []) if named else images.digests()
        group = "+".join(parts) or _prompt_group(row)
    row["group"] = str(group)
    row["images"] = images
    return row


def _prompt_group(row: Mapping[str, Any]) -> str:
    """Name of a prompt without images: ids count from 0 in every file, the prompt is what it is."""
    said = json.dumps([row.get("question"), row.get("text"), row.get("choices")], default=str)
    return f"prompt {hashlib.sha256(said.encode()).hexdigest()[:16]}"


def _source(image: Any, where: str, home: Path) -> Path | bytes | Any:
    if isinstance(image, Mapping):
        inline = image.get("bytes")
        image = inline if inline is not None else image.get("path")
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        if "://" in str(image):
            raise VLMError(
                f"{where}: the image {str(image)!r} is an address; nothing is downloaded, "
                "save it as a file and give its path."
            )
        file = home / image
        try:
            there = file.is_file()
        except OSError as error:
            name = str(image)[:80] + ("..." if len(str(image)) > 80 else "")
            raise VLMError(f"{where}: the image {name!r}: {error.strerror}.") from error
        if not there:
            raise VLMError(f"{where}: there is no image file {file}.")
        return file
    if hasattr(image, "convert"):
        return image
    raise VLMError(
        f"{where}: an image must be a path, encoded bytes or a PIL image; found "
        f"{type(image).__name__}."
    )
