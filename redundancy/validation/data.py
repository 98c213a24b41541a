"""Rows divided by image: some to read the layers on, the others to test on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from estimators import InputError

__all__ = ["divide"]

LEAST = 20


def divide(
    rows: Iterable[Mapping[str, Any]], *, share: float = 0.5, seed: int = 0
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Divide rows at random into two lists that share no image.

    Parameters
    ----------
    rows : iterable of mapping
        With ``group``, as `vlm.data.rows_of` yields them.
    share : float in (0, 1)
        Share of the images that goes into the first list.
    seed : int

    Raises
    ------
    InputError
        If either part would have fewer than 20 images.

    Examples
    --------
    >>> rows = [{"group": f"image {i // 2}"} for i in range(100)]
    >>> first, second = divide(rows)
    >>> len(first), len(second), {r["group"] for r in first} & {r["group"] for r in second}
    (50, 50, set())
    """
    listed = list(rows)
    groups = sorted({str(row["group"]) for row in listed})
    if not 0.0 < share < 1.0:
        raise InputError(f"share is {share!r}; give one strictly between 0 and 1")
    n = round(share * len(groups))
    if min(n, len(groups) - n) < LEAST:
        raise InputError(
            f"{len(groups)} images are too few to read layers on some and test on others; give at "
            f"least {2 * LEAST}"
        )
    order = np.random.default_rng(seed).permutation(len(groups))
    first = {groups[i] for i in order[:n]}
    return (
        [row for row in listed if str(row["group"]) in first],
        [row for row in listed if str(row["group"]) not in first],
    )
