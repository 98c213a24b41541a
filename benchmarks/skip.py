"""What plans save, beside what arithmetic promises: prefill, decoding, cache.

    python benchmarks/skip.py                  # CPU, one thread, a decoder of 16 blocks x 512
    python benchmarks/skip.py --shape llava-1.5-7b --device cuda --dtype bfloat16
    python benchmarks/skip.py --shape llava-next-7b --device cuda --dtype bfloat16
    python benchmarks/skip.py --shape qwen2.5-vl-7b --dtype bfloat16 --layers 4 --rounds 1

The last line runs the same code on a CPU, with four of the blocks.

Weights are random: time does not depend on them. Plans take turns within each round, and a speedup
is the median over rounds of the ratio to the unpatched model in the same round, so a busy machine
disturbs all alike. On a CPU with one thread the clock counts the process's own processor time.

Peak memory is what a prefill holds at most beyond the model, cache included, in a pass of its own:
the allocator's peak on a GPU, the growth of the resident set on Linux.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import platform
import statistics
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForImageTextToText

from vlm.cache import cache_bytes
from vlm.flops import kv_bytes, prefill_flops
from vlm.keep import Rule, strongest
from vlm.model import language_model, text_config, vision_token_ids
from vlm.plan import SkipPlan
from vlm.skip import skipping

SHAPES: dict[str, dict[str, Any]] = {
    "small": {
        "model_type": "llama",
        "hidden_size": 512,
        "intermediate_size": 1376,
        "num_hidden_layers": 16,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "vocab_size": 1000,
    },
    "llava-1.5-7b": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32064,
    },
    # The same decoder; an image is five tiles.
    "llava-next-7b": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32064,
    },
    "qwen2.5-vl-7b": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
    },
}


TILES = {"llava-next-7b": 5}


def build(
    shape: str,
    vision: int,
    device: str,
    dtype: torch.dtype,
    layers: int | None = None,
    attention: str = "sdpa",
) -> Any:
    """A LLaVA whose decoder has the shape, and whose tower is next to nothing."""
    side = int(vision**0.5)
    if side * side != vision:
        sys.exit(f"--vision must be a square number; {vision} is none.")
    decoder = dict(SHAPES[shape])
    if layers is not None:
        decoder["num_hidden_layers"] = layers
    config = AutoConfig.for_model(
        "llava",
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 1,
            "image_size": 4 * side,
            "patch_size": 4,
            "projection_dim": 32,
        },
        text_config={
            **decoder,
            "max_position_embeddings": 8192,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": None,
        },
        image_token_index=decoder["vocab_size"] - 1,
        image_seq_length=vision,
    )
    with torch.device(device):
        return AutoModelForImageTextToText.from_config(
            config, dtype=dtype, attn_implementation=attention
        ).eval()


@dataclass(frozen=True)
class Way:
    """One line of the table: a plan, and perhaps a rule that chooses tokens besides."""

    plan: SkipPlan | None = None
    keep: Rule | None = None
    share: float = 1.0
    from_layer: int = 0

    def kept(self, n: int, vision: int) -> np.ndarray | None:
        """Vision tokens that the rule leaves each layer."""
        if self.keep is None:
            return None
        return np.where(np.arange(n) < self.from_layer, vision, round(self.share * vision))

    def context(self, model: Any) -> Any:
        return nullcontext() if self.plan is None else skipping(model, self.plan, keep=self.keep)


def ways(n: int) -> dict[str, Way]:
    """The lines of the table; the first is the model without a context around it."""
    late, leave = n // 4, round(n * 0.625)
    plans = {
        "no-op": SkipPlan(n),
        f"late {late}": SkipPlan(n, vision_entry=late),
        f"exit {leave}": SkipPlan(n, vision_exit=leave),
        f"late {late} + exit {leave}": SkipPlan(n, vision_entry=late, vision_exit=leave),
        f"exit {n // 2} (as VTW)": SkipPlan(n, vision_exit=n // 2),
        "every second layer": SkipPlan(n, vision_off=tuple(range(1, n, 2))),
        f"drop {n // 4} layer{'s' * (n > 7)}": SkipPlan(
            n, drop_layers=tuple(range(n // 2, n // 2 + n // 4))
        ),
    }
    found = {"unpatched": Way()} | {name: Way(plan) for name, plan in plans.items()}
    rule = strongest(0.5, layer=2)
    found["half from layer 2 (as FastV)"] = Way(SkipPlan(n), rule, share=0.5, from_layer=2)
    return found


class Clock:
    """Seconds that each pass of the language model took."""

    def __init__(self, model: Any, device: str) -> None:
        self.cuda = device.startswith("cuda")
        self.passes: list[float] = []
        decoder = language_model(model)
        decoder.register_forward_pre_hook(self._start)
        decoder.register_forward_hook(self._stop)

    def now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()

    def _start(self, *_: Any) -> None:
        self.began = self.now()

    def _stop(self, *_: Any) -> None:
        self.passes.append(self.now() - self.began)


@torch.inference_mode()
def once(
    model: Any, clock: Clock, inputs: dict[str, Any], way: Way, steps: int
) -> tuple[float, float, int]:
    """Prefill seconds, seconds per decoded token, bytes of the cache after the prompt."""
    clock.passes.clear()
    with way.context(model):
        out = model(**inputs, use_cache=True, logits_to_keep=1)
        held = cache_bytes(out.past_key_values)
        token = torch.full((len(inputs["input_ids"]), 1), 5, device=inputs["input_ids"].device)
        for _ in range(steps):
            out = model(
                input_ids=token,
                past_key_values=out.past_key_values,
                use_cache=True,
                logits_to_keep=1,
            )
    prefill, *decode = clock.passes
    return prefill, statistics.median(decode) if decode else 0.0, held


@torch.inference_mode()
def peak(model: Any, inputs: dict[str, Any], way: Way) -> int | None:
    """Bytes that a prefill holds at most beyond the model; None where the system cannot tell."""
    gc.collect()
    if inputs["input_ids"].device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        with way.context(model):
            model(**inputs, use_cache=True, logits_to_keep=1)
        return torch.cuda.max_memory_allocated() - before
    try:
        # Memory that was freed goes back to the system, and the high-water mark is lowered to it.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
    except (OSError, AttributeError):
        return None
    with way.context(model):
        model(**inputs, use_cache=True, logits_to_keep=1)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=list(SHAPES), default="small")
    parser.add_argument("--layers", type=int, help="take only so many blocks of the shape (from 4)")
    parser.add_argument("--text", type=int, default=64)
    parser.add_argument("--vision", type=int, default=576, help="vision tokens per image or tile")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8, help="decoded tokens per run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--attention", default="sdpa", help="sdpa, eager or flash_attention_2")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dtype = getattr(torch, options.dtype, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        sys.exit(f"--dtype {options.dtype} is none; try float32, bfloat16 or float16.")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("--device cuda: torch finds no GPU here; leave it out to run on the CPU.")
    if options.layers is not None and options.layers < 4:
        sys.exit(f"--layers is {options.layers}; the plans need at least 4.")
    if options.text < 17:
        sys.exit(f"--text is {options.text}; 16 tokens stand before the image, and some after it.")
    try:
        model = build(
            options.shape,
            options.vision,
            options.device,
            dtype,
            options.layers,
            options.attention,
        )
    except (ImportError, ValueError) as error:
        sys.exit(f"cannot build the model: {error}")
    clock = Clock(model, options.device)
    side = model.config.vision_config.image_size
    tiles = TILES.get(options.shape, 1)
    vision = tiles * options.vision
    words = torch.randint(2, 900, (options.batch, options.text))
    images = torch.full((options.batch, vision), vision_token_ids(model)[0])
    pixels = torch.randn(options.batch * tiles, 3, side, side)
    inputs = {
        "input_ids": torch.cat([words[:, :16], images, words[:, 16:]], dim=1).to(options.device),
        "pixel_values": pixels.to(options.device, dtype),
    }
    config = text_config(model)
    n = config.num_hidden_layers
    lines = ways(n)
    runs: dict[str, list[tuple[float, float, int]]] = {name: [] for name in lines}
    for turn in range(options.rounds + 1):
        for name, way in lines.items():
            run = once(model, clock, inputs, way, options.steps)
            if turn:  # the first round warms up
                runs[name].append(run)
    peaks = {name: peak(model, inputs, way) for name, way in lines.items()}

    whole = runs["unpatched"]
    table = []
    size = options.text, vision
    for name, way in lines.items():
        kept = way.kept(n, vision)
        limit = prefill_flops(config, *size) / prefill_flops(config, *size, way.plan, kept=kept)
        speedups = [a[0] / b[0] for a, b in zip(whole, runs[name], strict=True)]
        decodes = [a[1] / b[1] for a, b in zip(whole, runs[name], strict=True)]
        held = runs[name][0][2]
        itemsize = torch.empty((), dtype=dtype).element_size()
        promised = options.batch * kv_bytes(config, *size, way.plan, itemsize=itemsize, kept=kept)
        table.append(
            {
                "plan": name,
                "prefill_ms": 1e3 * statistics.median(run[0] for run in runs[name]),
                "speedup": statistics.median(speedups),
                "speedup_low": min(speedups),
                "speedup_high": max(speedups),
                "flop_limit": limit,
                "share_of_limit": statistics.median(speedups) / limit,
                "decode_ms": 1e3 * statistics.median(run[1] for run in runs[name]),
                "decode_speedup": statistics.median(decodes),
                "peak_bytes": peaks[name],
                "kv_bytes": held,
                "kv_share": held / whole[0][2],
                "kv_as_promised": held == promised,
            }
        )
    machine = (
        torch.cuda.get_device_name() if options.device.startswith("cuda") else processor_name()
    )
    print(
        f"{options.shape}: {config.num_hidden_layers} layers x {config.hidden_size}, "
        f"{vision} + {options.text} tokens, batch {options.batch}, {options.dtype}, "
        f"{options.attention}, {options.threads} thread(s), {machine}, "
        f"median of {options.rounds} rounds"
    )
    print(
        f"{'plan':29}{'prefill ms':>11}{'speedup':>9}{'range':>13}{'limit':>7}{'share':>7}"
        f"{'decode ms':>11}{'x':>6}{'peak MiB':>10}{'KV MiB':>8}{'kept':>8}"
    )
    for row in table:
        most = "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.1f}"
        spread = f"{row['speedup_low']:.2f}-{row['speedup_high']:.2f}"
        print(
            f"{row['plan']:29}{row['prefill_ms']:11.1f}{row['speedup']:9.2f}{spread:>13}"
            f"{row['flop_limit']:7.2f}{row['share_of_limit']:7.0%}{row['decode_ms']:11.2f}"
            f"{row['decode_speedup']:6.2f}{most:>10}{row['kv_bytes'] / 2**20:8.1f}"
            f"{row['kv_share']:8.1%}"
            f"{'' if row['kv_as_promised'] else '  not the promised bytes'}"
        )
    if options.out is not None:
        record = {
            "options": {key: str(value) for key, value in vars(options).items()},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
            "results": table,
        }
        options.out.write_text(json.dumps(record, indent=2) + "\n")


def processor_name() -> str:
    """Name of the processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
