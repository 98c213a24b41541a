"""LLaVA-NeXT, also called LLaVA-1.6 (Liu et al. 2024): tiles of a large image."""

from vlm.families import Family, _tiny

FAMILY = Family(
    title="LLaVA-NeXT",
    tiny={
        "vision_config": _tiny.tower("clip_vision_model", projection_dim=32),
        "text_config": _tiny.text("llama"),
        "image_token_index": _tiny.PLACEHOLDER,
        "image_seq_length": 9,
        "image_grid_pinpoints": [[24, 48]],
    },
    # The whole image, then two tiles of 3 x 3 patches side by side with a line break per row.
    images={"pixel_values": (1, 3, 3, 24, 24), "image_sizes": [[24, 48]]},
    tokens_per_image=9 + 3 * 7,
)
