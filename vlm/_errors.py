"""The exception of this package that means "the input was wrong", not "our code was wrong"."""

from __future__ import annotations

__all__ = ["VLMError"]


class VLMError(ValueError):
    """Unusable input: one sentence saying what was found, where, and what to do about it."""
