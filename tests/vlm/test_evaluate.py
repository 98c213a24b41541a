"""Answers and costs under a plan: right numbers, sample by sample, whatever the batches."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from tests.vlm.capturing import N_LAYERS, N_VISION, SIDE, save_tiny_llava
from vlm._errors import VLMError
from vlm.cache import cache_bytes
from vlm.data import prepare
from vlm.evaluate import evaluate, plans_of, sweep
from vlm.flops import prefill_flops
from vlm.keep import strongest
from vlm.model import load, text_config
from vlm.plan import SkipPlan
from vlm.skip import skipping

LATE = SkipPlan(N_LAYERS, vision_entry=2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return load(save_tiny_llava(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    from PIL import Image

    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(3)
    ]
    return [
        {"question": "is it red", "image": pictures[0], "answer": "yes", "choices": ["yes", "no"]},
        {"question": "is it green or blue ?", "image": pictures[0], "answer": "no"},
        {"question": "how many", "images": pictures[1:], "answer": ["two", "2"], "group": "b"},
        {"question": "is it", "answer": "yes"},
        {"question": "what and what", "image": pictures[2], "group": "b"},
    ]


def test_every_sample_has_its_own_numbers_whatever_the_batches(
    tiny: tuple[Any, Any], rows: list[dict[str, Any]]
) -> None:
    one = evaluate(*tiny, rows, LATE, batch_size=1, max_new_tokens=4)
    all_at_once = evaluate(*tiny, rows, LATE, batch_size=5, max_new_tokens=4)
    assert one.predictions == all_at_once.predictions
    np.testing.assert_allclose(one.nll, all_at_once.nll, atol=1e-4)
    for name in ("n_text", "n_vision", "prefill_flops", "kv_bytes", "correct"):
        np.testing.assert_array_equal(getattr(one, name), getattr(all_at_once, name))
    assert one.n_vision.tolist() == [N_VISION, N_VISION, 2 * N_VISION, 0, N_VISION]
    assert np.isnan(one.correct).tolist() == [False, False, False, False, True]
    assert np.isnan(one.nll).tolist() == np.isnan(one.correct).tolist()
    assert one.groups[0] == one.groups[1] != one.groups[2] == one.groups[4]
    assert one.predictions[0] in ("yes", "no")
    assert one.accuracy == one.correct[:4].mean()


def test_a_choice_is_scored_by_its_logit_and_an_answer_by_its_log_probability(
    tiny: tuple[Any, Any], rows: list[dict[str, Any]]
) -> None:
    model, processor = tiny
    with torch.no_grad(), skipping(model, LATE):
        inputs, _ = prepare(processor, rows[:1])
        logits = model(**inputs).logits[0, -1]
    yes, no = processor.tokenizer.convert_tokens_to_ids(["yes", "no"])
    found = evaluate(model, processor, rows[:1], LATE)
    assert found.predictions == ("yes" if logits[yes] > logits[no] else "no",)
    assert found.correct[0] == float(logits[yes] > logits[no])
    assert found.nll[0] == pytest.approx(-float(logits.log_softmax(-1)[yes]), abs=1e-5)
    assert not np.isnan(found.nll[0])
    assert np.isnan(evaluate(model, processor, rows[:1], nll=False).nll[0])


def test_bytes_are_those_of_the_cache(tiny: tuple[Any, Any], rows: list[dict[str, Any]]) -> None:
    model, processor = tiny
    for plan in (SkipPlan(N_LAYERS), LATE, SkipPlan(N_LAYERS, vision_exit=1, drop_layers=(3,))):
        inputs, _ = prepare(processor, rows[2:3])
        with torch.no_grad(), skipping(model, plan):
            held = cache_bytes(model(**inputs, use_cache=True).past_key_values)
        found = evaluate(model, processor, rows[2:3], plan, max_new_tokens=1, nll=False)
        assert found.kv_bytes[0] == held


def test_agreement_is_with_the_baseline(tiny: tuple[Any, Any], rows: list[dict[str, Any]]) -> None:
    baseline = evaluate(*tiny, rows, nll=False)
    assert baseline.agrees is None
    assert baseline.agreement is None
    assert evaluate(*tiny, rows, baseline=baseline, nll=False).agreement == 1.0
    nothing = SkipPlan(N_LAYERS, vision_exit=0)
    found = evaluate(*tiny, rows, nothing, baseline=baseline, nll=False)
    same = [a == b for a, b in zip(found.predictions, baseline.predictions, strict=True)]
    assert found.agrees is not None
    assert found.agrees.tolist() == [float(one) for one in same]
    assert found.agrees[3] == 1.0  # the row without an image
    with pytest.raises(VLMError, match="other samples"):
        evaluate(*tiny, rows[:2], baseline=baseline)


def test_a_sweep_is_its_plans_one_by_one(tiny: tuple[Any, Any], rows: list[dict[str, Any]]) -> None:
    seen: list[tuple[int, int | None]] = []
    curve = sweep(
        *tiny, rows, "late", nll=True, max_new_tokens=2, progress=lambda *a: seen.append(a)
    )
    assert [run.plan for run in curve] == plans_of("late", N_LAYERS)
    assert seen[-1] == (5 * (N_LAYERS + 1), 5 * (N_LAYERS + 1))
    assert curve[0].agreement == 1.0
    alone = evaluate(*tiny, rows, curve[2].plan, baseline=curve[0], max_new_tokens=2)
    assert alone.predictions == curve[2].predictions
    np.testing.assert_allclose(alone.nll, curve[2].nll)
    assert (np.diff([run.prefill_flops.sum() for run in curve]) < 0).all()
    chosen = sweep(*tiny, rows, plans=[LATE], baseline=curve[0], nll=False, max_new_tokens=2)
    assert [run.plan for run in chosen] == [LATE]


def test_every_kind_of_sweep_has_its_plans() -> None:
    assert [p.vision_exit for p in plans_of("exit", 3)] == [0, 1, 2, None]
    assert [p.vision_off for p in plans_of("single", 3)] == [(0,), (1,), (2,)]
    with pytest.raises(VLMError, match="no sweep 'early'; have late, exit, drop, single"):
        plans_of("early", 3)  # type: ignore[arg-type]


def test_results_are_plain_data(tiny: tuple[Any, Any], rows: list[dict[str, Any]]) -> None:
    found = evaluate(*tiny, rows, LATE)
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["samples"]["correct"][4] is None
    assert SkipPlan.from_json(data["plan"]) == LATE
    assert data["n"] == 5
    assert data["prefill_seconds"] > 0
    assert found.decode_steps.max() > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"plan": SkipPlan(9)}, "9 decoder layers, this one has 4"),
        ({"plan": SkipPlan(N_LAYERS, model_type="qwen2_5_vl")}, "'qwen2_5_vl' model"),
    ],
)
def test_what_cannot_be_evaluated(
    tiny: tuple[Any, Any], rows: list[dict[str, Any]], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(VLMError, match=words):
        evaluate(*tiny, rows, **options)


def test_no_rows_and_training_mode_are_refused(
    tiny: tuple[Any, Any], rows: list[dict[str, Any]]
) -> None:
    with pytest.raises(VLMError, match="no rows"):
        evaluate(*tiny, [])
    try:
        tiny[0].train()
        with pytest.raises(VLMError, match="training mode"):
            evaluate(*tiny, rows)
    finally:
        tiny[0].eval()


def test_a_rule_is_evaluated_on_top_of_a_plan(
    tiny: tuple[Any, Any], rows: list[dict[str, Any]]
) -> None:
    """Bytes are those of the cache the rule leaves, operations those of the tokens it let in."""
    model, processor = tiny
    whole = evaluate(*tiny, rows, LATE, nll=False, max_new_tokens=2)
    everything = evaluate(*tiny, rows, LATE, keep=lambda step: step.vision, nll=False)
    np.testing.assert_array_equal(everything.kv_bytes, whole.kv_bytes)
    np.testing.assert_array_equal(everything.prefill_flops, whole.prefill_flops)
    rule = strongest(1 / 3, layer=3)
    found = evaluate(*tiny, rows, LATE, keep=rule, baseline=whole, max_new_tokens=2)
    assert found.settings["keep"] == "strongest(0.3333333333333333, layer=3)"
    assert whole.settings["keep"] is None
    config = text_config(model)
    for row in range(len(rows)):
        inputs, _ = prepare(processor, rows[row : row + 1])
        with torch.no_grad(), skipping(model, LATE, keep=rule):
            held = cache_bytes(model(**inputs, use_cache=True).past_key_values)
        assert found.kv_bytes[row] == held
        n = int(found.n_vision[row])
        kept = [0, 0, n, round(n / 3)]
        expected = prefill_flops(config, found.n_text[row], n, kept=kept)
        assert found.prefill_flops[row] == expected
    assert (found.kv_bytes[found.n_vision > 0] < whole.kv_bytes[found.n_vision > 0]).all()
    assert found.agreement is not None
    alone = evaluate(*tiny, rows, keep=rule, nll=False, max_new_tokens=2, batch_size=2)
    assert (alone.kv_bytes >= found.kv_bytes).all()
