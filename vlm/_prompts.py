"""From rows to prompts, and from prompts to a padded batch of model inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlm._errors import VLMError
from vlm._images import LazyImages
from vlm._row import check_row

__all__ = ["PreparedRow", "prepare"]


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
        row if isinstance(row.get("images"), LazyImages) else check_row(row, i, f"row {i}", Path())
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
