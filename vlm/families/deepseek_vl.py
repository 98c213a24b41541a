"""DeepSeek-VL (Lu et al. 2024) with one vision tower."""

from vlm.families import Family, _tiny

FAMILY = Family(
    title="DeepSeek-VL",
    tiny={
        "vision_config": _tiny.tower("siglip_vision_model"),
        "text_config": _tiny.text("llama"),
        "image_token_id": _tiny.PLACEHOLDER,
    },
    images={"pixel_values": (1, 3, 24, 24)},
    tokens_per_image=9,
)
