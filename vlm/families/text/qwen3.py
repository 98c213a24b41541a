"""Qwen3 (2025): queries and keys are normalised."""

from vlm.families import Family, _tiny

FAMILY = Family(title="Qwen3", vision_tokens=(), tiny=_tiny.text("qwen3", head_dim=8))
