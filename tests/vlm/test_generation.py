"""Every way to generate, on every family: the words of the masked reference without a cache."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import DynamicCache, pipeline
from transformers.generation.streamers import BaseStreamer

from tests.vlm import reference, tiny
from vlm import families
from vlm.model import decoder_layers, vision_token_ids
from vlm.plan import SkipPlan
from vlm.skip import skipping

N = 6
PLANS = {
    "both": SkipPlan(N, vision_entry=1, vision_exit=4),
    "everything": SkipPlan(N, vision_entry=1, vision_exit=5, vision_off=(3,), drop_layers=(0, 2)),
}
# What is only another way to the same words has no place in the reference.
MODES: dict[str, dict[str, Any]] = {
    "beams": {"num_beams": 3},
    "beams returned": {"num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "num_return_sequences": 3, "top_k": 20},
    "penalty": {"repetition_penalty": 1.5},
    "prompt lookup": {"prompt_lookup_num_tokens": 3},
    "chunks": {"prefill_chunk_size": 12},
    "assistant": {"assistant_model": None},
}
SAME_WORDS = ("prompt_lookup_num_tokens", "prefill_chunk_size", "assistant_model")
BY_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def _quiet(live: Any, n: int) -> dict[str, Any]:
    """Options of a greedy run that never says a placeholder."""
    return {
        "do_sample": False,
        "max_new_tokens": n,
        "suppress_tokens": list(vision_token_ids(live)),
        "pad_token_id": tiny.PAD,
        "eos_token_id": None,
    }


def _generate(live: Any, inputs: dict[str, Any], **options: Any) -> list[list[int]]:
    torch.manual_seed(1)
    out: list[list[int]] = live.generate(**inputs, **{**_quiet(live, 10), **options}).tolist()
    return out


def _in_short_run(family: str, plan: str, mode: str) -> bool:
    """LLaVA generates in every way; each way meets two further families, and both plans."""
    if family == "llava":
        return plan == "everything"
    turn = families.names().index(family) + list(MODES).index(mode)
    return turn % 5 == 0 and plan == list(PLANS)[turn % 2]


@pytest.mark.parametrize(
    ("family", "plan", "mode"),
    [
        pytest.param(
            family, plan, mode, marks=() if _in_short_run(family, plan, mode) else pytest.mark.slow
        )
        for family in families.names()
        for plan in PLANS
        for mode in MODES
    ],
)
@torch.no_grad()
def test_the_words_are_those_of_the_reference(
    family: str, plan: str, mode: str, folder: Path
) -> None:
    live, options = tiny.build(family, folder), dict(MODES[mode])
    alone = not set(SAME_WORDS).isdisjoint(options)
    inputs = tiny.batch(live, [2] if alone else [1, 2])
    slow = {key: value for key, value in options.items() if key not in SAME_WORDS}
    if mode == "assistant":
        options["assistant_model"] = tiny.build(family, folder)
    token, prompt = vision_token_ids(live)[0], inputs["input_ids"].shape[1]
    with reference.masked(live, decoder_layers(live), PLANS[plan], token, prompt):
        expected = _generate(live, inputs, **slow, use_cache=False)
    with skipping(live, PLANS[plan]):
        assert _generate(live, inputs, **options) == expected


def _joined(*turns: dict[str, Any]) -> dict[str, Any]:
    names = dict.fromkeys(name for turn in turns for name in turn)
    return {
        name: torch.cat([turn[name] for turn in turns if name in turn], dim=int(name in BY_TOKEN))
        for name in names
    }


@pytest.mark.parametrize("family", families.names())
@torch.no_grad()
def test_a_conversation_goes_on_with_another_image(family: str, folder: Path) -> None:
    """An image, an answer, a further image: as if all had been there from the start."""
    live, plan = tiny.build(family, folder), PLANS["everything"]
    first = tiny.batch(live, [1], text=[6], seed=1)
    second = tiny.batch(live, [1], text=[5], seed=2)
    with skipping(live, plan):
        cache = DynamicCache(config=live.config)
        said = live.generate(**first, **_quiet(live, 4), past_key_values=cache)
        answer = said[:, first["input_ids"].shape[1] :]
        middle = {
            "input_ids": answer,
            "attention_mask": torch.ones_like(answer),
            "mm_token_type_ids": torch.zeros_like(answer),
            "token_type_ids": torch.zeros_like(answer),
        }
        whole = _joined(first, {name: middle[name] for name in first if name in middle}, second)
        n = cache.get_seq_length()
        given = {"input_ids": whole["input_ids"][:, n:], "attention_mask": whole["attention_mask"]}
        given |= {name: second[name] for name in second if name not in BY_TOKEN}
        if "mm_token_type_ids" in whole:
            given["mm_token_type_ids"] = whole["mm_token_type_ids"][:, n:]
        if "token_type_ids" in whole:
            # Gemma 3 lets an image see itself both ways, and looks up images from the very start.
            given["token_type_ids"] = whole["token_type_ids"]
        if hasattr(live.model, "get_rope_index"):
            # Angles in time, height and width depend on all images before; callers give them.
            names = ("input_ids", "image_grid_thw", "mm_token_type_ids", "attention_mask")
            where, _ = live.model.get_rope_index(**{name: whole[name] for name in names})
            given["position_ids"] = where[..., n:]
        got = live(**given, past_key_values=cache).logits
    token, prompt = vision_token_ids(live)[0], whole["input_ids"].shape[1]
    with reference.masked(live, decoder_layers(live), plan, token, prompt):
        expected = live(**whole, use_cache=False).logits[:, n:]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


# Qwen's models compute positions from all images of a conversation; callers of forward give them.
@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=() if name in ("llava", "gemma3") else pytest.mark.slow)
        for name in families.names()
        if not name.startswith("qwen")
    ],
)
@torch.no_grad()
def test_generate_answers_a_further_turn_about_a_further_image(family: str, folder: Path) -> None:
    """Three turns with an image each, as a chat calls generate: all the text, the new image."""
    live, plan = tiny.build(family, folder), PLANS["everything"]
    token, cache = vision_token_ids(live)[0], None
    turns = [tiny.batch(live, [1], text=[6 - i], seed=i) for i in range(3)]
    shown: dict[str, Any] = {}
    for turn in turns:
        shown = _joined(shown, turn)
        prompt = shown["input_ids"].shape[1]
        with reference.masked(live, decoder_layers(live), plan, token, prompt):
            expected = live.generate(**shown, **_quiet(live, 4), use_cache=False)
        given = {name: (shown if name in BY_TOKEN else turn)[name] for name in turn}
        with skipping(live, plan):
            cache = DynamicCache(config=live.config) if cache is None else cache
            said = live.generate(**given, **_quiet(live, 4), past_key_values=cache)
        assert said.tolist() == expected.tolist()
        answer = said[:, prompt:]
        middle = {name: torch.zeros_like(answer) for name in BY_TOKEN if name in shown}
        middle |= {"input_ids": answer, "attention_mask": torch.ones_like(answer)}
        shown = _joined(shown, middle)


@pytest.mark.parametrize(
    ("family", "prompt"),
    [
        ("llava_next", "<bos> w5 <image> w7 w8"),
        ("gemma3", "<bos> w5 <boi> w7 w8"),
        ("idefics3", "<bos> w5 <image> w7 w8"),
    ],
)
@torch.no_grad()
def test_the_pipeline_says_what_generate_says(family: str, prompt: str, folder: Path) -> None:
    live, processor = tiny.build(family, folder), tiny.processor(family)
    picture = Image.new("RGB", (48, 24), (200, 30, 90))
    inputs = processor(images=picture, text=prompt, return_tensors="pt")
    options = _quiet(live, 6)
    rows: list[int] = []
    with skipping(live, PLANS["both"]):
        new = live.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :]
        pipe = pipeline("image-text-to-text", model=live, processor=processor)
        mlp = decoder_layers(live)[0].mlp
        handle = mlp.register_forward_hook(lambda _, args, out: rows.append(out.shape[1]))
        [answer] = pipe(
            images=picture, text=prompt, generate_kwargs=options, return_full_text=False
        )
        handle.remove()
    assert answer["generated_text"].split() == processor.tokenizer.decode(new).split()
    assert rows[0] == (inputs["input_ids"] != vision_token_ids(live)[0]).sum()


class _Words(BaseStreamer):  # type: ignore[misc]  # transformers ships no types
    def __init__(self) -> None:
        self.said: list[int] = []
        self.ended = threading.Event()

    def put(self, value: torch.Tensor) -> None:
        self.said += value.flatten().tolist()

    def end(self) -> None:
        self.ended.set()


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_next", "smolvlm", "gemma3"])
def test_words_stream_from_another_thread(family: str, folder: Path) -> None:
    live = tiny.build(family, folder)
    inputs, streamer = tiny.batch(live, [2]), _Words()
    with skipping(live, PLANS["everything"]):
        words = _generate(live, inputs)
        thread = threading.Thread(
            target=live.generate, kwargs={**inputs, **_quiet(live, 10), "streamer": streamer}
        )
        thread.start()
        assert streamer.ended.wait(60)
        thread.join()
    assert streamer.said == words[0]
