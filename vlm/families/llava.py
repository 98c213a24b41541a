"""LLaVA-1.5 (Liu et al. 2023) and what else comes with this layout, with any decoder inside."""

from vlm.families import Family

FAMILY = Family(
    title="LLaVA-1.5",
    tiny={
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 24,
            "patch_size": 8,
            "projection_dim": 32,
        },
        "text_config": {
            "model_type": "llama",
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
        },
        "image_token_index": 98,
        "image_seq_length": 9,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    },
    images={"pixel_values": (1, 3, 24, 24)},
    tokens_per_image=9,
)
