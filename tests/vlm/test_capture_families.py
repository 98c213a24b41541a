"""Capture on every family: states, vision attention and vision effect against the library."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from transformers import BatchFeature

from tests.vlm import tiny
from vlm import families
from vlm.capture import capture
from vlm.data import PreparedRow
from vlm.model import decoder_layers, vision_mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("families")


def run(live, inputs, monkeypatch):
    """Capture of inputs that no processor made."""
    n = len(inputs["input_ids"])
    info = [PreparedRow(id=str(i), group=str(i), prompt="", n_images=0) for i in range(n)]
    monkeypatch.setattr("vlm.capture.prepare", lambda *_, **__: (BatchFeature(inputs), info))
    rows = [{"question": "-"} for _ in range(n)]
    return list(
        capture(live, None, rows, tokens="all", vision_effect=True, predict=False, batch_size=n)
    )


def by_hand(live, inputs):
    """The library's raw states of one row, its attention, its blocks with vision keys hidden."""
    vision = vision_mask(live, inputs["input_ids"])
    n = vision.shape[1]
    away = vision[0][None, :] & ~torch.eye(n, dtype=torch.bool)
    states, effect = [], []

    def hook(block, args, kwargs, out):
        if not states:
            states.append(args[0] if args else kwargs["hidden_states"])
        states.append(out)
        # Eager attention always has its mask written out, a window of the family's own included.
        mask = kwargs["attention_mask"].masked_fill(away, torch.finfo(torch.float32).min)
        hidden = block.forward(*args, **{**kwargs, "attention_mask": mask})
        change = (out - hidden)[~vision].norm(dim=-1)
        effect.append([float(change.norm()), float(change[-1])])

    with ExitStack() as stack:
        for layer in decoder_layers(live):
            stack.enter_context(layer.register_forward_hook(hook, with_kwargs=True))
        with torch.inference_mode():
            out = live(**inputs, output_attentions=True, use_cache=False)
    # Every block ran twice, and the library collected both.
    mass = [a[0, :, -1, vision[0]].sum(-1) for a in out.attentions[::2]]
    return torch.cat(states), vision[0], np.array(effect), torch.stack(mass)


@pytest.mark.parametrize("name", families.names())
def test_every_family(folder, monkeypatch, name):
    live = tiny.build(name, folder, attn_implementation="sdpa")
    eager = tiny.build(name, folder, attn_implementation="eager")
    images = (1, 0, 2)
    inputs = tiny.batch(live, images)
    samples = run(live, inputs, monkeypatch)
    whole = {"input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"}
    for row, sample in enumerate(samples):
        real = inputs["attention_mask"][row].bool()
        first, last = sum(images[:row]), sum(images[: row + 1])
        alone = {}
        for key, value in inputs.items():
            if key in whole:
                alone[key] = value[row : row + 1, real]
            elif images[row]:
                per_image = len(value) // sum(images)
                alone[key] = value[first * per_image : last * per_image]
        states, vision, effect, mass = by_hand(eager, alone)
        assert sample.n_vision == families.load(name).tokens_per_image * images[row]
        for modality, mask in (("vision", vision), ("text", ~vision)):
            np.testing.assert_allclose(
                sample.states[modality], states[:, mask].numpy(), rtol=2e-3, atol=2e-3
            )
        np.testing.assert_allclose(sample.var_per_head, mass.numpy(), atol=1e-3)
        np.testing.assert_allclose(sample.vision_effect, effect, rtol=1e-2, atol=2e-3)
        if images[row]:
            assert (sample.vision_effect[:, 0] > 0.01).all()
