"""What the nearest-neighbour estimators share: preparation, jitter, intervals, diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from estimators._arrays import (
    FloatArray,
    IntArray,
    check_ci,
    check_k,
    check_lengths,
    check_varies,
    group_codes,
    matrix,
)
from estimators._errors import InputError
from estimators._neighbours import scale_exponent
from estimators._resample import block_jackknife, few_groups, half_sampling
from estimators._types import Diagnostic, Estimate, Interval

__all__ = [
    "Prepared",
    "assemble",
    "duplicates",
    "interval_for",
    "prepare",
    "repeats",
    "saturation",
    "ties",
]

Float = npt.NDArray[np.float64]

# Above this joint dimension the interval covers what the estimator tends to, not the truth, and
# the block jackknife, wider, is the method measured to cover (docs/estimators.md).
HONEST_DIMENSION = 4


class Prepared:
    """Checked arrays with what every k-NN estimator needs besides them."""

    def __init__(
        self, arrays: dict[str, FloatArray], k: int, groups: Any, ci: Any, jitter: float, seed: int
    ) -> None:
        self.arrays = arrays
        self.n = check_lengths(**arrays)
        self.k = check_k(k, self.n)
        for name, a in arrays.items():
            check_varies(a, name)
        self.groups, self.n_groups = group_codes(groups, self.n)
        self.level = check_ci(ci)
        self.seed = seed
        self.random = jitter > 0
        self.dimension = sum(a.shape[1] for a in arrays.values())
        self.exponent = scale_exponent(list(arrays.values()))
        if self.exponent:
            for name, a in arrays.items():
                arrays[name] = np.ldexp(a, -self.exponent)
        if jitter:
            if not jitter > 0:
                raise InputError(
                    f"jitter is {jitter!r}; use a small positive share of each coordinate's "
                    "standard deviation, e.g. 1e-8, or 0 for none"
                )
            rng = np.random.default_rng(seed)
            for name, a in arrays.items():
                noise = rng.standard_normal(a.shape) * (jitter * a.std(axis=0, dtype=np.float64))
                arrays[name] = a + noise


def prepare(
    named: dict[str, Any],
    *,
    k: int,
    groups: Any = None,
    ci: Any = None,
    jitter: float = 0.0,
    seed: int = 0,
    read: Callable[[Any, str], FloatArray] = matrix,
) -> Prepared:
    """Check the arguments of a k-NN estimator, continuous ones unless `read` takes others."""
    arrays = {name: read(a, name) for name, a in named.items()}
    return Prepared(arrays, k, groups, ci, jitter, seed)


def interval_for(
    prepared: Prepared, statistic: Callable[[IntArray], float], value: float | None
) -> Interval | None:
    """Half-sampling in few dimensions, the block jackknife above; None where not asked for."""
    level, n, members = prepared.level, prepared.n, prepared.groups
    if level is None or value is None:
        return None
    units = prepared.n_groups or n
    if units < 4 or n < 4 * (prepared.k + 1):
        return None
    if prepared.dimension <= HONEST_DIMENSION:
        return half_sampling(statistic, value, n, members, level=level, seed=prepared.seed)
    return block_jackknife(
        statistic,
        value,
        n,
        members,
        level=level,
        seed=prepared.seed,
        label="; covers the estimator's expectation, the information is likely larger",
    )


def assemble(
    prepared: Prepared,
    value: float | None,
    method: str,
    *,
    interval: Interval | None,
    params: dict[str, Any],
    found: Sequence[Diagnostic] = (),
    unit: str = "nats",
) -> Estimate:
    """Build the estimate, adding what holds for every k-NN estimator."""
    return Estimate(
        value=value,
        unit=unit,
        kind="estimate",
        n=prepared.n,
        n_groups=prepared.n_groups,
        method=method,
        ci=interval,
        params={"k": prepared.k, **params},
        seed=prepared.seed if interval is not None or prepared.random else None,
        diagnostics=(*found, *few_groups(prepared.n_groups)),
    )


def duplicates(distances: Float, n: int, remedy: str) -> tuple[Diagnostic, ...]:
    """Report samples whose k-th neighbour, or first neighbour, is an exact copy."""
    if distances[:, 0].all():
        return ()
    swallowed = int((distances[:, -1] == 0).sum())
    copies = int((distances[:, 0] == 0).sum())
    if swallowed:
        return (
            Diagnostic(
                code="duplicates",
                severity="error",
                message=f"{swallowed} of {n} samples have {distances.shape[1]} or more exact "
                f"copies, where a density, and with it this estimator, is undefined; {remedy}",
            ),
        )
    if copies:
        return (
            Diagnostic(
                code="duplicates",
                severity="warning",
                message=f"{copies} of {n} samples have an exact copy, which pulls nearest-"
                f"neighbour estimates; {remedy}",
            ),
        )
    return ()


def repeats(a: npt.NDArray[Any]) -> int:
    """Count the samples that repeat another one exactly; O(n log n) for any number of columns."""
    first = np.sort(a[:, 0])
    if (first[1:] != first[:-1]).all():
        return 0
    # One random projection finds equal rows without sorting thousands of columns.
    w = np.random.default_rng(0).standard_normal(a.shape[1])
    return len(a) - len(np.unique(a.astype(np.float64) @ w))


def ties(
    arrays: Mapping[str, npt.NDArray[Any]],
    *,
    code: str = "ties",
    harmful: float = 0.5,
    because: str = "as rounded values do, which makes the information look larger; use "
    "mixed_mi, which counts them, or break ties openly with jitter=1e-8",
) -> tuple[Diagnostic, ...]:
    """Report sides whose values repeat: in more than 1% of samples, an error above `harmful`.

    Counts with strict inequalities leave out every sample exactly at the k-th distance, so ties
    in one side alone bias the information upwards though no sample has a copy.
    """
    out = []
    for name, a in arrays.items():
        n = len(a)
        found = repeats(a)
        if found > 0.01 * n:
            out.append(
                Diagnostic(
                    code=code,
                    severity="error" if found > harmful * n else "warning",
                    message=f"{found} of {n} samples of {name} repeat others exactly, {because}",
                )
            )
    return tuple(out)


def saturation(value: float, n: int, k: int, dimension: int) -> tuple[Diagnostic, ...]:
    """Say where the number of samples, or of dimensions, leaves a k-NN estimate no room."""
    from scipy.special import digamma

    out: list[Diagnostic] = []
    ceiling = float(digamma(n) - digamma(k))
    if value > 0.6 * ceiling:
        out.append(
            Diagnostic(
                code="saturated",
                severity="error",
                message=f"the value {value:.2f} is close to {ceiling:.2f} nats, the most that "
                f"{n} samples can show; the information is larger: use mutual_information, or "
                "more samples",
            )
        )
    if dimension > 10:
        out.append(
            Diagnostic(
                code="high-dimension",
                severity="error",
                message=f"the data have {dimension} dimensions, in which nearest neighbours are "
                "hardly nearer than strangers and most of the information is lost; use "
                "mutual_information, which reduces the dimension first",
            )
        )
    elif dimension > HONEST_DIMENSION:
        out.append(
            Diagnostic(
                code="biased-in-dimension",
                severity="warning",
                message=f"in {dimension} dimensions a nearest-neighbour estimate is usually too "
                "low, and its interval covers its own expectation rather than the information; "
                "compare with mutual_information",
            )
        )
    return tuple(out)
