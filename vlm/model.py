"""What every part of this package must know about a live model, found by structure and config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm import families
from vlm._errors import VLMError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "base_model",
    "decoder_layers",
    "is_text_only",
    "language_model",
    "load",
    "model_type",
    "text_config",
    "vision_mask",
    "vision_token_ids",
]

_VISION_TOKENS = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")


def _bare(model: Any) -> Any:
    """The model itself, without an adapter library's wrapper around it."""
    unwrap = getattr(model, "get_base_model", None)
    return unwrap() if callable(unwrap) else model


def _config(model: Any) -> Any:
    config = getattr(_bare(model), "config", None)
    if config is None or not hasattr(config, "get_text_config"):
        raise VLMError(
            f"expected a Hugging Face model, got {type(model).__name__}; load one with "
            "vlm.model.load or AutoModelForImageTextToText.from_pretrained."
        )
    return config


def unsupported(what: str, why: str, *, text_only: bool = False) -> VLMError:
    """The error that says which families there are, and how to add one."""
    known = families.names(text_only=text_only)
    folder = "vlm/families/text" if text_only else "vlm/families"
    return VLMError(
        f"the architecture {what!r} is not supported: {why}. Supported families are "
        f"{', '.join(known)}; to add one, write {folder}/{what}.py with a Family in it "
        "(docs/skipping.md shows how)."
    )


def model_type(model: Any) -> str:
    """Name of the model's family, ``config.model_type``, e.g. ``"llava"``."""
    return str(_config(model).model_type)


def text_config(model: Any) -> Any:
    """Config of the language model inside a vision-language model."""
    return _config(model).get_text_config(decoder=True)


def is_text_only(model: Any) -> bool:
    """Whether a model is a language model alone, without a place for images."""
    config = _config(model)
    fields = (*_VISION_TOKENS, "vision_config")
    return text_config(model) is config and not any(hasattr(config, name) for name in fields)


def base_model(model: Any) -> nn.Module:
    """Module whose forward takes ``input_ids`` and pixels and merges them, head not included.

    It is the place where one can still tell vision tokens from text tokens.
    """
    _config(model)
    base: nn.Module = _bare(model).base_model
    return base


def language_model(model: Any) -> nn.Module:
    """The stack of decoder blocks with its rotary embedding and final norm, which takes
    ``inputs_embeds``."""
    found = _bare(model).get_decoder()
    if not hasattr(found, "layers"):
        raise unsupported(
            model_type(model),
            "its language model has no list of blocks named 'layers'",
            text_only=is_text_only(model),
        )
    decoder: nn.Module = found
    return decoder


def decoder_layers(model: Any) -> nn.ModuleList:
    """The decoder blocks of the language model, in order.

    Parameters
    ----------
    model : PreTrainedModel
        A vision-language model from Hugging Face.

    Raises
    ------
    VLMError
        If there is no such list, or its length is not what the config says.
    """
    from torch import nn

    _config(model)
    layers = language_model(model).layers
    expected = text_config(model).num_hidden_layers
    if not isinstance(layers, nn.ModuleList) or len(layers) != expected:
        raise unsupported(
            model_type(model),
            f"its config speaks of {expected} decoder blocks, but its language model has no list "
            "of that many",
            text_only=is_text_only(model),
        )
    return layers


def vision_token_ids(model: Any) -> tuple[int, ...]:
    """Ids of the placeholder tokens whose embeddings are replaced by vision features.

    Raises
    ------
    VLMError
        For a text-only model, or one whose config names no placeholder.
    """
    config = _config(model)
    family = families.load(str(config.model_type))
    fields = _VISION_TOKENS if family is None else family.vision_tokens
    found = (getattr(config, name, None) for name in fields)
    ids = tuple(dict.fromkeys(i for i in found if isinstance(i, int)))
    if ids:
        return ids
    if is_text_only(model):
        raise VLMError(
            f"{config.model_type!r} is a text-only model, which has no vision tokens; take a "
            f"vision-language model, e.g. of the families {', '.join(families.names())}."
        )
    raise unsupported(str(config.model_type), "its config names no image token id")


