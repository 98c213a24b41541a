"""Plans among threads, dtypes, devices and the library's own conveniences."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.vlm import reference, tiny
from tests.vlm.capturing import N_LAYERS, SIDE, save_tiny_llava
from vlm._errors import VLMError
from vlm.model import decoder_layers, language_model, vision_mask
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


# One plan at a time, on as many models and threads as one likes.


def test_contexts_do_not_nest_on_one_model(live: Any, folder: Path) -> None:
    other = tiny.build("llava", folder)
    with (
        skipping(live, LATE),
        pytest.raises(VLMError, match="a plan is applied to this model already"),
        skipping(live, PLAN),
    ):
        pass
    inputs = tiny.batch(live, [1])
    with torch.no_grad(), skipping(live, LATE), skipping(other, PLAN):
        mine, theirs = live(**inputs).logits, other(**inputs).logits
    torch.testing.assert_close(mine, tiny.expected(live, inputs, LATE), atol=1e-4, rtol=0)
    torch.testing.assert_close(theirs, tiny.expected(other, inputs, PLAN), atol=1e-4, rtol=0)


def test_threads_share_a_plan(live: Any) -> None:
    prompts = [tiny.batch(live, [1 + number % 3], seed=number) for number in range(4)]
    found: dict[int, list[list[int]]] = {}
    with skipping(live, PLAN):
        alone = [tiny.words(live, inputs) for inputs in prompts]

        def run(number: int) -> None:
            found[number] = tiny.words(live, prompts[number])

        threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[number] for number in range(4)] == alone


# Embeddings instead of tokens.


@torch.no_grad()
def test_embeddings_need_a_mask_that_tells_vision_from_text(live: Any) -> None:
    inputs = tiny.batch(live, [1, 2])
    embeds = live.get_input_embeddings()(inputs["input_ids"])
    features = torch.cat(list(live.get_image_features(inputs["pixel_values"]).pooler_output))
    vision = vision_mask(live, inputs["input_ids"])
    embeds[vision] = features
    given = {"inputs_embeds": embeds, "attention_mask": inputs["attention_mask"]}
    with skipping(live, PLAN):
        with pytest.raises(VLMError, match="inputs_embeds do not tell vision from text"):
            live(**given)
        expected = live(**inputs).logits
        words = tiny.words(live, inputs, num_beams=2)
    with skipping(live, PLAN, vision_mask=vision):
        torch.testing.assert_close(live(**given).logits, expected)
        n = inputs["input_ids"].shape[1]
        assert tiny.words(live, given, num_beams=2) == [row[n:] for row in words]
    with (
        skipping(live, PLAN, vision_mask=vision[:, 1:]),
        pytest.raises(VLMError, match="vision_mask has shape"),
    ):
        live(**given)
    for wrong, found in ((vision.tolist(), "is a list"), (vision.float(), ", in torch.float32")):
        with (
            skipping(live, PLAN, vision_mask=wrong),
            pytest.raises(VLMError, match=f"vision_mask .*{found}; inputs_embeds are of 2 x"),
        ):
            live(**given)
    with skipping(live, PLAN, vision_mask=vision.long()):
        torch.testing.assert_close(live(**given).logits, expected)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"plan": "plan.json"}, "the plan is a str; give a SkipPlan"),
        ({"plan": None}, "the plan is a NoneType; give a SkipPlan"),
        ({"plan": LATE, "keep": 0.5}, "keep is a float; give a function"),
    ],
)
def test_what_is_no_plan_or_rule_is_named(live: Any, given: dict[str, Any], words: str) -> None:
    with pytest.raises(VLMError, match=words), skipping(live, **given):
        pass


# What is refused before anything is touched.


@pytest.mark.parametrize("attention", ["flex_attention", "paged|eager", "some/kernel"])
def test_attention_that_was_not_tested_is_refused(live: Any, attention: str) -> None:
    live.config.text_config._attn_implementation_internal = attention
    with (
        pytest.raises(VLMError, match="plans do not support attn_implementation"),
        skipping(live, LATE),
    ):
        pass


def test_layers_of_an_unknown_type_are_refused(live: Any) -> None:
    live.config.text_config.layer_types = ["full_attention"] * 5 + ["linear_attention"]
    with (
        pytest.raises(VLMError, match="layers of type linear_attention; plans know full attention"),
        skipping(live, LATE),
    ):
        pass


def test_a_family_without_a_file_is_named_with_what_to_do(folder: Path) -> None:
    live = tiny.build("llava", folder)
    live.config.model_type = "mystery_vl"
    with (
        pytest.raises(VLMError, match=r"'mystery_vl' .*families are .*vlm/families/mystery_vl\.py"),
        skipping(live, LATE),
    ):
        pass


@torch.no_grad()
def test_parts_of_a_model_do_not_run_alone_under_a_plan(live: Any) -> None:
    with skipping(live, LATE):
        live(**tiny.batch(live, [1]))
        with pytest.raises(VLMError, match="call the whole model"):
            language_model(live)(inputs_embeds=torch.zeros(1, 3, 32))


# Precision, devices, training.


@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl"])
@torch.no_grad()
def test_eager_attention_gives_the_same(folder: Path, model_type: str) -> None:
    live = tiny.build(model_type, folder, attn_implementation="eager")
    inputs = tiny.batch(live, [1, 2])
    real = inputs["attention_mask"].bool()
    with skipping(live, PLAN):
        got, words = live(**inputs).logits, tiny.words(live, inputs)
    torch.testing.assert_close(
        got[real], tiny.expected(live, inputs, PLAN)[real], atol=1e-4, rtol=0
    )
    live = tiny.build(model_type, folder)
    with skipping(live, PLAN):
        assert tiny.words(live, inputs) == words


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_stays_half_precision(folder: Path, dtype: torch.dtype) -> None:
    live = tiny.build("llava", folder, dtype=dtype)
    inputs = tiny.batch(live, [1, 2])
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
    real = inputs["attention_mask"].bool()
    with skipping(live, PLAN):
        out = live(**inputs)
        assert len(tiny.words(live, inputs)[0]) == real.shape[1] + 6
    assert out.logits.dtype == out.past_key_values.layers[3].keys.dtype == dtype
    expected = tiny.expected(live, inputs, PLAN)[real]
    torch.testing.assert_close(out.logits[real], expected, atol=0.05, rtol=0.05)


@torch.no_grad()
def test_weights_may_lie_on_disk_and_a_dropped_layer_is_never_loaded(
    folder: Path, tmp_path: Path
) -> None:
    from accelerate import disk_offload

    live = tiny.build("llava", folder)
    inputs = tiny.batch(live, [1, 2])
    with skipping(live, PLAN):
        expected, words = live(**inputs).logits, tiny.words(live, inputs)
    disk_offload(live, tmp_path / "offload")
    forwards = [layer.forward for layer in decoder_layers(live)]
    loaded: set[int] = set()
    for number, layer in enumerate(decoder_layers(live)):
        hook = layer.mlp.up_proj._hf_hook

        def spy(*args: Any, of: int = number, load: Any = hook.pre_forward, **kwargs: Any) -> Any:
            loaded.add(of)
            return load(*args, **kwargs)

        hook.pre_forward = spy
    with skipping(live, PLAN):
        torch.testing.assert_close(live(**inputs).logits, expected)
        assert tiny.words(live, inputs) == words
    assert [layer.forward for layer in decoder_layers(live)] == forwards
    assert loaded == {number for number in range(6) if PLAN.runs(number)}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_flow_through_what_takes_part(live: Any, checkpointing: bool) -> None:
    inputs = tiny.batch(live, [1, 2])
    if checkpointing:
        live.gradient_checkpointing_enable()
        live.train()
    with skipping(live, PLAN):
        live(**inputs, use_cache=False).logits.square().mean().backward()
    for number, layer in enumerate(decoder_layers(live)):
        gradient = layer.mlp.up_proj.weight.grad
        if PLAN.runs(number):
            assert torch.isfinite(gradient).all()
            assert gradient.abs().sum() > 0
        else:
            assert gradient is None


# The library's own conveniences.


def test_the_pipeline_and_a_streamer_in_another_thread(tmp_path: Path) -> None:
    from PIL import Image
    from transformers import TextIteratorStreamer, pipeline

    from vlm.model import load

    live, processor = load(save_tiny_llava(tmp_path))
    plan = SkipPlan(N_LAYERS, vision_entry=1, vision_exit=3)
    picture = Image.new("RGB", (SIDE, SIDE), (200, 30, 30))
    prompt = "<bos> USER <image> is it red ASSISTANT"
    inputs = processor(images=picture, text=prompt, return_tensors="pt")
    with skipping(live, plan):
        new = live.generate(**inputs, do_sample=False, max_new_tokens=5)
        said = processor.tokenizer.decode(new[0, inputs["input_ids"].shape[1] :])
        streamer = TextIteratorStreamer(processor.tokenizer, skip_prompt=True)
        thread = threading.Thread(
            target=live.generate,
            kwargs={**inputs, "do_sample": False, "max_new_tokens": 5, "streamer": streamer},
        )
        thread.start()
        assert "".join(streamer).split() == said.split()
        thread.join()
        pipe = pipeline("image-text-to-text", model=live, processor=processor)
        [answer] = pipe(
            images=picture,
            text=prompt,
            generate_kwargs={"do_sample": False, "max_new_tokens": 5},
            return_full_text=False,
        )
    assert (
        answer["generated_text"].split()[:1]
        == [word for word in said.split() if not word.startswith("<")][:1]
    )


@torch.no_grad()
def test_states_asked_of_the_model_have_all_rows_and_attentions_those_that_took_part(
    folder: Path,
) -> None:
    live = tiny.build("llava", folder, attn_implementation="eager")
    inputs = tiny.batch(live, [1], text=[7])
    vision = vision_mask(live, inputs["input_ids"])
    with skipping(live, LATE):
        out = live(**inputs, output_hidden_states=True, output_attentions=True)
    assert {state.shape[1] for state in out.hidden_states} == {16}
    assert torch.equal(out.hidden_states[2][vision], out.hidden_states[0][vision])
    assert [tuple(a.shape[-2:]) for a in out.attentions] == [(7, 7)] * 2 + [(16, 16)] * 4


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_vl"])
@torch.no_grad()
def test_frames_of_a_video_are_vision_too(folder: Path, model_type: str) -> None:
    live = tiny.build(model_type, folder)
    inputs = tiny.batch(live, [1, 2])
    image, video = live.config.image_token_id, live.config.video_token_id
    ids = torch.where(inputs["input_ids"] == image, video, inputs["input_ids"])
    inputs = {
        "input_ids": ids,
        "attention_mask": inputs["attention_mask"],
        "pixel_values_videos": inputs["pixel_values"],
        "video_grid_thw": inputs["image_grid_thw"],
        "mm_token_type_ids": 2 * inputs["mm_token_type_ids"],
    }
    real = inputs["attention_mask"].bool()
    with reference.masked(live, decoder_layers(live), PLAN, video, ids.shape[1]):
        expected = live(**inputs, use_cache=False).logits[real]
    with skipping(live, PLAN):
        out = live(**inputs)
    torch.testing.assert_close(out.logits[real], expected, atol=1e-4, rtol=0)
    assert out.past_key_values.layers[3].keys.shape[-2] == (real & (ids != video)).sum(1).max()
