"""docs/skipping.md: its examples run, and what it says is refused is refused, in one sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache, StaticCache
from transformers.cache_utils import QuantizedCache

from tests.vlm import tiny
from tests.vlm.capturing import N_VISION, mixed_rows, picture, save_tiny_llava
from tests.vlm.test_text_only import build as text_only
from vlm._errors import VLMError
from vlm.capture import capture
from vlm.data import prepare
from vlm.keep import Step
from vlm.model import language_model, load, vision_mask
from vlm.plan import SkipPlan
from vlm.skip import skipping

PAGE = (Path(__file__).parents[2] / "docs" / "skipping.md").read_text()
LATE = SkipPlan(6, vision_entry=2)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a model of as many layers as the page speaks of."""
    model, processor = load(save_tiny_llava(tmp_path / "model", n_layers=32))
    inputs, _ = prepare(processor, [{"question": "is it red ?", "image": picture(0)}])
    monkeypatch.chdir(tmp_path)
    for name in ("calibration", "questions"):
        rows = []
        for number in range(6):
            picture(number).save(f"{number}.png")
            rows.append({"question": "is it red ?", "image": f"{number}.png", "answer": "yes"})
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names: dict[str, Any] = {"model": model, "processor": processor, "inputs": inputs}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(block.replace("model, processor = ...", ""), names)
    assert names["with_plan"].kv_bytes.sum() < names["before_plan"].kv_bytes.sum()
    assert names["adaptive"].settings["keep"] == "busy"
    assert names["FAMILY"].tokens_per_image == N_VISION
    for rule in ("moving", "busy", "by_place"):
        body = re.split(r"\n\n|```", PAGE.split(f"def {rule}(step):\n")[1])[0]
        assert len(body.splitlines()) <= 4
    # The rules do what the page says of them.
    vision = torch.tensor([[False, True, True, True]])
    still = torch.tensor([[[1.0, 0.0]] * 4])
    turned = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    step = Step(7, turned, still, vision, vision)
    assert names["moving"](step).tolist() == [[False, False, True, False]]
    assert names["busy"](step).tolist() == vision.tolist()
    assert not names["busy"](Step(7, still, still, vision, vision)).any()
    idle = names["idle"]
    assert idle.shape == (N_VISION,)
    kept = names["by_place"](step)[0, 1:]
    assert kept.tolist() == (~idle[:3]).tolist()


def test_the_example_of_chosen_rows_runs(tmp_path: Path) -> None:
    model, processor = load(save_tiny_llava(tmp_path))
    row = {"question": "is it red ?", "images": [picture(number) for number in range(4)]}
    inputs, _ = prepare(processor, [row])
    page = (Path(__file__).parents[2] / "docs" / "capture.md").read_text()
    [block] = [b for b in re.findall(r"```python\n(.*?)```", page, re.S) if "attention_rows" in b]
    vision = vision_mask(model, inputs["input_ids"])
    names: dict[str, Any] = {"model": model, "inputs": inputs, "vision": vision, "torch": torch}
    exec(block, names)
    assert names["mass"].shape == (1, 4, 4, 2)
    assert ((names["mass"] > 0) & (names["mass"] < 1)).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def _no_file(live: Any) -> None:
    live.config.model_type = "mystery"
    with skipping(live, LATE):
        pass


def _text_only(live: Any) -> None:
    with skipping(text_only("llama"), LATE):
        pass


def _linear(live: Any) -> None:
    live.config.text_config.layer_types = ["linear_attention"] * 6
    with skipping(live, LATE):
        pass


def _kernel(live: Any) -> None:
    live.config.text_config._attn_implementation_internal = "flex_attention"
    with skipping(live, LATE):
        pass


def _flash_windows(live: Any) -> None:
    live.config.text_config._attn_implementation_internal = "flash_attention_2"
    live.config.text_config.sliding_window = 8
    with skipping(live, LATE):
        pass


def _flash_packed(live: Any) -> None:
    live.config.text_config._attn_implementation_internal = "flash_attention_2"
    inputs = tiny.batch(live, [1])
    n = inputs["input_ids"].shape[1]
    with skipping(live, LATE):
        live(**inputs, position_ids=torch.tensor([[*range(4), *range(n - 4)]]))


def _cache(make: Callable[[Any], Any]) -> Callable[[Any], None]:
    def go(live: Any) -> None:
        with skipping(live, LATE):
            live(**tiny.batch(live, [1]), past_key_values=make(live))

    return go


def _quantised(live: Any) -> Any:
    # Made without the packages that quantise.
    cache = QuantizedCache.__new__(QuantizedCache)
    cache.layers, cache.offloading = [], False
    return cache


