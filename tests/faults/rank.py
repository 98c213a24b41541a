"""One rank of an extraction, as torchrun starts it: ``rank.py LAUNCHER OUT MARKER [VICTIM]``.

The victim kills itself in the middle, the first time: the marker file remembers.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path


def joined(launcher: str) -> AbstractContextManager[object]:
    """The group of processes, joined as the command line does or as accelerate does."""
    from redundancy.extraction import process_group

    if launcher == "torchrun":
        return process_group(int(os.environ["WORLD_SIZE"]))
    from accelerate import PartialState

    PartialState(cpu=True)
    return nullcontext()


def main(launcher: str, out: str, marker: str, victim: str = "-1") -> None:
    import torch

    import redundancy as rd
    from redundancy.demo.model import build_model, build_processor
    from redundancy.demo.scenes import rows

    torch.set_num_threads(1)
    processor = build_processor()
    model = build_model(processor.tokenizer, seed=0).eval()

    def progress(done: int, total: int | None) -> None:
        if done >= 2 and os.environ["RANK"] == victim and not Path(marker).exists():
            Path(marker).write_text("killed")
            os.kill(os.getpid(), signal.SIGKILL)

    with joined(launcher):
        rd.extract(
            model,
            processor,
            list(rows("held_out", 2))[:8],
            out=out,
            tokens=3,
            batch_size=1,
            model_id="tiny",
            resume=True,
            flush_seconds=0.0,
            progress=progress,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
