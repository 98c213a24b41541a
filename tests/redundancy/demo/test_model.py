"""The architecture, its processor, and the packed forward pass that training skips vision with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from redundancy.demo.model import (
    N_LAYERS,
    N_VISION_TOKENS,
    answers,
    build_model,
    build_processor,
    load,
    prompt,
)
from redundancy.demo.packing import Encoder, Packed, decode, vision_window
from redundancy.demo.scenes import Scene, rows, scenes
from redundancy.demo.stages import pixel_values


@pytest.fixture(scope="module")
def processor() -> Any:
    return build_processor()


@pytest.fixture(scope="module")
def model(processor: Any) -> Any:
    return build_model(processor.tokenizer, seed=3)


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return scenes("choose", 4, seed=8)


def test_every_word_of_the_data_is_in_the_vocabulary(processor: Any) -> None:
    tokenizer = processor.tokenizer
    for row in rows("train", 100, seed=1):
        text = f"{prompt(processor, row['question'])} {row['answer']}"
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]
        for choice in row["choices"]:
            assert len(tokenizer(choice)["input_ids"]) == 1


def test_processor_pads_left_and_gives_the_image_its_36_tokens(processor: Any) -> None:
    picked = list(rows("choose", 1, seed=2))[:3]
    inputs = processor(
        text=[prompt(processor, row["question"]) for row in picked],
        images=[row["image"] for row in picked],
        padding=True,
        return_tensors="pt",
    )
    image = inputs["input_ids"] == processor.image_token_id
    assert image.sum(dim=1).tolist() == [N_VISION_TOKENS] * 3
    assert inputs["attention_mask"][:, -1].all()
    assert not inputs["attention_mask"][:, 0].all()


def test_training_sees_the_pixels_the_processor_makes(processor: Any, drawn: list[Scene]) -> None:
    from PIL import Image

    pictures = [Image.fromarray(scene.image) for scene in drawn]
    expected = processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixel_values([scene.image for scene in drawn]), expected)


def test_same_seed_same_weights_and_the_callers_random_state_is_kept(processor: Any) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    a, b = (build_model(processor.tokenizer, seed=5).state_dict() for _ in range(2))
    torch.testing.assert_close(torch.rand(3), expected)
    other = build_model(processor.tokenizer, seed=6).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["lm_head.weight"], other["lm_head.weight"])


def _vision(model: Any, drawn: list[Scene]) -> torch.Tensor:
    states = model.model.vision_tower(pixel_values([s.image for s in drawn])).last_hidden_state
    projected: torch.Tensor = model.model.multi_modal_projector(states[:, 1:])
    return projected


def test_packed_questions_have_the_logits_of_each_asked_alone(
    model: Any, processor: Any, drawn: list[Scene]
) -> None:
    from PIL import Image

    packed = Encoder(processor).pack([s.questions for s in drawn], N_VISION_TOKENS)
    with torch.inference_mode():
        found = decode(model, packed, _vision(model, drawn), vision_window(N_LAYERS))
        alone = []
        for scene in drawn:
            for q in scene.questions:
                inputs = processor(
                    text=f"{prompt(processor, q.question)} {q.answer}",
                    images=Image.fromarray(scene.image),
                    return_tensors="pt",
                )
                alone.append(model(**inputs).logits[0, -2:])
    torch.testing.assert_close(found, torch.stack(alone), atol=1e-5, rtol=1e-5)


def _reference(model: Any, packed: Packed, vision: torch.Tensor, active: list[bool]) -> Any:
    """Skipping by the book: every layer runs on all tokens; an inactive one hides the vision keys
    and its result on the vision rows is thrown away."""
    decoder = model.model.language_model
    is_vision = torch.zeros(packed.tokens.shape[1], dtype=torch.bool)
    is_vision[packed.n_prefix : packed.n_prefix + packed.n_vision] = True
    states = decoder.embed_tokens(torch.from_numpy(packed.tokens))
    states[:, is_vision] = vision
    rotary = decoder.rotary_emb(states, position_ids=torch.from_numpy(packed.positions))
    for layer, sees_vision in zip(decoder.layers, active, strict=True):
        visible = torch.from_numpy(packed.visible)[:, None].clone()
        if not sees_vision:
            visible[..., is_vision] = False
            visible[:, :, is_vision, 0] = True  # no row without a key: those rows are discarded
        mask = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)
        moved = layer(states, attention_mask=mask, position_embeddings=rotary)
        keep = is_vision & (not sees_vision)
        states = torch.where(keep[None, :, None], states, moved)
    at = torch.from_numpy(packed.at)
    ends = torch.stack([states[at[:, 0], at[:, 1]], states[at[:, 0], at[:, 1] + 1]], dim=1)
    return model.lm_head(decoder.norm(ends))


@pytest.mark.parametrize(
    "active",
    [
        vision_window(N_LAYERS, entry=2),
        vision_window(N_LAYERS, exit=5),
        vision_window(N_LAYERS, entry=1, exit=6),
        [layer % 3 != 1 for layer in range(N_LAYERS)],
        [False] * N_LAYERS,
    ],
)
def test_skipping_is_identity_and_removal(
    model: Any, processor: Any, drawn: list[Scene], active: list[bool]
) -> None:
    packed = Encoder(processor).pack([s.questions for s in drawn], N_VISION_TOKENS)
    with torch.inference_mode():
        vision = _vision(model, drawn)
        found = decode(model, packed, vision, active)
        expected = _reference(model, packed, vision, active)
        full = decode(model, packed, vision, vision_window(N_LAYERS))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - full).abs().max() > 1e-3, "skipping changes the logits"


def test_saved_model_loads_plainly_and_answers_alike(
    model: Any, processor: Any, drawn: list[Scene], tmp_path: Path
) -> None:
    from PIL import Image

    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, loaded_processor = load(tmp_path)
    assert type(loaded) is type(model)
    assert type(loaded_processor) is type(processor)
    questions = [q.question for s in drawn for q in s.questions]
    pictures = [Image.fromarray(s.image) for s in drawn for _ in s.questions]
    given = answers(loaded, loaded_processor, questions, pictures, batch_size=7)
    assert given == answers(model, processor, questions, pictures, batch_size=20)
    blind = answers(loaded, loaded_processor, questions, None)
    assert len(blind) == len(questions)


def test_window_is_empty_where_it_ends_before_it_starts() -> None:
    assert vision_window(3, entry=3) == vision_window(3, exit=0) == [False] * 3
    assert np.sum(vision_window(8, entry=2, exit=5)) == 3
