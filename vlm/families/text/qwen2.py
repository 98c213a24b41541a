"""Qwen2 and Qwen2.5 (2024)."""

from vlm.families import Family, _tiny

FAMILY = Family(title="Qwen2", vision_tokens=(), tiny=_tiny.text("qwen2"))
