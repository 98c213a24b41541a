"""Qwen3-VL (2025), which adds vision features once more after each of its first blocks.

Those additions lie between the blocks: vision tokens receive them also where a plan lets them pass
a block by.
"""

from vlm.families import Family, _tiny

FAMILY = Family(
    title="Qwen3-VL",
    vision_tokens=("image_token_id", "video_token_id"),
    tiny={
        "vision_config": {
            "model_type": "qwen3_vl_vision",
            "depth": 3,
            "hidden_size": 32,
            "out_hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "patch_size": 4,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        "text_config": _tiny.text(
            "qwen3_vl_text",
            head_dim=8,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
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
