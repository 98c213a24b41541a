"""Qwen2.5-VL (Bai et al. 2025): rotary angles in time, height and width."""

from vlm.families import Family, _tiny

FAMILY = Family(
    title="Qwen2.5-VL",
    vision_tokens=("image_token_id", "video_token_id"),
    tiny={
        "vision_config": {
            "model_type": "qwen2_5_vl_vision",
            "depth": 2,
            "hidden_size": 32,
            "out_hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "patch_size": 4,
            "window_size": 16,
            "fullatt_block_indexes": [1],
        },
        "text_config": _tiny.text(
            "qwen2_5_vl_text",
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [1, 1, 2],
            },
        ),
        "image_token_id": _tiny.PLACEHOLDER,
        "video_token_id": 97,
        "vision_start_token_id": 96,
        "vision_end_token_id": 95,
    },
    # 4 x 6 patches of 3 x 2 x 4 x 4 numbers, of which two by two become one token.
    images={"pixel_values": (24, 96), "image_grid_thw": [[1, 4, 6]]},
    tokens_per_image=6,
    token_types="mm_token_type_ids",
)
