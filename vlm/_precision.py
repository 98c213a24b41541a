"""Plain 32-bit products, whatever the caller allows the model to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["full_precision"]


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Switch off autocast and TF32 or bfloat16 matrix products, and restore them on exit.

    Either would leave three digits of what is measured here.
    """
    import torch

    before = torch.get_float32_matmul_precision()
    if before != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        if before != "highest":
            torch.set_float32_matmul_precision(before)
