"""One rank of an extraction, as torchrun starts it: ``rank.py OUT MARKER [VICTIM]``.

The victim kills itself in the middle, the first time: the marker file remembers.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


def main(out: str, marker: str, victim: str = "-1") -> None:
    import torch
    import torch.distributed

    import redundancy as rd
    from redundancy.demo.model import build_model, build_processor
    from redundancy.demo.scenes import rows

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    processor = build_processor()
    model = build_model(processor.tokenizer, seed=0).eval()

    def progress(done: int, total: int | None) -> None:
        if done >= 2 and os.environ["RANK"] == victim and not Path(marker).exists():
            Path(marker).write_text("killed")
            os.kill(os.getpid(), signal.SIGKILL)

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
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
