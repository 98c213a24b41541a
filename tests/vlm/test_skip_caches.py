"""Plans and caches: pieces, further use, refusal, rows, windows."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CompileConfig, DynamicCache

from tests.vlm import reference, tiny
from vlm._errors import VLMError
from vlm.cache import CompactLayer, cache_bytes
from vlm.model import decoder_layers, vision_mask, vision_token_ids
from vlm.plan import SkipPlan
from vlm.skip import skipping

PLAN = SkipPlan(6, vision_entry=1, vision_exit=5, vision_off=(3,), drop_layers=(0, 2))
LATE = SkipPlan(6, vision_entry=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture
def live(folder: Path) -> Any:
    return tiny.build("llava", folder)


@pytest.mark.parametrize("cuts", [(1,), (1, 10), (1, 5, 10, 12), (3, 11)])
@torch.no_grad()
def test_a_prompt_may_come_in_pieces(live: Any, cuts: tuple[int, ...]) -> None:
    inputs = tiny.batch(live, [1], text=[7])
    ids = inputs["input_ids"]
    expected = tiny.expected(live, inputs, PLAN)
    features = torch.cat(list(live.get_image_features(inputs["pixel_values"]).pooler_output))
    vision = vision_mask(live, ids)
    embeds = live.get_input_embeddings()(ids)
    embeds[vision] = features
    bounds = (0, *cuts, ids.shape[1])
    cache = None
    found = []
    for start, stop in itertools.pairwise(bounds):
        piece = slice(start, stop)
        with skipping(live, PLAN, vision_mask=vision[:, piece]):
            out = live(inputs_embeds=embeds[:, piece], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        found.append(out.logits)
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=1e-4, rtol=0)
    assert cache.layers[0].keys is None
    assert cache.layers[3].keys.shape[-2] == 7


@torch.no_grad()
def test_generate_takes_a_cache_of_its_own_plan_further(live: Any) -> None:
    inputs = tiny.batch(live, [2])
    ids = inputs["input_ids"]
    with skipping(live, PLAN):
        whole = tiny.words(live, inputs, 8)
        cache = DynamicCache()
        half = live.generate(
            **inputs,
            past_key_values=cache,
            do_sample=False,
            max_new_tokens=4,
            suppress_tokens=list(vision_token_ids(live)),
            pad_token_id=tiny.PAD,
            eos_token_id=None,
        )
        later = {"input_ids": half, "attention_mask": torch.ones_like(half)}
        assert tiny.words(live, later, 4, past_key_values=cache) == whole
    assert cache.get_seq_length() == ids.shape[1] + 7


def _offloading() -> DynamicCache:
    cache = DynamicCache()
    cache.offloading = True
    return cache


REFUSED_CACHES: dict[str, tuple[dict[str, Any], str]] = {
    "by name": ({"cache_implementation": "static"}, "StaticCache"),
    "offloaded": ({"cache_implementation": "offloaded_static"}, "offloading StaticCache"),
    "for compiling": (
        {"cache_implementation": "static", "compile_config": CompileConfig(backend="eager")},
        "StaticCache",
    ),
    "quantised": (
        {"cache_implementation": "quantized", "cache_config": {"backend": "fp8"}},
        "QuantizedCache",
    ),
    "offloading": ({"past_key_values": _offloading()}, "offloading DynamicCache"),
}


@pytest.mark.parametrize("how", [*REFUSED_CACHES, "by the model's own settings"])
@torch.no_grad()
def test_caches_that_plans_do_not_know_are_refused_before_any_block_runs(
    live: Any, how: str
) -> None:
    inputs = tiny.batch(live, [1])
    options, kind = REFUSED_CACHES.get(how, ({}, "StaticCache"))
    plain, worked = tiny.words(live, inputs), []
    with skipping(live, LATE):
        expected = tiny.words(live, inputs)
    # The library encodes images before it calls the model, so the tower may have worked.
    first = decoder_layers(live)[0]
    handle = first.register_forward_pre_hook(lambda *_: worked.append(True))
    if not options:
        live.generation_config.cache_implementation = "static"
    with (
        skipping(live, LATE),
        pytest.raises(VLMError, match=f"plans work with DynamicCache, not with an? {kind};"),
    ):
        tiny.words(live, inputs, **options)
    live.generation_config.cache_implementation = None
    handle.remove()
    assert not worked
    assert tiny.words(live, inputs) == plain
    with skipping(live, LATE):
        assert tiny.words(live, inputs) == expected


@torch.no_grad()
def test_a_cache_stays_with_its_plan(live: Any) -> None:
    inputs = tiny.batch(live, [1])
    word = torch.tensor([[5]])
    outside = live(**inputs).past_key_values
    with skipping(live, LATE):
        with pytest.raises(VLMError, match="the cache was filled without this plan"):
            live(input_ids=word, past_key_values=outside)
        inside = live(**inputs).past_key_values
        live(input_ids=word, past_key_values=inside)
    with pytest.raises(VLMError, match="filled under a skip plan and is used without it"):
        live(input_ids=word, past_key_values=inside)
    with (
        skipping(live, SkipPlan(6, vision_entry=3)),
        pytest.raises(VLMError, match="the cache was filled without this plan"),
    ):
        live(input_ids=word, past_key_values=inside)


@torch.no_grad()
def test_rows_of_a_compact_cache_are_kept_apart(live: Any) -> None:
    """Rows of different lengths, cropped, chosen and repeated, go on as each would alone."""
    inputs = tiny.batch(live, [1, 3])
    with skipping(live, LATE):
        cache = live(**inputs).past_key_values
        words = torch.tensor([[5, 6, 7], [8, 9, 10]])
        mask = torch.cat([inputs["attention_mask"], torch.ones(2, 3, dtype=torch.long)], dim=1)

        def go_on(cache: Any, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            where = (mask.cumsum(-1) - 1)[:, -words.shape[1] :]
            return live(  # type: ignore[no-any-return]
                input_ids=words, attention_mask=mask, position_ids=where, past_key_values=cache
            ).logits

        whole = go_on(cache, words, mask)
        cache.crop(-2)
        assert cache.get_seq_length() == mask.shape[1] - 2
        assert isinstance(cache.layers[0], CompactLayer)
        again = go_on(cache, words[:, 1:], mask)
        torch.testing.assert_close(again, whole[:, 1:], atol=1e-5, rtol=0)
        cache.crop(-3)
        cache.batch_select_indices(torch.tensor([1]))
        cache.batch_repeat_interleave(2)
        cache.reorder_cache(torch.tensor([1, 0]))
        again = go_on(cache, words[[1, 1]], mask[[1, 1]])
        torch.testing.assert_close(again, whole[[1, 1]], atol=1e-5, rtol=0)
        with pytest.raises(ValueError, match="negative"):
            cache.crop(3)
        cache.reset()
        assert cache.get_seq_length() == 0
        assert cache_bytes(cache) == 0


@torch.no_grad()
def test_a_layer_with_a_window_forgets_what_it_will_not_look_at(folder: Path) -> None:
    gemma = tiny.build("gemma3", folder)
    window = gemma.config.text_config.sliding_window
    inputs = tiny.batch(gemma, [2], text=[20])
    n = inputs["input_ids"].shape[1]
    with skipping(gemma, PLAN):
        cache = gemma(**inputs).past_key_values
        for number, layer in enumerate(cache.layers):
            assert layer.get_seq_length() == n
            if not PLAN.runs(number):
                assert layer.keys is None
            elif gemma.config.text_config.layer_types[number] == "sliding_attention":
                assert layer.keys.shape[-2] == window - 1
            else:
                assert layer.keys.shape[-2] == 20 + PLAN.active_vision(number) * 18
        with pytest.raises(RuntimeError, match="activate_past_recording"):
            cache.crop(-1)
        words = tiny.words(gemma, inputs)
        assert tiny.words(gemma, inputs, prompt_lookup_num_tokens=3) == words


@pytest.mark.parametrize("images", [[1], [1, 2]])
@torch.no_grad()
def test_windows_in_the_decoder_of_another_family(images: list[int]) -> None:
    from transformers import AutoConfig, AutoModelForImageTextToText

    from vlm import families

    data = families.load("llava")
    assert data is not None
    decoder = {**data.tiny["text_config"], "model_type": "mistral", "sliding_window": 6}
    config = AutoConfig.for_model("llava", **{**data.tiny, "text_config": decoder})
    torch.manual_seed(0)
    live = AutoModelForImageTextToText.from_config(config).eval()
    inputs = tiny.batch(live, images)
    real = inputs["attention_mask"].bool()
    with skipping(live, LATE):
        out, words = live(**inputs), tiny.words(live, inputs)
    torch.testing.assert_close(
        out.logits[real], tiny.expected(live, inputs, LATE)[real], atol=1e-4, rtol=0
    )
    token, prompt = vision_token_ids(live)[0], real.shape[1]
    with reference.masked(live, decoder_layers(live), LATE, token, prompt):
        assert tiny.words(live, inputs, use_cache=False) == words
    assert max(layer.keys.shape[-2] for layer in out.past_key_values.layers) == 5
    with skipping(live, LATE):
        everything = DynamicCache()  # made without a config, it knows of no windows
        assert tiny.words(live, inputs, past_key_values=everything) == words
    assert everything.layers[-1].keys.shape[-2] == prompt + 5
