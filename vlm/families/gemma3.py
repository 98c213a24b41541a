"""Gemma 3 (2025): most layers see only the last tokens, and images see themselves both ways."""

from vlm.families import Family, _tiny

FAMILY = Family(
    title="Gemma 3",
    tiny={
        "vision_config": _tiny.tower("siglip_vision_model"),
        "text_config": _tiny.text("gemma3_text", head_dim=8, sliding_window=8),
        "image_token_index": _tiny.PLACEHOLDER,
        "mm_tokens_per_image": 9,
    },
    images={"pixel_values": (1, 3, 24, 24)},
    tokens_per_image=9,
    token_types="token_type_ids",
)
