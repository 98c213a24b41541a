"""Probes that estimate E[Z | X] from layer states."""
