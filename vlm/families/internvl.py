"""InternVL 2.5 to 3.5 (Chen et al. 2024) in the layout of transformers."""

from vlm.families import Family, _tiny

FAMILY = Family(
    title="InternVL",
    tiny={
        "vision_config": _tiny.tower("internvl_vision", image_size=[24, 24], patch_size=[4, 4]),
        "text_config": _tiny.text("qwen2"),
        "image_token_id": _tiny.PLACEHOLDER,
        "image_seq_length": 9,
    },
    # 6 x 6 patches, of which two by two become one token.
    images={"pixel_values": (1, 3, 24, 24)},
    tokens_per_image=9,
)
