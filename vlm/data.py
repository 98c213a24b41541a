"""Questions about images: read them from files, and turn a batch of them into model inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlm._errors import VLMError
from vlm._images import MAX_FILE_BYTES, MAX_PIXELS, LazyImages
from vlm._readers import count_rows, dataset_rows, json_rows, live_rows, parquet_rows, text_rows

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

_IMAGE_KEYS = ("image", "images")


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
    return _checked(source, path.parent if path.is_file() else path)


def _checked(source: Iterable[tuple[str, Any]], home: Path) -> Iterator[dict[str, Any]]:
    seen: dict[str, str] = {}
    for number, (where, record) in enumerate(source):
        row = _row(record, number, where, home)
        if row["id"] in seen:
            raise VLMError(
                f"{where}: the id {row['id']!r} was used before ({seen[row['id']]}); "
                "give every row its own id."
            )
        seen[row["id"]] = where
        yield row


def _row(record: Any, number: int, where: str, home: Path) -> dict[str, Any]:
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


def rows_of(data: str | Path | Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of a path (see `read_rows`) or of an iterable, checked and completed alike.

    An iterable's rows may hold PIL images; relative image paths count from the working folder.
    """
    if isinstance(data, str | Path):
        return read_rows(data)
    if hasattr(data, "cast_column"):  # a data set of the datasets library
        return _checked(live_rows(data, "row"), Path())
    return _checked(((f"row {i}", row) for i, row in enumerate(data)), Path())


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRow:
    """What `prepare` made of one row.

    Parameters
    ----------
    id, group : str
        As in the row.
    prompt : str
        The text that was tokenized, image placeholders not yet expanded.
    n_images : int
    record : mapping
        The row without its images.
    """

    id: str
    group: str
    prompt: str
    n_images: int
    record: Mapping[str, Any] = field(default_factory=dict)


def prepare(
    processor: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    device: Any = None,
    dtype: Any = None,
    padding_side: str = "left",
) -> tuple[Any, list[PreparedRow]]:
    """Turn rows into one padded batch of model inputs.

    The prompt is what the processor's chat template makes of one user turn, ready for the answer:
    all images, then the question; or, if the question itself holds the processor's image
    placeholder once per image, the images where it has them. Without a chat template the prompt is
    one placeholder and a line break per image, then the question (wrapped by the tokenizer's own
    template where that has one). The question is used as it stands: choices are not written into
    it. A row with a ``text`` instead of a question is that text alone, without any template.

    Parameters
    ----------
    processor : transformers processor, or tokenizer
        Has an image processor if any row has images.
    rows : sequence of mapping
        Rows of `read_rows`, or mappings with ``question`` and ``image`` or ``images``. Rows with
        different numbers of images, or none, may stand in one batch.
    device, dtype : optional
        Where the tensors go, and the floating dtype of the pixels (the model's).
    padding_side : {"left", "right"}

    Returns
    -------
    inputs : BatchFeature
        Ready for ``model(**inputs)``.
    info : list of PreparedRow

    Raises
    ------
    VLMError
        If a question's placeholders do not match its images, the processor takes no images, or
        several rows need padding and the tokenizer has no padding token.
    """
    if padding_side not in ("left", "right"):
        raise VLMError(f"padding_side is {padding_side!r}; use 'left' or 'right'.")
    if not rows:
        raise VLMError("there are no rows to prepare.")
    tokenizer = getattr(processor, "tokenizer", processor)
    ready = [
        row if isinstance(row.get("images"), LazyImages) else _row(row, i, f"row {i}", Path())
        for i, row in enumerate(rows)
    ]
    images = [list(row["images"]) for row in ready]
    seen = next((row["id"] for row, found in zip(ready, images, strict=True) if found), None)
    if seen is not None and tokenizer is processor:
        raise VLMError(
            f"row {seen!r} has images, and a text-only model takes none; leave them out, "
            "or take a vision-language model and its processor."
        )
    if seen is not None and getattr(processor, "image_processor", None) is None:
        raise VLMError(
            f"row {seen!r} has images, but {type(processor).__name__} has no image "
            "processor; load the model's processor with AutoProcessor."
        )
    if len(rows) > 1 and tokenizer.pad_token is None:
        raise VLMError(
            "the tokenizer has no padding token, so rows cannot share a batch; set "
            "processor.tokenizer.pad_token or use a batch size of 1."
        )
    prompts = [_prompt(processor, row) for row in ready]
    bos = getattr(tokenizer, "bos_token", None) or ""
    written = bos != "" and all(prompt.startswith(bos) for prompt in prompts)
    more: dict[str, Any] = {}
    if any(images):
        # Lists of lists keep every image with its row.
        more["images"] = images
    if tokenizer is processor:
        # Language models do not take what some tokenizers return by default.
        more["return_token_type_ids"] = False
    inputs = processor(
        text=prompts,
        **more,
        padding=len(rows) > 1,
        padding_side=padding_side,
        # A template that writes the start token itself would otherwise have it twice.
        add_special_tokens=not written,
        return_tensors="pt",
    )
    if dtype is not None and tokenizer is not processor:
        inputs = inputs.to(dtype=dtype)
    if device is not None:
        inputs = inputs.to(device)
    info = [
        PreparedRow(
            id=row["id"],
            group=row["group"],
            prompt=prompt,
            n_images=len(row["images"]),
            record={key: value for key, value in row.items() if key != "images"},
        )
        for row, prompt in zip(ready, prompts, strict=True)
    ]
    return inputs, info


def _prompt(processor: Any, row: Mapping[str, Any]) -> str:
    n_images = len(row["images"])
    if row.get("question") is None:
        if n_images:
            raise VLMError(
                f"row {row['id']!r} has images and a text; a prompt about images is a question."
            )
        return str(row["text"])
    question = row["question"]
    tokenizer = getattr(processor, "tokenizer", processor)
    if tokenizer is processor:
        return _said_by_user(tokenizer, question)
    placeholder = str(getattr(processor, "image_token", None) or "<image>")
    pieces = question.split(placeholder)
    if len(pieces) == 1:
        pieces = [""] * n_images + [question]
    elif len(pieces) - 1 != n_images:
        raise VLMError(
            f"row {row['id']!r} has {n_images} images, but its question has {len(pieces) - 1} "
            f"times the placeholder {placeholder}; they must match, or leave the placeholders out."
        )
    if not getattr(processor, "chat_template", None):
        text = question if placeholder in question else f"{placeholder}\n" * n_images + question
        return _said_by_user(tokenizer, text)
    content: list[dict[str, str]] = []
    for i, piece in enumerate(pieces):
        if i:
            content.append({"type": "image"})
        if piece.strip():
            content.append({"type": "text", "text": piece.strip()})
    return str(
        processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
    )


def _said_by_user(tokenizer: Any, text: str) -> str:
    """One user turn in the tokenizer's own template, which knows text alone; or the text itself."""
    if not getattr(tokenizer, "chat_template", None):
        return text
    return str(
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
        )
    )
