"""Recompute a sample of results with scikit-learn, npeet_plus and dit, and say how they compare."""

from redundancy.crosschecking._result import Check, CrossCheck
from redundancy.crosschecking._run import crosscheck

__all__ = ["Check", "CrossCheck", "crosscheck"]
