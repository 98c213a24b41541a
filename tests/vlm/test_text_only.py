"""Text-only language models: capture, dropped layers, and what has no meaning without vision."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from typer.testing import CliRunner

from redundancy.cli._app import app
from redundancy.store import ActivationStore
from tests.vlm.capturing import picture, tiny_processor
from vlm import families
from vlm._errors import VLMError
from vlm.cache import cache_bytes
from vlm.capture import capture
from vlm.data import prepare, read_rows
from vlm.evaluate import evaluate, sweep
from vlm.model import decoder_layers, is_text_only, load, vision_mask
from vlm.plan import SkipPlan
from vlm.skip import skipping

N = 6
DROPS = [(0,), (N - 1,), (0, 2, 3, N - 1)]
WORDS = ["is", "it", "red", "green", "blue", "yes", "no", "how", "many", "are", "there", "what"]


@cache
def build(model_type: str) -> Any:
    family = families.load(model_type)
    assert family is not None
    torch.manual_seed(0)
    given = {key: value for key, value in family.tiny.items() if key != "model_type"}
    live = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **given)).eval()
    with torch.no_grad():
        for weight in live.parameters():
            if weight.ndim > 1:
                weight.mul_(4.0)
    return live


def shortened(model_type: str, drop: tuple[int, ...]) -> Any:
    """The same weights in a model that never had the dropped layers."""
    whole = build(model_type)
    kept = [number for number in range(N) if number not in drop]
    given = dict(families.load(model_type).tiny) | {"num_hidden_layers": len(kept)}
    del given["model_type"]
    config = AutoConfig.for_model(model_type, **given)
    if getattr(config, "layer_types", None):
        config.layer_types = [whole.config.layer_types[number] for number in kept]
    live = AutoModelForCausalLM.from_config(config).eval()
    live.model.layers = nn.ModuleList([whole.model.layers[number] for number in kept])
    for name in ("embed_tokens", "norm"):
        setattr(live.model, name, getattr(whole.model, name))
    live.lm_head = whole.lm_head
    return live


def batch() -> dict[str, Any]:
    ids = torch.randint(3, 90, (3, 15), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :4] = mask[2, :7] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


@pytest.mark.parametrize("drop", DROPS, ids=str)
@pytest.mark.parametrize("model_type", families.names(text_only=True))
@torch.no_grad()
def test_dropped_layers_are_as_if_they_had_never_been(
    model_type: str, drop: tuple[int, ...]
) -> None:
    live, short = build(model_type), shortened(model_type, drop)
    assert is_text_only(live)
    inputs = batch()
    real = inputs["attention_mask"].bool()
    options = {"do_sample": False, "max_new_tokens": 12, "pad_token_id": 0, "eos_token_id": None}
    # Layers are shared, and the cache goes by their numbers: the reference has none.
    expected = short(**inputs, use_cache=False).logits
    words = short.generate(**inputs, **options, use_cache=False)
    whole = live(**inputs)
    ran: list[int] = []
    handles = [
        layer.mlp.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, layer in enumerate(decoder_layers(live))
    ]
    try:
        with skipping(live, SkipPlan(N, drop_layers=drop)):
            out = live(**inputs)
            assert sorted(ran) == [number for number in range(N) if number not in drop]
            assert live.generate(**inputs, **options).tolist() == words.tolist()
            assert live.generate(**inputs, **options, num_beams=2).shape == words.shape
    finally:
        for handle in handles:
            handle.remove()
    torch.testing.assert_close(out.logits[real], expected[real], atol=1e-4, rtol=0)
    assert (out.logits - whole.logits)[real].abs().max() > 1e-2
    kinds = getattr(live.config, "layer_types", None)
    if getattr(live.config, "sliding_window", None) is None and len(set(kinds or "f")) == 1:
        kept = cache_bytes(out.past_key_values) / cache_bytes(whole.past_key_values)
        assert kept == (N - len(drop)) / N
    assert torch.equal(live(**inputs).logits, whole.logits)


@torch.no_grad()
def test_a_plan_that_drops_nothing_changes_no_bit() -> None:
    live, inputs = build("llama"), batch()
    before = live(**inputs).logits
    with skipping(live, SkipPlan(N)):
        assert torch.equal(live(**inputs).logits, before)


@pytest.mark.parametrize(
    ("plan", "options"),
    [
        (SkipPlan(N, vision_entry=2), {}),
        (SkipPlan(N, vision_exit=4, drop_layers=(5,)), {}),
        (SkipPlan(N, vision_off=(1,)), {}),
        (SkipPlan(N), {"keep": lambda step: step.vision}),
        (SkipPlan(N, drop_layers=(1,)), {"vision_mask": torch.ones(1, 3, dtype=torch.bool)}),
    ],
    ids=["late", "exit", "off", "keep", "mask"],
)
def test_there_is_no_vision_to_hide(plan: SkipPlan, options: dict[str, Any]) -> None:
    sentence = "'llama' is a text-only model, which has no vision tokens to hide"
    with pytest.raises(VLMError, match=sentence), skipping(build("llama"), plan, **options):
        pass


def test_an_architecture_without_a_file_is_named_with_what_to_do() -> None:
    given = dict(families.load("qwen2").tiny) | {"model_type": "granite"}
    del given["model_type"]
    live = AutoModelForCausalLM.from_config(AutoConfig.for_model("granite", **given))
    with (
        pytest.raises(VLMError, match=r"'granite' .* llama.*vlm/families/text/granite\.py"),
        skipping(live, SkipPlan(N, drop_layers=(1,))),
    ):
        pass


def test_a_decoder_of_another_build_is_named_with_the_families_there_are() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    live = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=40))
    with pytest.raises(VLMError, match=r"'gpt2' .* no list of blocks .* gemma2.*text/gpt2\.py"):
        decoder_layers(live)


def test_a_plan_for_text_says_what_runs() -> None:
    assert SkipPlan(N, drop_layers=(3, 4)).describe() == (
        "6 layers: layers 3 to 4 do not run (4 of 6 layers run)."
    )


# From a folder to a store.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with its tokenizer, and texts for it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    home = tmp_path_factory.mktemp("text")
    tokenizer = tiny_processor().tokenizer
    tokenizer.pad_token = None
    torch.manual_seed(0)
    given = {
        key: value
        for key, value in families.load("llama").tiny.items()
        if key not in ("model_type", "vocab_size")
    }
    config = LlamaConfig(**given, vocab_size=len(tokenizer), initializer_range=0.3)
    LlamaForCausalLM(config).save_pretrained(home / "model")
    tokenizer.save_pretrained(home / "model")
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(3, 12))) for _ in range(24)]
    (home / "passages.txt").write_text("\n\n".join(texts) + "\n")
    rows = [
        {"id": f"q{i}", "question": text, "choices": ["yes", "no"], "answer": draw.choice(WORDS)}
        for i, text in enumerate(texts)
    ]
    (home / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return home


def test_loading_gives_model_and_tokenizer(folder: Path) -> None:
    live, tokenizer = load(folder / "model")
    assert is_text_only(live)
    assert not live.training
    assert tokenizer.pad_token == tokenizer.eos_token
    ids = torch.tensor([[1, 5]])
    assert not vision_mask(live, ids).any()


def test_a_folder_without_a_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    load(folder / "model")[0].save_pretrained(tmp_path)
    with pytest.raises(VLMError, match="cannot load the tokenizer of"):
        load(tmp_path)


def test_passages_are_read_as_they_stand_and_questions_through_the_template(folder: Path) -> None:
    _, tokenizer = load(folder / "model")
    rows = list(read_rows(folder / "passages.txt"))
    assert len(rows) == 24
    tokenizer.chat_template = "{{- 'USER ' + messages[0]['content'] + ' ASSISTANT' -}}"
    inputs, info = prepare(tokenizer, rows[:3])
    assert [one.prompt for one in info] == [row["text"] for row in rows[:3]]
    assert set(inputs) == {"input_ids", "attention_mask"}
    _, [asked] = prepare(tokenizer, [{"question": "is it red"}])
    assert asked.prompt == "USER is it red ASSISTANT"
    with pytest.raises(VLMError, match="a row needs a question .* or a text; it has answer"):
        prepare(tokenizer, [{"answer": "yes"}])
    with pytest.raises(VLMError, match="row '0' has images, and a text-only model takes none"):
        prepare(tokenizer, [{"question": "is it red", "image": picture(0)}])


def test_captured_states_are_those_of_the_library(folder: Path) -> None:
    live, tokenizer = load(folder / "model")
    rows = list(read_rows(folder / "passages.txt"))[:4]
    samples = list(capture(live, tokenizer, rows, tokens="all", batch_size=3))
    for row, sample in zip(rows, samples, strict=True):
        inputs, _ = prepare(tokenizer, [row])
        with torch.inference_mode():
            out = live(**inputs, output_hidden_states=True)
        assert set(sample.states) == set(sample.statistics) == {"text"}
        assert sample.n_vision == 0
        assert sample.var_per_head is None
        n = inputs["input_ids"].shape[1]
        assert sample.statistics["text"].n_tokens == n
        for layer in range(N):
            np.testing.assert_allclose(
                sample.states["text"][layer], out.hidden_states[layer][0], rtol=2e-4, atol=2e-4
            )
        last = live.model.norm(torch.from_numpy(sample.states["text"][N]))
        torch.testing.assert_close(last, out.hidden_states[-1][0], rtol=2e-4, atol=2e-4)
    for options in ({"vision_effect": True}, {"modalities": ("vision",)}):
        with pytest.raises(VLMError, match="the model is text-only and has no vision tokens"):
            capture(live, tokenizer, rows, **options)


def test_answers_under_dropped_layers(folder: Path) -> None:
    live, tokenizer = load(folder / "model")
    data = folder / "questions.jsonl"
    curve = sweep(live, tokenizer, data, "drop", layers=[0, 4])
    assert [run.plan.drop_layers for run in curve] == [(0,), (4,)]
    whole = evaluate(live, tokenizer, data, nll=False)
    assert np.allclose(curve[0].prefill_flops / whole.prefill_flops, (N - 1) / N)
    assert (curve[0].kv_bytes * N == whole.kv_bytes * (N - 1)).all()
    seen: list[int] = []
    with pytest.raises(VLMError, match="no vision tokens to hide"):
        sweep(live, tokenizer, data, "late", progress=lambda done, _: seen.append(done))
    assert not seen  # refused before the first sample was asked


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_the_command_line_from_texts_to_a_store_and_a_table(folder: Path, tmp_path: Path) -> None:
    acts = tmp_path / "acts"
    done = run(
        "extract", folder / "model", "--data", folder / "passages.txt", "-o", acts, "--tokens", 4
    )
    assert done.exit_code == 0, done.output
    store = ActivationStore.open(acts)
    assert store.modalities == ("text",)
    assert store.n_samples == 24
    assert store.info["settings"]["var"] is False
    assert store.pair(0, 1, "text").summary.var_per_head is None
    live, tokenizer = load(folder / "model")
    [first, *_] = capture(live, tokenizer, folder / "passages.txt", tokens=4, batch_size=8)
    mine = store.token_samples("text") == 0
    np.testing.assert_allclose(
        store.states(3, "text")[mine], first.states["text"][3], rtol=1e-4, atol=1e-4
    )
    questions = folder / "questions.jsonl"
    done = run("skip", folder / "model", "--data", questions, "--sweep", "drop",
               "--repeats", 1, "-o", tmp_path / "run", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    [curve] = json.loads(done.stdout)["sweeps"]
    assert [point["layer"] for point in curve["points"]] == list(range(N))


@pytest.mark.parametrize(
    "more",
    [("--vision-effect",), ("--modality", "vision"), ("--batch-size", "0")],
    ids=lambda more: more[0],
)
def test_what_cannot_be_extracted_leaves_no_store(
    folder: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    given = ("--data", folder / "passages.txt", "-o", tmp_path / "acts")
    done = run("extract", folder / "model", *given, *more)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "acts").exists()


def test_a_sweep_over_vision_leaves_no_run_folder(folder: Path, tmp_path: Path) -> None:
    given = ("--data", folder / "questions.jsonl", "-o", tmp_path / "run", "--sweep", "late")
    done = run("skip", folder / "model", *given)
    assert done.exit_code == 2
    assert "text-only" in done.stderr
    assert not (tmp_path / "run").exists()
