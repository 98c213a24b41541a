"""Questions about images: read them from files, and turn a batch of them into model inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm._errors import VLMError
from vlm._images import MAX_FILE_BYTES, MAX_PIXELS, LazyImages
from vlm._prompts import PreparedRow, prepare
from vlm._readers import count_rows, dataset_rows, json_rows, live_rows, parquet_rows, text_rows
from vlm._row import checked

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "LazyImages",
    "PreparedRow",
    "count_rows",
    "digest",
    "is_correct",
    "prepare",
    "read_rows",
    "rows_of",
]


def read_rows(path: str | Path) -> Iterator[dict[str, Any]]:
    """Read questions about images from a JSONL file, a parquet file or a saved HF dataset.

    Every row needs a ``question``, or a ``text``: a passage that is read as it stands, without a
    chat template, for text-only models. Known besides are ``image`` (one) or ``images`` (a list):
    paths relative to the file, or, in parquet and HF datasets, encoded bytes; a row without either
    is text only. ``answer`` (text, or a list of accepted texts), ``choices`` (list of texts),
    ``id`` (default: the row's number from 0) and ``group`` (what makes rows dependent; default: the
    row's images, or its prompt if it has none). Other plain values pass through.

    Parameters
    ----------
    path : path
        ``.jsonl`` or ``.json`` with one object per line, ``.parquet``, a folder written by
        ``datasets.Dataset.save_to_disk``, or ``.txt`` with one passage per line.

    Yields
    ------
    dict
        ``id``, ``group``, ``question``, ``images`` (`LazyImages`: decoded on access) and whatever
        else the row has.

    Raises
    ------
    VLMError
        At the first unusable row, with its line number: not an object, no question, a missing
        image, an id that occurred before.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "data.jsonl"
    ...     _ = file.write_text('{"question": "Is it red?", "answer": "no"}')
    ...     [row] = read_rows(file)
    >>> row["id"], row["question"], len(row["images"])
    ('0', 'Is it red?', 0)
    """
    path = Path(path)
    if not path.exists():
        raise VLMError(
            f"there is no data at {path}; give a JSONL or parquet file or a dataset folder."
        )
    if path.is_dir():
        source = dataset_rows(path)
    elif path.suffix == ".parquet":
        source = parquet_rows(path)
    elif path.suffix in {".jsonl", ".json", ".ndjson"}:
        source = json_rows(path)
    elif path.suffix == ".txt":
        source = text_rows(path)
    else:
        raise VLMError(
            f"cannot tell what {path} is from its name; expected .jsonl, .parquet, .txt or the "
            "folder of a saved dataset."
        )
    return checked(source, path.parent if path.is_file() else path)


def rows_of(data: str | Path | Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of a path (see `read_rows`) or of an iterable, checked and completed alike.

    An iterable's rows may hold PIL images; relative image paths count from the working folder.
    """
    if isinstance(data, str | Path):
        return read_rows(data)
    if hasattr(data, "cast_column"):  # a data set of the datasets library
        return checked(live_rows(data, "row"), Path())
    return checked(((f"row {i}", row) for i, row in enumerate(data)), Path())


def digest(data: str | Path | Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 over all rows and the bytes of their images, for a record of what was measured.

    Two data sets with the same digest have the same rows in the same order; where they lie and
    which file format they came in does not matter, how their images are encoded does.

    Parameters
    ----------
    data : path or iterable of rows
        As for `read_rows`; an iterable is consumed.

    Returns
    -------
    str
        64 hexadecimal digits.

    Examples
    --------
    >>> digest([{"question": "Is it red?"}])[:8] == digest([{"question": "Is it blue?"}])[:8]
    False
    """
    total = hashlib.sha256()
    for row in rows_of(data):
        plain = {key: value for key, value in row.items() if key not in ("images", "group")}
        plain["images"] = row["images"].digests()
        total.update(json.dumps(plain, sort_keys=True, default=str).encode())
        total.update(b"\n")
    return total.hexdigest()


def is_correct(prediction: str, answer: str | Sequence[str]) -> bool:
    """Whether a prediction equals the answer (or one of several), but for case and punctuation.

    Examples
    --------
    >>> is_correct(" Yes.", "yes"), is_correct("two", ["three", "3"])
    (True, False)
    """
    accepted = [answer] if isinstance(answer, str) else [str(one) for one in answer]
    return _plain(prediction) in {_plain(one) for one in accepted}


def _plain(text: str) -> str:
    return " ".join(text.split()).strip(" .,;:!?\"'`").casefold()
