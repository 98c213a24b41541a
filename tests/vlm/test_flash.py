"""Plans under flash attention: the library's own path, its kernels emulated (see `flash`)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.modeling_flash_attention_utils as library
from transformers import DynamicCache

from tests.vlm import flash, reference, tiny
from tests.vlm.test_text_only import build as text_only
from vlm import families
from vlm._errors import VLMError
from vlm.keep import Step
from vlm.model import decoder_layers, vision_mask, vision_token_ids
from vlm.plan import SkipPlan
from vlm.skip import skipping

N = 6
PLANS = {
    "late": SkipPlan(N, vision_entry=2),
    "everything": SkipPlan(N, vision_entry=1, vision_exit=5, vision_off=(3,), drop_layers=(0, 2)),
}
BATCHES = {
    "one": ([1], "left"),
    "several": ([1, 3, 2], "left"),
    "right": ([2, 1], "right"),
    "with and without": ([0, 2, 1, 0], "left"),
}
FULL = [name for name in families.names() if name != "gemma3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kernels that ran, in their order."""
    flash.install(monkeypatch)
    ran: list[str] = []

    def noting(kernel: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            ran.append(kernel.__name__)
            return kernel(*args, **kwargs)

        return run

    for name in ("_flash_fn", "_flash_varlen_fn"):
        monkeypatch.setattr(library, name, noting(getattr(library, name)))
    return ran


def _both(family: str, folder: Path) -> tuple[Any, Any]:
    """One model twice: with SDPA for the reference, and with flash attention."""
    return tiny.build(family, folder), flash.switch_on(tiny.build(family, folder))


def _quiet(live: Any, n: int = 16) -> dict[str, Any]:
    return {
        "do_sample": False,
        "max_new_tokens": n,
        "suppress_tokens": list(vision_token_ids(live)),
        "pad_token_id": tiny.PAD,
        "eos_token_id": None,
    }


@pytest.mark.parametrize(
    ("family", "rows", "plan"),
    [
        pytest.param(
            family, rows, plan, marks=() if (i + j) % 4 == 0 and j % 2 == k else pytest.mark.slow
        )
        for i, family in enumerate(FULL)
        for j, rows in enumerate(BATCHES)
        for k, plan in enumerate(PLANS)
    ],
)
@torch.no_grad()
def test_logits_and_words_are_those_of_the_masked_reference(
    family: str, rows: str, plan: str, folder: Path, kernels: list[str]
) -> None:
    slow, live = _both(family, folder)
    images, padding = BATCHES[rows]
    inputs = tiny.batch(slow, images, padding=padding)
    real = inputs["attention_mask"].bool()
    token, prompt = vision_token_ids(slow)[0], real.shape[1]
    layers = decoder_layers(slow)
    with reference.masked(slow, layers, PLANS[plan], token, prompt):
        expected = slow(**inputs, use_cache=False).logits
    assert not kernels
    with skipping(live, PLANS[plan]):
        out = live(**inputs)
    assert len(kernels) == sum(PLANS[plan].runs(layer) for layer in range(N))
    torch.testing.assert_close(out.logits[real], expected[real], atol=1e-4, rtol=0)
    if padding == "left":
        with reference.masked(slow, layers, PLANS[plan], token, prompt):
            words = slow.generate(**inputs, **_quiet(slow), use_cache=False)
        with skipping(live, PLANS[plan]):
            assert live.generate(**inputs, **_quiet(live)).tolist() == words.tolist()


@torch.no_grad()
def test_one_row_with_gaps_is_not_taken_for_several_sequences(
    folder: Path, kernels: list[str]
) -> None:
    """Packed rows keep their positions; the kernel for packed sequences must not see them."""
    slow, live = _both("llava", folder)
    inputs = tiny.batch(slow, [2])
    with skipping(slow, PLANS["late"]):
        expected = slow(**inputs).logits
    with skipping(live, PLANS["late"]):
        got = live(**inputs).logits
    assert set(kernels) == {"flash_attn_func"}
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True, "num_return_sequences": 2, "top_k": 20},
        {"prompt_lookup_num_tokens": 3},
        {"prefill_chunk_size": 12},
    ],
    ids=["beams", "sampling", "prompt lookup", "chunks"],
)
@torch.no_grad()
def test_every_way_to_generate(options: dict[str, Any], folder: Path) -> None:
    slow, live = _both("llava", folder)
    alone = not {"prompt_lookup_num_tokens", "prefill_chunk_size"}.isdisjoint(options)
    inputs = tiny.batch(slow, [2] if alone else [1, 2])
    found = []
    for model in (slow, live):
        torch.manual_seed(1)
        with skipping(model, PLANS["everything"]):
            found.append(model.generate(**inputs, **{**_quiet(model, 10), **options}).tolist())
    assert found[0] == found[1]


