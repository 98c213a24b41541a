"""What capture costs beside a plain forward pass over the same prompt.

    python benchmarks/capture.py               # CPU, one thread, a decoder of 16 blocks x 512
    python benchmarks/capture.py --shape llava-1.5-7b --device cuda --dtype bfloat16

Weights are random. All lines take turns within each round, and a cost is the median over rounds of
the ratio to the plain pass of the same round. On a CPU with one thread the clock counts the
process's own processor time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from skip import SHAPES, build, processor_name
from transformers import BatchFeature

from vlm._answers import greedy
from vlm.capture import capture
from vlm.model import text_config, vision_token_ids

LINES: dict[str, dict[str, Any] | None] = {
    "plain prefill": None,
    "running sums": {"var": False},
    "running sums, VAR": {"var": True},
    "running sums, VAR of all text": {"var": "text"},
    "running sums, VAR, 16 tokens kept": {"var": True, "tokens": 16},
    "running sums, VAR, vision effect": {"var": True, "vision_effect": True},
}


class Ready:
    """Stands for a processor whose work is done: what is timed is the model."""

    pad_token = "<pad>"
    image_processor = image_token = chat_template = None

    def __init__(self, inputs: dict[str, Any]) -> None:
        self.inputs, self.tokenizer = inputs, type(self)

    def __call__(self, **_: Any) -> BatchFeature:
        return BatchFeature(dict(self.inputs))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=list(SHAPES), default="small")
    parser.add_argument("--text", type=int, default=64)
    parser.add_argument("--vision", type=int, default=576)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dtype, cuda = getattr(torch, options.dtype), options.device.startswith("cuda")
    model = build(options.shape, options.vision, options.device, dtype)
    side = model.config.vision_config.image_size
    words = torch.randint(2, 900, (1, options.text))
    images = torch.full((1, options.vision), vision_token_ids(model)[0])
    ids = torch.cat([words[:, :16], images, words[:, 16:]], dim=1).to(options.device)
    pixels = torch.randn(1, 3, side, side).to(options.device, dtype)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    processor = Ready(inputs)

    def now() -> float:
        if cuda:
            torch.cuda.synchronize()
        return time.process_time() if options.threads == 1 and not cuda else time.perf_counter()

    def endless() -> Iterator[dict[str, Any]]:
        for number in itertools.count():
            yield {"id": str(number), "question": "-"}

    # A capture runs one setting over thousands of samples: each line is one long capture.
    captures = {
        name: None
        if given is None
        else capture(model, processor, endless(), predict=False, batch_size=1, **given)
        for name, given in LINES.items()
    }

    def seconds(name: str) -> float:
        running = captures[name]
        started = now()
        if running is None:
            with torch.inference_mode():
                greedy(model, inputs, 1)
        else:
            next(running)
        return now() - started

    runs: dict[str, list[float]] = {name: [] for name in LINES}
    for turn in range(options.rounds + 1):
        for name in LINES:
            # The first pass after another setting asks the system for memory again, which no later
            # one does.
            seconds(name)
            took = seconds(name)
            if turn:  # the first round warms up
                runs[name].append(took)
    config = text_config(model)
    machine = torch.cuda.get_device_name() if cuda else processor_name()
    print(
        f"{options.shape}: {config.num_hidden_layers} layers x {config.hidden_size}, "
        f"{options.vision} + {options.text} tokens, {options.dtype}, {options.threads} thread(s), "
        f"{machine}, median of {options.rounds} rounds"
    )
    table = []
    for name, took in runs.items():
        ratios = [a / b - 1 for a, b in zip(took, runs["plain prefill"], strict=True)]
        table.append(
            {
                "captured": name,
                "ms": 1e3 * statistics.median(took),
                "cost": statistics.median(ratios),
                "cost_low": min(ratios),
                "cost_high": max(ratios),
            }
        )
        row = table[-1]
        print(
            f"{name:36}{row['ms']:9.1f} ms{row['cost']:+8.1%}"
            f"   ({row['cost_low']:+.1%} to {row['cost_high']:+.1%})"
        )
    if options.out is not None:
        record = {
            "options": {key: str(value) for key, value in vars(options).items()},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine,
            "torch": torch.__version__,
            "results": table,
        }
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
