"""Vision attention of single query rows against eager attention matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.vlm.capturing import N_HEADS, N_LAYERS, mixed_rows, save_tiny_llava
from vlm._errors import VLMError
from vlm.attention import attention_rows
from vlm.data import prepare


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def processor(folder):
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder)


def load(folder, attention, **options):
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(
        folder, attn_implementation=attention, **options
    ).eval()


def vision_of(model, inputs):
    return (inputs["input_ids"] == model.config.image_token_id) & inputs["attention_mask"].bool()


def eager_mass(folder, inputs, **options):
    """Attention mass on vision keys of every query: (batch, layers, heads, tokens)."""
    model = load(folder, "eager", **options)
    with torch.inference_mode():
        out = model(**inputs, output_attentions=True)
    vision = vision_of(model, inputs)
    return torch.stack(
        [(a.float() * vision[:, None, None, :]).sum(-1) for a in out.attentions], dim=1
    )


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("which", [slice(0, 1), slice(0, 5), slice(1, 3)])
def test_last_token_equals_eager(folder, processor, side, which):
    inputs, _ = prepare(processor, mixed_rows()[which], padding_side=side)
    model = load(folder, "sdpa")
    real = inputs["attention_mask"]
    with (
        torch.inference_mode(),
        attention_rows(model, vision_of(model, inputs), attention_mask=real) as watch,
        # The fused kernel rounds otherwise than eager attention, by a little more on some CPUs;
        # what is compared is the watcher.
        sdpa_kernel(SDPBackend.MATH),
    ):
        model(**inputs)
        found = watch.per_head
    assert found.shape == (len(real), N_LAYERS, N_HEADS, 1)
    assert found.dtype == torch.float32
    last = [int(np.flatnonzero(row)[-1]) for row in real.numpy()]
    expected = eager_mass(folder, inputs)
    for row, place in enumerate(last):
        torch.testing.assert_close(found[row, ..., 0], expected[row, ..., place], rtol=0, atol=2e-6)
    assert found[0].std() > 0.01  # the heads do differ


def test_chosen_rows_equal_eager_and_empty_places_are_nan(folder, processor):
    inputs, _ = prepare(processor, mixed_rows()[:2])
    model = load(folder, "sdpa")
    tokens = inputs["input_ids"].shape[1]
    rows = torch.tensor([[tokens - 1, tokens - 4, -1], [tokens - 2, 20, 3]])
    with torch.inference_mode(), attention_rows(model, vision_of(model, inputs), rows) as watch:
        model(**inputs)
        found = watch.per_head
    expected = eager_mass(folder, inputs)
    for row in range(2):
        for i, place in enumerate(rows[row].tolist()):
            if place < 0:
                assert found[row, ..., i].isnan().all()
            else:
                torch.testing.assert_close(
                    found[row, ..., i], expected[row, ..., place], rtol=0, atol=2e-6
                )


def test_many_rows_are_worked_on_in_parts(folder, processor, monkeypatch):
    inputs, _ = prepare(processor, mixed_rows()[:2])
    model = load(folder, "sdpa")
    tokens = inputs["input_ids"].shape[1]
    found = []
    for at_once in (3, 1000):
        monkeypatch.setattr("vlm.attention._ROWS_AT_ONCE", at_once)
        with (
            torch.inference_mode(),
            attention_rows(model, vision_of(model, inputs), range(tokens - 10, tokens)) as watch,
        ):
            model(**inputs)
            found.append(watch.per_head)
    torch.testing.assert_close(*found, rtol=0, atol=1e-6)


def test_bfloat16_rows_are_computed_in_float32(folder, processor):
    inputs, _ = prepare(processor, mixed_rows(), dtype=torch.bfloat16)
    model = load(folder, "sdpa", dtype=torch.bfloat16)
    with torch.inference_mode(), attention_rows(model, vision_of(model, inputs)) as watch:
        model(**inputs)
        found = watch.per_head[..., 0]
    expected = eager_mass(folder, inputs, dtype=torch.bfloat16)[..., -1]
    # The first layer sees the same inputs; eager itself rounds its weights to bfloat16.
    torch.testing.assert_close(found[:, 0], expected[:, 0], rtol=0, atol=2e-2)
    assert not torch.equal(found.bfloat16().float(), found)


@pytest.mark.parametrize("which", [slice(0, 1), slice(0, 5)])
def test_outputs_are_those_of_sdpa_to_the_bit(folder, processor, which):
    inputs, _ = prepare(processor, mixed_rows()[which])
    model = load(folder, "sdpa")
    with torch.inference_mode():
        plain = model(**inputs).logits
        with attention_rows(model, vision_of(model, inputs)):
            watched = model(**inputs).logits
        again = model(**inputs).logits
    assert torch.equal(plain, watched)
    assert torch.equal(plain, again)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_implementation_is_restored_also_by_an_error(folder, processor, attention):
    inputs, _ = prepare(processor, mixed_rows()[:1])
    model = load(folder, attention)
    decoder = model.model.language_model
    vision = vision_of(model, inputs)
    before = torch.stack([p.double().sum() for p in model.parameters()]).sum()

    def fail_in_the_middle():
        with attention_rows(model, vision):
            assert decoder.config._attn_implementation != attention
            assert model.model.vision_tower.config._attn_implementation == attention
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail_in_the_middle()
    assert decoder.config._attn_implementation == attention
    assert model.config._attn_implementation == attention
    assert torch.stack([p.double().sum() for p in model.parameters()]).sum() == before
    with torch.inference_mode(), attention_rows(model, vision) as watch:
        model(**inputs)
        assert watch.per_head.isfinite().all()


def test_decoding_steps_are_not_watched(folder, processor):
    inputs, _ = prepare(processor, mixed_rows()[:2])
    model = load(folder, "sdpa")
    vision = vision_of(model, inputs)
    with attention_rows(model, vision) as watch:
        model.generate(**inputs, max_new_tokens=1, do_sample=False)
        one = watch.per_head
        watch.watch(vision)
        model.generate(**inputs, max_new_tokens=5, do_sample=False)
        five = watch.per_head
    assert torch.equal(one, five)


def test_two_models_at_once_do_not_mix(folder, processor):
    inputs, _ = prepare(processor, mixed_rows()[:1])
    first, second = load(folder, "sdpa"), load(folder, "sdpa")
    vision = vision_of(first, inputs)
    with torch.inference_mode(), attention_rows(first, vision) as one:
        with attention_rows(second, vision) as two:
            first(**inputs)
            with pytest.raises(VLMError, match=r"no attention was seen in decoder layers \[0, 1"):
                _ = two.per_head
        assert one.per_head.isfinite().all()


def test_a_model_is_watched_once_at_a_time(folder, processor):
    inputs, _ = prepare(processor, mixed_rows()[:1])
    model = load(folder, "sdpa")
    with attention_rows(model, vision_of(model, inputs)) as watch:
        with pytest.raises(VLMError, match="already"), attention_rows(model):
            pass
        # The refused context has not disturbed the first.
        with torch.inference_mode():
            model(**inputs)
        assert watch.per_head.isfinite().all()


def test_rows_that_do_not_fit_are_refused(folder, processor):
    inputs, _ = prepare(processor, mixed_rows()[:1])
    model = load(folder, "sdpa")
    with (
        pytest.raises(VLMError, match="do not fit"),
        attention_rows(model, vision_of(model, inputs), [500]),
    ):
        pass
