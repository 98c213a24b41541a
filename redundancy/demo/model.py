"""The bundled vision-language model: its architecture, processor, and packaged checkpoint.

A LLaVA from transformers' own classes at a size that trains on a CPU: a CLIP tower in which every
8 x 8 grid cell is one vision token (36 of them), a two-layer projector, and a Llama decoder over a
vocabulary of whole words. Saved checkpoints load with plain ``AutoModelForImageTextToText`` and
``AutoProcessor``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redundancy.demo.scenes import CELL, COLORS, COLUMNS, COUNTS, DIGITS, GRID, ROWS

__all__ = [
    "ANSWER_TOKENS",
    "EMPTY",
    "N_LAYERS",
    "N_VISION_TOKENS",
    "answers",
    "build_model",
    "build_processor",
    "checkpoint",
    "load",
    "prompt",
]

N_LAYERS = 8
N_VISION_TOKENS = GRID * GRID
EMPTY = "empty"
"""The word whose embedding stands for a grid cell without a digit while the text is learned."""
ANSWER_TOKENS = 2
"""Tokens to generate for an answer: its word, and the end token."""

_SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<image>", "USER", "ASSISTANT")
_WORDS = "How many digits are there Is a Which digit is in column of the row What color yes no ?"

_CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
{{- ' ' + message['role'].upper() -}}
{%- if message['content'] is string -%}
{{- ' ' + message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{{- ' <image>' if part['type'] == 'image' else ' ' + part['text'] -}}
{%- endfor -%}
{%- endif -%}
{%- if message['role'] == 'assistant' -%}{{- ' ' + eos_token -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- ' ASSISTANT' -}}{%- endif -%}
"""


def build_processor() -> Any:
    """A ``LlavaProcessor`` with a word-level tokenizer and a PIL image processor.

    Examples
    --------
    >>> processor = build_processor()
    >>> processor.tokenizer.tokenize("Which digit is cyan?")
    ['Which', 'digit', 'is', 'cyan', '?']
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPImageProcessorPil, LlavaProcessor, PreTrainedTokenizerFast

    words = (*_WORDS.split(), *DIGITS, *COLORS, *COLUMNS, *ROWS, *COUNTS, EMPTY)
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys((*_SPECIAL, *words)))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    side = GRID * CELL
    images = CLIPImageProcessorPil(
        size={"height": side, "width": side},
        crop_size={"height": side, "width": side},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=CELL,
        # "default" drops the tower's class token: one token more in the tower than in the prompt.
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_CHAT_TEMPLATE,
    )


def build_model(tokenizer: Any, seed: int = 0, n_layers: int = N_LAYERS) -> Any:
    """A freshly initialised ``LlavaForConditionalGeneration`` of the bundled architecture.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        Of `build_processor`; gives the vocabulary size and the special tokens.
    seed : int
        Seed of the initial weights. The global random state of torch is left as it was.
    n_layers : int
        Decoder layers.
    """
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=192,
            projection_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=GRID * CELL,
            patch_size=CELL,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=n_layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=False,
            # The usual 0.02 suits thousands of dimensions; at 64 attention would start out uniform
            # and binding a colour to its digit would be learned many times more slowly.
            initializer_range=0.08,
            **special,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=N_VISION_TOKENS,
        tie_word_embeddings=False,
        **special,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlavaForConditionalGeneration(config).eval()


def checkpoint() -> Path:
    """Folder of the packaged checkpoint.

    Examples
    --------
    >>> (checkpoint() / "model.safetensors").is_file()
    True
    """
    return Path(__file__).parent / "checkpoint"


def load(path: str | Path | None = None) -> tuple[Any, Any]:
    """Load a model and its processor as any transformers checkpoint; the packaged one by default.

    Returns
    -------
    model, processor
        In evaluation mode, float32, on the CPU.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = str(checkpoint() if path is None else path)
    model = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
    return model.eval(), AutoProcessor.from_pretrained(folder, local_files_only=True)


def prompt(processor: Any, question: str, *, image: bool = True) -> str:
    """The chat prompt of one question, with the image's place in it unless `image` is False.

    Examples
    --------
    >>> prompt(build_processor(), "Which digit is cyan?")
    '<bos> USER <image> Which digit is cyan? ASSISTANT'
    """
    content = [{"type": "image"}] if image else []
    content.append({"type": "text", "text": question})
    chat = [{"role": "user", "content": content}]
    text: str = processor.apply_chat_template(chat, add_generation_prompt=True)
    return text


def answers(
    model: Any,
    processor: Any,
    questions: Sequence[str],
    images: Sequence[Any] | None,
    *,
    batch_size: int = 64,
) -> list[str]:
    """Greedy answers to questions, one image each, in left-padded batches with ``generate``.

    Parameters
    ----------
    model, processor
        Of `load`.
    questions : sequence of str
    images : sequence of PIL images, or None
        None asks without an image: the prompt then holds no image tokens at all.
    batch_size : int
        Questions per call of ``generate``.

    Returns
    -------
    list of str
        The generated text without special tokens; a right answer equals the expected word.
    """
    import torch

    found: list[str] = []
    for start in range(0, len(questions), batch_size):
        part = slice(start, start + batch_size)
        texts = [prompt(processor, q, image=images is not None) for q in questions[part]]
        pictures = {} if images is None else {"images": list(images[part])}
        inputs = processor(text=texts, padding=True, return_tensors="pt", **pictures)
        inputs = inputs.to(model.device)
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=ANSWER_TOKENS, do_sample=False)
        new = tokens[:, inputs["input_ids"].shape[1] :]
        found += processor.batch_decode(new, skip_special_tokens=True)
    return found
