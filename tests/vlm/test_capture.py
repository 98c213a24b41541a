"""The capture stream against the library's own outputs and against brute force."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from tests.vlm.capturing import (
    N_HEADS,
    N_LAYERS,
    N_VISION,
    mixed_rows,
    save_tiny_llava,
    tiny_processor,
)
from vlm._errors import VLMError
from vlm.capture import capture, subsample
from vlm.data import prepare
from vlm.plan import SkipPlan
from vlm.skip import skipping


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_llava(tmp_path_factory.mktemp("llava"))


def load(folder, **options):
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, **options).eval()


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


@pytest.fixture(scope="module")
def processor(folder):
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def samples(model, processor):
    return list(
        capture(model, processor, mixed_rows(), tokens="all", vision_effect=True, batch_size=3)
    )


def alone(model, processor, row):
    """One row without padding through the library: inputs and its own hidden states."""
    inputs, _ = prepare(processor, [row])
    with torch.inference_mode():
        return inputs, model(**inputs, output_hidden_states=True)


def n_hooks(model):
    # The library keeps hooks of its own in the vision tower.
    modules = model.model.language_model.modules()
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


def test_states_are_those_of_the_library(model, processor, samples):
    for row, sample in zip(mixed_rows(), samples, strict=True):
        inputs, out = alone(model, processor, row)
        vision = inputs["input_ids"][0] == model.config.image_token_id
        norm = model.model.language_model.norm
        for modality, mask in (("vision", vision), ("text", ~vision)):
            places = np.flatnonzero(mask.numpy())
            np.testing.assert_array_equal(sample.positions[modality], places)
            states = torch.from_numpy(sample.states[modality])
            assert states.shape == (N_LAYERS + 1, len(places), 32)
            for layer in range(N_LAYERS):
                expected = out.hidden_states[layer][0, mask]
                torch.testing.assert_close(states[layer], expected, rtol=2e-4, atol=2e-4)
            # The library's last hidden state is after the final norm; ours is before it.
            last = out.hidden_states[-1][0, mask]
            torch.testing.assert_close(norm(states[-1]), last, rtol=2e-4, atol=2e-4)
            if len(places):
                assert not torch.allclose(states[-1], last, atol=0.1)


def test_samples_describe_themselves(samples):
    assert [s.id for s in samples] == list("abcde")
    assert [s.n_vision for s in samples] == [N_VISION, 2 * N_VISION, 0, N_VISION, N_VISION]
    for sample in samples:
        counts = {name: s.n_tokens for name, s in sample.statistics.items()}
        assert counts == {"vision": sample.n_vision, "text": sample.n_keys - sample.n_vision}
        assert sample.layers == tuple(range(N_LAYERS + 1))
    # Rows a and d show the same picture, so they depend on each other.
    assert samples[0].group == samples[3].group
    assert len({s.group for s in samples}) == 4


def test_statistics_are_those_of_the_states(samples):
    for sample in samples:
        for modality, states in sample.states.items():
            found = sample.statistics[modality]
            x = states.astype(np.float64)
            unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
            rho = 1.0 - np.einsum("ikd,jkd->ij", unit, unit) / max(1, x.shape[1])
            np.testing.assert_allclose(
                found.rho_sum, rho * x.shape[1] * (x.shape[1] > 0), rtol=1e-4, atol=1e-4
            )
            np.testing.assert_allclose(found.sq_norm, (x**2).sum((1, 2)), rtol=1e-5)
            step = ((x[1:] - x[:-1]) ** 2).sum((1, 2))
            np.testing.assert_allclose(found.sq_dist_adjacent, step, rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_batch_matters_to_rounding_only(model, processor, samples, batch_size):
    again = capture(
        model, processor, mixed_rows(), tokens="all", vision_effect=True, batch_size=batch_size
    )
    for one, other in zip(samples, again, strict=True):
        for modality in one.statistics:
            a, b = one.statistics[modality], other.statistics[modality]
            np.testing.assert_allclose(a.rho_sum, b.rho_sum, rtol=1e-3, atol=1e-4)
            np.testing.assert_array_equal(one.positions[modality], other.positions[modality])
        np.testing.assert_allclose(one.var_per_head, other.var_per_head, atol=1e-4)
        np.testing.assert_allclose(one.vision_effect, other.vision_effect, rtol=1e-3, atol=1e-3)
        assert one.row == other.row


def test_the_next_batch_leaves_the_samples_of_the_last_alone(model, processor):
    """Batches share the memory of their states, and come in several lengths."""
    rows = mixed_rows()
    together = list(capture(model, processor, rows, tokens="all", batch_size=1))
    for row, sample in zip(rows, together, strict=True):
        [alone] = capture(model, processor, [row], tokens="all")
        for name in sample.states:
            np.testing.assert_array_equal(sample.states[name], alone.states[name])
            np.testing.assert_array_equal(
                sample.statistics[name].rho_sum, alone.statistics[name].rho_sum
            )


def test_vision_attention_is_that_of_the_last_prompt_token(folder, processor, samples):
    eager = load(folder, attn_implementation="eager")
    for row, sample in zip(mixed_rows(), samples, strict=True):
        inputs, _ = prepare(processor, [row])
        with torch.inference_mode():
            out = eager(**inputs, output_attentions=True)
        vision = inputs["input_ids"][0] == eager.config.image_token_id
        expected = torch.stack([a[0, :, -1, vision].sum(-1) for a in out.attentions])
        assert sample.var_per_head.shape == (N_LAYERS, N_HEADS)
        np.testing.assert_allclose(sample.var_per_head, expected.numpy(), atol=1e-4)
    assert (samples[2].var_per_head == 0).all()


def test_vision_attention_of_all_text_after_vision(folder, model, processor, samples):
    eager = load(folder, attn_implementation="eager")
    found = capture(model, processor, mixed_rows(), var="text", batch_size=3)
    for row, before, sample in zip(mixed_rows(), samples, found, strict=True):
        inputs, _ = prepare(processor, [row])
        with torch.inference_mode():
            out = eager(**inputs, output_attentions=True)
        vision = inputs["input_ids"][0] == eager.config.image_token_id
        after = ~vision & (vision.cumsum(0) > 0)
        mass = torch.stack([a[0, :, after][..., vision].sum(-1) for a in out.attentions])
        expected = mass.mean(-1).nan_to_num(0.0)
        np.testing.assert_allclose(sample.var_text_per_head, expected.numpy(), atol=1e-4)
        np.testing.assert_allclose(sample.var_per_head, before.var_per_head, atol=1e-6)
        assert before.var_text_per_head is None


def test_vision_effect_equals_a_block_with_vision_masked_out(model, processor, samples):
    """delta_l by hand: the whole block under a 4D mask that hides vision keys from text."""
    decoder = model.model.language_model
    for row, sample in zip(mixed_rows(), samples, strict=True):
        inputs, out = alone(model, processor, row)
        vision = inputs["input_ids"][0] == model.config.image_token_id
        tokens = len(vision)
        place = torch.arange(tokens)
        hidden_keys = vision[None, :] & ~torch.eye(tokens, dtype=torch.bool)
        mask = (place[None, :] <= place[:, None]) & ~hidden_keys
        states = [*out.hidden_states[:-1]]
        for layer, block in enumerate(decoder.layers):
            rotary = decoder.rotary_emb(states[layer], place[None])
            given = {"position_embeddings": rotary, "position_ids": place[None]}
            with torch.inference_mode():
                true = block(states[layer], attention_mask=None, **given)
                without = block(states[layer], attention_mask=mask[None, None], **given)
            change = (true - without)[0, ~vision].norm(dim=-1)
            size = true[0, ~vision].norm(dim=-1)
            expected = [change.norm(), change[-1]]
            np.testing.assert_allclose(sample.vision_effect[layer], expected, rtol=2e-3, atol=2e-3)
            np.testing.assert_allclose(sample.text_norm[layer], [size.norm(), size[-1]], rtol=1e-3)
        if sample.n_vision:
            assert (sample.vision_effect > 0.01).all()
        else:
            assert (sample.vision_effect == 0).all()
        relative = sample.relative_vision_effect
        np.testing.assert_allclose(relative * sample.text_norm, sample.vision_effect, rtol=1e-5)


def test_vision_effect_and_var_change_nothing_else(model, processor, samples):
    bare = list(capture(model, processor, mixed_rows(), var=False, batch_size=3))
    for one, other in zip(samples, bare, strict=True):
        assert other.var_per_head is None
        assert other.vision_effect is None
        assert other.relative_vision_effect is None
        assert one.row == other.row
        for modality in one.statistics:
            np.testing.assert_array_equal(
                one.statistics[modality].rho_sum, other.statistics[modality].rho_sum
            )


def test_predictions_are_greedy(model, processor, samples):
    for row, sample in zip(mixed_rows(), samples, strict=True):
        inputs, _ = prepare(processor, [row])
        new = model.generate(**inputs, max_new_tokens=16, do_sample=False)
        text = processor.decode(new[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        if "choices" in row:
            with torch.inference_mode():
                logits = model(**inputs).logits[0, -1]
            ids = [processor.tokenizer.convert_tokens_to_ids(c) for c in row["choices"]]
            expected = row["choices"][int(logits[ids].argmax())]
        else:
            expected = text.strip()
        assert sample.row["prediction"] == expected
        assert ("correct" in sample.row) == ("answer" in row)
        if "answer" in row:
            accepted = [row["answer"]] if isinstance(row["answer"], str) else row["answer"]
            assert sample.row["correct"] == (expected in accepted)
        assert "images" not in sample.row
        assert sample.row["question"] == row["question"]


def test_predict_false_says_nothing_about_answers(model, processor):
    [sample] = capture(model, processor, mixed_rows()[1:2], predict=False)
    assert "prediction" not in sample.row
    assert sample.row["answer"] == "two"


def test_the_subsample_depends_on_seed_sample_and_modality_alone(model, processor, samples):
    def kept(**options):
        return list(capture(model, processor, mixed_rows(), tokens=4, var=False, **options))

    first, regrouped = kept(batch_size=4), kept(batch_size=2, modalities=["text", "vision"])
    reseeded = kept(seed=1)
    for one, other, whole in zip(first, regrouped, samples, strict=True):
        for modality in ("vision", "text"):
            places = one.positions[modality]
            np.testing.assert_array_equal(places, other.positions[modality])
            assert len(places) == min(4, whole.statistics[modality].n_tokens)
            at = np.searchsorted(whole.positions[modality], places)
            np.testing.assert_allclose(
                one.states[modality], whole.states[modality][:, at], rtol=1e-3, atol=1e-3
            )
    assert any(
        not np.array_equal(a.positions["vision"], b.positions["vision"])
        for a, b in zip(first, reseeded, strict=True)
    )


def test_subsample_is_pinned():
    # Stores written by different processes and versions must agree about who was drawn.
    drawn = subsample(576, 5, seed=0, sample="a", modality="vision")
    assert drawn.tolist() == [237, 474, 497, 506, 563]
    assert set(drawn) < set(subsample(576, 9, seed=0, sample="a", modality="vision"))


def test_subsample_is_uniform():
    counts = np.zeros(10)
    for i in range(2000):
        counts[subsample(10, 3, seed=0, sample=str(i), modality="text")] += 1
    # Each token is drawn 600 times of 2000 in expectation, standard deviation 20.5.
    assert np.abs(counts - 600).max() < 5 * 20.5


def test_chosen_layers_and_one_modality(model, processor, samples):
    [sample, *_] = capture(
        model, processor, mixed_rows(), tokens="all", layers=[4, 1], modalities=["vision"]
    )
    assert sample.layers == (1, 4)
    assert set(sample.states) == set(sample.statistics) == {"vision"}
    np.testing.assert_allclose(
        sample.states["vision"], samples[0].states["vision"][[1, 4]], rtol=1e-3, atol=1e-3
    )
    assert sample.statistics["vision"].rho_sum.shape == (N_LAYERS + 1, N_LAYERS + 1)


def test_bfloat16_states_stay_bfloat16(folder, processor):
    half = load(folder, dtype=torch.bfloat16)
    out = list(capture(half, processor, mixed_rows(), tokens=3, vision_effect=True))
    for sample in out:
        assert sample.states["text"].dtype == ml_dtypes.bfloat16
        assert np.isfinite(sample.states["text"].astype(np.float32)).all()
        assert np.isfinite(sample.vision_effect).all()


def test_skipped_samples_and_progress(model, processor):
    calls = []
    out = capture(
        model,
        processor,
        mixed_rows(),
        batch_size=2,
        skip_ids={"a", "d"},
        progress=lambda done, total: calls.append((done, total)),
    )
    assert [s.id for s in out] == ["b", "c", "e"]
    assert calls == [(3, 5), (5, 5)]


def test_progress_reaches_the_end_where_nothing_is_left_to_do(model, processor):
    calls = []
    rows = mixed_rows()
    out = capture(
        model, processor, rows, skip_ids=set("abcde"), progress=lambda *call: calls.append(call)
    )
    assert list(out) == []
    assert calls == [(5, 5)]
    stream = capture(
        model, processor, iter(rows), var=False, progress=lambda *call: calls.append(call)
    )
    assert len(list(stream)) == 5
    assert calls == [(5, 5), (5, None)]


def test_the_settings_of_the_checkpoint_do_not_bend_the_argmax(folder, processor, samples, recwarn):
    model = load(folder)
    model.generation_config.update(
        do_sample=True, temperature=0.1, top_p=0.5, top_k=3, repetition_penalty=9.0, num_beams=3
    )
    again = list(capture(model, processor, mixed_rows(), batch_size=3))
    assert [s.row["prediction"] for s in again] == [s.row["prediction"] for s in samples]
    assert not recwarn


def test_the_model_is_free_between_samples_and_after(model, processor):
    before = n_hooks(model)
    stream = capture(model, processor, mixed_rows(), batch_size=2)
    next(stream)
    assert n_hooks(model) == before
    assert model.model.language_model.config._attn_implementation == "sdpa"
    assert not torch.is_inference_mode_enabled()
    stream.close()
    assert n_hooks(model) == before


def test_an_error_leaves_the_model_as_it_was(folder, processor):
    model = load(folder, attn_implementation="eager")
    before = n_hooks(model)
    with torch.no_grad():
        model.model.language_model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(
        VLMError, match=r"NaN or infinite values .* layer 2, vision tokens of .*'a'"
    ):
        next(capture(model, processor, mixed_rows(), vision_effect=True))
    handle = model.model.language_model.layers[2].register_forward_hook(
        lambda *_: (_ for _ in ()).throw(RuntimeError("in the middle"))
    )
    with pytest.raises(RuntimeError, match="in the middle"):
        next(capture(model, processor, mixed_rows()))
    handle.remove()
    assert n_hooks(model) == before
    assert model.model.language_model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": -1}, "number of tokens"),
        ({"tokens": "some"}, "number of tokens"),
        ({"modalities": ["audio"]}, "'vision' and 'text'"),
        ({"modalities": "vision"}, "'vision' and 'text'"),
        ({"modalities": []}, "'vision' and 'text'"),
        ({"var": "all"}, "True, False or 'text'"),
        ({"layers": [0, 5]}, "layers 0 to 4"),
        ({"layers": []}, "layers 0 to 4"),
        ({"thresholds": [3.0]}, "threshold 3 is out of range"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
    ],
)
def test_unusable_settings_are_refused_at_the_call(model, processor, options, message):
    with pytest.raises(VLMError, match=message):
        capture(model, processor, mixed_rows(), **options)


def test_training_mode_is_refused(folder, processor):
    with pytest.raises(VLMError, match=r"model\.eval\(\)"):
        capture(load(folder).train(), processor, mixed_rows())


def test_a_processor_that_writes_too_few_placeholders_is_refused(model):
    processor = tiny_processor()
    processor.num_additional_image_tokens = 0
    with pytest.raises(VLMError, match=r"placeholders of the prompt do not match .*sample 'a'"):
        next(capture(model, processor, mixed_rows()))


def test_under_a_plan_states_can_be_captured_but_no_attention(model, processor, samples):
    with skipping(model, SkipPlan(N_LAYERS, vision_entry=2)):
        out = list(capture(model, processor, mixed_rows(), var=False))
        for options in ({}, {"var": False, "vision_effect": True}):
            with pytest.raises(VLMError, match="a skip plan is applied"):
                next(capture(model, processor, mixed_rows(), **options))
    for sample, whole in zip(out, samples, strict=True):
        rho = sample.statistics["vision"].rho_sum
        # Vision passes the first two blocks unchanged.
        assert (rho[:3, :3] == 0).all()
        if sample.n_vision:
            assert rho[0, 3] > 0
            assert not np.allclose(rho, whole.statistics["vision"].rho_sum, atol=0.1)


@pytest.mark.gpu
def test_a_gpu_says_what_the_cpu_says(folder, processor, samples):
    model = load(folder).to("cuda")
    out = capture(model, processor, mixed_rows(), tokens="all", vision_effect=True, batch_size=3)
    for one, other in zip(samples, out, strict=True):
        for modality in one.statistics:
            a, b = one.statistics[modality], other.statistics[modality]
            np.testing.assert_allclose(a.rho_sum, b.rho_sum, rtol=1e-3, atol=1e-3)
            np.testing.assert_array_equal(one.positions[modality], other.positions[modality])
        np.testing.assert_allclose(one.var_per_head, other.var_per_head, atol=1e-3)
        np.testing.assert_allclose(one.vision_effect, other.vision_effect, rtol=1e-2, atol=1e-2)
