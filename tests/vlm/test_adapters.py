"""Plans among what other libraries put around a model: adapters, hooks, quantised weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, BitsAndBytesConfig

from tests.vlm import reference, tiny
from vlm import families
from vlm._errors import VLMError
from vlm.attention import attention_rows
from vlm.model import decoder_layers, model_type, vision_mask, vision_token_ids
from vlm.plan import SkipPlan
from vlm.skip import skipping

PLAN = SkipPlan(6, vision_entry=1, vision_exit=5, vision_off=(3,), drop_layers=(0, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def _words(live: Any, inputs: dict[str, Any]) -> list[list[int]]:
    out = live.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=6,
        suppress_tokens=list(vision_token_ids(live)),
        pad_token_id=tiny.PAD,
        eos_token_id=None,
    )
    return out.tolist()  # type: ignore[no-any-return]


def _adapted(live: Any, seed: int = 0) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    # Adapters that do something from the start, in attention and MLP.
    targets = r".*language_model.*\.(q_proj|v_proj|up_proj|down_proj)"
    config = LoraConfig(r=4, lora_alpha=16, target_modules=targets, init_lora_weights=False)
    return get_peft_model(live, config).eval()


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
@torch.no_grad()
def test_a_model_with_lora_adapters(folder: Path, family: str) -> None:
    pytest.importorskip("peft")
    live = _adapted(tiny.build(family, folder))
    assert model_type(live) == family
    inputs = tiny.batch(live, [1, 2])
    real = inputs["attention_mask"].bool()
    bare, token = live.get_base_model(), vision_token_ids(live)[0]
    before = live(**inputs).logits
    with reference.masked(bare, decoder_layers(live), PLAN, token, real.shape[1]):
        expected = live(**inputs, use_cache=False).logits
    with skipping(live, PLAN):
        got, words = live(**inputs), _words(live, inputs)
        with live.disable_adapter():
            without = live(**inputs).logits
    torch.testing.assert_close(got.logits[real], expected[real], atol=1e-4, rtol=0)
    assert got.past_key_values.layers[3].keys.shape[-2] < real.shape[1]
    assert torch.equal(live(**inputs).logits, before)
    original = tiny.build(family, folder)
    with skipping(original, PLAN):
        torch.testing.assert_close(original(**inputs).logits[real], without[real])
    merged = live.merge_and_unload()
    with skipping(merged, PLAN):
        torch.testing.assert_close(
            merged(**inputs).logits[real], got.logits[real], atol=1e-4, rtol=0
        )
        assert _words(merged, inputs) == words


@torch.no_grad()
def test_one_model_under_its_adapter_is_one_model(folder: Path) -> None:
    pytest.importorskip("peft")
    live = _adapted(tiny.build("llava", folder))
    with (
        skipping(live, PLAN),
        pytest.raises(VLMError, match="a plan is applied to this model already"),
        skipping(live.get_base_model(), PLAN),
    ):
        pass


def test_an_adapter_is_trained_under_a_plan(folder: Path) -> None:
    pytest.importorskip("peft")
    live = _adapted(tiny.build("llava", folder)).train()
    with skipping(live, PLAN):
        live(**tiny.batch(live, [1, 2]), use_cache=False).logits.square().mean().backward()
    for number, layer in enumerate(decoder_layers(live)):
        gradient = layer.mlp.up_proj.lora_A["default"].weight.grad
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) == PLAN.runs(number)
        assert layer.mlp.up_proj.base_layer.weight.grad is None


@torch.no_grad()
def test_attention_under_an_adapter_is_watched(folder: Path) -> None:
    pytest.importorskip("peft")
    live = _adapted(tiny.build("llava", folder, attn_implementation="eager"))
    inputs = tiny.batch(live, [1])
    vision = vision_mask(live, inputs["input_ids"])
    eager = live(**inputs, output_attentions=True).attentions
    with attention_rows(live, vision) as watch:
        live(**inputs)
    expected = torch.stack([a[0, :, -1, vision[0]].sum(-1) for a in eager])
    torch.testing.assert_close(watch.per_head[0, ..., 0], expected, atol=1e-5, rtol=0)


# Where accelerate has put the weights.


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "gemma3"])
@torch.no_grad()
def test_a_device_map_that_spreads_the_blocks(folder: Path, tmp_path: Path, family: str) -> None:
    plain = tiny.build(family, folder)
    inputs = tiny.batch(plain, [1, 2])
    with skipping(plain, PLAN):
        expected, words = plain(**inputs).logits, _words(plain, inputs)
    places = {name: "cpu" for name, _ in plain.model.named_children()}
    del places["language_model"]
    where = {f"model.{name}": "cpu" for name in places} | {"lm_head": "cpu"}
    inner = "model.language_model"
    where |= {f"{inner}.{name}": "cpu" for name, _ in plain.model.language_model.named_children()}
    del where[f"{inner}.layers"]
    where |= {f"{inner}.layers.{i}": "disk" if i % 2 else "cpu" for i in range(6)}
    live = tiny.build(family, folder, device_map=where, offload_folder=tmp_path)
    assert live.hf_device_map[f"{inner}.layers.1"] == "disk"
    with skipping(live, PLAN):
        torch.testing.assert_close(live(**inputs).logits, expected)
        assert _words(live, inputs) == words
    torch.testing.assert_close(live(**inputs).logits, plain(**inputs).logits)


@pytest.mark.parametrize("kind", ["8 bit", "4 bit"])
@torch.no_grad()
def test_quantised_weights(tmp_path: Path, kind: str) -> None:
    """bitsandbytes, where it is installed: the plan's own part of the result is exact."""
    pytest.importorskip("bitsandbytes")
    data = families.load("llava")
    assert data is not None
    # Four-bit kernels want rows of whole blocks of 64 weights.
    text = {**data.tiny["text_config"], "hidden_size": 64, "intermediate_size": 128}
    made = AutoModelForImageTextToText.from_config(
        AutoConfig.for_model("llava", **{**data.tiny, "text_config": text})
    )
    made.save_pretrained(tmp_path)
    left = ("model.vision_tower", "model.multi_modal_projector", "lm_head")
    more = {"llm_int8_skip_modules": list(left)}
    if kind == "8 bit":
        config = BitsAndBytesConfig(load_in_8bit=True, **more)
    else:
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32, **more)
    live = AutoModelForImageTextToText.from_pretrained(
        tmp_path, quantization_config=config, device_map="cpu"
    ).eval()
    assert "Linear" + kind[0] in type(decoder_layers(live)[1].mlp.up_proj).__name__
    inputs = tiny.batch(live, [1, 2])
    real, token = inputs["attention_mask"].bool(), vision_token_ids(live)[0]
    with reference.masked(live, decoder_layers(live), PLAN, token, real.shape[1]):
        expected = live(**inputs, use_cache=False).logits[real].float()
    with skipping(live, PLAN):
        got = live(**inputs).logits[real].float()
        assert len(_words(live, inputs)[0]) == real.shape[1] + 6
    plain = live(**inputs).logits[real].float()
    # Eight bits round activations too, row by row, and so does bfloat16 in four-bit kernels.
    assert (got - expected).abs().max() < 0.02 * (plain - expected).abs().max()
