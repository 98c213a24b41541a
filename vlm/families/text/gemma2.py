"""Gemma 2 (2024): every other layer sees the last tokens only; logits are capped."""

from vlm.families import Family, _tiny

FAMILY = Family(
    title="Gemma 2",
    vision_tokens=(),
    tiny=_tiny.text("gemma2", head_dim=8, sliding_window=8),
)
