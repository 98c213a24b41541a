"""Skipping against the masked reference: the same logits, the same words, less work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.vlm import reference, tiny
from vlm import families
from vlm._errors import VLMError
from vlm.cache import cache_bytes
from vlm.model import decoder_layers, vision_mask, vision_token_ids
from vlm.plan import SkipPlan
from vlm.skip import skipping

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
    # Rows of one length with more or less of it vision: nothing is padded, but keys are uneven.
    "level": ([1, 2], "left"),
}


def _texts(model_type: str, rows: str) -> list[int] | None:
    if rows != "level":
        return None
    return [5 + families.load(model_type).tokens_per_image, 5]


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


def _in_short_run(family: int, rows: int, plan: int) -> bool:
    """Every family meets half of the plans, every plan half of the families, in all batches."""
    return rows == (plan + family) % len(BATCHES) and (plan + family) % 2 == 0


_GRID = [
    pytest.param(
        family,
        rows,
        plan,
        marks=() if _in_short_run(i, j, k) else pytest.mark.slow,
    )
    for i, family in enumerate(families.names())
    for j, rows in enumerate(BATCHES)
    for k, plan in enumerate(PLANS)
]


@pytest.mark.parametrize(("model_type", "rows", "plan"), _GRID)
@torch.no_grad()
def test_logits_and_words_are_those_of_the_masked_reference(
    model_type: str, rows: str, plan: str, folder: Path
) -> None:
    live = tiny.build(model_type, folder)
    images, padding = BATCHES[rows]
    inputs = tiny.batch(live, images, text=_texts(model_type, rows), padding=padding)
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


@pytest.fixture
def llava(folder: Path) -> Any:
    return tiny.build("llava", folder)


LATE = PLANS["late"]


@torch.no_grad()
def test_a_plan_that_skips_nothing_changes_no_bit(llava: Any) -> None:
    inputs = tiny.batch(llava, [1, 2])
    before = llava(**inputs)
    with skipping(llava, SkipPlan(N)):
        inside = llava(**inputs)
    assert torch.equal(before.logits, inside.logits)
    for old, new in zip(before.past_key_values.layers, inside.past_key_values.layers, strict=True):
        assert torch.equal(old.keys, new.keys)


@torch.no_grad()
def test_a_plan_changes_nothing_where_there_is_no_image(llava: Any) -> None:
    inputs = tiny.batch(llava, [0, 0])
    before = llava(**inputs).logits
    with skipping(llava, PLANS["both"]):
        assert torch.equal(before, llava(**inputs).logits)


@torch.no_grad()
def test_the_model_is_as_it_was_after_the_context_and_after_an_error(llava: Any) -> None:
    inputs = tiny.batch(llava, [1, 2])
    before = llava(**inputs).logits
    state = {name: set(module.__dict__) for name, module in llava.named_modules()}
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in llava.modules()]

    def untouched() -> bool:
        return (
            {name: set(module.__dict__) for name, module in llava.named_modules()} == state
            and [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in llava.modules()]
            == hooks
            and torch.equal(llava(**inputs).logits, before)
        )

    with skipping(llava, PLANS["everything"]):
        assert not torch.equal(llava(**inputs).logits, before)
    assert untouched()
    with pytest.raises(ZeroDivisionError), skipping(llava, PLANS["everything"]):
        raise ZeroDivisionError
    assert untouched()
    with pytest.raises(VLMError, match="5 decoder layers"), skipping(llava, SkipPlan(5)):
        pass
    assert untouched()
    broken = {**inputs, "pixel_values": inputs["pixel_values"][:1]}
    with skipping(llava, LATE):
        with pytest.raises(ValueError, match="do not match"):
            llava(**broken)
        expected = llava(**inputs).logits
    with skipping(llava, LATE):
        assert torch.equal(llava(**inputs).logits, expected)


@torch.no_grad()
@pytest.mark.parametrize("plan", PLANS)
def test_the_cache_holds_exactly_the_kept_share(llava: Any, plan: str) -> None:
    from vlm.flops import kv_bytes
    from vlm.model import text_config

    n_text, n_vision = 7, 2 * 9
    inputs = tiny.batch(llava, [2, 2], text=[n_text, n_text])
    with skipping(llava, PLANS[plan]):
        cache = llava(**inputs).past_key_values
    expected = kv_bytes(text_config(llava), n_text, n_vision, PLANS[plan], itemsize=4)
    assert cache_bytes(cache) == 2 * expected
    for number, layer in enumerate(cache.layers):
        assert layer.get_seq_length() == n_text + n_vision
        stored = 0 if layer.keys is None else layer.keys.shape[-2]
        runs = PLANS[plan].runs(number)
        assert stored == runs * (n_text + PLANS[plan].active_vision(number) * n_vision)
        if stored:
            # No larger storage stands behind the tensors.
            assert layer.keys.untyped_storage().nbytes() == layer.keys.numel() * 4


@torch.no_grad()
def test_hidden_rows_cost_no_work(llava: Any) -> None:
    seen: dict[int, int] = {}

    def watch(number: int) -> Any:
        return lambda module, args, out: seen.update({number: args[0].shape[1]})

    handles = [
        layer.mlp.register_forward_hook(watch(number))
        for number, layer in enumerate(decoder_layers(llava))
    ]
    with skipping(llava, PLANS["everything"]):
        llava(**tiny.batch(llava, [1], text=[5]))
    for handle in handles:
        handle.remove()
    assert seen == {1: 14, 3: 5, 4: 14, 5: 5}


@torch.no_grad()
def test_late_entry_hands_on_vision_tokens_as_they_came(llava: Any) -> None:
    inputs = tiny.batch(llava, [1, 2])
    states: list[torch.Tensor] = []
    layers = decoder_layers(llava)
    handles = [
        layers[number].register_forward_pre_hook(lambda _, args: states.append(args[0]))
        for number in (0, 2)
    ]
    with skipping(llava, LATE):
        llava(**inputs)
    for handle in handles:
        handle.remove()
    vision = vision_mask(llava, inputs["input_ids"])
    assert torch.equal(states[0][vision], states[1][vision])
    assert not torch.equal(states[0][~vision], states[1][~vision])


@torch.no_grad()
def test_a_placeholder_that_the_model_says_itself_is_text(llava: Any) -> None:
    inputs = tiny.batch(llava, [1])
    said = torch.full((1, 1), vision_token_ids(llava)[0])
    longer = {**inputs, "input_ids": torch.cat([inputs["input_ids"], said], dim=1)}
    with skipping(llava, LATE):
        cache = llava(**inputs).past_key_values
        got = llava(input_ids=said, past_key_values=cache).logits[:, -1]
    assert cache.layers[0].keys.shape[-2] == (inputs["input_ids"] != said).sum() + 1
    # The same with the prompt's embeddings given, where only the mask tells what is vision.
    embeds = llava.get_input_embeddings()(longer["input_ids"])
    features = torch.cat(list(llava.get_image_features(inputs["pixel_values"]).pooler_output))
    vision = vision_mask(llava, inputs["input_ids"])
    embeds[:, :-1][vision] = features
    mask = torch.cat([vision, torch.zeros(1, 1, dtype=torch.bool)], dim=1)
    with skipping(llava, LATE, vision_mask=mask):
        expected = llava(inputs_embeds=embeds).logits[:, -1]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
