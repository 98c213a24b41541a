"""Plans and torch.compile: the same numbers, whatever was compiled when, and an end of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from tests.vlm import tiny
from vlm.model import decoder_layers
from vlm.plan import SkipPlan
from vlm.skip import skipping

pytestmark = pytest.mark.slow

PLAN = SkipPlan(6, vision_entry=1, vision_exit=5, vision_off=(3,), drop_layers=(0, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.mark.parametrize("in_place", [False, True], ids=["wrapped", "in place"])
@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl"])
@torch.no_grad()
def test_compiled_code_sees_the_plan_come_and_go(
    folder: Path, model_type: str, in_place: bool
) -> None:
    live = tiny.build(model_type, folder)
    inputs = tiny.batch(live, [1, 2])
    plain = live(**inputs).logits
    with skipping(live, PLAN):
        expected, words = live(**inputs).logits, tiny.words(live, inputs)
    torch._dynamo.reset()
    compiled = live
    if in_place:
        for layer in decoder_layers(live):
            layer.compile(backend="eager")
    else:
        compiled = torch.compile(live, backend="eager")
    torch.testing.assert_close(compiled(**inputs).logits, plain)
    with skipping(compiled, PLAN):
        torch.testing.assert_close(compiled(**inputs).logits, expected)
        assert tiny.words(compiled, inputs) == words
    torch.testing.assert_close(compiled(**inputs).logits, plain)


@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a compiler")
@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl"])
@torch.no_grad()
def test_inductor_gives_the_same_and_stops_compiling(folder: Path, model_type: str) -> None:
    live = tiny.build(model_type, folder)
    inputs = tiny.batch(live, [1, 2])
    plain, plain_words = live(**inputs).logits, tiny.words(live, inputs, 16)
    with skipping(live, PLAN):
        expected, words = live(**inputs).logits, tiny.words(live, inputs, 16)
    torch._dynamo.reset()
    counters.clear()
    # So that generate, too, calls what was compiled.
    live.forward = torch.compile(live.forward)
    with skipping(live, PLAN):
        torch.testing.assert_close(live(**inputs).logits, expected, atol=1e-4, rtol=0)
    made = []
    for _ in range(4):
        with skipping(live, PLAN):
            assert tiny.words(live, inputs, 16) == words
        made.append(counters["stats"]["unique_graphs"])
    # Lengths are numbers in the first code, and variables in the second.
    assert made[0] > 0
    assert made[1] == made[2] == made[3]
    torch.testing.assert_close(live(**inputs).logits, plain, atol=1e-4, rtol=0)
    assert tiny.words(live, inputs, 16) == plain_words
