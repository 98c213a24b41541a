"""OLMo 2 (2024): norms stand behind attention and MLP."""

from vlm.families import Family, _tiny

FAMILY = Family(title="OLMo 2", vision_tokens=(), tiny=_tiny.text("olmo2"))
