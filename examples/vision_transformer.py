"""Layers of a vision transformer, from the hidden states that transformers returns.

python examples/vision_transformer.py                     a tiny CLIP tower of random weights
python examples/vision_transformer.py --model openai/clip-vit-large-patch14 --images folder
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import redundancy as rd


def tiny_tower() -> Any:
    """Make a CLIP tower of random weights."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=5,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
    )
    return CLIPVisionModel(config).eval()


def states(tower: Any, pixels: Any, batch: int = 32) -> dict[int, np.ndarray]:
    """Return {layer: (images, tokens, width)}; entry 0 is what enters the first block."""
    import torch

    parts: dict[int, list[np.ndarray]] = {}
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            hidden = tower(pixels[start : start + batch], output_hidden_states=True).hidden_states
            for layer, state in enumerate(hidden):
                parts.setdefault(layer, []).append(state.float().cpu().numpy())
    return {layer: np.concatenate(found) for layer, found in parts.items()}


def main(arguments: list[str] | None = None) -> rd.Results:
    """Run the tower, compare its layers."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="hub id or folder; a tiny random tower by default")
    parser.add_argument("--images", type=Path, help="folder of images; noise by default")
    parser.add_argument("--save", type=Path, help="keep the states as a store")
    given = parser.parse_args(arguments)
    if given.model is None:
        tower, pixels = tiny_tower(), torch.rand(40, 3, 32, 32)
    else:
        from PIL import Image
        from transformers import AutoImageProcessor, CLIPVisionModel

        tower = CLIPVisionModel.from_pretrained(given.model).eval()
        files = sorted(p for p in given.images.iterdir() if p.suffix.lower() in {".png", ".jpg"})
        images = [Image.open(p).convert("RGB") for p in files]
        processor = AutoImageProcessor.from_pretrained(given.model)
        pixels = processor(images, return_tensors="pt")["pixel_values"]
    # Arrays of three axes make a group of each image.
    store = rd.ActivationStore.from_arrays(states(tower, pixels), modality="patch")
    results = rd.estimate(store, ["geometric", "cka"])
    print(results)
    if given.save is not None:
        store.save(given.save)
    return results


if __name__ == "__main__":
    main()
