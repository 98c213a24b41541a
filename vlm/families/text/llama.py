"""Llama (Touvron et al. 2023) and the many models in its layout."""

from vlm.families import Family, _tiny

FAMILY = Family(title="Llama", vision_tokens=(), tiny=_tiny.text("llama"))
