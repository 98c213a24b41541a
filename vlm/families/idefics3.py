"""Idefics3 (Laurencon et al. 2024)."""

from vlm.families import Family, _tiny

FAMILY = Family(
    title="Idefics3",
    tiny={
        "vision_config": _tiny.tower("idefics3_vision", patch_size=4),
        "text_config": _tiny.text("llama"),
        "image_token_id": _tiny.PLACEHOLDER,
        "scale_factor": 2,
    },
    # 6 x 6 patches, of which two by two become one token.
    images={"pixel_values": (1, 1, 3, 24, 24)},
    tokens_per_image=9,
)
