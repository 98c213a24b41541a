"""Layers of a language model without images: Block Influence, and what dropping layers costs.

    python examples/text_model.py                                  a tiny model of random weights
    python examples/text_model.py --model Qwen/Qwen3-0.6B --data passages.txt

A text file has one passage a line; a JSONL file rows with a text, or with question and answer.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import redundancy as rd
from vlm.model import load


def tiny() -> tuple[Any, Any]:
    """Make a Llama of random weights, and a tokenizer that knows a hundred words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{i}" for i in range(100))]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(words),
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval(), tokenizer


def main(arguments: list[str] | None = None) -> rd.SkipPlan:
    """Extract, rank the blocks, drop the least influential, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="hub id or folder; a tiny random one by default")
    parser.add_argument("--data", type=Path, help="passages; random words by default")
    parser.add_argument("--drop", type=int, default=2, help="how many layers to leave out")
    parser.add_argument("--out", type=Path, default=Path("runs/text_model"))
    given = parser.parse_args(arguments)
    model, tokenizer = tiny() if given.model is None else load(given.model, device_map="auto")
    rng = np.random.default_rng(0)
    data: Any = given.data or [
        {"text": " ".join(f"w{i}" for i in rng.integers(100, size=24))} for _ in range(60)
    ]
    store = rd.extract(
        model,
        tokenizer,
        data,
        out=given.out / "acts",
        tokens=8,
        max_new_tokens=1,
        resume=(given.out / "acts").exists(),
    )
    results = rd.estimate(store, "geometric")
    influence = {r.pair[1] - 1: r.estimate for r in results}
    for block, e in influence.items():
        print(f"block {block}: influence {e.value:.4f} [{e.ci.low:.4f}, {e.ci.high:.4f}]")
    least = sorted(influence, key=lambda block: float(influence[block]))[: given.drop]
    plan = rd.SkipPlan(store.n_layers, drop_layers=tuple(least))
    print(plan.describe())
    questions = [
        {"question": row.get("question") or row["text"], "answer": row.get("answer", "")}
        for row in store.samples[:20]
    ]
    before = rd.evaluate(model, tokenizer, questions, max_new_tokens=4)
    after = rd.evaluate(model, tokenizer, questions, plan, baseline=before, max_new_tokens=4)
    print(f"answers that stayed the same: {after.agreement:.0%}")
    return plan


if __name__ == "__main__":
    main()
