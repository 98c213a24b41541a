"""Plans for models without vision: dropped layers from readings of text, proposed and certified."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from estimators import InputError
from redundancy.choosing import candidates, certify, readings
from redundancy.cli._app import app
from redundancy.planning import gather, propose
from redundancy.run import estimate
from redundancy.store import ActivationStore
from tests.redundancy.test_planning import blocks, result
from tests.vlm.capturing import tiny_processor
from vlm import families
from vlm.evaluate import evaluate
from vlm.plan import SkipPlan

STEP = [0.4, 0.04, 0.01, 0.02, 0.03, 0.3]
N = len(STEP)


def text(measure: str, values: list[float], **more: Any) -> list[Any]:
    return blocks(measure, values, modality="text", **more)


def across(pair: tuple[int, int], value: float) -> Any:
    return result("geometric", pair, value, modality="text")


def drops(found: Any, kind: str, **more: Any) -> list[tuple[int, ...]]:
    plans = propose(found, kinds=(kind,), within=False, pareto=False, **more)
    return [plan.drop_layers for plan in plans]


def test_blocks_that_move_text_least_go_first():
    assert drops(text("geometric", STEP), "drop") == [(2,), (2, 3), (2, 3, 4)]
    plan = propose(text("geometric", STEP))[0]
    assert plan.evidence["predicted_harm"] == pytest.approx(np.sqrt(2 * 0.01))
    assert plan.evidence["saved"] == pytest.approx(1 / N)
    said = " ".join(plan.evidence["missing"])
    assert "text-only" in said
    assert "across several layers were not measured" in said


def test_a_measured_stretch_counts_as_what_it_is():
    # Blocks 3 and 4 undo each other: neighbours say 0.02 and 0.03, and the way across is 0.001.
    found = [*text("geometric", STEP), across((3, 5), 0.001), across((2, 4), 0.029)]
    assert drops(found, "stretch") == [(3, 4), (2,), (2, 3, 4)]
    first = propose(found, kinds=("stretch",), within=False)[0]
    assert first.evidence["predicted_harm"] == pytest.approx(np.sqrt(2 * 0.001))
    assert not any("not measured" in remark for remark in first.evidence["missing"])
    # One at a time, the first step is still the block that moves least by itself.
    nested = drops(found, "drop")
    assert nested[0] == (2,)
    assert set(nested[0]) < set(nested[1]) < set(nested[2])


def test_thresholds_hold_for_each_block_and_for_the_stretch():
    sure = text("geometric", STEP, high=0.04)
    assert propose(text("geometric", STEP, high=0.06)) == []
    assert [plan.drop_layers for plan in propose(sure)] == [(2,), (2, 3), (2, 3, 4)]
    far = [*sure, result("geometric", (2, 4), 0.029, modality="text", high=0.07)]
    assert (2, 3) not in [plan.drop_layers for plan in propose(far)]
    marked = [p for p in propose(far, within=False, pareto=False) if p.drop_layers == (2, 3)]
    assert marked[0].evidence["against"] == ["text distance across layers 2 to 3 reaches 0.07"]


@pytest.mark.parametrize("measure", ["informational", "functional"])
def test_a_block_that_text_was_found_to_need_is_kept(measure):
    needed = result(measure, (2, 3), 2.0, modality="text", verdict="needed")
    kept = propose([*text("geometric", STEP), needed])
    assert [plan.drop_layers for plan in kept] == [(3,), (3, 4), (1, 3, 4)]
    loose = propose([*text("geometric", STEP), needed], within=False)
    assert f"layer 2 is needed by {measure}" in loose[0].evidence["against"]


def test_plans_that_hide_vision_are_not_made_from_text():
    found = text("geometric", STEP)
    assert all(plan.drops_only for plan in propose(found, within=False, pareto=False))
    with pytest.raises(InputError, match="text alone, and plans of kind late, off hide vision"):
        propose(found, kinds=("late", "off"))


@pytest.mark.parametrize(
    "vision",
    [
        blocks("cka", STEP),
        blocks("vision_effect", STEP),
        text("var", STEP),
        [result("geometric", (0, 1), 0.1, modality="vision")],
    ],
    ids=["cka", "effect", "attention", "one pair"],
)
def test_text_does_not_speak_for_a_model_that_sees(vision):
    found = [*text("geometric", STEP), *vision]
    assert not gather(found).text_only
    assert propose(found, N, kinds=("drop", "stretch")) == []


@given(
    values=st.lists(st.floats(0, 2), min_size=2, max_size=10),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_text_plans_are_ordered_nested_and_leave_half_the_model(values, data):
    n = len(values)
    found = text("geometric", values)
    pairs = st.tuples(st.integers(0, n - 2), st.integers(2, n)).filter(lambda p: p[1] > p[0] + 1)
    if n > 2:
        for pair in data.draw(st.lists(pairs, unique=True, max_size=5)):
            found.append(across(pair, data.draw(st.floats(0, 2))))
    for kind in ("drop", "stretch"):
        plans = propose(found, kinds=(kind,), within=False, pareto=False)
        harm = [plan.evidence["predicted_harm"] for plan in plans]
        assert harm == sorted(harm)
        assert sorted(len(plan.drop_layers) for plan in plans) == list(range(1, n // 2 + 1))
        for plan in plans:
            if kind == "stretch":
                low = plan.drop_layers[0]
                assert plan.drop_layers == tuple(range(low, low + len(plan.drop_layers)))
    nested = sorted((set(drop) for drop in drops(found, "drop")), key=len)
    assert all(a < b for a, b in itertools.pairwise(nested))


def test_the_rank_of_a_stretch_is_the_error_at_its_end():
    """Unit states: the block after the stretch reads X_a for X_b, whose distance is known."""
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=(300, 5))]
    for scale in (0.5, 0.1, 0.2, 0.1, 0.6, 0.4):
        layers.append(layers[-1] + scale * rng.normal(size=(300, 5)))
    states = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in layers]
    store = ActivationStore.from_arrays(dict(enumerate(states)))
    found = estimate(store, "geometric", pairs="all")
    plans = propose(found, kinds=("stretch",), within=False, pareto=False)
    assert len(plans) == 3
    for plan in plans:
        a, b = plan.drop_layers[0], plan.drop_layers[-1] + 1
        error = np.sqrt(np.mean(np.sum((states[b] - states[a]) ** 2, axis=1)))
        assert plan.evidence["predicted_harm"] == pytest.approx(error, rel=1e-9)
    # Sums of neighbours bound it.
    bound = propose(
        estimate(store, "geometric"), kinds=("stretch",), within=False, pareto=False, max_plans=99
    )
    best = {len(p.drop_layers): p.evidence["predicted_harm"] for p in plans}
    for plan in bound:
        assert plan.evidence["predicted_harm"] >= best[len(plan.drop_layers)] - 1e-12


# From a model to a certified plan.

IDLE = (2, 3)
WORDS = ["is", "it", "red", "green", "blue", "yes", "no", "how", "many", "are", "there", "what"]


def prompts(n: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [{"question": " ".join(draw.choices(WORDS, k=draw.randint(4, 12)))} for _ in range(n)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama of which two blocks hardly do anything; all others matter."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    home = tmp_path_factory.mktemp("drops")
    tokenizer = tiny_processor().tokenizer
    given = {
        key: value
        for key, value in families.load("llama").tiny.items()
        if key not in ("model_type", "vocab_size")
    }
    torch.manual_seed(0)
    config = LlamaConfig(**given, vocab_size=len(tokenizer), initializer_range=0.3)
    live = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for number in IDLE:
            block = live.model.layers[number]
            block.self_attn.o_proj.weight.mul_(1e-4)
            block.mlp.down_proj.weight.mul_(1e-4)
    live.save_pretrained(home / "model")
    tokenizer.save_pretrained(home / "model")
    for name, n, seed in (("measured", 40, 1), ("held_out", 70, 2)):
        lines = map(json.dumps, prompts(n, seed))
        (home / f"{name}.jsonl").write_text("\n".join(lines))
    ran = run("extract", home / "model", "--data", home / "measured.jsonl", "-o", home / "acts")
    assert ran.exit_code == 0, ran.output
    return home


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_store_of_text_has_the_distance_of_every_stretch(folder):
    store = ActivationStore.open(folder / "acts")
    found = readings(store)
    assert {r.pair for r in found} == {
        (a, b) for a in range(N) for b in range(a + 1, N + 1) if b - a <= N // 2
    }
    assert {(r.measure, r.modality) for r in found} == {("geometric", "text")}
    assert all(r.estimate.ci is not None for r in found)
    [best, *_] = propose(found, store.n_layers, kinds=("stretch",))[::-1]
    assert best.drop_layers == IDLE


def test_thresholds_alone_write_a_plan_that_says_so(folder, tmp_path):
    out = tmp_path / "plan.json"
    done = run("plan", folder / "acts", "-o", out, "--json")
    assert done.exit_code == 0, done.output
    assert SkipPlan.load(out).drop_layers == IDLE
    assert SkipPlan.load(out).model_type == "llama"
    assert "guarantee nothing" in json.loads(done.stdout)["message"]
    table = run("plan", folder / "acts", "-o", out, "--fresh")
    assert "layers 2 to 3 do not run" in table.stdout
    tight = run("plan", folder / "acts", "-o", out, "--fresh", "--max-distance", "1e-12", "--json")
    message = json.loads(tight.stdout)["message"]
    assert "skips nothing" in message
    assert "--max-effect" not in message


def test_the_certified_plan_drops_what_does_nothing_and_keeps_its_promise(folder, tmp_path):
    from vlm.model import load

    out = tmp_path / "plan.json"
    given = ("--model", folder / "model", "--data", folder / "held_out.jsonl", "--alpha", "0.1")
    done = run("plan", folder / "acts", "-o", out, *given, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    plan = SkipPlan.load(out)
    assert plan.drop_layers == IDLE
    assert "at most 10% of the answers, with 90% confidence" in said["message"]
    assert "70 prompts that had no part in proposing them" in said["message"]
    assert {row["kind"] for row in said["proposed"]} == {"drop", "stretch"}
    assert said["certificate"]["n_groups"] == 70
    # Fresh prompts: it holds there, and the next larger plan tried would not have.
    live, tokenizer = load(folder / "model")
    fresh = prompts(60, 3)
    full = evaluate(live, tokenizer, fresh, nll=False)
    kept = evaluate(live, tokenizer, fresh, plan, baseline=full, nll=False)
    more = evaluate(live, tokenizer, fresh, SkipPlan(N, drop_layers=(0, 1, 2)), baseline=full)
    assert 1 - kept.agrees.mean() <= 0.1 < 1 - more.agrees.mean()


def test_prompts_that_ordered_the_plans_are_refused_whatever_their_ids(folder):
    store = ActivationStore.open(folder / "acts")
    plans = candidates(readings(store), store.n_layers)
    used = {str(sample["group"]) for sample in store.samples}
    again = [{**row, "id": f"new {i}"} for i, row in enumerate(prompts(40, 1))]
    rows = [*prompts(60, 4), *({**row, "id": f"x{i}"} for i, row in enumerate(again[:3]))]
    with pytest.raises(InputError, match="3 calibration prompts already took part"):
        certify(None, None, rows, plans, used_groups=used)
    with pytest.raises(InputError, match="20 prompts cannot certify any plan"):
        certify(None, None, prompts(20, 4), plans, used_groups=used)


def test_plain_arrays_of_text_are_read_by_neighbours():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    store = ActivationStore.from_arrays({layer: x + 0.1 * layer for layer in range(5)})
    found = readings(store)
    assert {r.pair for r in found} == {(layer, layer + 1) for layer in range(4)}
    remarks = propose(found, within=False)[0].evidence["missing"]
    assert any("sums bound them" in remark for remark in remarks)


def test_text_of_a_model_that_sees_is_not_enough(tmp_path):
    from redundancy.extraction import extract
    from tests.vlm.capturing import mixed_rows, save_tiny_llava
    from vlm.model import load

    live, processor = load(save_tiny_llava(tmp_path))
    store = extract(live, processor, mixed_rows(), out=tmp_path / "acts", modalities=("text",))
    with pytest.raises(InputError, match="samples have vision tokens, and the store keeps text"):
        readings(store)
    sound = ActivationStore.from_arrays({0: np.eye(4), 1: np.eye(4)}, modality="audio")
    with pytest.raises(InputError, match="holds audio tokens"):
        readings(sound)
