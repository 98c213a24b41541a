"""Raw records of the file formats that hold questions about images, each with where it stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import IO, Any

from vlm._errors import VLMError

__all__ = ["count_rows", "dataset_rows", "json_rows", "live_rows", "parquet_rows", "text_rows"]

_MAX_LINE = 64 * 2**20


def _lines(stream: IO[bytes], path: Path) -> Iterator[bytes]:
    """Lines of bounded length: one that never ends must not fill the memory."""
    while line := stream.readline(_MAX_LINE + 1):
        if len(line) > _MAX_LINE:
            raise VLMError(f"{path.name} has a line of more than {_MAX_LINE:,} bytes; shorten it.")
        yield line


def json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as stream:
        for number, line in enumerate(_lines(stream, path), start=1):
            if not line.strip():
                continue
            where = f"{path.name}, line {number}"
            try:
                yield where, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise VLMError(f"{where}: not a JSON object on one line: {error}") from error


def text_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as stream:
        for number, line in enumerate(_lines(stream, path), start=1):
            where = f"{path.name}, line {number}"
            try:
                passage = line.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise VLMError(f"{where}: not UTF-8 text: {error}") from error
            if passage:
                yield where, {"text": passage}


def parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            number = 0
            for batch in table.iter_batches(batch_size=64):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path.name}, row {number}", record
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        # Of damaged pages pyarrow says OSError, of impossible sizes MemoryError.
        if isinstance(error, VLMError):
            raise
        said = " ".join(str(error).split()) or type(error).__name__
        raise VLMError(f"{path} is not a readable parquet file: {said[:300]}") from error


def dataset_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import datasets

    try:
        data = datasets.load_from_disk(str(path))
    except FileNotFoundError as error:
        raise VLMError(
            f"{path} is not a dataset folder written by save_to_disk: {error}"
        ) from error
    if isinstance(data, datasets.DatasetDict):
        raise VLMError(
            f"{path} holds the splits {', '.join(data)}; name one of them, e.g. "
            f"{path / next(iter(data))}."
        )
    yield from live_rows(data, f"{path.name}, row")


def live_rows(data: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Rows of a ``datasets.Dataset`` (or an iterable one whose features are known)."""
    import datasets

    for name, feature in (data.features or {}).items():
        # Encoded bytes are handed on, so that nothing is decoded before it is needed.
        if isinstance(feature, datasets.Image):
            data = data.cast_column(name, datasets.Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            data = data.cast_column(name, datasets.List(datasets.Image(decode=False)))
    for number, record in enumerate(data, start=1):
        yield f"{where} {number}", record


def count_rows(data: str | Path | Iterable[Mapping[str, Any]]) -> int | None:
    """Number of rows, as far as it can be told without reading them; None otherwise."""
    if not isinstance(data, str | Path):
        return len(data) if isinstance(data, Sized) else None
    path = Path(data)
    if path.is_dir():
        return _rows_saved(path)
    if not path.is_file():
        return None
    if path.suffix == ".parquet":
        return _rows_of_parquet(path)
    with path.open("rb") as stream:
        return sum(1 for line in stream if line.strip())


# What is wrong with a file is said when it is read.


def _rows_of_parquet(path: Path) -> int | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError, ValueError):
        return None


def _rows_saved(path: Path) -> int | None:
    import datasets

    try:
        data = datasets.load_from_disk(str(path))
    except FileNotFoundError:
        return None
    return None if isinstance(data, datasets.DatasetDict) else len(data)
