"""What is found in a live model, and what is said of models that will not do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.vlm import tiny
from tests.vlm.capturing import save_tiny_llava, tiny_processor
from vlm import families, model
from vlm._errors import VLMError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.mark.parametrize("name", families.names())
def test_every_family_is_found_by_structure_and_config(name: str, folder: Path) -> None:
    live = tiny.build(name, folder)
    assert model.model_type(live) == name
    assert len(model.decoder_layers(live)) == model.text_config(live).num_hidden_layers == 6
    assert model.vision_token_ids(live)[0] == live.config.image_token_id
    seen: list[Any] = []
    handles = [
        model.base_model(live).register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(args[0] if args else kwargs["input_ids"]),
            with_kwargs=True,
        ),
        model.language_model(live).register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
        ),
    ]
    inputs = tiny.batch(live, [1, 2])
    with torch.no_grad():
        live(**inputs)
    for handle in handles:
        handle.remove()
    ids, embeds = seen
    assert torch.equal(ids, inputs["input_ids"])
    # Exactly where the mask says so, embeddings are not those of the token ids.
    words = live.get_input_embeddings()(ids)
    if name == "gemma3":
        assert embeds.shape == words.shape
    else:
        changed = (embeds != words).any(dim=-1)
        assert torch.equal(changed, model.vision_mask(live, ids))


def test_a_family_is_data() -> None:
    for name in families.names():
        family = families.load(name)
        assert family is not None
        assert family.title
        assert family.tiny
        assert family.tokens_per_image > 0
    assert families.load("no_such") is None


def test_loading_gives_model_and_processor_ready_for_use(tmp_path: Path) -> None:
    live, processor = model.load(save_tiny_llava(tmp_path))
    assert not live.training
    assert processor.tokenizer is not None
    assert model.load(str(tmp_path), dtype=torch.bfloat16)[0].dtype == torch.bfloat16


def _text_only(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=9,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
        )
    ).save_pretrained(folder)


def _config(**what: Any) -> Any:
    return lambda folder: (folder / "config.json").write_text(json.dumps(what))


def _broken_weights(folder: Path) -> None:
    save_tiny_llava(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def _no_processor(folder: Path) -> None:
    save_tiny_llava(folder)
    for file in folder.glob("*processor*"):
        file.unlink()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "holds no config.json"),
        (_text_only, "cannot load the tokenizer of"),
        (_config(model_type="clip"), "'clip' is not supported.*Supported families are.*llava"),
        (_config(model_type="nonsense"), "cannot read the config"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot read the config"),
        (_broken_weights, "cannot load the model"),
        (_no_processor, "processor of .* takes no images|cannot load the processor"),
    ],
    ids=["empty", "text only", "other kind", "unknown", "broken", "truncated", "no processor"],
)
def test_what_cannot_be_loaded_is_said_in_one_sentence(
    tmp_path: Path, make: Any, words: str
) -> None:
    make(tmp_path)
    with pytest.raises(VLMError, match=words) as error:
        model.load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["/no/such/folder", "./missing", "a/b/c", Path("missing")])
def test_a_missing_folder_is_not_looked_for_on_the_hub(name: str | Path) -> None:
    with pytest.raises(VLMError, match="there is no folder"):
        model.load(name)


@pytest.mark.parametrize("dtype", ["int8", "0,0", "nn", "flaot16"])
def test_a_dtype_that_is_none_is_refused(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(VLMError, match=f"there is no dtype '{dtype}'"):
        model.load(save_tiny_llava(tmp_path), dtype=dtype)


def test_what_is_no_model_is_said_to_be_none() -> None:
    with pytest.raises(VLMError, match="expected a Hugging Face model, got Linear"):
        model.decoder_layers(torch.nn.Linear(1, 1))
    with pytest.raises(VLMError, match="expected a Hugging Face model, got LlavaProcessor"):
        model.model_type(tiny_processor())


def test_a_text_only_model_has_no_vision_tokens() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    live = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=9,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
        )
    )
    with pytest.raises(VLMError, match="text-only model"):
        model.vision_token_ids(live)


def test_attention_is_chosen_on_loading(tmp_path: Path) -> None:
    folder = save_tiny_llava(tmp_path)
    live, _ = model.load(folder, attn_implementation="eager")
    assert model.text_config(live)._attn_implementation == "eager"
    assert model.text_config(model.load(folder)[0])._attn_implementation == "sdpa"
    with pytest.raises(VLMError, match="cannot load the model .*nonsense.* not supported"):
        model.load(folder, attn_implementation="nonsense")
