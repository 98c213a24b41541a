"""Mistral (Jiang et al. 2023): every layer sees the last tokens only."""

from vlm.families import Family, _tiny

FAMILY = Family(title="Mistral", vision_tokens=(), tiny=_tiny.text("mistral", sliding_window=8))
