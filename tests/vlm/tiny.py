"""Tiny models of every family with random weights, and batches of prompts for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from tests.vlm import reference
from vlm import families, model
from vlm.plan import SkipPlan

PAD = 0


@cache
def _saved(model_type: str, folder: str) -> Path:
    family = families.load(model_type)
    config = AutoConfig.for_model(model_type, **family.tiny)
    torch.manual_seed(0)
    made = AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            # Large enough that a token that should not be seen shows in the logits.
            if weight.ndim > 1:
                weight.mul_(4.0)
            elif "bias" in name:
                weight.normal_(std=0.2)
    path = Path(folder) / model_type
    made.save_pretrained(path)
    return path


def build(model_type: str, folder: Path, **options: Any) -> Any:
    """A model of a family, saved and loaded again."""
    path = _saved(model_type, str(folder))
    return AutoModelForImageTextToText.from_pretrained(path, **options).eval()


def batch(
    live: Any,
    images: Sequence[int],
    *,
    text: Sequence[int] | None = None,
    padding: str = "left",
    seed: int = 0,
) -> dict[str, Any]:
    """Prompts with given numbers of images and text tokens, padded to one length."""
    family = families.load(model.model_type(live))
    placeholder = model.vision_token_ids(live)[0]
    generator = torch.Generator().manual_seed(seed)
    text = text or [5 + 2 * row for row in range(len(images))]
    rows = []
    for n_images, n_text in zip(images, text, strict=True):
        words = torch.randint(3, 60, (n_text,), generator=generator).tolist()
        row = words[:1]
        for number in range(n_images):
            # Text before, between and after the images.
            row += [placeholder] * family.tokens_per_image + words[1 + number : 2 + number]
        rows.append(row + words[1 + n_images :])
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), PAD)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for number, row in enumerate(rows):
        place = slice(length - len(row), None) if padding == "left" else slice(len(row))
        ids[number, place] = torch.tensor(row)
        mask[number, place] = 1
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    total = sum(images)
    if total:
        for name, what in family.images.items():
            if isinstance(what, tuple):
                shape = (total * what[0], *what[1:])
                inputs[name] = torch.randn(shape, generator=generator)
            else:
                inputs[name] = torch.tensor(what * total)
    if family.token_types:
        inputs[family.token_types] = (ids == placeholder).long()
    return inputs


def words(live: Any, inputs: dict[str, Any], n: int = 6, **options: Any) -> list[list[int]]:
    """Prompt and greedy words, none of them a placeholder."""
    out = live.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=n,
        suppress_tokens=list(model.vision_token_ids(live)),
        pad_token_id=PAD,
        eos_token_id=None,
        **options,
    )
    return out.tolist()  # type: ignore[no-any-return]


def expected(live: Any, inputs: dict[str, Any], plan: SkipPlan, **options: Any) -> torch.Tensor:
    """Logits of the masked reference."""
    prompt = inputs["input_ids"].shape[1]
    token = model.vision_token_ids(live)[0]
    with torch.no_grad(), reference.masked(live, model.decoder_layers(live), plan, token, prompt):
        return live(**inputs, use_cache=False, **options).logits  # type: ignore[no-any-return]


def processor(model_type: str) -> Any:
    """A processor for the tiny model of LLaVA-NeXT, Gemma 3 or Idefics3; words are w3, w4, ..."""
    import transformers

    def tokenizer(**special: str) -> Any:
        from tokenizers import Tokenizer, models, pre_tokenizers

        words = ["<pad>", "<bos>", "<unk>", *(f"w{i}" for i in range(3, 98)), "<image>"]
        for place, name in enumerate(special.values(), start=90):
            words[place] = name
        backend = Tokenizer(
            models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
        )
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend,
            pad_token="<pad>",
            bos_token="<bos>",
            unk_token="<unk>",
            extra_special_tokens={"image_token": "<image>", **special},
        )

    size = {"height": 24, "width": 24}
    if model_type == "llava_next":
        return transformers.LlavaNextProcessor(
            image_processor=transformers.LlavaNextImageProcessorPil(
                size={"shortest_edge": 24}, crop_size=size, image_grid_pinpoints=[[24, 48]]
            ),
            tokenizer=tokenizer(),
            patch_size=8,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        )
    if model_type == "gemma3":
        return transformers.Gemma3Processor(
            image_processor=transformers.Gemma3ImageProcessorPil(size=size),
            tokenizer=tokenizer(boi_token="<boi>", eoi_token="<eoi>"),
            image_seq_length=9,
        )
    edge = {"longest_edge": 24}
    return transformers.Idefics3Processor(
        image_processor=transformers.Idefics3ImageProcessorPil(
            size=edge, max_image_size=edge, do_image_splitting=False
        ),
        tokenizer=tokenizer(
            fake_token="<fake_token_around_image>",
            global_token="<global-img>",
            end_token="<end_of_utterance>",
        ),
        image_seq_len=9,
    )