@torch.no_grad()
def test_a_rule_chooses_tokens(folder: Path) -> None:
    def every_other(step: Step) -> torch.Tensor:
        return step.vision & (step.vision.cumsum(1) % 2 == step.layer % 2)

    slow, live = _both("qwen2_5_vl", folder)
    inputs = tiny.batch(slow, [1, 2, 0])
    real = inputs["attention_mask"].bool()
    with skipping(slow, SkipPlan(N, vision_entry=1), keep=every_other):
        expected, words = slow(**inputs).logits, slow.generate(**inputs, **_quiet(slow))
    with skipping(live, SkipPlan(N, vision_entry=1), keep=every_other):
        got = live(**inputs).logits
        assert torch.equal(live.generate(**inputs, **_quiet(live)), words)
    torch.testing.assert_close(got[real], expected[real], atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_conversation_goes_on_with_another_image(folder: Path) -> None:
    """The second turn's queries are fewer than its keys, rows of both turns have been left out."""
    slow, live = _both("llava", folder)
    plan, ends = PLANS["everything"], []
    first = tiny.batch(slow, [1, 2], text=[6, 8], seed=1)
    second = tiny.batch(slow, [2, 1], text=[5, 9], seed=2)
    mask = torch.cat([first["attention_mask"], second["attention_mask"]], dim=1)
    where = (mask.cumsum(-1) - 1).clamp(min=0)[:, -second["input_ids"].shape[1] :]
    for model in (slow, live):
        cache = DynamicCache()
        with skipping(model, plan):
            model(**first, past_key_values=cache)
            given = {**second, "attention_mask": mask, "position_ids": where}
            ends.append(model(**given, past_key_values=cache).logits)
    real = second["attention_mask"].bool()
    torch.testing.assert_close(ends[1][real], ends[0][real], atol=1e-4, rtol=0)


@pytest.mark.parametrize("model_type", ["mistral", "gemma2"])
@torch.no_grad()
def test_layers_are_dropped_from_models_with_windows(model_type: str) -> None:
    slow, live = (copy.deepcopy(text_only(model_type)) for _ in range(2))
    flash.switch_on(live)
    # The library's SDPA leaves out what Gemma 2 does to its scores.
    slow.set_attn_implementation("eager")
    inputs = {"input_ids": torch.randint(3, 60, (2, 24)), "attention_mask": torch.ones(2, 24)}
    inputs["attention_mask"][0, :4] = 0
    real = inputs["attention_mask"].bool()
    options = {"do_sample": False, "max_new_tokens": 8, "pad_token_id": 0, "eos_token_id": None}
    logits, words = [], []
    for model in (slow, live):
        with skipping(model, SkipPlan(N, drop_layers=(0, 3))):
            out = model(**inputs)
            word = torch.tensor([[5, 6], [7, 8]])
            more = torch.cat([inputs["attention_mask"], torch.ones(2, 2)], dim=1)
            where = (more.cumsum(-1) - 1).long()[:, -2:]
            later = model(
                input_ids=word,
                attention_mask=more,
                position_ids=where,
                past_key_values=out.past_key_values,
            )
            logits.append(torch.cat([out.logits[real], later.logits.flatten(0, 1)]))
            words.append(model.generate(**inputs, **options).tolist())
    torch.testing.assert_close(logits[1], logits[0], atol=1e-4, rtol=0)
    assert words[0] == words[1]


@torch.no_grad()
def test_windows_are_counted_in_keys_so_hidden_tokens_would_widen_them(folder: Path) -> None:
    live = flash.switch_on(tiny.build("gemma3", folder))
    with (
        pytest.raises(VLMError, match="sliding window.*load the model with 'sdpa' or 'eager'"),
        skipping(live, PLANS["late"]),
    ):
        pass


@pytest.mark.parametrize("how", ["positions", "lengths"])
@torch.no_grad()
def test_several_prompts_in_one_row_are_refused(how: str, folder: Path) -> None:
    live = flash.switch_on(tiny.build("llava", folder))
    inputs = tiny.batch(live, [1])
    n = inputs["input_ids"].shape[1]
    if how == "positions":
        more = {"position_ids": torch.cat([torch.arange(4), torch.arange(n - 4)])[None]}
    else:
        ends = torch.tensor([0, 4, n], dtype=torch.int32)
        more = dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), ends)
        more |= dict.fromkeys(("max_length_q", "max_length_k"), n - 4)
    expected = live(**inputs).logits
    with (
        skipping(live, PLANS["late"]),
        pytest.raises(VLMError, match="take one prompt per row, and this row packs several"),
    ):
        live(**inputs, **more)
    assert torch.equal(live(**inputs).logits, expected)
    vision = vision_mask(live, inputs["input_ids"])
    with skipping(live, PLANS["late"]):
        cache = live(**inputs, position_ids=torch.arange(n)[None]).past_key_values
    assert cache.layers[0].keys.shape[-2] == (~vision).sum()


@torch.no_grad()
def test_masks_that_flash_attention_does_not_know_are_refused(folder: Path) -> None:
    live = flash.switch_on(tiny.build("llava", folder))
    inputs = tiny.batch(live, [1])
    n = inputs["input_ids"].shape[1]
    inputs["attention_mask"] = torch.ones(1, 1, n, n, dtype=torch.bool).tril()
    with (
        skipping(live, PLANS["late"]),
        pytest.raises(VLMError, match=r"mask of padding .*take one of 4 dimensions"),
    ):
        live(**inputs)
