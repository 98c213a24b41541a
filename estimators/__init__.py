"""Estimators of information-theoretic quantities: arrays in, `Estimate` out.

The package knows no files, models or layers; each module holds one family of estimators and is
imported when its names are first used.
"""

from __future__ import annotations

from estimators._errors import InputError
from estimators._types import Diagnostic, Estimate, Interval

__all__ = ["Diagnostic", "Estimate", "InputError", "Interval"]
