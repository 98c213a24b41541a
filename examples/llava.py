"""LLaVA-1.5-7B from the hub to a certified plan. Needs a GPU with 20 GB, and 14 GB of weights.

    python examples/llava.py --measured vqa.jsonl --certifying other.jsonl --test third.jsonl
    python examples/llava.py --model bundled        the same path on the small bundled model

Each line of a file is a question: {"image": "images/17.png", "question": "...", "answer": "..."}.
The three files share no image: one is measured and orders the plans, one certifies them, and the
figures to show come from the third.

On LLaVA-1.5-7B with 576 vision tokens, entering at layer 4 and leaving at layer 20 saves 45% of
the arithmetic of the prompt and 144 of 320 MiB of its cache; whether its answers bear that is what
this script finds out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import redundancy as rd
from redundancy import choosing
from vlm.model import load

HUB = "llava-hf/llava-1.5-7b-hf"


def bundled_data(folder: Path, images: tuple[int, int, int]) -> list[Path]:
    """Write questions about coloured digits that the bundled model was not trained on."""
    from redundancy.demo.scenes import write_dataset

    return [
        write_dataset(folder / name, "held_out", n, seed=70 + i)
        for i, (name, n) in enumerate(zip(("measured", "certifying", "test"), images, strict=True))
    ]


def main(arguments: list[str] | None = None) -> rd.SkipPlan:
    """Extract, estimate, certify, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=HUB, help="hub id or folder, or bundled")
    parser.add_argument("--measured", type=Path)
    parser.add_argument("--certifying", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--images", type=int, nargs=3, default=(60, 150, 40), help="if bundled")
    parser.add_argument(
        "--alpha", type=float, default=0.05, help="share of answers that may change"
    )
    parser.add_argument("--delta", type=float, default=0.1, help="chance that the bound is wrong")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("runs/llava"))
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)

    if given.model == "bundled":
        from redundancy.demo import model as bundled

        model, processor = bundled.load()
        files = bundled_data(given.out, tuple(given.images))
    else:
        files = [given.measured, given.certifying, given.test]
        if None in files:
            parser.error("name three files: --measured, --certifying and --test")
        model, processor = load(given.model, device_map="auto")
    measured, certifying, test = files

    # Sums over all tokens, the effect of hiding vision from each block, and some states.
    store = rd.extract(
        model,
        processor,
        measured,
        out=given.out / "acts",
        tokens=4,
        vision_effect=True,
        batch_size=given.batch_size,
        resume=(given.out / "acts").exists(),
    )
    found = choosing.readings(store)
    for r in found.select("vision_effect"):
        print(f"vision's effect in block {r.pair[1]}: {r.estimate.value:.3f}  {r.verdict}")

    plans = choosing.candidates(found, store.n_layers, model_type=model.config.model_type)
    choice = choosing.certify(
        model,
        processor,
        certifying,
        plans,
        alpha=given.alpha,
        delta=given.delta,
        used_groups={str(row["group"]) for row in store.samples},
        batch_size=given.batch_size,
    )
    print(choice.sentence)
    choice.plan.save(given.out / "plan.json")

    before = rd.evaluate(model, processor, test, batch_size=given.batch_size)
    after = rd.evaluate(
        model, processor, test, choice.plan, baseline=before, batch_size=given.batch_size
    )
    share = after.prefill_flops.sum() / before.prefill_flops.sum()
    print(
        f"accuracy {before.accuracy:.3f} -> {after.accuracy:.3f}, agreement {after.agreement:.3f}, "
        f"arithmetic of the prompt {share:.0%}"
    )
    return choice.plan


if __name__ == "__main__":
    main()