def _offloading(live: Any) -> Any:
    cache = DynamicCache()
    cache.offloading = True
    return cache


def _filled(live: Any) -> None:
    cache = live(**tiny.batch(live, [1])).past_key_values
    with skipping(live, LATE):
        live(input_ids=torch.tensor([[5]]), past_key_values=cache)


def _outside(live: Any) -> None:
    with skipping(live, LATE):
        cache = live(**tiny.batch(live, [1])).past_key_values
    live(input_ids=torch.tensor([[5]]), past_key_values=cache)


def _embeds(live: Any) -> None:
    with skipping(live, LATE):
        live(inputs_embeds=torch.zeros(1, 5, 32))


def _mask(live: Any) -> None:
    with skipping(live, LATE, vision_mask=torch.ones(1, 4, dtype=torch.bool)):
        live(inputs_embeds=torch.zeros(1, 5, 32))


def _part(live: Any) -> None:
    with skipping(live, LATE):
        language_model(live)(inputs_embeds=torch.zeros(1, 3, 32))


def _second(live: Any) -> None:
    with skipping(live, LATE), skipping(live, LATE):
        pass


def _other(live: Any) -> None:
    with skipping(live, SkipPlan(7, vision_entry=2)):
        pass


def _images(live: Any) -> None:
    inputs = tiny.batch(live, [2])
    with skipping(live, LATE):
        live(**{**inputs, "pixel_values": inputs["pixel_values"][:1]})


def _capture(live: Any) -> None:
    folder = Path(live.name_or_path).parent / "whole"
    live, processor = load(save_tiny_llava(folder))
    with skipping(live, SkipPlan(4, vision_entry=2)):
        next(capture(live, processor, mixed_rows()))


REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "model types without a file in `vlm/families`": (_no_file, "'mystery' is not supported"),
    "vision plans and `keep` on a text-only model": (_text_only, "is a text-only model"),
    "layers of linear, chunked or recurrent attention": (
        _linear,
        "layers of type linear_attention",
    ),
    "flex and paged attention, and other kernels from the hub": (
        _kernel,
        "do not support attn_implementation",
    ),
    "flash attention, where vision tokens are hidden from a model with sliding windows (Gemma 3)": (
        _flash_windows,
        "layers with a sliding window",
    ),
    "flash attention, several prompts packed into one row": (
        _flash_packed,
        "this row packs several",
    ),
    "`StaticCache`": (
        _cache(lambda live: StaticCache(config=live.config, max_cache_len=64)),
        "not with a StaticCache",
    ),
    "quantised caches": (_cache(_quantised), "not with a QuantizedCache"),
    "offloading caches": (_cache(_offloading), "not with an offloading DynamicCache"),
    "`EncoderDecoderCache` and other kinds": (
        _cache(lambda live: EncoderDecoderCache(DynamicCache(), DynamicCache())),
        "not with an EncoderDecoderCache",
    ),
    "a cache filled without the plan, or under another": (_filled, "filled without this plan"),
    "going on with a plan's cache outside its context": (_outside, "used without it"),
    "`inputs_embeds` without `vision_mask=`": (_embeds, "do not tell vision from text"),
    "a `vision_mask` of another shape": (_mask, "vision_mask has shape"),
    "the language model or a block called alone": (_part, "call the whole model"),
    "a second plan inside the first": (_second, "a plan is applied to this model already"),
    "a plan for another model type or number of layers": (_other, "7 decoder layers"),
    "images that do not match the placeholders": (_images, "do not match"),
    "VAR and vision effect under a plan": (_capture, "a skip plan is applied"),
}


def test_the_table_of_what_is_refused_is_complete() -> None:
    table = PAGE.split("## What is refused, and why")[1].split("\n## ")[0]
    lines = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if "|" in line]
    assert lines[2:] == list(REFUSED)


@pytest.mark.parametrize("what", REFUSED)
@torch.no_grad()
def test_what_the_page_says_is_refused(what: str, folder: Path) -> None:
    live = tiny.build("llava", folder)
    go, words = REFUSED[what]
    kind = ValueError if "images that" in what else VLMError
    with pytest.raises(kind, match=words) as error:
        go(live)
    assert "\n" not in str(error.value)
    again = tiny.build("llava", folder)
    inputs = tiny.batch(again, [1])
    assert vision_mask(again, inputs["input_ids"]).sum() == 9
    if what not in ("layers of linear, chunked or recurrent attention",):
        live.config.model_type = "llava"
        live.config.text_config._attn_implementation_internal = "sdpa"
        live.config.text_config.sliding_window = None
        assert torch.equal(live(**inputs).logits, again(**inputs).logits)
