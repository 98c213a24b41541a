"""Run a model over data once and save what its layers hold.

MODEL is a folder or a hub id, of a vision-language or a text-only model. DATA is a JSONL or parquet
file with image (or images), question, answer and choices, or with text; a text file with a passage
per line; or a saved Hugging Face data set. Sums over all tokens are always kept;
--tokens K keeps the states of K tokens per sample and kind, which the informational measures need.

Examples:

  # sums over all tokens, and the states of 4 tokens per sample and kind
  redundancy extract llava-hf/llava-1.5-7b-hf --data vqa.jsonl -o acts --tokens 4

  # also measure what hiding the image from each layer changes
  redundancy extract ./my-model --data vqa.jsonl -o acts --tokens 4 --vision-effect

  # go on after an interruption
  redundancy extract ./my-model --data vqa.jsonl -o acts --tokens 4 --resume
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from redundancy.cli._common import (
    Fresh,
    Json,
    Quiet,
    Resume,
    Seed,
    print_json,
    progress,
    quiet_libraries,
)
from redundancy.cli._guarded import remember_out, say

__all__ = ["command"]


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model folder or hub id.")],
    data: Annotated[str, typer.Option("--data", help="JSONL, parquet, text or saved data set.")],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder of the store.")],
    tokens: Annotated[
        str, typer.Option("--tokens", help="States kept per sample and kind: a number or all.")
    ] = "0",
    modality: Annotated[
        list[str] | None, typer.Option("--modality", help="vision, text; both by default.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option("--layers", help="Layers to keep, e.g. 0-31.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Samples per forward.")] = 8,
    vision_effect: Annotated[
        bool,
        typer.Option("--vision-effect", help="Also hide vision at each layer and measure delta_l."),
    ] = False,
    dtype: Annotated[
        str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")
    ] = "auto",
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, or auto to spread a large model.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Commit of a hub model.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model brings along.")
    ] = False,
    seed: Seed = 0,
    resume: Resume = False,
    fresh: Fresh = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Capture once; measure as often as you like."""
    from redundancy.extraction import extract, process_group, share
    from redundancy.run import parse_layers
    from vlm.model import load

    quiet_libraries()
    kept = parse_tokens(tokens)
    chosen = parse_layers(layers) if layers is not None else None
    rank, world_size = share()
    loaded, processor = load(
        model,
        dtype=dtype,
        device_map=_own_device(device, world_size),
        trust_remote_code=trust_remote_code,
        revision=revision,
    )
    remember_out(out)
    if world_size > 1 and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0:
        # What --fresh has cleared away was cleared by the group that died.
        resume, fresh = True, False
    given: dict[str, Any] = {} if modality is None else {"modalities": tuple(modality)}
    with (
        process_group(world_size),
        progress("extracting", quiet=quiet or rank > 0) as update,
    ):
        store = extract(
            loaded,
            processor,
            data,
            out=out,
            tokens=kept,
            batch_size=batch_size,
            seed=seed,
            layers=chosen,
            vision_effect=vision_effect,
            resume=resume,
            fresh=fresh,
            progress=update,
            **given,
        )
        _wait(world_size)
    if rank > 0:
        return
    store = store.refresh()
    if json_:
        print_json(store.info)
    else:
        say(f"→ {store!r}")


def _own_device(device: str | None, world_size: int) -> str | None:
    """Give each process of a group the GPU of its place on the machine."""
    if world_size == 1 or device not in (None, "cuda"):
        return device
    import torch

    if not torch.cuda.is_available():
        return device
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def _wait(world_size: int) -> None:
    """Wait until every process has written its share."""
    import torch.distributed

    if world_size > 1 and torch.distributed.is_initialized():
        torch.distributed.barrier()


def parse_tokens(text: str) -> Any:
    """Turn ``--tokens`` into a number or ``"all"``."""
    from estimators import InputError

    if text == "all":
        return "all"
    if not text.isdecimal():
        raise InputError(f"tokens is {text!r}; give a whole number, 0 for sums only, or all")
    return int(text)
