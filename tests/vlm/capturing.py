"""A LLaVA too small to be good for anything but tests: random weights, grouped heads, two words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

N_LAYERS = 4
N_HEADS = 4
N_VISION = 9
SIDE = 24

_TEMPLATE = (
    "{{- bos_token -}}{%- for message in messages -%}{{- ' USER' -}}"
    "{%- for part in message['content'] -%}"
    "{{- ' <image>' if part['type'] == 'image' else ' ' + part['text'] -}}"
    "{%- endfor -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- ' ASSISTANT' -}}{%- endif -%}"
)
_WORDS = "is it red green blue yes no how many are there one two three what and or ?"


def tiny_processor(chat_template: str | None = _TEMPLATE) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPImageProcessorPil, LlavaProcessor, PreTrainedTokenizerFast

    special = ("<pad>", "<bos>", "<eos>", "<unk>", "<image>", "USER", "ASSISTANT")
    vocabulary = {word: i for i, word in enumerate((*special, *_WORDS.split()))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
    size = {"height": SIDE, "width": SIDE}
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size=size, crop_size=size),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template,
    )


def save_tiny_llava(folder: Path, n_layers: int = N_LAYERS) -> Path:
    """Write model and processor where ``from_pretrained`` finds them."""
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    processor = tiny_processor()
    tokenizer = processor.tokenizer
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            projection_dim=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=SIDE,
            patch_size=8,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=n_layers,
            num_attention_heads=N_HEADS,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.3,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
        image_token_index=processor.image_token_id,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=N_VISION,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(config)
        # The library's small initial weights would make every attention row uniform.
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "vision_tower" in name or "projector" in name:
                    weight.normal_(0.0, 0.3)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def picture(seed: int) -> Any:
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, size=(SIDE, SIDE, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def mixed_rows() -> list[dict[str, Any]]:
    """Rows of every kind: one image, two, none; short, long; with and without choices, answers."""
    return [
        {"id": "a", "image": picture(1), "question": "is it red ?", "choices": ["yes", "no"]},
        {
            "id": "b",
            "images": [picture(2), picture(3)],
            "question": "how many are there and is it red or green or blue ?",
            "answer": "two",
            "choices": ["one", "two", "three"],
        },
        {"id": "c", "question": "what is it ?"},
        {"id": "d", "images": [picture(1)], "question": "what ?", "answer": ["red", "blue"]},
        {"id": "e", "image": picture(4), "question": "is it red and green ?"},
    ]
