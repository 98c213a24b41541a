"""The one exception that means "the input was wrong", as against "our code was wrong"."""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(ValueError):
    """Unusable input: one sentence saying what was found, where, and what to do about it.

    The command line prints the sentence and exits with code 2; any other exception is a defect of
    this package and exits with code 1.
    """
