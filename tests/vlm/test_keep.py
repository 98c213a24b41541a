"""Rules that choose tokens at run time, against the masked reference with the same choices."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from tests.vlm import reference, tiny
from vlm._errors import VLMError
from vlm.cache import cache_bytes
from vlm.keep import Step, cosine_distance, settled, strongest
from vlm.model import decoder_layers, vision_mask, vision_token_ids
from vlm.plan import SkipPlan
from vlm.skip import skipping

N = 6
NOTHING = SkipPlan(N)
SOME = SkipPlan(N, vision_entry=1, vision_exit=5, drop_layers=(3,))


@pytest.fixture
def live(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.build("llava", tmp_path_factory.getbasetemp())


def _pattern(layer: int, hidden: torch.Tensor, vision: torch.Tensor) -> torch.Tensor:
    """Every layer another set of tokens, and one layer none at all."""
    place = torch.arange(vision.shape[1])
    return vision & ((place + layer) % 3 != 0) & (layer != 2)


def _by_state(layer: int, hidden: torch.Tensor, vision: torch.Tensor) -> torch.Tensor:
    return hidden[..., 0] > 0


@pytest.mark.parametrize("choose", [_pattern, _by_state], ids=["pattern", "state"])
@pytest.mark.parametrize("plan", [NOTHING, SOME], ids=["alone", "with a plan"])
@pytest.mark.parametrize("images", [[1], [1, 3, 0]], ids=["one", "several"])
@torch.no_grad()
def test_chosen_tokens_are_skipped_as_in_the_reference(
    live: Any, choose: Any, plan: SkipPlan, images: list[int]
) -> None:
    inputs = tiny.batch(live, images)
    real = inputs["attention_mask"].bool()
    token, prompt = vision_token_ids(live)[0], real.shape[1]
    options = {
        "do_sample": False,
        "max_new_tokens": 8,
        "suppress_tokens": [token],
        "pad_token_id": tiny.PAD,
        "eos_token_id": None,
    }

    def rule(step: Step) -> torch.Tensor:
        return choose(step.layer, step.hidden, step.vision)  # type: ignore[no-any-return]

    with reference.masked(live, decoder_layers(live), plan, token, prompt, choose):
        expected = live(**inputs, use_cache=False).logits[real]
        words = live.generate(**inputs, **options, use_cache=False)
    with skipping(live, plan, keep=rule):
        plain = live(**inputs, use_cache=False).logits[real]
        cached = live(**inputs).logits[real]
        got = live.generate(**inputs, **options)
        beams = live.generate(**inputs, **options, num_beams=2)
    torch.testing.assert_close(plain, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(cached, expected, atol=1e-4, rtol=0)
    assert got.tolist() == words.tolist()
    assert beams.shape == words.shape


@torch.no_grad()
def test_a_rule_that_keeps_all_changes_nothing(live: Any) -> None:
    inputs = tiny.batch(live, [1])
    before = live(**inputs).logits
    with skipping(live, NOTHING, keep=lambda step: step.vision):
        assert torch.equal(live(**inputs).logits, before)


@torch.no_grad()
def test_a_token_settles_when_a_layer_hardly_turns_it(live: Any) -> None:
    inputs = tiny.batch(live, [2])
    vision = vision_mask(live, inputs["input_ids"])
    seen: list[Step] = []
    took: list[torch.Tensor] = []
    states: list[torch.Tensor] = []
    handles = [
        layer.register_forward_pre_hook(lambda _, args: states.append(args[0]))
        for layer in decoder_layers(live)[1:3]
    ]
    live(**inputs)
    for handle in handles:
        handle.remove()
    threshold = float(cosine_distance(*states)[vision].median())
    rule = settled(threshold, patience=2)

    def watched(step: Step) -> torch.Tensor:
        seen.append(step)
        took.append(rule(step) & step.vision)
        return took[-1]

    with skipping(live, NOTHING, keep=watched):
        cache = live(**inputs).past_key_values
    assert torch.equal(took[0], vision)
    assert torch.equal(took[1], vision)
    assert took[2].sum() == vision.sum() // 2 + 1
    for before, after in itertools.pairwise(seen[1:]):
        turned = cosine_distance(after.hidden, before.hidden)
        assert torch.equal(rule(after) & vision, after.took_part & (turned >= threshold) & vision)
    for layer, kept in zip(cache.layers, took, strict=True):
        assert layer.keys.shape[-2] == kept.sum() + (~vision).sum()
    with skipping(live, NOTHING):
        assert cache_bytes(cache) < cache_bytes(live(**inputs).past_key_values)


@torch.no_grad()
def test_the_strongest_share_stays_from_its_layer_on(live: Any) -> None:
    inputs = tiny.batch(live, [1, 2])
    counts: dict[int, list[int]] = {}
    rule = strongest(1 / 3, layer=2, score=lambda step: step.hidden[..., 0])

    def watched(step: Step) -> torch.Tensor:
        took = rule(step)
        counts[step.layer] = took.sum(dim=1).tolist()
        if step.layer == 2:
            for row in range(2):
                best = step.hidden[row, took[row], 0].min()
                assert (step.hidden[row, step.vision[row] & ~took[row], 0] <= best).all()
        return took

    with skipping(live, NOTHING, keep=watched):
        live(**inputs)
    assert counts == {0: [9, 18], 1: [9, 18], **{layer: [3, 6] for layer in range(2, N)}}
    counts.clear()
    rule = strongest(1 / 3, layer=0)
    with skipping(live, SkipPlan(N, vision_entry=3), keep=watched):
        live(**inputs)
    assert counts == {layer: [3, 6] for layer in range(3, N)}


@torch.no_grad()
def test_a_rule_is_not_told_of_layers_that_the_plan_hides(live: Any) -> None:
    """A token that the plan let pass has not settled: nobody asked it to move."""
    seen: dict[int, Step] = {}

    def watched(step: Step) -> torch.Tensor:
        seen[step.layer] = step
        return step.took_part

    inputs = tiny.batch(live, [1])
    with skipping(live, SkipPlan(N, vision_entry=1, vision_off=(3,)), keep=watched):
        live(**inputs)
    assert [layer for layer, step in seen.items() if step.before is None] == [1, 4]
    assert sorted(seen) == [1, 2, 4, 5]
    assert all(torch.equal(step.took_part, step.vision) for step in seen.values())


@torch.no_grad()
def test_a_rule_must_answer_with_a_mask(live: Any) -> None:
    inputs = tiny.batch(live, [1])
    with (
        skipping(live, NOTHING, keep=lambda step: step.hidden[..., 0]),
        pytest.raises(VLMError, match="layer 0, the keep rule returned torch.float32"),
    ):
        live(**inputs)
    with (
        skipping(live, NOTHING, keep=lambda step: None),
        pytest.raises(VLMError, match="layer 0, the keep rule returned NoneType; a bool tensor"),
    ):
        live(**inputs)
    with skipping(live, NOTHING, keep=lambda step: step.vision):
        cache = live(**inputs).past_key_values
    with (
        skipping(live, NOTHING, keep=settled(0.1)),
        pytest.raises(VLMError, match="filled without this plan"),
    ):
        live(input_ids=torch.tensor([[5]]), past_key_values=cache)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: settled(0.0), "threshold is 0.0"),
        (lambda: settled(0.1, patience=0), "patience is 0"),
        (lambda: strongest(1.5, layer=1), "share is 1.5"),
        (lambda: strongest(0.5, layer=-1), "layer is -1"),
    ],
)
def test_rules_refuse_nonsense(make: Any, words: str) -> None:
    with pytest.raises(VLMError, match=words):
        make()