def vision_mask(model: Any, input_ids: Tensor) -> Tensor:
    """Tell vision tokens from text tokens.

    Parameters
    ----------
    model : PreTrainedModel
    input_ids : int tensor, shape (batch, tokens)
        Of a prompt. A placeholder id that the model itself generated is text, not vision; the
        caller has to know.

    Returns
    -------
    bool tensor, shape (batch, tokens)
        True where a vision feature replaces the token's embedding; nowhere in a text-only model.
    """
    import torch

    if is_text_only(model):
        return torch.zeros_like(input_ids, dtype=torch.bool)
    ids = torch.tensor(vision_token_ids(model), device=input_ids.device)
    return torch.isin(input_ids, ids)


def load(
    name_or_folder: str | Path,
    *,
    dtype: Any = "auto",
    device_map: Any = None,
    trust_remote_code: bool = False,
    revision: str | None = None,
    attn_implementation: str | None = None,
) -> tuple[Any, Any]:
    """Load a vision-language model and its processor, or a text-only model and its tokenizer.

    Parameters
    ----------
    name_or_folder : str or path
        A folder written by ``save_pretrained``, or the id of a model on the hub.
    dtype : str or torch.dtype
        ``"auto"`` keeps the dtype of the checkpoint.
    device_map : optional
        Handed to ``from_pretrained``, e.g. ``"auto"`` (needs accelerate).
    trust_remote_code : bool
        Whether code that comes with the checkpoint may run. Off: such models are refused.
    revision : str, optional
        Commit, tag or branch on the hub.
    attn_implementation : str, optional
        Handed to ``from_pretrained``, e.g. ``"flash_attention_2"`` (needs a GPU and flash-attn); by
        default the library's choice, which is ``"sdpa"`` wherever it can be.

    Returns
    -------
    model : PreTrainedModel
        In evaluation mode.
    processor : ProcessorMixin, or PreTrainedTokenizer for a text-only model
        A tokenizer without a padding token gets its end token for one.

    Raises
    ------
    VLMError
        For a missing folder, an unsupported architecture, unreadable files.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoProcessor,
        AutoTokenizer,
    )
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    name = str(name_or_folder)
    folder = Path(name).expanduser()
    if folder.is_dir():
        name = str(folder)
        if not (folder / "config.json").is_file():
            raise VLMError(
                f"{name} holds no config.json; give a folder that save_pretrained wrote."
            )
    elif (
        isinstance(name_or_folder, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1
    ):
        raise VLMError(f"there is no folder {name}; give a model folder or the id of a hub model.")
    if isinstance(dtype, str) and dtype != "auto":
        known = getattr(torch, dtype, None)
        if not isinstance(known, torch.dtype) or not known.is_floating_point:
            raise VLMError(f"there is no dtype {dtype!r}; give auto, float32, bfloat16 or float16.")
    common: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if revision is not None:
        common["revision"] = revision
    failures = (OSError, ValueError, KeyError, SafetensorError, RuntimeError, ImportError)
    try:
        config = AutoConfig.from_pretrained(name, **common)
    except failures as error:
        raise VLMError(f"cannot read the config of {name}: {_first_line(error)}") from error
    kind = str(config.model_type)
    sees = kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    reads = not sees and kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not (sees or reads or trust_remote_code):
        raise unsupported(kind, "transformers has no image-and-text generation model for it")
    kind_of_model = AutoModelForCausalLM if reads else AutoModelForImageTextToText
    try:
        model = kind_of_model.from_pretrained(
            name,
            dtype=dtype,
            device_map=device_map,
            **common,
            **({} if attn_implementation is None else {"attn_implementation": attn_implementation}),
        )
    except failures as error:
        raise VLMError(f"cannot load the model {name}: {_first_line(error)}") from error
    what, auto = ("tokenizer", AutoTokenizer) if reads else ("processor", AutoProcessor)
    try:
        processor = auto.from_pretrained(name, **common)
    except failures as error:
        raise VLMError(f"cannot load the {what} of {name}: {_first_line(error)}") from error
    if not (reads or hasattr(processor, "image_processor")):
        raise VLMError(
            f"the processor of {name} takes no images; save the model's own processor "
            "(tokenizer and image processor) beside it."
        )
    tokenizer = getattr(processor, "tokenizer", processor)
    if tokenizer.pad_token is None:
        # What stands at padding is masked; many language models come without a token for it.
        tokenizer.pad_token = tokenizer.eos_token
    model.eval()
    decoder_layers(model)
    if not is_text_only(model):
        vision_token_ids(model)
    return model, processor


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".") + "."
