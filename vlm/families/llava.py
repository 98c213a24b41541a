"""LLaVA-1.5 (Liu et al. 2023) and what else comes in this layout, with any decoder inside."""

from vlm.families import Family, _tiny

FAMILY = Family(
    title="LLaVA-1.5",
    tiny={
        "vision_config": _tiny.tower("clip_vision_model", projection_dim=32),
        "text_config": _tiny.text("llama"),
        "image_token_index": _tiny.PLACEHOLDER,
        "image_seq_length": 9,
    },
    images={"pixel_values": (1, 3, 24, 24)},
    tokens_per_image=9,
)
