"""LLaVA-OneVision (Li et al. 2024)."""

from vlm.families import Family, _tiny

FAMILY = Family(
    title="LLaVA-OneVision",
    vision_tokens=("image_token_id", "video_token_id"),
    tiny={
        "vision_config": _tiny.tower("siglip_vision_model"),
        "text_config": _tiny.text("qwen2"),
        "image_token_index": _tiny.PLACEHOLDER,
        "video_token_index": 97,
        "image_grid_pinpoints": [[24, 48]],
    },
    # The whole image, then two tiles of 3 x 3 patches side by side with a line break per row.
    images={"pixel_values": (1, 3, 3, 24, 24), "image_sizes": [[24, 48]]},
    tokens_per_image=9 + 3 * 7,
)
