"""Counts of operations and bytes against figures worked out on paper and by torch's counter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from tests.vlm import tiny
from vlm._errors import VLMError
from vlm.flops import decode_flops, flop_limit_speedup, kv_bytes, prefill_flops
from vlm.model import language_model, text_config
from vlm.plan import SkipPlan

MIB = 2**20
LLAVA = LlamaConfig(
    hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
)


@pytest.mark.parametrize(
    ("plan", "less", "saved"),
    [
        (SkipPlan(32, vision_entry=4), 0.113, 36),
        (SkipPlan(32, vision_exit=28), 0.113, 36),
        (SkipPlan(32, vision_exit=24), 0.225, 72),
        (SkipPlan(32, vision_exit=20), 0.338, 108),
        (SkipPlan(32, vision_entry=4, vision_exit=20), 0.451, 144),
        (SkipPlan(32, vision_off=(0, 5, 6, 31)), 0.113, 36),
        (SkipPlan(32), 0.0, 0),
    ],
)
def test_llava_7b_on_paper(plan: SkipPlan, less: float, saved: int) -> None:
    whole = prefill_flops(LLAVA, 64, 576)
    assert whole == pytest.approx(8.40e12, abs=0.005e12)
    assert 1 - prefill_flops(LLAVA, 64, 576, plan) / whole == pytest.approx(less, abs=5e-4)
    assert kv_bytes(LLAVA, 64, 576) == 320 * MIB
    assert kv_bytes(LLAVA, 64, 576, plan) == (320 - saved) * MIB


def test_llava_next_7b_on_paper() -> None:
    plan = SkipPlan(32, vision_exit=20)
    whole = prefill_flops(LLAVA, 64, 2880)
    assert whole == pytest.approx(40.4e12, abs=0.05e12)
    assert 1 - prefill_flops(LLAVA, 64, 2880, plan) / whole == pytest.approx(0.367, abs=5e-4)
    assert kv_bytes(LLAVA, 64, 2880) - kv_bytes(LLAVA, 64, 2880, plan) == 540 * MIB


def test_speedup_of_late_entry_and_early_exit() -> None:
    plan = SkipPlan(32, vision_entry=4, vision_exit=20)
    assert flop_limit_speedup(LLAVA, 64, 576, plan) == pytest.approx(1.82, abs=5e-3)
    assert flop_limit_speedup(LLAVA, 64, 576, SkipPlan(32, drop_layers=range(8))) == pytest.approx(
        4 / 3
    )


def test_arrays_are_counted_prompt_by_prompt() -> None:
    plan = SkipPlan(32, vision_exit=20)
    text, vision = np.array([3, 64]), np.array([0, 576])
    found = prefill_flops(LLAVA, text, vision, plan)
    assert found.tolist() == [
        prefill_flops(LLAVA, 3, 0, plan),
        prefill_flops(LLAVA, 64, 576, plan),
    ]
    assert kv_bytes(LLAVA, text, vision, plan).dtype == np.int64


def test_decoding_token_by_token_adds_up_to_a_prefill() -> None:
    assert decode_flops(LLAVA, 0, 0, 640) == pytest.approx(prefill_flops(LLAVA, 640, 0))
    plan = SkipPlan(32, vision_exit=0)
    assert decode_flops(LLAVA, 64, 576, 9, plan) == pytest.approx(decode_flops(LLAVA, 64, 0, 9))


def test_projections_are_what_torch_counts(tmp_path: Path) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    live = tiny.build("llava", tmp_path)
    config = text_config(live)
    n = 20
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        language_model(live)(inputs_embeds=torch.zeros(1, n, config.hidden_size), use_cache=False)
    # torch counts attention over the whole square, not what is causal, and not on every backend.
    products = sum(
        count
        for operation, count in counter.get_flop_counts()["Global"].items()
        if "attention" not in str(operation) and "bmm" not in str(operation)
    )
    attention = 2.0 * config.hidden_size * n * (n + 1) * config.num_hidden_layers
    # The rotary angles are one more product, of 2 n head_dim / 2 operations.
    assert prefill_flops(config, n, 0) - attention == pytest.approx(products, rel=2e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((LLAVA, -1, 0), "cannot be negative"),
        ((object(), 1, 0), "no decoder's config"),
        ((LLAVA, 1, 0, SkipPlan(8)), "8 decoder layers"),
    ],
)
def test_what_cannot_be_counted(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(VLMError, match=words):
        prefill_flops(*arguments)


def test_experts_are_refused() -> None:
    from transformers import MixtralConfig

    with pytest.raises(VLMError, match="experts"):
        prefill_flops(MixtralConfig(), 1, 0)


def test_tokens_that_a_rule_keeps_count_instead_of_all() -> None:
    plan = SkipPlan(32, vision_exit=16, drop_layers=(3,))
    kept = np.full(32, 288)
    half = prefill_flops(LLAVA, 64, 576, plan, kept=kept)
    assert half == pytest.approx(prefill_flops(LLAVA, 64, 288, plan))
    assert kv_bytes(LLAVA, 64, 576, plan, kept=kept) == kv_bytes(LLAVA, 64, 288, plan)
    assert decode_flops(LLAVA, 64, 576, 3, plan, kept=kept) == decode_flops(LLAVA, 64, 288, 3, plan)
    with pytest.raises(VLMError, match=r"kept has shape \(31,\); .* shape \(32,\)"):
        prefill_flops(LLAVA, 64, 576, kept=kept[1:])
    with pytest.raises(VLMError, match="more vision tokens than there are"):
        prefill_flops(LLAVA, 64, 200, kept=kept)
