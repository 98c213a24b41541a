"""Phi-3 (2024): one projection makes queries, keys and values."""

from vlm.families import Family, _tiny

FAMILY = Family(title="Phi-3", vision_tokens=(), tiny=_tiny.text("phi3"))
