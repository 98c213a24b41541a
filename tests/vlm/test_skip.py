"""Skipping against the masked reference: the same logits, the same words, less work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.vlm import reference, tiny
from vlm import families
from vlm._errors import VLMError
from vlm.cache import cache_bytes
from vlm.keep import Step
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
# How many images each row holds, and the side that is padded.
BATCHES = {
    "one": ([1], "left"),
    "several left": ([1, 3, 2], "left"),
    "several right": ([2, 1], "right"),
    "with and without": ([0, 2, 1, 0], "left"),
    "all of it right": ([0, 3, 1, 2], "right"),
    # Rows of one length with more or less of it vision: nothing is padded, but keys are uneven.
    "level": ([1, 2], "left"),
}


def _every_third(layer: int, hidden: torch.Tensor, vision: torch.Tensor) -> torch.Tensor:
    """At every layer other tokens, and at one layer none."""
    place = torch.arange(vision.shape[1])
    return vision & ((place + layer) % 3 != 0) & (layer != 2)


# What the grid runs: a plan, and besides it perhaps a rule that chooses token by token.
WAYS: dict[str, tuple[SkipPlan, Any]] = {name: (plan, None) for name, plan in PLANS.items()} | {
    "token by token": (SkipPlan(N), _every_third),
    "tokens and layers": (SkipPlan(N, vision_entry=1, vision_exit=5), _every_third),
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


def _words(live: Any, inputs: dict[str, Any], *, use_cache: bool) -> list[list[int]]:
    """Sixteen greedy words a row; by hand where padding stands between prompt and answer."""
    mask = inputs["attention_mask"]
    if bool(mask[:, -1].all()):
        said = live.generate(**inputs, **_quiet(live), use_cache=use_cache)
        return said[:, mask.shape[1] :].tolist()  # type: ignore[no-any-return]
    whole, found = dict(inputs), []
    out = live(**whole, position_ids=_positions(live, whole), use_cache=use_cache)
    logits = out.logits[torch.arange(len(mask)), mask.sum(dim=1) - 1]
    for _ in range(16):
        logits[:, list(vision_token_ids(live))] = -torch.inf
        word = logits.argmax(dim=-1, keepdim=True)
        found.append(word)
        for name, value in (("input_ids", word), ("attention_mask", torch.ones_like(word))):
            whole[name] = torch.cat([whole[name], value], dim=1)
        for name in {"token_type_ids", "mm_token_type_ids"} & set(whole):
            whole[name] = torch.cat([whole[name], torch.zeros_like(word)], dim=1)
        where = _positions(live, whole)
        if use_cache:
            given = {"input_ids": word, "attention_mask": whole["attention_mask"]}
            cache = out.past_key_values
            out = live(**given, position_ids=where[..., -1:], past_key_values=cache)
        else:
            out = live(**whole, position_ids=where, use_cache=False)
        logits = out.logits[:, -1].clone()
    return torch.cat(found, dim=1).tolist()  # type: ignore[no-any-return]


def _positions(live: Any, inputs: dict[str, Any]) -> torch.Tensor:
    if hasattr(live.model, "get_rope_index"):
        names = ("input_ids", "image_grid_thw", "mm_token_type_ids", "attention_mask")
        where, _ = live.model.get_rope_index(**{name: inputs[name] for name in names})
        return where  # type: ignore[no-any-return]
    return (inputs["attention_mask"].cumsum(dim=-1) - 1).clamp(min=0)


def _in_short_run(family: int, rows: int, way: int) -> bool:
    """Every family meets half of the ways, every way half of the families, in all batches."""
    return (way + family) % 2 == 0 and rows == (way + family) // 2 % len(BATCHES)


def _grid(ways: Sequence[str]) -> list[Any]:
    return [
        pytest.param(family, rows, way, marks=() if _in_short_run(i, j, k) else pytest.mark.slow)
        for i, family in enumerate(families.names())
        for j, rows in enumerate(BATCHES)
        for k, way in enumerate(ways)
    ]


def _inputs(live: Any, model_type: str, rows: str) -> dict[str, Any]:
    images, padding = BATCHES[rows]
    return tiny.batch(live, images, text=_texts(model_type, rows), padding=padding)


@pytest.mark.parametrize(("model_type", "rows", "way"), _grid(list(WAYS)))
@torch.no_grad()
def test_logits_and_words_are_those_of_the_masked_reference(
    model_type: str, rows: str, way: str, folder: Path
) -> None:
    live = tiny.build(model_type, folder)
    plan, choose = WAYS[way]
    inputs = _inputs(live, model_type, rows)
    real = inputs["attention_mask"].bool()
    slow = (live, decoder_layers(live), plan, vision_token_ids(live)[0], real.shape[1], choose)

    def rule(step: Step) -> torch.Tensor:
        return choose(step.layer, step.hidden, step.vision)  # type: ignore[no-any-return]

    keep = None if choose is None else rule
    with reference.masked(*slow):
        expected = live(**inputs, use_cache=False).logits
    with skipping(live, plan, keep=keep):
        plain = live(**inputs, use_cache=False).logits
        cached = live(**inputs, use_cache=True).logits
    assert (expected - live(**inputs).logits)[real].abs().max() > 1e-2  # the plan matters
    torch.testing.assert_close(plain[real], expected[real], atol=1e-4, rtol=0)
    torch.testing.assert_close(cached[real], expected[real], atol=1e-4, rtol=0)
    with reference.masked(*slow):
        words = _words(live, inputs, use_cache=False)
    with skipping(live, plan, keep=keep):
        assert _words(live, inputs, use_cache=True) == words


@pytest.mark.parametrize(("model_type", "rows", "way"), _grid(["no-op"]))
@torch.no_grad()
def test_a_plan_that_skips_nothing_changes_no_bit(
    model_type: str, rows: str, way: str, folder: Path
) -> None:
    live = tiny.build(model_type, folder)
    inputs = _inputs(live, model_type, rows)
    before, words = live(**inputs), _words(live, inputs, use_cache=True)
    with skipping(live, SkipPlan(N)):
        inside = live(**inputs)
        assert _words(live, inputs, use_cache=True) == words
    assert torch.equal(before.logits, inside.logits)
    for old, new in zip(before.past_key_values.layers, inside.past_key_values.layers, strict=True):
        assert torch.equal(old.keys, new.keys)
        assert torch.equal(old.values, new.values)


def test_the_grid_is_all_that_is_promised() -> None:
    """Every family; 1 to 4 rows of 0 to 3 images, padded on either side; first and last dropped."""
    images = [rows for rows, _ in BATCHES.values()]
    assert {len(rows) for rows in images} == {1, 2, 3, 4}
    assert {n for rows in images for n in rows} == {0, 1, 2, 3}
    assert {side for _, side in BATCHES.values()} == {"left", "right"}
    assert {0, N - 1} <= {layer for plan, _ in WAYS.values() for layer in plan.drop_layers}
    grid = {param.values for param in _grid(list(WAYS))}
    assert len(grid) == len(families.names()) * len(BATCHES) * len(WAYS)
    short = [param.values for param in _grid(list(WAYS)) if not param.marks]
    for place, names in enumerate((families.names(), BATCHES, WAYS)):
        assert {values[place] for values in short} == set(names)


@pytest.fixture
def llava(folder: Path) -> Any:
    return tiny.build("llava", folder)


LATE = PLANS["late"]


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
