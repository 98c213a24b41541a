"""Skipping against the masked reference: the same logits, the same words, less work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.vlm import reference, tiny

from vlm import families
from vlm._errors import VLMError
from vlm.cache import CompactLayer, cache_bytes
from vlm.model import decoder_layers, vision_mask, vision_token_ids
from vlm.plan import SkipPlan
from vlm.skip import skipping

SUPPORTED = [name for name in families.names() if families.load(name).refused is None]
N = 6

PLANS = {
    "late": SkipPlan(N, vision_entry=2),
    "exit": SkipPlan(N, vision_exit=4),
    "both": SkipPlan(N, vision_entry=1, vision_exit=4),
    "nowhere": SkipPlan(N, vision_exit=0),
    "arbitrary": SkipPlan(N, vision_off=(1, 3, 4)),
    "drop first": SkipPlan(N, drop_layers=(0,)),
    "drop last": SkipPlan(N, drop_layers=(N - 1,)),
    "everything": SkipPlan(N, vision_entry=1, vision_exit=5, vision_off=(3,), drop_layers=(0, 2)),
}
BATCHES = {
    "one": ([1], "left"),
    "several left": ([1, 3, 2], "left"),
    "several right": ([2, 1], "right"),
    "with and without": ([0, 2, 1, 0], "left"),
    "equal": ([1, 1], "left"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def _quiet(live: Any) -> dict[str, Any]:
    """Options of a greedy run that never says a placeholder."""
    return {
        "do_sample": False,
        "max_new_tokens": 16,
        "suppress_tokens": list(vision_token_ids(live)),
        "pad_token_id": tiny.PAD,
        "eos_token_id": None,
    }


@pytest.mark.parametrize("model_type", SUPPORTED)
@pytest.mark.parametrize("rows", BATCHES)
@pytest.mark.parametrize("plan", PLANS)
@torch.no_grad()
def test_logits_and_words_are_those_of_the_masked_reference(
    model_type: str, rows: str, plan: str, folder: Path
) -> None:
    live = tiny.build(model_type, folder)
    images, padding = BATCHES[rows]
    inputs = tiny.batch(live, images, padding=padding)
    real = inputs["attention_mask"].bool()
    prompt = real.shape[1]
    token = vision_token_ids(live)[0]
    layers = decoder_layers(live)
    with reference.masked(live, layers, PLANS[plan], token, prompt):
        expected = live(**inputs, use_cache=False).logits
    with skipping(live, PLANS[plan]):
        plain = live(**inputs, use_cache=False).logits
        cached = live(**inputs, use_cache=True).logits
    assert (expected - live(**inputs).logits)[real].abs().max() > 1e-2  # the plan matters
    torch.testing.assert_close(plain[real], expected[real], atol=1e-4, rtol=0)
    torch.testing.assert_close(cached[real], expected[real], atol=1e-4, rtol=0)
    if padding == "left":
        with reference.masked(live, layers, PLANS[plan], token, prompt):
            expected = live.generate(**inputs, **_quiet(live), use_cache=False)
        with skipping(live, PLANS[plan]):
            got = live.generate(**inputs, **_quiet(live))
        assert got.tolist() == expected.tolist()
