"""Parts of the tiny test configs that families share."""

from __future__ import annotations

from typing import Any

PLACEHOLDER = 98


def text(model_type: str, **more: Any) -> dict[str, Any]:
    """Config of a decoder of six blocks."""
    return {
        "model_type": model_type,
        "vocab_size": 99,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": None,
        **more,
    }


def tower(model_type: str, **more: Any) -> dict[str, Any]:
    """Config of a vision transformer over 24 x 24 pixels in 9 patches."""
    return {
        "model_type": model_type,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 24,
        "patch_size": 8,
        **more,
    }
