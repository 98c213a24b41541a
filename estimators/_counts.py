"""Entropy from how often each state occurred, and what too few samples per state do to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from estimators._arrays import to_numpy
from estimators._corrections import coverage, entropy_from_counts
from estimators._errors import InputError
from estimators._resample import REPLICATES, t_interval
from estimators._types import Diagnostic, Estimate

__all__ = ["checked_counts", "entropy_of_counts", "undersampled"]


def undersampled(
    occupied: npt.NDArray[np.int64], correction: str, n_groups: int | None
) -> tuple[Diagnostic, ...]:
    n, states = int(occupied.sum()), int((occupied > 0).sum())
    seen = coverage(occupied)
    if states == 1 or n >= 10 * states:
        return ()
    # Corrections with an eye for unseen states stand longer than the plug-in.
    hopeless = seen < 0.5 or (correction in ("plug-in", "miller-madow") and n < 2 * states)
    across = "" if n_groups is None else f" from {n_groups} groups"
    return (
        Diagnostic(
            code="undersampled",
            severity="error" if hopeless else "warning",
            message=f"{n} samples{across} fell into {states} states (about {100 * seen:.0f}% of "
            "the probability has been seen), fewer than 10 per state, so the value leans on its "
            "bias correction; use fewer states or more samples",
        ),
    )


def checked_counts(counts: Any) -> npt.NDArray[np.int64]:
    out = to_numpy(counts, "counts")
    if out.dtype.kind not in "iu":
        raise InputError(
            f"counts has dtype {out.dtype}; pass integers (how often each state occurred), not "
            "frequencies"
        )
    flat = out.ravel().astype(np.int64)
    if len(flat) == 0 or flat.min() < 0 or flat.sum() < 1:
        raise InputError(
            f"counts (shape {out.shape}) must be non-negative and not all zero; pass how often "
            "each state occurred"
        )
    return flat[flat > 0]


def entropy_of_counts(
    counts: npt.NDArray[np.int64],
    correction: str,
    n_states: int | None,
    level: float | None,
    seed: int,
) -> Estimate:
    n = int(counts.sum())
    value = entropy_from_counts(counts, correction, n_states)
    interval = None
    if level is not None and n >= 2:
        # Half the samples without replacement, straight from the counts.
        rng = np.random.default_rng(seed)
        drawn = rng.multivariate_hypergeometric(counts, n // 2, size=REPLICATES, method="marginals")
        values = np.array([entropy_from_counts(row, correction, n_states) for row in drawn])
        interval = t_interval(
            value,
            float(values.std(ddof=1)),
            REPLICATES - 1,
            level,
            f"half-sampling of samples, {REPLICATES} halves",
        )
    return Estimate(
        value=value,
        unit="nats",
        kind="estimate",
        n=n,
        method=f"H of symbols, {correction}",
        ci=interval,
        params={
            "correction": correction,
            "coverage": coverage(counts),
            "states_samples": len(counts),
            "entropy_samples": value,
        },
        seed=seed if interval is not None else None,
        diagnostics=undersampled(counts, correction, None),
    )
