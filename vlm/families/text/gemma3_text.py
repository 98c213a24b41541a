"""Gemma 3 (2025) without a vision tower: most layers see the last tokens only."""

from vlm.families import Family, _tiny

FAMILY = Family(
    title="Gemma 3 (text)",
    vision_tokens=(),
    tiny=_tiny.text("gemma3_text", head_dim=8, sliding_window=8),
)
